"""A summary of data, printed before they are trained on."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedmem.core.console import make_table, say
from fedmem.core.data.content import KINDS, load_content
from fedmem.core.data.ids import example
from fedmem.core.data.interactions import Interactions, Loaded, load
from fedmem.core.data.preparation import Size
from fedmem.core.settings import DataSettings

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def print_summary(settings: DataSettings, content: bool, console: Console | None = None) -> None:
    """Print what was read, dropped and kept, and how many items have content.

    Args:
        settings: of the data.
        content: whether to read the features too.
        console: where to.

    Raises:
        FedmemError: the data cannot be read.
    """
    console = console or Console()
    loaded = load(settings)
    say(f"{loaded.path}: {loaded.layout}", console)
    console.print(_sizes(loaded))
    say(_lengths(loaded.interactions), console)
    for kind, ids in (
        ("user", loaded.interactions.user_ids),
        ("item", loaded.interactions.item_ids),
    ):
        if ids.dtype == object:
            say(f"{kind} ids are text, as {example(ids[1:])!r} is", console)
    if content:
        found = load_content(settings, loaded.interactions)
        for kind, file in KINDS.items():
            if getattr(settings, file) is not None:
                say(f"{kind}: {_coverage(getattr(found, kind)[1:])}", console)


def _sizes(loaded: Loaded) -> Table:
    """What was read, what each filter took of it, and what is left."""
    table = make_table("", *(field.name for field in fields(Size)), gap=2)
    order = "timestamp" if loaded.in_time else "the file"
    table.add_row(f"read, in order of {order}", *_figures(loaded.read, ""))
    for dropped in loaded.dropped:
        table.add_row(f"dropped: {dropped.reason}", *_figures(dropped.size, "−"))
    if loaded.dropped:
        table.add_row("kept", *_figures(loaded.kept, ""))
    return table


def _figures(size: Size, sign: str) -> list[str]:
    return [f"{sign if value else ''}{value:,}" for value in vars(size).values()]


def _lengths(interactions: Interactions) -> str:
    least, tenth, median, ninetieth, most = np.quantile(
        interactions.lengths, QUANTILES, method="inverted_cdf"
    )
    return (
        f"a user has {least:,} to {most:,} interactions, median {median:,}; "
        f"eight users of ten have {tenth:,} to {ninetieth:,}"
    )


def _coverage(rows: Tensor) -> str:
    """Of vectors [I, W]."""
    present = rows[rows.any(1)]
    repeated = len(present) - len(torch.unique(present, dim=0))
    text = f"{len(present):,} of {len(rows):,} items ({len(present) / len(rows):.1%})"
    text += f", width {rows.shape[1]}"
    return text + (f"; {repeated:,} have the same vector as another" if repeated else "")
