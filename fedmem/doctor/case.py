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
from fedmem.core.data.content import content_of, files_hash
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.machine.placement import Placement, place, this_machine
from fedmem.core.model import Content
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stages
from fedmem.runs.checkpoints import hashes_of, load_left
from fedmem.runs.folder import RESULTS


@dataclass
class Case:
    """A run that is about to start, or a finished one."""

    settings: Settings
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of a finished run, what `results.json` says of each stage."""
    folder: Path | None = None
    """Of a finished run."""

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
            return cls(Settings.from_dict(content["settings"]), results, folder)
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
        if not self.settings.reads_content:
            return 0, 0
        return self.content.visual.shape[1], self.content.text.shape[1]

    @property
    def users(self) -> UserIndices:
        """Those who take part."""
        return participants(self.settings)

    @cached_property
    def placement(self) -> Placement:
        """Workers, nodes and threads."""
        address, machines = self.settings.simulation.ray_address, [this_machine()]
        if address is not None:
            # Imported here since Ray takes a second, and may be what is broken.
            from fedmem.core.machine.cluster import survey

            machines = survey(address)
        return place(self.settings, machines, len(self.users))

    @cached_property
    def parents(self) -> dict[str, Checkpoint]:
        """The checkpoints that must be there already, by stage."""
        found: dict[str, Checkpoint] = {}
        catalogue = self.interactions.fingerprint
        content = ""
        if self.settings.reads_content:
            content = files_hash(self.settings, self.interactions, self.content)
        for earlier, stage in enumerate(self.stages):
            made_here = [each.name for each in self.stages[:earlier]]
            found |= load_parents(self.settings, stage, catalogue, content, made_here)
        return found

    def made(self, stage: str) -> Checkpoint:
        """The checkpoint that a finished run left of a stage.

        Raises:
            FedmemError: it is gone, or of another run since.
        """
        path = Path(str(self.results[stage]["checkpoint"]))
        if self.folder is None:
            return Checkpoint.load(path)
        return load_left(self.folder, stage, path, hashes_of(self.folder))

    def counts(self, stage: Stage) -> tuple[int, int]:
        """Parameters of a stage's model, and those of them that it trains."""
        model = self.settings.model
        made = initial_parameters(model, stage, 0, self.widths, self.settings.seed, {})
        counts = {name: value.numel() for name, value in made.items()}
        # The one part that grows with the items, and may be large: it is not allocated.
        if "sasrec.item_emb.weight" in counts:
            counts["sasrec.item_emb.weight"] += self.interactions.num_items * model.dim
        trained = sum(number for name, number in counts.items() if stage.in_scope(name))
        return sum(counts.values()), trained
