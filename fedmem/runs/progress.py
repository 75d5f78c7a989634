"""What a run shows: a live bar in a terminal, plain lines elsewhere; at its end a table."""

from __future__ import annotations

import time
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from fedmem.core.console import make_table, say
from fedmem.core.data import load_histories
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.runs.folder import shown
from fedmem.runs.records import SELECTED_BY, Observer, RoundRecord, StageResult, sample_note

COLD_COLUMNS = {
    "cold_sampled": "sampled",
    "cold_full": "full",
    "cold_text": "by text\nalone",
    "cold_picture": "by picture\nalone",
    "cold_id": "by ID\nalone",
}
"""Rankings of the latest item of each user that was kept from training, and their headings."""


def make_progress(console: Console | None = None) -> Observer:
    """A live display if the output is a terminal, plain lines if it is not."""
    console = console or Console()
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class PlainProgress(Observer):
    """A line for the start of a stage, for every validation and for the result."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_stage(self, stage: Stage, rounds: int, trained_parameters: int, done: int) -> None:
        """Say what begins, or goes on."""
        self._rounds, self._done, self._started = rounds, done, time.monotonic()
        goes_on = f", goes on after round {done}" if done else ""
        trained = f"{trained_parameters:,} parameters trained"
        say(f"{stage.name}: {rounds} rounds, {trained}{goes_on}", self._console)

    def on_round(self, record: RoundRecord) -> None:
        """Say how a validated round went, and what happened besides in any."""
        for line in events(record, self._rounds):
            say(f"{record.stage} round {record.round}: {line}", self._console)
        self._rounds = record.last
        if record.validation is None:
            return
        parts = [f"{record.stage} round {record.round}/{self._rounds}"]
        if record.loss is not None:
            parts.append(f"loss {record.loss:.4f}")
        parts.append(f"validation HR@10 {record.validation[SELECTED_BY]:.4f}")
        if record.epsilon is not None:
            parts.append(f"ε {record.epsilon:.2f}")
        if record.round:
            left = (time.monotonic() - self._started) / (record.round - self._done)
            parts.append(f"{clock(left * (self._rounds - record.round))} left")
        say("  ".join(parts), self._console)

    def on_result(self, result: StageResult) -> None:
        """Say where the stage's parameters are."""
        where = f"{clock(result.seconds)}, {shown(result.checkpoint)}"
        say(f"{result.stage}: best round {result.best_round}, {where}", self._console)


class LiveProgress(Observer):
    """A bar a stage, with its loss, validation HR@10 and time left."""

    _task: TaskID
    _rounds: int

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("HR@10 {task.fields[hr]}{task.fields[spent]}"),
            TimeLeftColumn(elapsed_when_finished=True),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_stage(self, stage: Stage, rounds: int, trained_parameters: int, done: int) -> None:
        """Add the stage's bar."""
        self._rounds = rounds
        self._task = self._progress.add_task(
            stage.name, total=rounds, completed=done, loss="-", hr="-", spent=""
        )

    def on_round(self, record: RoundRecord) -> None:
        """Move the bar."""
        fields: dict[str, Any] = {}
        if record.loss is not None:
            fields["loss"] = f"{record.loss:.4f}"
        if record.validation is not None:
            fields["hr"] = f"{record.validation[SELECTED_BY]:.4f}"
        if record.epsilon is not None:
            fields["spent"] = f" ε {record.epsilon:.2f}"
        self._progress.update(self._task, completed=record.round, total=record.last, **fields)
        for line in events(record, self._rounds):
            say(f"round {record.round}: {line}", self._progress.console)
        self._rounds = record.last

    def on_result(self, result: StageResult) -> None:
        """Fill the bar, also of a stage that stopped early."""
        self._progress.update(self._task, total=result.rounds, completed=result.rounds)


def print_results(
    results: list[StageResult],
    settings: Settings,
    console: Console | None = None,
    data_here: bool = False,
) -> None:
    """Print the stages on the test items, as a table, and on cold items where there are any.

    Where `data_here`, it looks at the data to say how many items are ranked.
    """
    console = console or Console()
    table = make_table(
        f"{settings.data.name}, test\nseed {settings.seed}",
        "sampled\nHR@10",
        "\nNDCG@10",
        "full\nHR@10",
        "\nNDCG@10",
        "rounds\nbest/run",
        "params\ntrained",
        "MB a\nmessage",
        "\ntime",
    )
    for result in results:
        metrics = [
            f"{result.test[f'{ranking}/{metric}@10']:.4f}"
            for ranking in ("sampled", "full")
            for metric in ("HR", "NDCG")
        ]
        table.add_row(
            result.stage,
            *metrics,
            f"{result.best_round}/{result.rounds}",
            f"{result.trained_parameters:,}",
            f"{max(result.bytes_down, result.bytes_up) / 1e6:.2f}",
            clock(result.seconds),
        )
    console.print(table)
    for note in {sample_note(result): None for result in results if sample_note(result)}:
        say(f"figures {note}", console)
    if settings.evaluation.cold_items:
        table = make_table("HR@10 on items\nkept from training", *COLD_COLUMNS.values())
        for result in results:
            figures = [result.test.get(f"{ranking}/HR@10") for ranking in COLD_COLUMNS]
            table.add_row(result.stage, *("-" if x is None else f"{x:.4f}" for x in figures))
        console.print()
        console.print(table)
    spent = next((r.epsilon for r in reversed(results) if r.epsilon is not None), None)
    if spent is not None:
        privacy = settings.privacy
        say(f"ε {spent:.3f} of {privacy.epsilon:g} at δ {privacy.delta:g} is spent", console)
    say(
        f"sampled: the held-out item among {_others(settings, data_here)} that the user never "
        "touched\nfull: among all items but the user's own\n"
        f"run: {shown(settings.output_dir)}",
        console,
    )


def _others(settings: Settings, data_here: bool) -> str:
    """How many items the `sampled` ranking sets beside the held-out one: all that are asked for,
    where the users have so many.
    """
    asked = settings.evaluation.negatives
    try:
        interactions = load_histories(settings).warm if data_here else None
    except FedmemError:  # of a run that was done long ago
        interactions = None
    if interactions is None:
        return f"up to {asked}"
    if interactions.num_items - int(interactions.lengths.max()) >= asked:
        return str(asked)
    touched = (len(np.unique(interactions.history(u))) for u in range(interactions.num_users))
    left = [interactions.num_items - count for count in touched]
    return f"up to {min(max(left), asked)}" if min(left) < asked else str(asked)


def events(record: RoundRecord, rounds: int) -> list[str]:
    """Nodes that came or went, what took no part, and patience that cut `rounds`: a line each."""
    lines = record.nodes + [f"refused {reason}" for reason in record.refused]
    if record.left_out:
        users = record.users + record.left_out
        lines.append(f"{record.left_out} of {users} users left out by their nodes")
    if record.last < rounds:
        lines.append(f"patience has run out: cools down, and ends after round {record.last}")
    return lines


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
