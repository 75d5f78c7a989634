"""Batches of training windows, with all that is drawn at random for them.

Every random number comes from a stream that belongs to the window (`RoundKey`), never to the batch:
how windows are grouped changes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, UserIndices
from fedmem.core.data import Windows, absent_items
from fedmem.core.machine.device import CPU, to_device
from fedmem.core.model.packing import Packing
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.random_streams import Streams, words_of

Rows = npt.NDArray[np.integer]
"""Rows of `Windows`."""


@dataclass(frozen=True)
class RoundKey:
    """Names one round of one stage of one run; all of the round's randomness hangs on it."""

    seed: int
    stage: str
    round: int

    def streams(
        self, users: npt.NDArray[np.integer], numbers: npt.NDArray[np.integer], step: int
    ) -> Streams:
        """The streams of these users' windows, by their numbers, in one local step."""
        words = [*words_of(self.seed), zlib.crc32(self.stage.encode()), self.round]
        entropy = np.empty((len(users), len(words) + 3), np.uint32)
        entropy[:, :-3] = words
        entropy[:, -3], entropy[:, -2], entropy[:, -1] = users, numbers, step
        return Streams(entropy)

    def candidates(self, num_items: int, count: int) -> Ints:
        """So many items [C] of all, each once and ascending: the same for everybody."""
        words = [*words_of(self.seed), zlib.crc32(self.stage.encode()), self.round]
        drawn = np.random.default_rng(words).choice(num_items, min(count, num_items), replace=False)
        return np.sort(drawn).astype(np.int32) + 1


class Scoring(NamedTuple):
    """Where, and against what, the stage's own score is trained: at P positions of each row."""

    share: Tensor
    """[B, P] how many targets a position stands for"""
    negatives: Tensor
    """[B, C] items that the user did not train on"""
    gating_noise: Tensor
    """[B, P, G] for the dropout of the gating"""
    positions: Tensor | None
    """[B, P] which positions; None: every one, P = T"""
    memories: Tensor | None
    """[B, P, M] items that the user's memory gives there, 0 where there is no entry"""

    def map(self, function: Callable[[Tensor], Any]) -> Scoring:
        """The function of every tensor."""
        return Scoring._make(None if x is None else function(x) for x in self)


class Batch(NamedTuple):
    """B windows of at most T targets."""

    inputs: Tensor
    """[B, T] items, 0 = padding"""
    targets: Tensor
    """[B, T] items, 0 = padding"""
    noise: list[Tensor] | None
    """for the dropout of the backbone, [B, T, C] each or, packed, [N, C]; None where it does not
    train"""
    scoring: Scoring | None
    """None where the stage's score is h·e alone, which is trained over all items"""
    candidates: Tensor | None = None
    """[B, C] items in their place, the same for all rows; None: all items"""
    places: Tensor | None = None
    """[N] where among the B · T positions the targets are; None: it is not known"""
    lengths: list[int] | None = None
    """[B] real positions of each row, where a backbone that trains packs them; None: padding is
    computed too"""

    @property
    def packing(self) -> Packing | None:
        """Of the inputs."""
        if self.lengths is None or self.places is None:
            return None
        return Packing(self.lengths, self.places)

    def padded(self) -> Batch:
        """The same, with padding that is computed, and without places."""
        packing, noise = self.packing, self.noise
        if packing is not None and noise is not None:
            noise = [packing.spread(x) for x in noise]
        return self._replace(noise=noise, places=None, lengths=None)

    def map(self, function: Callable[[Tensor], Any]) -> Batch:
        """The function of every tensor."""
        return Batch(
            function(self.inputs),
            function(self.targets),
            None if self.noise is None else [function(noise) for noise in self.noise],
            None if self.scoring is None else self.scoring.map(function),
            None if self.candidates is None else function(self.candidates),
            None if self.places is None else function(self.places),
            self.lengths,
        )


@dataclass(frozen=True)
class BatchMaker:
    """Makes a stage's batches from the windows of a node.

    Attributes:
        settings: of the run.
        stage: what its loss needs is drawn, and no more.
        windows: training windows.
        dropout_widths: of the backbone.
        memory_reads: [N, M] items that the users' memories gave just before each of the windows'
            targets, in the order of `Windows.offsets`; required where the stage reads the memory.
        device: where the batches go; a GPU copies them while it computes on the last one.
    """

    settings: Settings
    stage: Stage
    windows: Windows
    dropout_widths: list[int]
    memory_reads: Ints | None = None
    device: torch.device = CPU

    def make(self, rows: Rows, key: RoundKey, step: int) -> Batch:
        """The batch of these windows in one local step of a round."""
        windows, stage, model = self.windows, self.stage, self.settings.model
        lengths = windows.lengths[rows]
        streams = key.streams(windows.user[rows], windows.number[rows], step)
        inputs, targets = map(_tensor, windows.pairs(rows))
        # The order of the draws is part of what a seed means.
        noise, packs = None, stage.trains_backbone and self.device.type == "cpu"
        if stage.trains_backbone and model.dropout:
            last = not stage.content
            noise = streams.noise(lengths, self.dropout_widths, self.device, last, not packs)
        scoring = None
        if stage.content:
            positions, memories = None, None
            share = (targets > 0).float()
            if stage.memory:
                positions, share = self._choose_positions(lengths, streams)
                memories = self._read_memories(rows, positions)
            negatives = self._draw_negatives(windows.user[rows], streams)
            counts = np.full(len(rows), share.shape[1])
            hidden = [model.gating_hidden]
            (gating_noise,) = streams.noise(counts, hidden, self.device, padded=True)
            scoring = Scoring(share, negatives, gating_noise, positions, memories)
        candidates, count = None, self.settings.client.candidates
        if stage.trains_backbone and count is not None:
            drawn = key.candidates(windows.interactions.num_items, count)
            candidates = _tensor(drawn).expand(len(rows), -1)
        places = _tensor(np.flatnonzero(targets))
        packed = lengths.tolist() if packs else None
        batch = Batch(inputs, targets, noise, scoring, candidates, places, packed)
        return batch.map(lambda x: to_device(x, self.device))

    def _choose_positions(
        self, lengths: npt.NDArray[np.int64], streams: Streams
    ) -> tuple[Tensor, Tensor]:
        """Positions [B, P] drawn from each window, and their share; a row's add up to its targets.

        Every position has a memory of its own to read, so not all of them are trained on.
        """
        count = self.settings.client.positions
        chosen = _tensor(streams.integers(lengths, count))
        return chosen, torch.from_numpy(lengths / count).float()[:, None].expand(-1, count)

    def _read_memories(self, rows: Rows, positions: Tensor) -> Tensor:
        if self.memory_reads is None:
            raise ValueError(f"{self.stage.name} needs the users' memories")
        places = self.windows.offsets[rows, None] + positions.numpy()
        return _tensor(self.memory_reads[places])

    def _draw_negatives(self, users: UserIndices, streams: Streams) -> Tensor:
        """Items [B, C] outside the users' *training* items.

        Leaving out the whole history would reveal which items are held out.
        """
        interactions = self.windows.interactions
        present = [interactions.training_sets[user] for user in users]
        absent = interactions.num_items - np.array([len(own) for own in present])
        places = streams.integers(absent, self.settings.client.negatives)
        return _tensor(np.stack([absent_items(*own) for own in zip(present, places, strict=True)]))


def _tensor(array: npt.NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))
