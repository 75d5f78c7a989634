"""Runs under masks: how they are asked for, and what is left of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.settings import Settings
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    SHARE_SECRETS,
)
from fedmem.runs.records import RoundRecord
from tests.helpers.in_process_grid import InProcessGrid

UNSEEN = ("strategy.guard_ratio=null", "privacy.secure_sum.enabled=true")
ASKED = (
    "stage=pretrain_sasrec",
    "federation.nodes=3",
    "federation.fraction=1.0",
    "federation.evaluate_every=2",
    *UNSEEN,
)
FOUR = ("federation.nodes=4", "strategy=fedavg", "strategy.guard_ratio=null")
PLAIN = "privacy.secure_sum.enabled=false"
MEMBERS = "privacy.secure_sum.min_members={}"
STEPS = (OFFER_KEYS, SHARE_SECRETS, "train", REVEAL_SHARES)


def own_folder(place: Path) -> list[str]:
    return [f"output_dir={place}", f"checkpoint.dir={place / 'checkpoints'}"]


@dataclass
class Ran:
    """A run that is over: its settings, its rounds, and all that was said."""

    settings: Settings
    records: list[RoundRecord]
    grid: InProcessGrid


def trained(settings: Settings, stage: str = "pretrain_sasrec") -> Checkpoint:
    return Checkpoint.load(Path(settings.checkpoint.dir) / f"{stage}.safetensors")


def figures(record: RoundRecord) -> tuple[int, int, int]:
    return record.users, record.targets, record.messages
