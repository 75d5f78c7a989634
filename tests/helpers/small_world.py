"""A tiny world: 24 users, 40 items, content of a few dimensions, a model of width 16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage

NUM_USERS, NUM_ITEMS = 24, 40
VISUAL_WIDTH, TEXT_WIDTH = 12, 8
SMALL = [
    "data=ml-1m",
    "model.dim=16",
    "model.heads=2",
    "model.semantic_heads=2",
    "model.feedforward=32",
    "model.max_length=8",
    "model.gating_hidden=8",
    "model.router_hidden=8",
    "memory.short_term_capacity=4",
    "memory.long_term_capacity=6",
    "memory.top_k=5",
    "memory.write_ratio=0.4",
    "client.windows=2",
    "client.negatives=6",
    "client.positions=3",
    "client.micro_batch=24",
    "evaluation.negatives=10",
    "federation.rounds=2",
    "federation.fraction=0.5",
    "federation.nodes=2",
    "federation.evaluate_every=1",
]
"""Overrides of a command line that runs in this world."""


def write_small_data(folder: Path) -> None:
    """A new folder of interactions and features.

    Item 3 has no content, item 5 no picture, item 7 no text.
    """
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for user in range(1, NUM_USERS + 1):
        items = generator.permutation(NUM_ITEMS)[: generator.integers(5, 25)] + 1
        if user % 3 == 0 and 3 not in items:
            items[0] = 3
        lines += [f"{user} {item} 1 {step}" for step, item in enumerate(items)]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    visual = torch.from_numpy(generator.normal(size=(NUM_ITEMS + 1, VISUAL_WIDTH)))
    text = torch.from_numpy(generator.normal(size=(NUM_ITEMS + 1, TEXT_WIDTH)))
    visual[[0, 3, 5]] = 0
    text[[0, 3, 7]] = 0
    torch.save(visual.half(), folder / "visual_features.pt")
    torch.save(text.half(), folder / "text_features.pt")


def swap_held_out(data_dir: Path, folder: Path) -> Path:
    """A copy of the data in which every user's last two items are others."""
    folder.mkdir()
    for file in ("visual_features.pt", "text_features.pt"):
        (folder / file).write_bytes((data_dir / file).read_bytes())
    rows = [line.split() for line in (data_dir / "ratings.dat").read_text().splitlines()]
    for end in {row[0]: i for i, row in enumerate(rows)}.values():
        touched = {row[1] for row in rows if row[0] == rows[end][0]}
        fresh = [str(item) for item in range(1, NUM_ITEMS + 1) if str(item) not in touched]
        rows[end - 1][1], rows[end][1] = fresh[:2]
    (folder / "ratings.dat").write_text("\n".join(" ".join(row) for row in rows) + "\n")
    return folder


def ready_node(settings: Settings, stage: Stage) -> Node:
    """A node whose parameters are all away from where they start, with its memories filled."""
    node = Node(settings)
    torch.manual_seed(0)
    model = node.model(stage)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        model.sasrec.item_emb.weight[0] = 0
    if stage.memory:
        node.open_bank(0.8)
        node.ingest(stage, "validation")
    return node


def only(settings: Settings, stage: str) -> Settings:
    """Settings of a run of this stage alone."""
    return replace(settings, stage={stage: settings.stage[stage]})
