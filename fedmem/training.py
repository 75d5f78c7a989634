"""Local training: what one user, or a cohort of users, changes in a model in one round.

A stage's loss is a sum over training windows of terms that depend on the window alone. So a user's
gradient is a sum over its windows, and with one local SGD step the weighted mean of the users'
changes is one step on the sum over all their windows: a cohort is one batch, exactly. Every random
number is drawn from a generator that belongs to the window (`RoundKey`), never to the batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem import losses
from fedmem.data import Interactions, Windows
from fedmem.dropout import NO_DROPOUT, Dropout
from fedmem.model import Memories, Recommender
from fedmem.participants import UserIndices
from fedmem.settings import Settings


@dataclass(frozen=True)
class RoundKey:
    """Names one round of one stage of one run; all of the round's randomness hangs on it."""

    seed: int
    stage: str
    round: int

    def generator(self, user: int, window: int, step: int) -> np.random.Generator:
        """The generator of one window in one local step."""
        stage = zlib.crc32(self.stage.encode())
        return np.random.Generator(
            np.random.SFC64([self.seed, stage, self.round, user, window, step])
        )


@dataclass(frozen=True)
class Update:
    """What training changed.

    Attributes:
        change: new minus old, by parameter name, for the stage's scope; the weighted mean over the
            users trained.
        weight: targets trained on, the weight of the change in any further average.
        loss: mean loss a target.
        users: users trained.
    """

    change: dict[str, Tensor]
    weight: int
    loss: float
    users: int


