"""What the doctor examines: a run's settings and what they lead to, read when first needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fedmem.core.arrays import UserIndices
from fedmem.core.checkpoint import Checkpoint, load_parents
from fedmem.core.data import Interactions, load_histories
from fedmem.core.data.ablation import content_of
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.machine.placement import Placement, place, this_machine
from fedmem.core.model import Content
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stages
from fedmem.doctor.arithmetic import parameter_counts
from fedmem.runs.folder import RESULTS


@dataclass
class Case:
    """A run that is about to start, or a finished one.

    Attributes:
        settings: of the run.
        results: of a finished run, what `results.json` says of each stage; else empty.
    """

    settings: Settings
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_run(cls, folder: Path) -> Case:
        """The finished run in a folder.

        Raises:
            FedmemError: there is none, or its file is damaged.
        """
        path = folder / RESULTS
        if not path.is_file():
            raise FedmemError(f"There is no finished run in {folder}: looked for {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            results = {str(result["stage"]): result for result in content["stages"]}
            return cls(Settings.from_dict(content["settings"]), results)
        except (ValueError, KeyError, TypeError) as error:
            raise FedmemError(f"{path} is damaged: {type(error).__name__}, {error}.") from error
        except FedmemError as error:
            raise FedmemError(f"{path} is of another version of fedmem: {error}") from error

    @cached_property
    def stages(self) -> list[Stage]:
        """Those of the run."""
        return find_stages(self.settings.stage)

    @property
    def interactions(self) -> Interactions:
        """The histories, without items that are kept from training."""
        return load_histories(self.settings).warm

    @cached_property
    def content(self) -> Content:
        """The items' features, or what `ablation.content` puts in their place."""
        return content_of(self.settings, self.interactions)

    @property
    def widths(self) -> tuple[int, int]:
        """Of visual and text vectors; 0 where no stage needs them."""
        if not any(stage.content for stage in self.stages):
            return 0, 0
        return self.content.visual.shape[1], self.content.text.shape[1]

    @property
    def users(self) -> UserIndices:
        """Those who take part."""
        interactions = self.interactions
        return participants(self.settings.federation, interactions.num_users, self.settings.seed)

    @cached_property
    def placement(self) -> Placement:
        """Workers, nodes and threads."""
        address = self.settings.simulation.ray_address
        if address is None:
            return place(self.settings, [this_machine()], len(self.users))
        # Imported here since Ray takes a second, and may be what is broken.
        from fedmem.core.machine.cluster import survey

        return place(self.settings, survey(address), len(self.users))

    @cached_property
    def parents(self) -> dict[str, Checkpoint]:
        """The checkpoints that must be there already, by stage."""
        found: dict[str, Checkpoint] = {}
        made_here: set[str] = set()
        for stage in self.stages:
            catalogue = self.interactions.fingerprint
            found |= load_parents(self.settings, stage, catalogue, made_here)
            made_here.add(stage.name)
        return found

    def made(self, stage: str) -> Checkpoint:
        """The checkpoint that a finished run left of a stage."""
        return Checkpoint.load(Path(str(self.results[stage]["checkpoint"])))

    def counts(self, stage: Stage) -> tuple[int, int]:
        """Parameters of a stage's model, and those of them that it trains."""
        counts = parameter_counts(
            self.settings.model, stage, self.interactions.num_items, self.widths
        )
        trained = sum(number for prefix, number in counts.items() if stage.in_scope(prefix))
        return sum(counts.values()), trained
