"""Cells as plain text: lists, objects, HTML, entities, and what only looks like them."""

from __future__ import annotations

from typing import Any

import pytest

from fedmem.features.plain_text import plain_text, without_markup, written_list


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("<span class='x'>Cream</span> &quot;soft&quot;", 'Cream "soft"'),
        ("For skin.<br/>Two<p>paragraphs</p>", "For skin. Two paragraphs"),
        ("H<sub>2</sub>O and <B>bold</B>", "H2O and bold"),
        ("&lt;b&gt;Two&lt;/b&gt; &amp;amp; more&nbsp;&#39;s &#x41;", "Two & more 's A"),
        ("a<!-- <b> not seen -->b<style>p {}</style>c", "a b c"),
        ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ("Fast & Furious", "Fast & Furious"),
        ("R&D, Stop&not, AT&T;", "R&D, Stop&not, AT&T;"),
        ("I <3 you, a < b > c", "I <3 you, a < b > c"),
        ("<Untitled>  twice  spaced", "<Untitled>  twice  spaced"),
        ("Amélie 東京", "Amélie 東京"),
    ],
)
def test_tags_are_out_and_entities_resolved_and_nothing_else_changes(cell: str, text: str) -> None:
    assert without_markup(cell) == text
    assert without_markup(text) == text


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (["For skin.", "<b>Two</b>", "", None], "For skin. Two"),
        ([["A", "B"], ["C"]], "A B C"),
        ([{"id": 16, "name": "Animation"}, {"id": 1, "name": "Drama"}], "Animation Drama"),
        ({"long": "all", "short": "of it", "pages": 7}, "all of it"),
        ([], ""),
        (None, ""),
        (float("nan"), ""),
        (" NaN ", ""),
        ("null", ""),
        (1984, "1984"),
    ],
)
def test_lists_and_objects_are_joined_and_what_is_missing_is_empty(cell: Any, text: str) -> None:
    assert plain_text(cell) == text


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"b's\"]", ["a", "b's"]),
        ("[{'id': 16, 'name': 'Animation'}]", [{"id": 16, "name": "Animation"}]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # as numpy writes it
        ("[]", []),
        ("[REC]", "[REC]"),
        ("[2012]", "[2012]"),
        ("['a', b]", "['a', b]"),
        ("plain", "plain"),
        (7, 7),
    ],
)
def test_a_list_that_is_written_as_text_is_a_list(cell: Any, found: Any) -> None:
    assert written_list(cell) == found
