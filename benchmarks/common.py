"""What the benchmarks share: the machine's name, processes of their own, tables and reports."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from fedmem.core.console import make_table as console_table
from fedmem.core.console import say
from fedmem.runs.provenance import cpu_name

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Machine:
    """Where figures were taken.

    Attributes:
        cpu: the model's name.
        cores: that this process may use.
        threads: of torch where a benchmark does not say otherwise.
        torch: its version.
        load: average over the minute before; threads that wait for one another suffer from other
            work far more than it takes, so figures count only where this was near nothing.
    """

    cpu: str
    cores: int
    threads: int
    torch: str
    load: float

    @classmethod
    def this(cls) -> Machine:
        """The one that runs this."""
        return cls(
            cpu_name(),
            len(os.sched_getaffinity(0)),
            torch.get_num_threads(),
            torch.__version__,
            os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.threads} threads, torch {self.torch}, "
            f"load {self.load:.1f} before"
        )


def in_fresh_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """A function's result from a process that has run nothing before it.

    So no system finds the threads, the caches or the memory that another one left behind.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def middle(seconds: Sequence[float]) -> float:
    """Their median; no number where there are none."""
    return statistics.median(seconds) if seconds else float("nan")


def figure(value: float, unit: str = "") -> str:
    """A figure of a table, three digits long; a dash where there is none."""
    if value != value:
        return "–"
    return (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}") + unit


def make_table(title: str, columns: Sequence[str]) -> Table:
    """A table whose first column names its rows."""
    table = console_table(*columns, gap=2)
    table.title, table.title_justify = title, "left"
    return table


def report(path: Path, table: Table, notes: str, machine: Machine, figures: object) -> None:
    """Print a table with its notes, and write the figures that it was made from."""
    Console().print(table)
    say(f"{notes}\n{machine}")
    content = {"machine": asdict(machine), "figures": figures}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    say(f"written to {path}")
