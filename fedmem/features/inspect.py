"""Feature files measured: what `python -m fedmem.features inspect` does."""

from __future__ import annotations

import argparse
import textwrap
from functools import partial
from pathlib import Path

from rich.console import Console

from fedmem.core.console import make_table, say
from fedmem.features.inspection import Inspection, inspect
from fedmem.features.options import named_columns
from fedmem.features.page import draw_page
from fedmem.features.table import read_titles
from fedmem.runs.configuration import compose_settings


def make(args: argparse.Namespace, console: Console | None = None) -> Inspection:
    """Inspect the features of the data that the options name.

    Raises:
        FedmemError: a setting, the data, the item table or the page's folder does not allow it.
    """
    console = console or Console()
    settings = compose_settings(args.settings)
    columns, encoding = named_columns(args), settings.data.encoding
    titles = {}
    if args.items:
        titles = read_titles(args.items, columns, encoding, partial(say, console=console))
    found = inspect(settings, titles)
    print_inspection(found, console)
    page = args.page or Path("runs") / settings.data.name / "features.png"
    draw_page(found, page)
    say(f"page: {page}", console)
    return found


def print_inspection(found: Inspection, console: Console) -> None:
    """Print all of it, in 80 columns."""
    write = partial(say, console=console)
    write(
        f"{found.data}: {found.users:,} users, {found.items:,} items, "
        f"{found.interactions:,} interactions\n"
    )
    lengths = ("length\n5%", "\nmedian", "\n95%")
    coverage = make_table("", "width", "items\ncovered", "interactions\ncovered", *lengths, gap=2)
    alike = make_table("", "neighbours", "random", "difference", "95% interval", gap=2)
    for kind in found.kinds:
        shares = [f"{share:.1%}" for share in (kind.items, kind.interactions)]
        coverage.add_row(kind.name, f"{kind.width}", *shares, *(f"{n:.3f}" for n in kind.norms))
        s = kind.similarity
        means = [f"{s.neighbours:.3f}", f"{s.random:.3f}", f"{s.difference:+.4f}"]
        alike.add_row(kind.name, *means, f"{s.low:+.4f} … {s.high:+.4f}")
    console.print(coverage)
    write("\nMean cosine of two neighbours in a history, and of two random items:")
    console.print(alike)
    for kind in found.kinds:
        write(f"{kind.name}: {verdict(kind.similarity.low, kind.similarity.high)}")
    quantiles = ", ".join(f"{found.novelty_quantile(q):.2f}" for q in (0.05, 0.25, 0.5, 0.75, 0.95))
    write(
        f"\nNovelty at the 5, 25, 50, 75 and 95% quantiles: {quantiles}\n"
        f"memory.threshold=auto takes {found.threshold:g}: {found.written:.1%} of the training "
        f"interactions\nare as novel (memory.write_ratio={found.write_ratio:g})"
    )
    write("\n" + textwrap.fill(f"Item embeddings: {found.start}", 80))
    for example in found.examples:
        write(f"\nNearest to {example.title}")
        for kind_name, nearest in example.nearest.items():
            for place, (title, cosine) in enumerate(nearest):
                write(f"  {'' if place else kind_name:<7} {cosine:.2f}  {title}")


def verdict(low: float, high: float) -> str:
    """What the interval of a difference says, in words."""
    if low > 0:
        return "neighbours are more alike, so the vectors know something of what users do"
    if high < 0:
        return "neighbours are less alike than random items: are these the right items' vectors?"
    return "no sign that the vectors know anything of what users do"
