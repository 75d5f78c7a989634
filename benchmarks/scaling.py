"""What a user costs as users become more: seconds, memory and bytes of the real simulation.

    python benchmarks/scaling.py [--ml-1m FOLDER] [--amazon-beauty FOLDER] [--million]
        [setting=value …]

Trains stage 1 through Flower at the default fraction, for 100, 400, 1,600 and 6,040 users
of MovieLens-1M and all users of Amazon Beauty; data whose folder is not given are left out.
`--million` adds 1,000,000 users, 100,000 items and 12.3 million interactions that are made up, of
whom 1,000 train in a round, each target beside 4,096 items that are drawn for the round, and 50,000
are ranked; it takes some minutes. Each size is a process of its own.

- a trained user: median seconds of a round after the first, validation taken off, by the users that
  trained in it.
- a validated user: median seconds of a validation (ranking `sampled`), by the users ranked.
- a tested user: seconds of the evaluation on the test items (both rankings), by the users ranked.
- a round, a validation: the same seconds as they are. To read: seconds until a process has the
  interactions, of the file.
- memory: the highest sum over all processes of the run of the memory that is theirs
  (PSS: what processes share is split between them), looked at every second.
- a message: mean bytes of a round's message to a node, and of its reply.

The figures are written to `benchmarks/scaling.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from common import Machine, figure, in_fresh_process, make_table, middle, report
from made_up import FILE, make_up
from systems import read_rounds, run_quietly

from fedmem.core.console import say
from fedmem.core.data import load_interactions
from fedmem.core.data.sampling import participants
from fedmem.core.settings import Settings
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RESULTS

SAMPLE_SECONDS = 1.0
REFERENCE_USERS = 400
COLUMNS = {
    "train_ms": "train",
    "validation_ms": "validate",
    "test_ms": "test",
    "memory_mb": "MB",
    "megabytes_down": "down",
    "megabytes_up": "up",
    "round_seconds": "round",
    "validation_seconds": "rank",
    "read_seconds": "read",
}
TITLE = (
    "stage 1: ms a user to train, validate, test; MB in all; MB a message down, up;\n"
    "seconds of a round, of a validation (rank), to read the file"
)
MILLION = (
    f"data.path={FILE}",
    "data.name=made-up",
    "federation.fraction=0.001",
    "evaluation.users=50000",
    "client.candidates=4096",
    "strategy.lazy=true",
)
"""What is set for the made-up users, unless the command line says otherwise."""


@dataclass(frozen=True)
class Cost:
    """What one size cost."""

    data: str
    users: int
    items: int
    train_ms: float
    validation_ms: float
    test_ms: float
    memory_mb: float
    megabytes_down: float
    megabytes_up: float
    round_seconds: float
    validation_seconds: float
    read_seconds: float


class PeakMemory:
    """The highest memory of this process's descendants together, while it is watched."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at it from a thread until the block ends."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, sum(map(_pss, psutil.Process().children(recursive=True))))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0  # it has ended meanwhile


def measure(settings: Settings) -> Cost:
    """Run one size."""
    read_seconds, users, items = in_fresh_process(read, settings)
    peak = PeakMemory()
    with peak.watched():
        in_fresh_process(run_quietly, settings)
    output = Path(settings.output_dir)
    (result,) = json.loads((output / RESULTS).read_text())["stages"]
    rounds, ranked = read_rounds(settings), result["ranked_users"]
    trained = [r["seconds"] - r["evaluation_seconds"] for r in rounds[1:]]
    by_user = [seconds / r["users"] for seconds, r in zip(trained, rounds[1:], strict=True)]
    validated = [r["evaluation_seconds"] for r in rounds if r["validation"]]
    return Cost(
        data=settings.data.name,
        users=users,
        items=items,
        train_ms=1e3 * middle(by_user),
        validation_ms=1e3 * middle(validated) / ranked,
        test_ms=1e3 * result["test_seconds"] / ranked,
        memory_mb=peak.bytes / 1e6,
        megabytes_down=result["bytes_down"] / 1e6,
        megabytes_up=result["bytes_up"] / 1e6,
        round_seconds=middle(trained),
        validation_seconds=middle(validated),
        read_seconds=read_seconds,
    )


def read(settings: Settings) -> tuple[float, int, int]:
    """Read the interactions: seconds, users that take part, items."""
    began = time.monotonic()
    interactions = load_interactions(settings.data)
    seconds = time.monotonic() - began
    return seconds, len(participants(settings)), interactions.num_items


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ml-1m", metavar="FOLDER")
    parser.add_argument("--amazon-beauty", metavar="FOLDER")
    parser.add_argument("--million", action="store_true", help="with a million made-up users")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", default="100,400,1600,6040", help="of MovieLens-1M")
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    arguments = parser.parse_intermixed_args()
    machine = Machine.this()
    sizes: list[tuple[str, str, int | None, tuple[str, ...]]] = []
    if arguments.ml_1m:
        sizes += [
            ("ml-1m", arguments.ml_1m, users, ()) for users in map(int, arguments.users.split(","))
        ]
    if arguments.amazon_beauty:
        sizes.append(("amazon-beauty", arguments.amazon_beauty, None, ()))
    for data in ("ml-1m", "amazon-beauty"):
        if data not in {name for name, *_ in sizes}:
            say(f"{data}: left out, no --{data} FOLDER")
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.million:
            in_fresh_process(make_up, Path(folder), 1_000_000, 100_000, 12_300_000)
            sizes.append(("custom", folder, None, MILLION))
        if not sizes:
            parser.error("nothing to measure")
        for data, place, users, more in sizes:
            own = [
                f"data={data}",
                f"data.dir={place}",
                "stage=pretrain_sasrec",
                f"federation.num_clients={users or 'null'}",
                f"federation.rounds={arguments.rounds}",
                "federation.evaluate_every=2",
                f"checkpoint.dir={folder}/checkpoints",
            ]
            output, asked = tempfile.mkdtemp(dir=folder), [*more, *arguments.overrides, *own]
            cost = measure(compose_settings(asked, output_dir=output))
            costs.append(cost)
            say(f"{cost.data}, {cost.users:,} users: done")
    table = make_table(TITLE, ("data", "users", "items", *COLUMNS.values()))
    for cost in costs:
        values = (figure(getattr(cost, name)) for name in COLUMNS)
        table.add_row(cost.data, f"{cost.users:,}", f"{cost.items:,}", *values)
    reference = next((cost for cost in costs if cost.users == REFERENCE_USERS), costs[0])
    ratios = {name: getattr(costs[-1], name) / getattr(reference, name) for name in COLUMNS}
    users_ratio = figure(costs[-1].users / reference.users, "×")
    items_ratio = figure(costs[-1].items / reference.items, "×")
    grown = (figure(value, "×") for value in ratios.values())
    table.add_row("growth", users_ratio, items_ratio, *grown)
    report(
        Path(__file__).with_suffix(".json"),
        table,
        f"growth: the last size against that of {reference.users:,} users",
        machine,
        {
            "settings": arguments.overrides,
            "sizes": [asdict(cost) for cost in costs],
            f"growth from {reference.users} users": ratios,
        },
    )


if __name__ == "__main__":
    main()