class LocalTrainer:
    """Trains a stage's model on users that live here.

    Args:
        model: the stage's model, with the round's parameters; left as it was found.
        settings: of the run.
        interactions: histories of (at least) the users trained.
        windows: their training windows.
        memory_reads: [Σ lengths, M] items that each window's user's memory held just before each
            target, numbered as `Windows.offsets` says; required where the stage reads the memory.
    """

    def __init__(
        self,
        model: Recommender,
        settings: Settings,
        interactions: Interactions,
        windows: Windows,
        memory_reads: npt.NDArray[np.int32] | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.interactions = interactions
        self.windows = windows
        self.memory_reads = memory_reads
        self.weights = model.stage.loss.overridden(settings.loss)
        self.scope = {name: p for name, p in model.named_parameters() if model.stage.in_scope(name)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.scope)
        self._device = next(model.parameters()).device

    def train_user(self, user: int, key: RoundKey) -> Update:
        """`local_steps` full-batch SGD steps on one user: the definition of a user's update."""
        rows = np.flatnonzero(self.windows.user == user)
        before = {name: p.detach().clone() for name, p in self.scope.items()}
        # Summed up apart: new − old would round away changes that are small beside the parameter.
        change = {name: torch.zeros_like(p) for name, p in self.scope.items()}
        weight, loss = 0, 0.0
        for step in range(self.settings.client.local_steps):
            weight, total = self._accumulate_gradient(rows, key, step)
            loss = total / max(weight, 1)
            with torch.no_grad():
                for name, parameter in self.scope.items():
                    if parameter.grad is not None and weight:
                        rate = self.settings.client.learning_rate / weight
                        change[name].sub_(parameter.grad, alpha=rate)
                        parameter.copy_(before[name] + change[name])
        with torch.no_grad():
            for name, parameter in self.scope.items():
                parameter.copy_(before[name])
        return Update(change, weight, loss, users=1)

    def train_cohort(self, users: UserIndices, key: RoundKey) -> Update:
        """The weighted mean of `train_user` over users, as one batch where that is the same."""
        if self.settings.client.local_steps == 1:
            rows = np.flatnonzero(np.isin(self.windows.user, users))
            weight, total = self._accumulate_gradient(rows, key, step=0)
            rate = -self.settings.client.learning_rate / max(weight, 1)
            change = {
                name: torch.zeros_like(p) if p.grad is None else p.grad * rate
                for name, p in self.scope.items()
            }
            return Update(change, weight, total / max(weight, 1), len(users))
        return mean_update([self.train_user(int(user), key) for user in users])

    def _accumulate_gradient(
        self, rows: npt.NDArray[np.integer], key: RoundKey, step: int
    ) -> tuple[int, float]:
        """Leave Σ over the rows' targets of the loss's gradient in `.grad`; (targets, loss sum)."""
        self.model.zero_grad(set_to_none=True)
        targets, total = 0, 0.0
        for chunk in self._micro_batches(rows):
            generators = [
                key.generator(int(self.windows.user[r]), int(self.windows.number[r]), step)
                for r in chunk
            ]
            loss = self._loss(chunk, generators)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            targets += int(self.windows.lengths[chunk].sum())
        return targets, total

    def _micro_batches(self, rows: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[np.integer]]:
        """Rows in chunks of similar length and at most `client.micro_batch` positions."""
        lengths = self.windows.lengths[rows]
        order = rows[np.argsort(-lengths, kind="stable")]
        start = 0
        while start < len(order):
            longest = int(self.windows.lengths[order[start]])
            size = max(1, self.settings.client.micro_batch // max(longest, 1))
            yield order[start : start + size]
            start += size

    def _loss(self, rows: npt.NDArray[np.integer], generators: list[np.random.Generator]) -> Tensor:
        """The stage's loss, summed over the rows' targets."""
        windows = self.windows.take(rows)
        lengths = windows.lengths
        model, weights, stage = self.model, self.weights, self.model.stage
        inputs = self._tensor(windows.inputs)  # [B, T]
        targets = self._tensor(windows.targets)  # [B, T]
        rate = self.settings.model.dropout
        backbone_trains = stage.in_scope("sasrec.norm.weight")
        dropout = Dropout(rate, generators, lengths.tolist()) if backbone_trains else NO_DROPOUT
        with torch.set_grad_enabled(backbone_trains):
            hidden = model.sasrec(inputs, dropout)  # [B, T, D]

        total: Tensor = hidden.new_zeros(())
        if weights.identity:
            real = targets > 0
            total = (
                total
                + weights.identity
                * losses.cross_entropy_over_items(
                    hidden[real], model.sasrec.item_emb.weight, targets[real]
                ).sum()
            )
        if not stage.content:
            return total

        positions, share, memories = self._choose_positions(rows, lengths, generators)
        batch = torch.arange(len(rows), device=self._device)[:, None]  # [B, 1]
        hidden, targets = hidden[batch, positions], targets[batch, positions]  # [B, P, D], [B, P]
        negatives = self._tensor(self._sample_negatives(windows.user, generators))  # [B, C]
        projected = model.project()
        keep = Dropout(rate, generators, [positions.shape[1]] * len(rows))(
            hidden.new_ones(*positions.shape, self.settings.model.gating_hidden)
        )  # [B, P, G]
        positive = model.score(hidden, targets.unsqueeze(2), memories, projected, keep)
        negative = model.score(hidden, negatives, memories, projected, keep)
        cross_entropy = losses.cross_entropy_over_candidates(positive, negative)  # [B, P]
        hard = 1.0 + weights.hardness * torch.sigmoid(cross_entropy.detach())
        embedded = model.sasrec.item_emb(targets)  # [B, P, D]
        content = model.content_embedding(hidden, targets, projected, keep)
        aligned = losses.misalignment(content, embedded) * projected.present[targets].any(-1)
        per_position = hard * (weights.score * cross_entropy + weights.alignment * aligned)
        total = total + (share * per_position).sum()
        if stage.memory and weights.load_balance:
            routed = model.router(embedded)  # [B, P, E]
            usage = (share.unsqueeze(2) * routed).sum(1) / share.sum(1, keepdim=True)  # [B, E]
            total = total + weights.load_balance * (share.sum(1) * losses.imbalance(usage)).sum()
        return total

    def _choose_positions(
        self,
        rows: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.int64],
        generators: list[np.random.Generator],
    ) -> tuple[Tensor, Tensor, Memories | None]:
        """Where the stage's score is trained: positions [B, P], their share [B, P] and memories.

        All real positions where the memory is off, a sample where it is on, since every position
        has a memory of its own to read. A row's shares add up to its targets.
        """
        if not self.model.stage.memory:
            every = np.broadcast_to(np.arange(lengths.max()), (len(rows), lengths.max()))
            return self._tensor(every), self._tensor(every < lengths[:, None]).float(), None
        count = self.settings.client.positions
        chosen = np.stack(
            [g.integers(0, n, size=count) for g, n in zip(generators, lengths, strict=True)]
        )
        share = np.repeat(lengths[:, None] / count, count, axis=1).astype(np.float32)
        if self.memory_reads is None:
            raise ValueError(f"{self.model.stage.name} needs the users' memories")
        items = self._tensor(
            self.memory_reads[self.windows.offsets[rows, None] + chosen]
        )  # [B, P, M]
        return self._tensor(chosen), self._tensor(share), Memories(items, items > 0)

    def _sample_negatives(
        self, users: npt.NDArray[np.int32], generators: list[np.random.Generator]
    ) -> npt.NDArray[np.int64]:
        """Items [B, C] outside the users' *training* items.

        Leaving out the whole history would tell which items are held out.
        """
        chosen = np.empty((len(users), self.settings.client.negatives), dtype=np.int64)
        for row, (user, generator) in enumerate(zip(users, generators, strict=True)):
            open_items = np.ones(self.interactions.num_items + 1, dtype=np.bool_)
            open_items[0] = False
            open_items[self.interactions.training(int(user))] = False
            pool = np.flatnonzero(open_items)
            chosen[row] = pool[generator.integers(0, len(pool), size=chosen.shape[1])]
        return chosen

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.array(array))
        if not tensor.is_floating_point() and tensor.dtype != torch.bool:
            tensor = tensor.long()
        return tensor.to(self._device)


def mean_update(updates: list[Update]) -> Update:
    """The mean of updates, weighted by their targets."""
    weight = sum(update.weight for update in updates)
    shares = [update.weight / max(weight, 1) for update in updates]
    change = {
        name: sum((u.change[name] * s for u, s in zip(updates, shares, strict=True)), 0 * first)
        for name, first in updates[0].change.items()
    }
    loss = sum(u.loss * s for u, s in zip(updates, shares, strict=True))
    return Update(change, weight, loss, sum(u.users for u in updates))
