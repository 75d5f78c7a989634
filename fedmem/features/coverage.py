"""What the command covered: on the screen, and for the record in `features.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from fedmem.core.console import make_table, say
from fedmem.core.files.atomic import replacing
from fedmem.runs.progress import clock

NAMED_AT_MOST = 10
"""Unusable pictures that are named on the screen; `features.json` names all."""


@dataclass(frozen=True)
class Coverage:
    """What became of one kind of content."""

    kind: str
    """`text` or `visual`."""
    file: str
    """Path of the vectors."""
    model: str
    encoder: str
    """Its identity: a hash of the weights and of how inputs are prepared."""
    template: str | None
    """Of the texts."""
    width: int
    items: int
    covered: int
    absent: int
    """Items that have nothing to encode."""
    unreadable: dict[str, str]
    """Which picture could not be used and why, by item id."""
    made: int
    """Vectors that this run made; the others were there."""
    seconds: float


def write_coverage(path: Path, coverages: Sequence[Coverage]) -> None:
    """Write JSON by kind, beside what is there of the other kind."""
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    content |= {coverage.kind: asdict(coverage) for coverage in coverages}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def print_coverage(coverages: Sequence[Coverage], console: Console) -> None:
    """Print a line a kind, which pictures could not be used, and how to go on."""
    headings = ("items", "covered", "none", "unusable", "made now", "width", "time")
    table = make_table("", *headings, gap=2)
    for c in coverages:
        share = f"{c.covered:,} ({c.covered / c.items:.1%})"
        counts = [f"{n:,}" for n in (c.absent, len(c.unreadable), c.made)]
        table.add_row(c.kind, f"{c.items:,}", share, *counts, str(c.width), clock(c.seconds))
    console.print(table)
    for c in coverages:
        for item, reason in list(c.unreadable.items())[:NAMED_AT_MOST]:
            say(f"unusable, counted as missing: item {item}, {reason}", console)
        if len(c.unreadable) > NAMED_AT_MOST:
            say(
                f"and {len(c.unreadable) - NAMED_AT_MOST:,} more, all named in features.json",
                console,
            )
    for c in coverages:
        say(f"data.{c.kind}_file={Path(c.file).resolve()}", console)
