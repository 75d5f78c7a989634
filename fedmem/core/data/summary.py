"""A summary of data, printed before they are trained on."""

from __future__ import annotations

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fedmem.core.console import make_table, say
from fedmem.core.data.content import KINDS, load_content
from fedmem.core.data.forgotten import forgotten_path, read_forgotten
from fedmem.core.data.ids import example
from fedmem.core.data.interactions import Loaded, load
from fedmem.core.data.preparation import Size
from fedmem.core.settings import DataSettings


def print_summary(settings: DataSettings, content: bool, console: Console | None = None) -> None:
    """Print what was read, dropped and kept, and how many items have content, if that is wanted.

    Raises:
        FedmemError: the data cannot be read.
    """
    console = console or Console()
    loaded = load(settings)
    interactions = loaded.interactions
    more = f" and {len(loaded.paths) - 1} more" if len(loaded.paths) > 1 else ""
    say(f"{loaded.paths[0]}{more}: {loaded.layout}", console)
    console.print(_sizes(loaded))
    least, tenth, median, ninetieth, most = np.quantile(
        interactions.lengths, (0, 0.1, 0.5, 0.9, 1), method="inverted_cdf"
    )
    say(
        f"a user has {least:,} to {most:,} interactions, median {median:,}; "
        f"eight users of ten have {tenth:,} to {ninetieth:,}",
        console,
    )
    users, items = interactions.user_ids[settings.first_index :], interactions.item_ids[1:]
    for kind, ids in {"user": users, "item": items}.items():
        if ids.dtype == object:
            say(f"{kind} ids are text, as {example(ids)!r} is", console)
    gone = int(read_forgotten(settings).among(interactions).sum())
    if gone:
        say(
            f"{gone:,} of them were forgotten and are left out: {forgotten_path(settings)}", console
        )
    for doubt in loaded.doubts:
        say(f"look: {doubt}", console)
    if content:
        found = load_content(settings, interactions)
        for kind, file in KINDS.items():
            if getattr(settings, file) is not None:
                say(f"{kind}: {_coverage(getattr(found, kind)[1:])}", console)


def _sizes(loaded: Loaded) -> Table:
    """What was read, what each filter took of it, and what is left."""
    table = make_table("", *Size._fields, gap=2)
    order = "timestamp" if loaded.in_time else "the file"
    rows = {f"read, in order of {order}": loaded.read}
    rows |= {f"dropped: {reason}": size for reason, size in loaded.dropped}
    if loaded.dropped:
        rows["kept"] = loaded.kept
    for name, size in rows.items():
        sign = "−" if name.startswith("dropped") else ""
        table.add_row(name, *(f"{sign if value else ''}{value:,}" for value in size))
    return table


def _coverage(rows: Tensor) -> str:
    """Of vectors [I, W]."""
    present = rows[rows.any(1)]
    repeated = len(present) - len(torch.unique(present, dim=0))
    text = f"{len(present):,} of {len(rows):,} items ({len(present) / len(rows):.1%})"
    text += f", width {rows.shape[1]}"
    return text + (f"; {repeated:,} have the same vector as another" if repeated else "")
