"""Every setting of a run: its type, its range and what it means.

The values live in `conf/` (Hydra); these frozen dataclasses hold no defaults, so that there is one
place to look for each number. Building one with a value out of range raises `FedmemError`.
docs/settings.md is made from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
from fedmem.core.settings.learning import (
    LossSettings,
    LossWeights,
    MemorySettings,
    ModelSettings,
    StageSettings,
)
from fedmem.core.settings.privacy import PrivacySettings, SecureSumSettings
from fedmem.core.settings.ranges import at_least
from fedmem.core.settings.rounds import (
    CentralisedSettings,
    ClientSettings,
    FederationSettings,
    StrategySettings,
    TransportSettings,
)
from fedmem.core.settings.running import (
    DEVICES,
    CheckpointSettings,
    RunSettings,
    SimulationSettings,
    TrackingSettings,
)
from fedmem.core.settings.schema import Section
from fedmem.core.stages import ALL_STAGES, CENTRALISED

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
    "LossWeights",
    "MemorySettings",
    "ModelSettings",
    "PrivacySettings",
    "RunSettings",
    "SecureSumSettings",
    "Settings",
    "SimulationSettings",
    "StageSettings",
    "StrategySettings",
    "TrackingSettings",
    "TransportSettings",
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
    privacy: PrivacySettings
    transport: TransportSettings
    federation: FederationSettings
    loss: LossSettings
    evaluation: EvaluationSettings
    ablation: AblationSettings
    centralised: CentralisedSettings
    checkpoint: CheckpointSettings
    simulation: SimulationSettings
    tracking: TrackingSettings
    run: RunSettings

    def __post_init__(self, at: str | None) -> None:
        super().__post_init__(at)
        privacy = self.privacy
        found: dict[str, Iterator[tuple[str, Any, str]]] = {}
        if privacy.on:
            found[f"privacy.mode={privacy.mode}"] = self._not_private()
        if privacy.secure_sum.enabled:
            found["privacy.secure_sum.enabled=true"] = self._not_summed()
        for beside, those in found.items():
            for key, value, instead in those:
                raise FedmemError(f"{key}={value} does not go with {beside}: {instead}.")

    def _not_private(self) -> Iterator[tuple[str, Any, str]]:
        """Settings that would release more than the ledger counts: key, value, what to do."""
        if self.strategy.aggregation != "mean":
            yield "strategy.aggregation", self.strategy.aggregation, "take mean"
        if self.transport.bits < 32:  # what rounding does to a bounded update is not bounded
            yield "transport.bits", self.transport.bits, "take transport=float32"
        if self.privacy.schedule == "all" and self.federation.fraction != 1:
            yield "privacy.schedule", "all", "set federation.fraction=1, or another schedule"
        if self.model.item_length == "auto" and self.starts_from_content:
            yield "model.item_length", "auto", "it is found from the interactions; set a number"
        if self.memory.threshold == "auto" and any(
            ALL_STAGES[name].memory for name in self.stage if name in ALL_STAGES
        ):
            yield "memory.threshold", "auto", "it is found from the histories; set a number"
        if self.privacy.figures == "noised" and self.evaluation.cold_items:
            yield "evaluation.cold_items", self.evaluation.cold_items, "take privacy.figures=exact"
        cut = self.privacy.secure_sum.range
        if self.privacy.of_nodes and cut != "auto":  # which counts what is cut
            yield "privacy.secure_sum.range", cut, "bounded updates have a range; set auto"
        if CENTRALISED.name in self.stage:
            yield "stage", CENTRALISED.name, "pooled training knows no privacy"

    def _not_summed(self) -> Iterator[tuple[str, Any, str]]:
        """Settings that look at single nodes, where these are summed unseen: the same."""
        strategy, nodes, fewest = self.strategy, self.federation.nodes, self.privacy.fewest_nodes
        if strategy.aggregation != "mean":
            yield "strategy.aggregation", strategy.aggregation, "take mean"
        if strategy.guard_ratio is not None and not self.privacy.on:
            yield "strategy.guard_ratio", strategy.guard_ratio, "no single change is seen; set null"
        if strategy.guard_direction and not self.privacy.on:
            yield "strategy.guard_direction", "true", "no single change is seen; set false"
        if nodes != "auto" and nodes < fewest:
            yield "federation.nodes", nodes, f"take at least {fewest}"

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

    @property
    def starts_from_content(self) -> bool:
        """Whether a stage of the run makes an item table, and makes it from the items' content."""
        makes = any(ALL_STAGES[name].makes_table for name in self.stage if name in ALL_STAGES)
        return self.model.item_start == "content" and (makes or CENTRALISED.name in self.stage)

    @property
    def reads_content(self) -> bool:
        """Whether the run needs the items' content at all."""
        stages = (ALL_STAGES[name] for name in self.stage if name in ALL_STAGES)
        return self.starts_from_content or any(stage.reads_content for stage in stages)

    def to_json(self) -> str:
        """The settings as one line of JSON, the form in which they travel to the nodes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))


def flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted keys, in order; `stage` has the names of the run's stages.

    Of a run of an earlier version they may have `stages`, a list of names, and no numbers of them.
    """
    rest = {name: value for name, value in settings.items() if name != "stages"}
    return {"stage": list(settings.get("stages", settings.get("stage", ()))), **_flat(rest)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat
