"""What people read, in code, settings and docs, is plain English: some phrases are banned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
READ = ("fedmem", "strategies", "clients", "conf", "docs", "benchmarks", "README.md")
SUFFIXES = {".py", ".yaml", ".md", ".j2"}
BANNED = {
    "tell, tells, told": "report, log, print, send, describe, say",
    "whence": "where … from",
    "in vain": "without effect",
    "of old": "old, before",
    "be it": "whether",
    "befalls": "happens to",
    "cannot be meant": "implausible",
    "can be meant": "plausible",
    "could not be meant": "was implausible",
    "which is no weight": "which is not a tensor",
    "the like": "the same, similar",
}
PHRASES = re.compile(
    rf"(?<![\w.])({'|'.join(p.replace(', ', '|') for p in BANNED)})(?![\w(])".replace(" ", r"\s+"),
    re.IGNORECASE,
)


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """Line and phrase of all that is banned; a phrase may go over a line's end."""
    for match in PHRASES.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split())


def test_phrases_are_found_as_whole_words_and_over_line_ends() -> None:
    text = "It tells\nof an update that cannot\nbe meant; Told; file.tell(); the likely teller."
    assert list(found_in(text)) == [(1, "tells"), (2, "cannot be meant"), (3, "Told")]


def test_nothing_that_people_read_uses_a_banned_phrase() -> None:
    paths = [p for name in READ for p in (ROOT / name, *sorted((ROOT / name).rglob("*")))]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in paths
        if path.suffix in SUFFIXES
        for line, phrase in found_in(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "say it in other words:\n" + "\n".join(wrong)
