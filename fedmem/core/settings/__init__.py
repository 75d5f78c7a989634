"""Every setting of a run: its type, its range and what it means.

The values live in `conf/` (Hydra); these frozen dataclasses hold no defaults, so that there is one
place to look for each number. Building one with a value out of range raises `FedmemError`.
docs/settings.md is made from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from fedmem.core.errors import FedmemError
from fedmem.core.settings.data import (
    CONTENTS,
    AblationSettings,
    ColumnSettings,
    DataSettings,
    EvaluationSettings,
)
from fedmem.core.settings.model import MemorySettings, ModelSettings
from fedmem.core.settings.ranges import at_least
from fedmem.core.settings.runtime import (
    DEVICES,
    CheckpointSettings,
    RunSettings,
    SimulationSettings,
    TrackingSettings,
)
from fedmem.core.settings.schema import Section
from fedmem.core.settings.training import (
    CentralisedSettings,
    ClientSettings,
    FederationSettings,
    LossSettings,
    StageSettings,
    StrategySettings,
)
from fedmem.core.stages import ALL_STAGES, CENTRALISED

__all__ = [
    "CONTENTS",
    "DEVICES",
    "CheckpointSettings",
    "ClientSettings",
    "ColumnSettings",
    "DataSettings",
    "FederationSettings",
    "MemorySettings",
    "ModelSettings",
    "RunSettings",
    "Settings",
    "SimulationSettings",
    "StageSettings",
    "StrategySettings",
    "TrackingSettings",
    "flattened",
]


@dataclass(frozen=True)
class Settings(Section):
    """Settings of a run: its sections, and what belongs to none of them."""

    seed: Annotated[int, at_least(0)]
    """Seed of every random draw."""
    stage: Annotated[dict[str, StageSettings], (*ALL_STAGES, CENTRALISED.name)]
    """The stages of the run, in order."""
    output_dir: str
    """Folder of the run."""
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

    def of_stage(self, name: str) -> StageSettings:
        """The numbers of a stage: its own, but for those that the run sets for all of its stages.

        Raises:
            FedmemError: the stage is none of the run's.
        """
        if name not in self.stage:
            raise FedmemError(f"{name} is none of this run's stages: {', '.join(self.stage)}.")
        own = self.stage[name]
        weights = {term: weight for term, weight in vars(self.loss).items() if weight is not None}
        rounds = self.federation.rounds or own.rounds
        return replace(own, rounds=rounds, loss=replace(own.loss, **weights))

    def to_json(self) -> str:
        """The settings as one line of JSON, the form in which they travel to the nodes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))


def flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted keys, in order; `stage` has the names of the run's stages.

    Args:
        settings: nested dictionaries. Of a run of an earlier version they may have `stages`, a list
            of names, and no numbers of stages.
    """
    rest = {name: value for name, value in settings.items() if name != "stages"}
    return {"stage": list(settings.get("stages", settings.get("stage", ()))), **_flat(rest)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat
