"""What one node holds for its users, and what is computed there once and used in every round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, Positions, UserIndices, ranges
from fedmem.core.corpus import Corpus
from fedmem.core.data import Histories, Interactions, Windows
from fedmem.core.data.interactions import HELD_OUT, Split
from fedmem.core.evaluation.cold import rank_cold
from fedmem.core.evaluation.protocol import Ranks, draw_negatives, rank_users
from fedmem.core.machine.device import local_gpus, resolve_device
from fedmem.core.memory import MemoryBank, Novelties, novelty_histogram
from fedmem.core.memory.bank import Packed
from fedmem.core.model import Content, Recommender
from fedmem.core.model.item_start import content_rows, usual_length
from fedmem.core.model.new_items import places_new_items
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.hidden_states import HiddenStates, last_hidden, losses_at
from fedmem.core.training.trainer import LocalTrainer


class Node:
    """The data of one node, its model, and its users' memories.

    Histories never leave it; `fedmem.core.updates.update.Update` and
    `fedmem.core.evaluation.protocol.Ranks` say what does. The users that live here are given by
    their indices, ascending; None: all that the data has. Nodes of one process that have the same
    data share a corpus; None: one of its own.
    """

    def __init__(
        self,
        settings: Settings,
        users: UserIndices | None = None,
        corpus: Corpus | None = None,
    ) -> None:
        self.settings = settings
        self.corpus = corpus or Corpus(settings)
        self.users = np.arange(self.interactions.num_users) if users is None else users
        self._models: dict[str, Recommender] = {}
        self._frozen_hash: str | None = None
        self._hidden_states: HiddenStates | None = None
        self._ranked: UserIndices = np.zeros(0, dtype=np.int64)  # what follows is of these users
        self._negatives: Ints | None = None
        self._last_hidden: dict[Split, Tensor] = {}
        self._bank: MemoryBank | None = None
        self._reads: dict[str, Ints] = {}  # until the memories change

    @property
    def histories(self) -> Histories:
        """As of `Corpus`."""
        return self.corpus.histories

    @property
    def interactions(self) -> Interactions:
        """Histories without cold items."""
        return self.corpus.histories.warm

    @property
    def content(self) -> Content:
        """As of `Corpus`."""
        return self.corpus.content

    @cached_property
    def novelties(self) -> Novelties:
        """Novelty of the interactions, computed where it is asked for."""
        capacity = self.settings.memory.short_term_capacity
        return Novelties(self.interactions, self.corpus.vectors, capacity)

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
            content = self.content if stage.reads_content else None
            model = Recommender(self.settings.model, stage, self.interactions.num_items, content)
            self._models[stage.name] = model.to(self.device).eval()
        return self._models[stage.name]

    def load(
        self, stage: Stage, parameters: Mapping[str, Tensor], frozen_hash: str | None = None
    ) -> Recommender:
        """Put parameters into the stage's model, all of them.

        Args:
            stage: the stage.
            parameters: by name.
            frozen_hash: of those outside the stage's scope; while it stays, so does what was
                computed from them. None: there are none.

        Raises:
            RuntimeError: a name or a shape differs.
        """
        if frozen_hash != self._frozen_hash:
            self._frozen_hash = frozen_hash
            self._hidden_states = None
            self._last_hidden = {}
        model = self.model(stage)
        model.load_state_dict(dict(parameters), strict=True)
        return model

    def novelty_histogram(self) -> npt.NDArray[np.int64]:
        """Over the users' training items; all that the server receives to find a threshold."""
        return novelty_histogram(self.novelties.at(self.interactions.training_places(self.users)))

    def starting_rows(self) -> Tensor:
        """[I + 1, K] rows of an item table that starts from content, if all users live here."""
        model, found = self.settings.model, self.interactions
        seen = found.training_lengths[self.users].sum() / found.num_items
        length = usual_length(seen) if model.item_length == "auto" else model.item_length
        return content_rows(self.content, model) * float(length)

    def open_bank(self, threshold: float) -> MemoryBank:
        """The memories of the users that live here, empty where they were not opened before."""
        if self._bank is None or self._bank.threshold != threshold:
            self._bank = MemoryBank(self.settings.memory, threshold, self.novelties)
            self._reads = {}
        return self._bank

    def restore(self, packed: Packed) -> None:
        """Take the memories that `MemoryBank.pack` gave, in place of any that are here."""
        self._open().unpack(packed)
        self._reads = {}

    def ingest(self, stage: Stage, split: Split) -> bool:
        """Bring the memories up to the split's held-out item; whether anything was new.

        Items without content are written by surprise: the loss on them is that of the model at the
        moment of ingestion.
        """
        bank, ends = self._open(), self._ends(split, self.users)
        if (bank.cursors(self.users) >= ends).all():
            return False
        places = bank.open_losses(self.users, ends)
        losses = losses_at(self.model(stage), self.settings, self.interactions, places)
        bank.ingest(self.users, ends, losses)
        self._reads = {}
        return True

    def trainer(self, stage: Stage) -> LocalTrainer:
        """A trainer of the stage's model on the users that live here."""
        model = self.model(stage)
        reads = self.reads_at_targets() if stage.memory else None
        if self._hidden_states is None and not stage.trains_backbone:
            self._hidden_states = HiddenStates(model.sasrec, self.windows)
        hidden = None if stage.trains_backbone else self._hidden_states
        return LocalTrainer(model, self.settings, self.windows, reads, hidden)

    def rank(
        self, stage: Stage, users: UserIndices, split: Split, rankings: tuple[str, ...]
    ) -> Ranks:
        """Rank the held-out item of users that live here, by the stage's model.

        What it takes is kept for next time, while no other users are asked for.
        """
        model, rows = self.model(stage), self._places_among_ranked(users)
        reads = self._reads_at_held_out(split)[rows] if stage.memory else None
        hidden = None if stage.trains_backbone else self._frozen_last_hidden(model, split)[rows]
        negatives = self._kept_negatives()[rows] if "sampled" in rankings else None
        data, settings = self.interactions, self.settings
        return rank_users(model, settings, data, users, split, rankings, reads, negatives, hidden)

    def rank_cold(self, stage: Stage, users: UserIndices) -> Ranks:
        """Rank the latest cold items of users that live here, by the stage's model."""
        placed = places_new_items(stage, self.settings.model)
        content = (self.content, self.corpus.cold_content) if placed else None
        replay = self._replay if stage.memory else None
        return rank_cold(self.model(stage), self.settings, self.histories, users, content, replay)

    def _places_among_ranked(self, users: UserIndices) -> npt.NDArray[np.intp]:
        """Where these users [u] stand among the R of whom is kept what ranking them takes."""
        if not np.isin(users, self._ranked).all():
            self._ranked = np.sort(users)
            self._negatives = None
            self._last_hidden = {}
            self._reads = {name: own for name, own in self._reads.items() if name not in HELD_OUT}
        return np.searchsorted(self._ranked, users)

    def _kept_negatives(self) -> Ints:
        """[R, C] what `sampled` sets beside the held-out item of each of these users."""
        if self._negatives is None:
            count, seed = self.settings.evaluation.negatives, self.settings.seed
            self._negatives = draw_negatives(self.interactions, self._ranked, seed, count)
        return self._negatives

    def _frozen_last_hidden(self, model: Recommender, split: Split) -> Tensor:
        """[R, D] states just before the split's held-out item, of a backbone that is frozen."""
        if split not in self._last_hidden:
            histories = self.interactions.histories_before(split, self._ranked)
            self._last_hidden[split] = last_hidden(model, self.settings, histories)
        return self._last_hidden[split]

    def _open(self) -> MemoryBank:
        if self._bank is None:
            raise ValueError("open_bank must come first")
        return self._bank

    def _ends(self, split: Split, users: UserIndices) -> npt.NDArray[np.int64]:
        """Position [U] of the split's held-out item in the history of each of these users."""
        return self.interactions.held_out_positions(split)[users]

    def _reads_at_held_out(self, split: Split) -> Ints:
        """[R, top_k] what each user's memory held just before the split's held-out item.

        The item itself is not in it, even where the memory has already ingested it.
        """
        if split not in self._reads:
            self._reads[split] = self._replay(self._ranked, self._ends(split, self._ranked))
        return self._reads[split]

    def reads_at_targets(self) -> Ints:
        """[Σ lengths, top_k] what each window's user's memory held just before each target."""
        if "training" not in self._reads:
            windows = self.windows
            users = np.repeat(windows.user, windows.lengths)
            positions = ranges(windows.start, windows.lengths)
            self._reads["training"] = self._replay(users, positions)
        return self._reads["training"]

    def _replay(self, users: UserIndices, positions: Positions) -> Ints:
        """[n, top_k] what these users' memories held just before these positions."""
        if self.settings.ablation.memory:
            return self._open().replay(users, positions)
        return np.zeros((len(users), self.settings.memory.top_k), dtype=np.int32)
