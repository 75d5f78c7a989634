"""Every setting of a run: its type, its range and what it means.

The values live in `conf/` (Hydra); these frozen dataclasses hold no defaults, so that there is one
place to look for each number. Building one with a value out of range raises `FedmemError`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import dacite

from fedmem.core.settings.data import (
    CONTENTS,
    AblationSettings,
    ColumnSettings,
    DataSettings,
    EvaluationSettings,
)
from fedmem.core.settings.model import LossSettings, MemorySettings, ModelSettings
from fedmem.core.settings.ranges import require
from fedmem.core.settings.runtime import (
    DEVICES,
    CheckpointSettings,
    RunSettings,
    SimulationSettings,
    TrackingSettings,
)
from fedmem.core.settings.schema import require_schema
from fedmem.core.settings.training import (
    CentralisedSettings,
    ClientSettings,
    FederationSettings,
    StrategySettings,
)

__all__ = [
    "CONTENTS",
    "DEVICES",
    "AblationSettings",
    "CentralisedSettings",
    "CheckpointSettings",
    "ClientSettings",
    "ColumnSettings",
    "DataSettings",
    "EvaluationSettings",
    "FederationSettings",
    "LossSettings",
    "MemorySettings",
    "ModelSettings",
    "RunSettings",
    "Settings",
    "SimulationSettings",
    "StrategySettings",
    "TrackingSettings",
]


@dataclass(frozen=True)
class Settings:
    """One run."""

    seed: int
    stages: list[str]
    output_dir: str
    data: DataSettings
    model: ModelSettings
    memory: MemorySettings
    client: ClientSettings
    strategy: StrategySettings
    federation: FederationSettings
    loss: LossSettings
    evaluation: EvaluationSettings
    ablation: AblationSettings
    centralised: CentralisedSettings
    checkpoint: CheckpointSettings
    simulation: SimulationSettings
    tracking: TrackingSettings
    run: RunSettings

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "at least 0")

    def to_json(self) -> str:
        """The settings as one line of JSON, the form in which they travel to the nodes."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Settings from nested dictionaries.

        Raises:
            FedmemError: a key is unknown or missing, or a value is of the wrong type or range.
        """
        require_schema(cls, values)
        return dacite.from_dict(cls, values)
