"""A tiny federation of its own making: 24 users, 40 items, content of a few dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.runs.configuration import compose_settings

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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Interactions and features; item 3 has no content, item 5 no picture, item 7 no text."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
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
    return folder


@pytest.fixture
def make_settings(data_dir: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the tiny federation, with overrides as on the command line."""

    def make(*overrides: str) -> Settings:
        own = [f"data.dir={data_dir}", f"checkpoint.dir={tmp_path / 'checkpoints'}"]
        return compose_settings([*SMALL, *own, *overrides], output_dir=str(tmp_path / "run"))

    return make


def only(settings: Settings, stage: str) -> Settings:
    """Settings of a run of this stage alone."""
    return replace(settings, stage={stage: settings.stage[stage]})


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


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
