"""The rows of the item table that a round of stage 1 reads, as a table of their own.

With sampled candidates that is a small part of a large catalogue. The gradient of a table is as
large as the table, and made anew for every micro-batch: of these rows alone it is small.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedmem.core.training.batches import Batch

TABLE = "sasrec.item_emb.weight"
"""The parameter that has a row for each item."""


class TouchedItems:
    """Some rows of an item table, whose gradient is brought back to the table.

    Args:
        table: [I + 1, D] of all items.
        read: arrays of the items that are read, of any shape.
    """

    def __init__(self, table: Tensor, read: Iterable[npt.NDArray[np.integer]]) -> None:
        found = np.unique(np.concatenate([np.zeros(1, np.int64), *(x.ravel() for x in read)]))
        self._table = table
        self._items = torch.from_numpy(found.astype(np.int64)).to(table.device)  # the padding first
        self._rows = table.detach()[self._items].requires_grad_()

    def loss(self, objective: nn.Module, batch: Batch) -> Tensor:
        """The objective of a batch, computed on these rows."""
        assert batch.candidates is not None
        batch = batch._replace(
            inputs=self._places(batch.inputs),
            targets=self._places(batch.targets),
            candidates=self._places(batch.candidates[:1]),
        )
        loss: Tensor = functional_call(objective, {f"model.{TABLE}": self._rows}, (batch,))
        return loss

    def backward(self) -> None:
        """Bring the rows' gradient to the table."""
        gradient = torch.zeros_like(self._table)
        if self._rows.grad is not None:
            gradient[self._items] = self._rows.grad
        self._table.grad = gradient

    def _places(self, items: Tensor) -> Tensor:
        """Where items stand among the rows."""
        return torch.searchsorted(self._items, items)
