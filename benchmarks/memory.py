"""What the memories of a node's users cost, on one core.

    python benchmarks/memory.py [--repeats 5] [setting=value …]

Fills the memories of all users up to their validation items, and reads them before each training
target. All of it runs on one thread; shown are medians of processor time. The figures are written
to `benchmarks/memory.json`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import Machine, figure, make_table, report

from fedmem.core.arrays import Floats, UserIndices, ranges
from fedmem.core.console import say
from fedmem.core.errors import FedmemError
from fedmem.core.memory import MemoryBank, Novelties, auto_threshold
from fedmem.core.node import Node
from fedmem.runs.configuration import compose_settings


def seconds(work: Callable[[], object]) -> float:
    """Processor time that it takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_megabytes() -> float:
    """The most that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def filled(node: Node, vectors: Floats, users: UserIndices, threshold: float) -> MemoryBank:
    """The users' memories up to their validation items, from nothing."""
    memory, interactions = node.settings.memory, node.interactions
    novelties = Novelties(interactions, vectors, memory.short_term_capacity)
    bank = MemoryBank(memory, threshold, novelties)
    bank.ingest(users, interactions.held_out_positions("validation")[users])
    return bank


def measure(node: Node, repeats: int) -> dict[str, float]:
    """The figures of the table."""
    users, windows, vectors = node.users, node.windows, node.corpus.vectors
    compiling = seconds(lambda: filled(node, vectors, users[:1], threshold=0.5).retrieve(users[:1]))
    data = peak_megabytes()
    threshold = auto_threshold(node.novelty_histogram(), node.settings.memory.write_ratio)

    ingesting = statistics.median(
        seconds(lambda: filled(node, vectors, users, threshold)) for _ in range(repeats)
    )
    bank = filled(node, vectors, users, threshold)
    peak_of_ingestion = peak_megabytes() - data
    read_users = np.repeat(windows.user, windows.lengths)
    positions = ranges(windows.start, windows.lengths)
    reading = statistics.median(
        seconds(lambda: bank.replay(read_users, positions)) for _ in range(repeats)
    )
    ingested = bank.statistics().ingested
    return {
        "users": len(users),
        "interactions": ingested,
        "users ingested a second": len(users) / ingesting,
        "interactions ingested a second": ingested / ingesting,
        "replayed reads a second": len(positions) / reading,
        "bytes kept a user": sum(array.nbytes for array in bank.pack().values()) / len(users),
        "peak MB above the data, ingesting": peak_of_ingestion,
        "peak MB above the data, reading too": peak_megabytes() - data,
        "seconds to compile before, or to load what was compiled": compiling,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    machine = Machine.this()
    settings = compose_settings(arguments.overrides)
    try:
        figures = measure(Node(settings), arguments.repeats)
    except FedmemError as error:
        say(f"Skipped: {error}")
        return
    table = make_table(settings.data.name, ("", ""))
    for name, value in figures.items():
        table.add_row(name, figure(value))
    report(
        Path(__file__).with_suffix(".json"),
        table,
        "on one core",
        machine,
        {"data": settings.data.name, **figures},
    )


if __name__ == "__main__":
    main()
