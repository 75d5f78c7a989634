"""Checkpoints: one safetensors file a stage, complete or absent, with what says if it fits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedmem.core.checkpoint.foreign import EARLIER, refuse_foreign
from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import load_sealed, of_another_version, save_sealed
from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.settings import CheckpointSettings, ModelSettings, Settings
from fedmem.core.stages import STAGES, Stage, find_stage

PRIVATE = ("released", "delta")
"""What only private checkpoints have."""

NOT_SIZES = ("dropout", "experts", *EARLIER)
"""Model settings that a checkpoint may differ in."""


@dataclass(frozen=True)
class Checkpoint:
    """All parameters of a stage's model, and where they come from."""

    stage: str
    catalogue: str
    """`Interactions.fingerprint` of the data it was trained on."""
    model: ModelSettings
    round: int
    """The round whose parameters these are."""
    metrics: dict[str, float]
    """Of the validation in that round."""
    parents: dict[str, str]
    """Content hash of each checkpoint that it started from, by stage."""
    parameters: Parameters = field(repr=False)
    released: list[dict[str, Any]] | None = None
    """`Ledger.entries` of the run that made it; None: it was trained without privacy."""
    delta: float | None = None
    """That the run's ε was stated at; None: likewise, or not recorded."""
    content: str = ""
    """Hash of the files' item features that it was trained with; empty: with none, or not known."""

    @property
    def hash(self) -> str:
        """Content hash of the parameters."""
        return content_hash(self.parameters)

    def save(self, path: Path) -> None:
        """Write the file: complete under its name, or not at all."""
        about = {k: v for k, v in vars(self).items() if k not in ("parameters", "model")}
        about = {k: v for k, v in about.items() if k not in PRIVATE or v is not None}
        save_sealed(path, {**about, "model": asdict(self.model)}, self.parameters)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a file and verify it against its own hash.

        Raises:
            FedmemError: it is no checkpoint of fedmem, or is damaged.
        """
        refuse_foreign(path)
        about, parameters = load_sealed(path, "checkpoint")
        del about["hash"]
        try:
            about["model"] = ModelSettings(**{**EARLIER, **about["model"]})
            return cls(**about, parameters=parameters)
        except (FedmemError, KeyError, TypeError) as error:
            raise of_another_version(path, error) from error

    def require_fit(
        self, path: Path, stage: str, catalogue: str, model: ModelSettings, content: str = ""
    ) -> None:
        """Check that this checkpoint is the stage's, of these data and of this size.

        `content` is the hash of the item features that it is used with; empty: with none.

        Raises:
            FedmemError: it is not; the message says in what it differs.
        """
        if self.stage != stage:
            raise FedmemError(f"{path} is a checkpoint of {self.stage}, and {stage} is needed.")
        if self.catalogue != catalogue:
            raise FedmemError(
                f"{path} was trained on other data (catalogue {self.catalogue}, here {catalogue})."
                f"\nTrain {stage} on these data, or point checkpoint.dir elsewhere."
            )
        ours, theirs = asdict(model), asdict(self.model)
        differing = [k for k in ours if k not in NOT_SIZES and ours[k] != theirs[k]]
        if differing:
            listed = ", ".join(f"model.{k}={theirs[k]} (here {ours[k]})" for k in differing)
            raise FedmemError(f"{path} is of another model size: {listed}.")
        if self.content and content and self.content != content:
            raise FedmemError(
                f"{path} was trained with other item features (hash {self.content[:8]}, here "
                f"{content[:8]}).\nPoint data.visual_file and data.text_file to those, or train "
                f"{stage} again with these."
            )


def checkpoint_path(settings: CheckpointSettings, stage: str) -> Path:
    """Where the stage's checkpoint is written, and looked for unless a setting points elsewhere."""
    pointed = vars(settings).get(stage)
    return Path(pointed) if pointed else Path(settings.dir) / f"{stage}.safetensors"


def find_checkpoint(settings: Settings, name: str | None) -> tuple[Stage, Path]:
    """The file of the named stage's checkpoint, or of the last stage that has one.

    Raises:
        FedmemError: there is none.
    """
    for stage in [find_stage(name)] if name else reversed(STAGES.values()):
        path = checkpoint_path(settings.checkpoint, stage.name)
        if path.is_file():
            return stage, path
    raise FedmemError(
        f"There is no checkpoint of {name or 'any stage'} in {settings.checkpoint.dir}: point "
        f"checkpoint.dir to one, or make it with python -m fedmem.simulate "
        f"data={settings.data.name} data.dir={settings.data.dir}"
    )


def load_parents(
    settings: Settings,
    stage: Stage,
    catalogue: str,
    content: str = "",
    coming: Collection[str] = (),
) -> dict[str, Checkpoint]:
    """The checkpoints that a stage starts from, by stage, each checked and of one lineage.

    Args:
        settings: of the run.
        stage: that starts.
        catalogue: `Interactions.fingerprint` of the data.
        content: hash of the item features, where a stage reads some.
        coming: stages that are going to be made anew before it starts; they are left out.

    Raises:
        FedmemError: one is missing or does not fit, or they do not belong together.
    """
    parents: dict[str, Checkpoint] = {}
    for required in stage.requires:
        if required in coming:
            continue
        path = checkpoint_path(settings.checkpoint, required)
        if not path.is_file():
            raise FedmemError(
                f"{stage.name} starts from a checkpoint of {required}, and there is none: looked "
                f"for {path}.\nMake it with: python -m fedmem.simulate stage={required} "
                f"data={settings.data.name} data.dir={settings.data.dir} "
                f"checkpoint.dir={settings.checkpoint.dir}"
            )
        checkpoint = Checkpoint.load(path)
        checkpoint.require_fit(path, required, catalogue, settings.model, content)
        for earlier, parent in checkpoint.parents.items():
            if earlier in parents and parents[earlier].hash != parent:
                raise FedmemError(
                    f"{path} was not trained from {checkpoint_path(settings.checkpoint, earlier)}."
                    f"\nRun {required} again, or point checkpoint.{earlier} to its real parent."
                )
        parents[required] = checkpoint
    return parents
