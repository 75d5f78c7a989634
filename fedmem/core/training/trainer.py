"""Local training: what one user, or a cohort of users, changes in a model in one round.

A stage's loss is a sum over training windows of terms that depend on the window alone. So a user's
gradient is a sum over its windows, and with one local SGD step the weighted mean of the users'
changes is one step on the sum over all their windows: a cohort is one batch, exactly.

What happens to updates on their way to the average is no concern of training, but of
`fedmem.core.updates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedmem.core.arrays import UserIndices, by_length
from fedmem.core.data import Windows
from fedmem.core.machine.device import positions_at_once, stack_bytes
from fedmem.core.model import Recommender
from fedmem.core.settings import ClientSettings, Settings
from fedmem.core.training.batches import Batch, BatchMaker, RoundKey, Rows
from fedmem.core.training.hidden_states import HiddenStates
from fedmem.core.training.local_optimizer import make_local_optimizer
from fedmem.core.training.objective import Objective
from fedmem.core.training.touched_items import TABLE, TouchedItems
from fedmem.core.updates.update import Update, UserUpdates

STACKED_POSITIONS = {"cpu": 1 << 14, "cuda": 1 << 16}
"""Positions of users side by side, all of which are computed at once."""

COPIES = 6
"""Parameters, gradients, changes, Adam's two moments and a temporary: all are held for every such
user."""


class LocalTrainer:
    """Trains a stage's model, which has the round's parameters, on users that live here.

    The model is left as it was found. The windows are those of (at least) the users trained. A
    stage that reads the memory requires `memory_reads`, see `BatchMaker`; one whose backbone does
    not train requires the windows' `hidden_states` by that.
    """

    def __init__(
        self,
        model: Recommender,
        settings: Settings,
        windows: Windows,
        memory_reads: npt.NDArray[np.int32] | None = None,
        hidden_states: HiddenStates | None = None,
    ) -> None:
        stage = model.stage
        self.model = model
        self.settings = settings
        self.windows = windows
        self.scope = {name: p for name, p in model.named_parameters() if stage.in_scope(name)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.scope)
        self._hidden_states = hidden_states
        self._device = model.sasrec.norm.weight.device
        self._batches = BatchMaker(
            settings, stage, windows, model.sasrec.dropout_widths, memory_reads, self._device
        )
        self._objective = Objective(model, settings)

    def train_user(self, user: int, key: RoundKey) -> Update:
        """`local_steps` full-batch steps on one user: the definition of a user's update."""
        return self._train(self._rows_of(np.array([user])), key)

    def train_batch(self, users: UserIndices, key: RoundKey) -> Update:
        """The weighted mean of `train_user` over users, as one step on all of their windows."""
        return self._train(self._rows_of(users), key, len(users))

    def _train(self, rows: Rows, key: RoundKey, users: int = 1) -> Update:
        """Full-batch steps on these windows, of so many users."""
        parameters = list(self.scope.values())
        before = [p.data for p in parameters]
        optimizer, change = make_local_optimizer(self.settings.client), list[Tensor]()
        weight, loss = int(self.windows.lengths[rows].sum()), 0.0
        for step in range(self.settings.client.local_steps):
            if step:
                _set(parameters, torch._foreach_add(before, change))
            loss = self.accumulate_gradient(rows, key, step) / max(weight, 1)
            change = optimizer.step(self._take_gradient(), max(weight, 1))
        _set(parameters, before)
        return Update(dict(zip(self.scope, change, strict=True)), weight, loss, users)

    @property
    def execution(self) -> str:
        """How a cohort trains: `client.execution`, or what is fastest here where that is `auto`."""
        client = self.settings.client
        if client.execution != "auto":
            return client.execution
        if client.local_steps == 1 and client.optimizer == "sgd":
            return "batched"
        return "stacked" if self._device.type == "cuda" else "loop"

    def _take_gradient(self) -> list[Tensor]:
        """The gradient by each parameter that trains: made anew each time, and nobody's then."""
        taken = []
        for p in self.scope.values():
            taken.append(torch.zeros_like(p) if p.grad is None else p.grad)
            p.grad = None
        return taken

    def train_each(self, users: UserIndices, key: RoundKey) -> Iterator[UserUpdates]:
        """`train_user` of each user that has targets, one by one or several side by side."""
        rows = self._rows_of(users)
        rows = rows[np.argsort(self.windows.user[rows], kind="stable")]
        present, starts = np.unique(self.windows.user[rows], return_index=True)
        by_user = zip(present.tolist(), np.split(rows, starts[1:]), strict=bool(len(rows)))
        own = [(user, rows) for user, rows in by_user if self.windows.lengths[rows].sum()]
        if self.execution == "stacked" or self._device.type == "cuda":
            yield from self._side_by_side(own, key)
            return
        for user, user_rows in own:
            update = self._train(user_rows, key)
            change = {name: each[None] for name, each in update.change.items()}
            yield UserUpdates(
                np.array([user]), change, np.array([update.weight]), np.array([update.loss])
            )

    def _side_by_side(self, own: list[tuple[int, Rows]], key: RoundKey) -> Iterator[UserUpdates]:
        """Users of similar length at a time, as many as memory allows."""
        client, lengths = self.settings.client, self.windows.lengths
        held = sum(p.numel() * p.element_size() for p in self.scope.values())
        size = max(1, stack_bytes(self._device) // (held * COPIES))
        targets = np.array([lengths[rows].sum() for _, rows in own])
        for chosen in by_length(targets, STACKED_POSITIONS[self._device.type], size):
            users, rows = zip(*(own[each] for each in chosen), strict=True)
            weights = targets[chosen]
            change, losses = train_stacked(
                self._objective,
                self.scope,
                list(rows),
                weights,
                lambda chosen, step: self._batch(chosen, key, step),
                client,
            )
            yield UserUpdates(np.array(users), change, weights, losses.cpu().numpy() / weights)

    def accumulate_gradient(self, rows: Rows, key: RoundKey, step: int) -> float:
        """Leave the gradient of the loss, summed over the rows' targets, in `.grad`; the sum."""
        for parameter in self.scope.values():
            parameter.grad = None
        tables = self.model.tables()
        leaves = None if tables is None else tables.leaves()
        total = torch.zeros((), device=self._device)
        lengths = self.windows.lengths[rows]
        stage, micro_batch = self.model.stage, self.settings.client.micro_batch
        at_once = positions_at_once(
            micro_batch, self._device, stage.trains_backbone, scores=stage.content
        )
        items = self._touched_items(rows, key)
        for chunk in by_length(lengths, at_once):
            batch, hidden = self._batch(rows[chunk], key, step)
            if items is None:
                loss = self._objective(batch, hidden, leaves)
            else:
                loss = items.loss(self._objective, batch)
            loss.backward()
            total += loss.detach()
        if items is not None:
            items.backward()
        if tables is not None and leaves is not None:
            tables.backward(leaves)
        return float(total)

    def _touched_items(self, rows: Rows, key: RoundKey) -> TouchedItems | None:
        """The items that training on these rows reads; None where it reads all of them."""
        count = self.settings.client.candidates
        if count is None or TABLE not in self.scope:
            return None
        windows = self.windows
        drawn = key.candidates(windows.interactions.num_items, count)
        read = (*windows.pairs(rows), drawn)
        return TouchedItems(self.scope[TABLE], read)

    def _batch(self, rows: Rows, key: RoundKey, step: int) -> tuple[Batch, Tensor | None]:
        hidden = None if self._hidden_states is None else self._hidden_states.take(rows)
        return self._batches.make(rows, key, step), hidden

    def _rows_of(self, users: UserIndices) -> Rows:
        return np.flatnonzero(np.isin(self.windows.user, users))


def _set(parameters: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value


def train_stacked(
    objective: Objective,
    scope: Mapping[str, Tensor],
    rows: list[Rows],
    targets: npt.NDArray[np.integer],
    make_batch: Callable[[Rows, int], tuple[Batch, Tensor | None]],
    client: ClientSettings,
) -> tuple[dict[str, Tensor], Tensor]:
    """Full-batch steps of S users on models of their own: one stack, under `torch.func.vmap`.

    Every user starts at the objective's model, of which the scope trains, and has windows `rows`
    with `targets` [S] in them. `make_batch` gives the batch of windows in a local step, and their
    hidden states where the backbone does not train. The optimizer goes element by element, so that
    one for the stack is one for each user.

    Returns:
        The changes, each [S, ...], and the losses [S] of the last step, summed over targets.
    """
    users, most = len(rows), max(map(len, rows))
    places = np.concatenate([user * most + np.arange(len(own)) for user, own in enumerate(rows)])

    def side_by_side(x: Tensor) -> Tensor:
        """[Σ windows, ...] → [S, most windows, ...], with zeros where a user has fewer."""
        padded = x.new_zeros(users * most, *x.shape[1:])
        padded[torch.from_numpy(places).to(x.device)] = x
        return padded.view(users, most, *x.shape[1:])

    def loss_of(parameters: dict[str, Tensor], batch: Batch, hidden: Tensor | None) -> Tensor:
        named = {f"model.{name}": value for name, value in parameters.items()}
        result: Tensor = functional_call(objective, named, (batch, hidden))
        return result

    weights = torch.from_numpy(np.maximum(targets, 1)).float()  # [S]
    optimizer, change = make_local_optimizer(client), list[Tensor]()
    losses = torch.zeros(users)
    for step in range(client.local_steps):
        batch, hidden = make_batch(np.concatenate(rows), step)
        batch = batch.padded().map(side_by_side)
        hidden = None if hidden is None else side_by_side(hidden)
        parameters = {name: p.detach().expand(users, *p.shape) for name, p in scope.items()}
        if step:
            moved = torch._foreach_add(list(parameters.values()), change)
            parameters = dict(zip(scope, moved, strict=True))
        for value in parameters.values():
            value.requires_grad_()
        places_of_users = (0, batch.map(lambda _: 0), None if hidden is None else 0)
        with sdpa_kernel(SDPBackend.MATH):  # the others know no further axis
            losses = vmap(loss_of, in_dims=places_of_users)(parameters, batch, hidden)  # [S]
        gradients = torch.autograd.grad(
            losses.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        by_user = (weights.to(x.device).view(-1, *[1] * (x.dim() - 1)) for x in gradients)
        change = optimizer.step([x.div_(w) for x, w in zip(gradients, by_user, strict=True)])
    return dict(zip(scope, change, strict=True)), losses.detach()
