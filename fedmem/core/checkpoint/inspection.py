"""What a checkpoint or a foreign file holds, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from fedmem.core.checkpoint.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import (
    Diagnosis,
    Left,
    diagnose,
    is_foreign,
    read_foreign,
    way_out,
)
from fedmem.core.console import make_table
from fedmem.core.evaluation.statistics import mean_and_deviation
from fedmem.core.model.parameters import Parameters


def inspect(path: Path) -> RenderableType:
    """What is in a file, whoever wrote it.

    Raises:
        FedmemError: it cannot be read, or is damaged.
    """
    if is_foreign(path):
        tensors = read_foreign(path)
        return describe_foreign(diagnose(tensors), tensors, path)
    return describe_checkpoint(Checkpoint.load(path), path)


def describe_checkpoint(checkpoint: Checkpoint, path: Path) -> RenderableType:
    """A checkpoint: stage, data, sizes, parents and parameter groups."""
    table = checkpoint.parameters.get("sasrec.item_emb.weight")
    facts = {
        "stage": f"{checkpoint.stage}, round {checkpoint.round}",
        "data": f"catalogue {checkpoint.catalogue}"
        + (f", {len(table) - 1:,} items" if table is not None else ""),
        "sizes": ", ".join(f"{k}={_plain(v)}" for k, v in vars(checkpoint.model).items()),
        "validation": ", ".join(f"{k} {v:.4f}" for k, v in checkpoint.metrics.items()) or "none",
        "parents": ", ".join(f"{k} {v}" for k, v in checkpoint.parents.items()) or "none",
        "hash": f"{checkpoint.hash}, verified",
    }
    return Group(_facts(path, facts), Text(), groups_table(checkpoint.parameters))


def describe_foreign(found: Diagnosis, tensors: Parameters, path: Path) -> RenderableType:
    """A file that fedmem did not write: what it is, what could be taken, and what not and why."""
    takes = f"python -m fedmem.checkpoint import {path} --to DIR takes it"
    facts = {
        "is": found.kind + (f": {found.why_not}" if found.why_not else ""),
        "backbone": f"fits; {takes}" if found.backbone else "does not fit",
    }
    if not found.backbone:
        facts["way out"] = way_out()
    parts: list[RenderableType] = [_facts(path, facts), Text(), groups_table(tensors)]
    if found.left:
        parts += [Text(), left_list(found.left)]
    return Group(*parts)


def left_list(left: list[Left]) -> Text:
    """What is left of a foreign file, name by name under the reason."""
    by_reason: dict[str, list[str]] = {}
    for item in left:
        by_reason.setdefault(item.why, []).append(f"  {item.name} {list(item.shape)}")
    return Text("\n".join(f"left: {why}\n" + "\n".join(x) for why, x in by_reason.items()))


def groups_table(parameters: Parameters) -> Table:
    """Parameter groups with count, mean and s.d."""
    table = make_table("parameters", "count", "mean", "s.d.", gap=2)
    for group, values in parameter_groups(parameters):
        mean, deviation = mean_and_deviation(values.detach().numpy())
        spread = f"{deviation:.5f}" if len(values) > 1 else "-"
        table.add_row(Text(group), f"{len(values):,}", f"{mean:.5f}", spread)
    total = sum(value.numel() for value in parameters.values())
    table.add_row("all", f"{total:,}", "", "")
    return table


def parameter_groups(parameters: Parameters) -> Iterator[tuple[str, Tensor]]:
    """(name, values [n]) of each module, the backbone's parts apart, in the order of the names."""
    groups: dict[str, list[Tensor]] = {}
    for name, value in parameters.items():
        parts = name.split(".")
        depth = 2 if parts[0] == "sasrec" and len(parts) > 2 else 1
        groups.setdefault(".".join(parts[:depth]), []).append(value.reshape(-1).double())
    for group, values in groups.items():
        yield group, torch.cat(values)


def _facts(path: Path, facts: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("file", Text(str(path)))
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
