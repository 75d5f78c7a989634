"""What one node holds for its users, and what is computed there once and used in every round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem import losses
from fedmem.data import Interactions, Windows, load_content, load_interactions
from fedmem.device import local_gpus, resolve_device
from fedmem.evaluation import Ranks, Split, last_hidden, rank_users
from fedmem.memory import MemoryBank, item_vectors, novelty, novelty_histogram
from fedmem.memory.two_tier import Floats
from fedmem.model import Content, Recommender
from fedmem.participants import UserIndices
from fedmem.settings import Settings
from fedmem.stages import Stage
from fedmem.training import LocalTrainer


class Node:
    """The data of one node, its model, and its users' memories.

    Histories never leave it; see `fedmem.training.Update` and `fedmem.evaluation.Ranks` for what
    does.

    Args:
        settings: of the run.
        users: indices of the users that live here; None: all that the data has.
    """

    def __init__(self, settings: Settings, users: UserIndices | None = None) -> None:
        self.settings = settings
        self.users = np.arange(self.interactions.num_users) if users is None else users
        self._models: dict[str, Recommender] = {}
        self._bank: MemoryBank | None = None
        self._memory_reads: npt.NDArray[np.int32] | None = None

    @cached_property
    def interactions(self) -> Interactions:
        """Histories of the users that live here."""
        return load_interactions(self.settings.data)

    @cached_property
    def content(self) -> Content:
        """Content of all items."""
        return load_content(self.settings.data, self.interactions)

    @cached_property
    def vectors(self) -> Floats:
        """The items' vectors that novelty compares."""
        return item_vectors(self.content.visual.numpy(), self.content.text.numpy())

    @cached_property
    def windows(self) -> Windows:
        """Training windows of the users that live here."""
        client, model = self.settings.client, self.settings.model
        return Windows.cut(self.interactions, self.users, client.windows, model.max_length)

    @cached_property
    def device(self) -> torch.device:
        """Where the models, and what they hold of the items' content, live."""
        return torch.device(resolve_device(self.settings.simulation.device, local_gpus()))

    def model(self, stage: Stage) -> Recommender:
        """The stage's model; its parameters are whatever `load` put there last."""
        if stage.name not in self._models:
            content = self.content if stage.content else None
            model = Recommender(self.settings.model, stage, self.interactions.num_items, content)
            self._models[stage.name] = model.to(self.device).eval()
        return self._models[stage.name]

    def load(self, stage: Stage, parameters: Mapping[str, Tensor]) -> Recommender:
        """Put parameters into the stage's model, all of them.

        Raises:
            RuntimeError: a name or a shape differs.
        """
        model = self.model(stage)
        model.load_state_dict(dict(parameters), strict=True)
        return model

    def novelty_histogram(self) -> npt.NDArray[np.int64]:
        """Summed over the users' training items; all that is told of them to find a threshold."""
        capacity = self.settings.memory.short_term_capacity
        return sum(
            (
                novelty_histogram(
                    novelty(self.interactions.training(int(u)), self.vectors, capacity)
                )
                for u in self.users
            ),
            novelty_histogram(np.zeros(0, np.float32)),
        )

    def open_bank(self, threshold: float) -> MemoryBank:
        """The memories of the users that live here, empty where they were not opened before."""
        if self._bank is None or self._bank.threshold != threshold:
            memory = self.settings.memory
            self._bank = MemoryBank(memory, threshold, self.vectors, self.interactions)
            self._memory_reads = None
        return self._bank

    def ingest(self, stage: Stage, split: Split) -> bool:
        """Bring the memories up to the split's held-out item; whether anything was new.

        Items without content are written by surprise: the loss on them is that of the model at the
        moment of ingestion.
        """
        bank = self._open()
        held_out = 2 if split == "validation" else 1
        changed = False
        for user in map(int, self.users):
            end = len(self.interactions.history(user)) - held_out
            if bank.cursor(user) >= end:
                continue
            positions = bank.open_losses(user, end)
            bank.ingest(user, end, self._losses_at(self.model(stage), user, positions))
            changed = True
        return changed

    def trainer(self, stage: Stage) -> LocalTrainer:
        """A trainer of the stage's model on the users that live here."""
        if stage.memory and self._memory_reads is None:
            self._memory_reads = self._read_at_targets()
        return LocalTrainer(
            self.model(stage),
            self.settings,
            self.interactions,
            self.windows,
            self._memory_reads if stage.memory else None,
        )

    def rank(
        self, stage: Stage, users: UserIndices, split: Split, rankings: tuple[str, ...]
    ) -> Ranks:
        """Rank the held-out item of users that live here, by the stage's model."""
        reads = None
        if stage.memory:
            bank = self._open()
            ends = [len(self.interactions.history(int(u))) for u in users]
            held_out = 2 if split == "validation" else 1
            reads = np.stack(
                [
                    # A memory that is already past the held-out item must not tell of it.
                    bank.retrieve(int(u))
                    if bank.cursor(int(u)) == end - held_out
                    else bank.replay(int(u), np.array([end - held_out]))[0]
                    for u, end in zip(users, ends, strict=True)
                ]
            )
        return rank_users(
            self.model(stage), self.settings, self.interactions, users, split, rankings, reads
        )

    def _open(self) -> MemoryBank:
        if self._bank is None:
            raise ValueError("open_bank must come first")
        return self._bank

    def _read_at_targets(self) -> npt.NDArray[np.int32]:
        """[R, T, top_k] what each window's user's memory held just before each target."""
        bank, windows = self._open(), self.windows
        reads = np.zeros((*windows.targets.shape, self.settings.memory.top_k), dtype=np.int32)
        for user in self.users:
            rows = np.flatnonzero(windows.user == user)[::-1]  # oldest first
            if not len(rows):
                continue
            lengths = windows.lengths[rows]
            spans = [np.arange(s, s + n) for s, n in zip(windows.start[rows], lengths, strict=True)]
            found = np.split(bank.replay(int(user), np.concatenate(spans)), np.cumsum(lengths)[:-1])
            for row, length, items in zip(rows, lengths, found, strict=True):
                reads[row, :length] = items
        return reads

    @torch.no_grad()
    def _losses_at(
        self, model: Recommender, user: int, positions: npt.NDArray[np.int64]
    ) -> dict[int, float]:
        """The model's cross-entropy over all items at positions of a user's history.

        The first position has nothing before it to predict from: its loss is that of a guess.
        """
        history = self.interactions.history(user)
        result = {int(p): float(np.log(self.interactions.num_items)) for p in positions if p == 0}
        later = [int(p) for p in positions if p > 0]
        if later:
            hidden = last_hidden(model, self.settings, [history[:p] for p in later])[:, 0]
            targets = torch.from_numpy(history[later]).long().to(hidden.device)
            values = losses.cross_entropy_over_items(hidden, model.sasrec.item_emb.weight, targets)
            result.update(zip(later, values.tolist(), strict=True))
        return result
