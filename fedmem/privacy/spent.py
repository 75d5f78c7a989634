"""The ledger of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fedmem.core.console import make_table, say
from fedmem.core.errors import FedmemError
from fedmem.core.privacy.accounting import epsilon
from fedmem.runs.folder import STATE, shown
from fedmem.runs.state import RunState


def print_spent(folder: Path) -> None:
    """Print every release of a run, and what they have cost together.

    Raises:
        FedmemError: there is no run, or it is not private.
    """
    if not (folder / STATE).is_dir():
        raise FedmemError(f"{folder} holds no run: there is no {folder / STATE}.")
    state = RunState.load(folder / STATE, with_best=False)
    ledger = state.stage.ledger if state.stage is not None else state.ledger
    if ledger is None:
        raise FedmemError(f"{shown(folder)} is a run without privacy: no ε holds for it.")
    table = make_table("release", "times", "σ", "rate", "ε so far", gap=3)
    for count, each in enumerate(ledger.releases, 1):
        rate = f"{each.rate:g}" if each.rate < 1 else f"1 in {each.every}" if each.every > 1 else ""
        so_far = epsilon(ledger.releases[:count], ledger.delta)
        table.add_row(each.of, str(each.times), f"{each.noise:.3f}", rate, f"{so_far:.3f}")
    console = Console()
    console.print(table)
    say(
        f"\nε {ledger.epsilon:.3f} of {state.settings.privacy.epsilon:g} at δ {ledger.delta:g}, "
        f"{state}",
        console,
    )
