"""The table that a run ends with."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fedmem.core.console import make_table, say
from fedmem.core.settings import Settings
from fedmem.runs.folder import shown
from fedmem.runs.progress import clock
from fedmem.runs.records import StageResult


def print_results(
    results: list[StageResult], settings: Settings, console: Console | None = None
) -> None:
    """Print the table of the stages, on the test items."""
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
    if settings.evaluation.cold_items:
        console.print()
        console.print(_cold_table(results))
    say(
        f"sampled: the held-out item among {settings.evaluation.negatives} that the user never "
        "touched\nfull: among all items but the user's own\n"
        f"run: {shown(settings.output_dir)}",
        console,
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
    table = make_table("HR@10 on items\nkept from training", *columns.values())
    for result in results:
        figures = [result.test.get(f"{ranking}/HR@10") for ranking in columns]
        table.add_row(result.stage, *("-" if x is None else f"{x:.4f}" for x in figures))
    return table
