"""What a checkpoint or a foreign file holds, as tables."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from fedmem.core.checkpoint.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import WAY_OUT, Left, diagnose, is_foreign, read_foreign
from fedmem.core.console import make_table
from fedmem.core.evaluation.statistics import mean_and_deviation
from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.accounting import epsilon
from fedmem.core.privacy.ledger import releases_of


def inspect(path: Path) -> RenderableType:
    """What is in a file, whoever wrote it.

    Raises:
        FedmemError: it cannot be read, or is damaged.
    """
    return _of_another_program(path) if is_foreign(path) else _of_a_checkpoint(path)


def _of_a_checkpoint(path: Path) -> RenderableType:
    """Stage, data, sizes, parents and parameter groups."""
    checkpoint = Checkpoint.load(path)
    table = checkpoint.parameters.get("sasrec.item_emb.weight")
    sizes = {**vars(checkpoint.model), "experts": "+".join(checkpoint.model.experts)}
    facts = {
        "stage": f"{checkpoint.stage}, round {checkpoint.round}",
        "data": f"catalogue {checkpoint.catalogue}"
        + (f", {len(table) - 1:,} items" if table is not None else ""),
        "sizes": ", ".join(f"{name}={size}" for name, size in sizes.items()),
        "validation": ", ".join(f"{k} {v:.4f}" for k, v in checkpoint.metrics.items()) or "none",
        "privacy": _promise(checkpoint),
        "parents": ", ".join(f"{k} {v}" for k, v in checkpoint.parents.items()) or "none",
        "hash": f"{checkpoint.hash}, verified",
    }
    return _facts_and_groups(path, facts, checkpoint.parameters)


def _promise(checkpoint: Checkpoint) -> str:
    """The ε of all that was released up to this checkpoint."""
    if checkpoint.released is None:
        return "none"
    if checkpoint.delta is None:
        return "some, its δ was not recorded"
    spent = epsilon(releases_of(checkpoint.released), checkpoint.delta)
    return f"ε {spent:.3f} at δ {checkpoint.delta:g}"


def _of_another_program(path: Path) -> RenderableType:
    """What it is, what could be taken, and what not and why."""
    tensors = read_foreign(path)
    found = diagnose(tensors)
    facts = {"is": found.kind + (f": {found.why_not}" if found.why_not else "")}
    if found.backbone:
        takes = f"python -m fedmem.checkpoint import {path} --to DIR takes it"
        facts["backbone"] = f"fits; {takes}"
    else:
        facts |= {"backbone": "does not fit", "way out": WAY_OUT}
    shown = _facts_and_groups(path, facts, tensors)
    return Group(shown, Text(), left_list(found.left)) if found.left else shown


def left_list(left: list[Left]) -> Text:
    """What is left of a foreign file, name by name under the reason."""
    by_reason: dict[str, list[str]] = {}
    for item in left:
        by_reason.setdefault(item.why, []).append(f"  {item.name} {list(item.shape)}")
    return Text("\n".join(f"left: {why}\n" + "\n".join(x) for why, x in by_reason.items()))


def _facts_and_groups(path: Path, facts: dict[str, str], parameters: Parameters) -> Group:
    """Facts, and count, mean and s.d. of each module's parameters, the backbone's parts apart."""
    about = Table.grid(padding=(0, 2))
    for name, fact in {"file": str(path), **facts}.items():
        about.add_row(name, Text(fact))
    groups: dict[str, list[Tensor]] = {}
    for name, value in parameters.items():
        parts = name.split(".")
        depth = 2 if parts[0] == "sasrec" and len(parts) > 2 else 1
        groups.setdefault(".".join(parts[:depth]), []).append(value.detach().reshape(-1).double())
    table = make_table("parameters", "count", "mean", "s.d.", gap=2)
    for group, members in groups.items():
        values = torch.cat(members)
        mean, deviation = mean_and_deviation(values.numpy())
        spread = f"{deviation:.5f}" if len(values) > 1 else "-"
        table.add_row(Text(group), f"{len(values):,}", f"{mean:.5f}", spread)
    table.add_row("all", f"{sum(value.numel() for value in parameters.values()):,}", "", "")
    return Group(about, Text(), table)
