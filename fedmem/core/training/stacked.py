"""Several users side by side: their models as one stack of parameters, under `torch.func.vmap`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from fedmem.core.training.batches import Batch, Rows
from fedmem.core.training.objective import Objective

MakeBatch = Callable[[Rows, int], tuple[Batch, Tensor | None]]
MakeOptimizer = Callable[[Iterable[Tensor]], Optimizer]


def train_stacked(
    objective: Objective,
    scope: Mapping[str, Tensor],
    rows: list[Rows],
    targets: npt.NDArray[np.integer],
    make_batch: MakeBatch,
    steps: int,
    make_optimizer: MakeOptimizer,
) -> tuple[dict[str, Tensor], Tensor]:
    """Full-batch steps of S users on models of their own.

    Args:
        objective: the stage's loss; its model is where every user starts.
        scope: parameters of the model that train.
        rows: windows of each user.
        targets: [S] targets in them.
        make_batch: gives the batch of these windows in a local step, and their hidden states where
            the backbone does not train.
        steps: local steps.
        make_optimizer: of a user's change. It must go element by element, as SGD and Adam do: one
            for the stack is then one for each user.

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
    change = {name: torch.zeros(users, *p.shape, device=p.device) for name, p in scope.items()}
    optimizer = make_optimizer(change.values())
    losses = torch.zeros(users)
    for step in range(steps):
        batch, hidden = make_batch(np.concatenate(rows), step)
        batch = batch.map(side_by_side)
        hidden = None if hidden is None else side_by_side(hidden)
        parameters = {n: (p.detach() + change[n]).requires_grad_() for n, p in scope.items()}
        places_of_users = (0, batch.map(lambda _: 0), None if hidden is None else 0)
        with sdpa_kernel(SDPBackend.MATH):  # the others know no further axis
            losses = vmap(loss_of, in_dims=places_of_users)(parameters, batch, hidden)  # [S]
        gradients = torch.autograd.grad(
            losses.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            by_user = weights.to(gradient.device).view(-1, *[1] * (gradient.dim() - 1))
            change[name].grad = gradient / by_user
        optimizer.step()
    return change, losses.detach()
