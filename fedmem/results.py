"""What a run leaves behind: `metrics.jsonl` as it goes, then `results.json` and a table."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table

from fedmem.progress import clock
from fedmem.server_app import StageResult
from fedmem.settings import Settings
from fedmem.stages import Stage
from strategies import RoundRecord


class MetricsFile:
    """Writes every round to a file, a line of JSON each, as it ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def on_stage(self, stage: Stage, rounds: int, trained_parameters: int) -> None:
        """Nothing to write."""

    def on_round(self, record: RoundRecord) -> None:
        """Write the round."""
        self._file.write(json.dumps(asdict(record)) + "\n")

    def on_result(self, result: StageResult) -> None:
        """Nothing to write: results have a file of their own."""


def write_results(path: Path, settings: Settings, results: list[StageResult]) -> None:
    """Write settings and stage results as JSON: complete under its name, or not at all."""
    content = {"settings": asdict(settings), "stages": [asdict(result) for result in results]}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def print_results(
    results: list[StageResult], settings: Settings, console: Console | None = None
) -> None:
    """Print the table of the stages, on the test items."""
    console = console or Console()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(f"{settings.data.name}, test\nseed {settings.seed}", no_wrap=True)
    for heading in (
        "sampled\nHR@10",
        "\nNDCG@10",
        "full\nHR@10",
        "\nNDCG@10",
        "rounds\nbest/run",
        "params\ntrained",
        "MB a\nmessage",
        "\ntime",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
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
    if settings.evaluation.cold_items:
        console.print()
        console.print(_cold_table(results))
    console.print(
        f"sampled: the held-out item among {settings.evaluation.negatives} that the user never "
        "touched\nfull: among all items but the user's own\n"
        f"run: {settings.output_dir}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _cold_table(results: list[StageResult]) -> Table:
    """HR@10 of the stages on the latest item of each user that was kept from training."""
    columns = {
        "cold_sampled": "sampled",
        "cold_full": "full",
        "cold_text": "by text\nalone",
        "cold_picture": "by picture\nalone",
        "cold_id": "by ID\nalone",
    }
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("HR@10 on items\nkept from training", no_wrap=True)
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        figures = [result.test.get(f"{ranking}/HR@10") for ranking in columns]
        table.add_row(result.stage, *("-" if x is None else f"{x:.4f}" for x in figures))
    return table
