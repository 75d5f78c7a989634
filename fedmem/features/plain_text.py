"""What stands in a cell of a table, as plain text: lists joined, tags out, entities resolved."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Mapping
from typing import Any

from fedmem.core.data.values import WORDS

INLINE = (
    "a abbr acronym b bdi bdo big cite code data del dfn em embed font i img ins kbd label mark "
    "nobr q rp rt ruby s samp small span strike strong sub sup time tt u var wbr"
)
"""Tags that may stand within a word: nothing takes their place."""
APART = (
    "address article aside audio base blockquote body br button canvas caption center col colgroup "
    "dd details dir div dl dt fieldset figcaption figure footer form frame h1 h2 h3 h4 h5 h6 head "
    "header hr html iframe input legend li link main map menu meta nav noscript object ol optgroup "
    "option p param picture pre progress section select source summary svg table tbody td "
    "textarea tfoot th thead title tr track ul video"
)
"""Tags that part words: a space takes their place."""
WITHIN_WORDS = frozenset(INLINE.split())
TAG = re.compile(
    rf"</?({'|'.join((INLINE + ' ' + APART).split())})(?=[\s/>])[^<>]*>", re.IGNORECASE
)
UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|<!doctype[^>]*>", re.I | re.S)
ENTITY = re.compile(r"&(#[0-9]+|#x[0-9a-f]+|[a-z][a-z0-9]*);", re.IGNORECASE)
"""With its semicolon: without one, the & of `R&D` or `Stop&not` is meant."""
LIST = re.compile(r"""\s*\[(.*["'\]}])?\s*\]\s*""", re.DOTALL)
DEEPEST = 4
"""Times that entities may stand for entities: `&amp;amp;`."""


def plain_text(value: Any, joint: str = " ") -> str:
    """A cell's content; a list's parts are joined, of an object its name, or else all its texts."""
    if isinstance(value, list | tuple):
        return joint.join(filter(None, (plain_text(part, joint) for part in value)))
    if isinstance(value, Mapping):
        name = value.get("name")
        return plain_text(name or [v for v in value.values() if isinstance(v, str | list)], joint)
    if value is None or value != value:
        return ""
    text = str(value).strip()
    return "" if text.lower() in WORDS else without_markup(text)


def without_markup(text: str) -> str:
    """Text without HTML's tags, its entities resolved; other text as it is."""
    plain = text
    for _ in range(DEEPEST):
        before = plain
        plain = TAG.sub(_in_its_place, UNSEEN.sub(" ", plain))
        plain = ENTITY.sub(lambda entity: html.unescape(entity[0]), plain)
        if plain == before:
            break
    return text if plain == text else " ".join(plain.split())


def _in_its_place(tag: re.Match[str]) -> str:
    return "" if tag[1].lower() in WITHIN_WORDS else " "


def written_list(value: Any) -> Any:
    """A list that is written as text, of texts or objects, by Python or in JSON; else the value."""
    if not isinstance(value, str) or not LIST.fullmatch(value):
        return value
    with_commas = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", value)  # which numpy leaves out
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(with_commas)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(part, str | list | dict) for part in found):
            return found
    return value
