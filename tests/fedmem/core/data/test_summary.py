"""A summary of data: a few lines, with every figure that a filter or a file changed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from fedmem.core.data import print_summary
from fedmem.core.settings import Settings


def summary(settings: Settings, content: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=100, record=True)
    print_summary(settings.data, content, console)
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_the_summary_tells_what_was_read_dropped_and_kept(
    make_settings: Callable[..., Settings], data_dir: Path
) -> None:
    (data_dir / "own.dat").write_text(
        "".join(f"{user} b{item} {item} {item}\n" for user in (1, 2) for item in range(4 + user))
        + "3 b1 5 5\n"
    )
    assert summary(make_settings("data.path=own.dat", "data.min_rating=1"), content=False) == [
        f"{data_dir / 'own.dat'}: ratings (user, item, rating, timestamp by spaces)",
        "users items interactions",
        "read, in order of timestamp 3 6 12",
        "dropped: rating under 1 0 −1 −2",
        "dropped: users with under 5 interactions −2 0 −5",
        "kept 1 5 5",
        "a user has 5 to 5 interactions, median 5; eight users of ten have 5 to 5",
        "item ids are text, as 'b1' is",
    ]


def test_the_id_that_makes_them_text_is_named_whichever_it_is(
    make_settings: Callable[..., Settings], data_dir: Path
) -> None:
    for users, named in ((["alice"], "alice"), (["#guest", "2"], "#guest"), (["3", "03"], "03")):
        lines = [f"{user} {item} 1 {item}\n" for user in users for item in range(5)]
        (data_dir / f"{named}.dat").write_text("".join(lines))
        shown = summary(make_settings(f"data.path='{named}.dat'"), content=False)
        assert shown[-1] == f"user ids are text, as {named!r} is"


def test_the_summary_counts_missing_and_repeated_vectors(
    settings: Settings, data_dir: Path
) -> None:
    rows = torch.eye(41)
    rows[4] = rows[9] = rows[2]
    rows[6] = 0
    torch.save(rows, data_dir / "text_features.pt")
    visual, text = summary(settings, content=True)[-2:]
    assert visual == "visual: 38 of 40 items (95.0%), width 12"
    assert text == "text: 39 of 40 items (97.5%), width 41; 2 have the same vector as another"
