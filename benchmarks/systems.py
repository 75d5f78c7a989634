"""The systems that `simulation.py` compares: where a stage starts in each, and fedmem itself.

A system is a function of settings, stage and rounds that returns the seconds of each round
after the first, which also loads data and fills caches.
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fedmem.core.checkpoint import load_parents
from fedmem.core.memory import auto_threshold
from fedmem.core.model.parameters import Parameters, initial_parameters
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.runs.folder import ROUNDS
from fedmem.simulate import simulate


@dataclass(frozen=True)
class Start:
    """What a stage starts from, as fedmem's server makes it: parameters and novelty threshold."""

    parameters: Parameters
    threshold: float

    @classmethod
    def of(cls, settings: Settings, stage: Stage, node: Node) -> Start:
        """From the checkpoints that the settings name."""
        parents = load_parents(settings, stage, node.interactions.fingerprint)
        content = node.content if stage.content else None
        widths = (content.visual.shape[1], content.text.shape[1]) if content else (0, 0)
        parameters = initial_parameters(
            settings.model,
            stage,
            node.interactions.num_items,
            widths,
            settings.seed,
            {name: parent.parameters for name, parent in parents.items()},
        )
        ratio = settings.memory.write_ratio
        threshold = auto_threshold(node.novelty_histogram(), ratio) if stage.memory else 0.0
        return cls(parameters, threshold)


class Rounds(NamedTuple):
    """Rounds of a run: when the first began, by `time.time`; seconds and loss of each."""

    began: float
    seconds: list[float]
    losses: list[float]


def fill_memories(node: Node, stage: Stage, threshold: float) -> None:
    """Bring the memories of a node's users up to the validation items, where the stage reads."""
    if stage.memory:
        node.open_bank(threshold)
        node.ingest(stage, "validation")


def run_quietly(settings: Settings) -> None:
    """`simulate`, without the lines that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        simulate(settings)


def fedmem_rounds(settings: Settings) -> list[float]:
    """Seconds of fedmem's rounds as its strategy records them, validations taken off."""
    run_quietly(settings)
    return [r["seconds"] - r["evaluation_seconds"] for r in read_rounds(settings) if r["round"] > 1]


def read_rounds(settings: Settings) -> list[dict[str, Any]]:
    """The rounds of a run, each a `fedmem.runs.records.RoundRecord` as a dictionary."""
    lines = (Path(settings.output_dir) / ROUNDS).read_text().splitlines()
    return [json.loads(line) for line in lines]
