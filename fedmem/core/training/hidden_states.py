"""Hidden states of a backbone that does not train, computed once and then looked up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import by_length
from fedmem.core.data import Windows
from fedmem.core.machine.device import positions_at_once
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT


class HiddenStates:
    """Hidden states at the inputs of training windows; a window is computed when first asked for.

    With it are those that share its batch, and every process makes the same batches: products over
    other rows may round otherwise, and a run that goes on elsewhere would end with other bits.

    Args:
        backbone: what computes them; it must not change.
        windows: the windows of a node.
    """

    def __init__(self, backbone: SASRec, windows: Windows) -> None:
        table = backbone.pos_emb.weight
        self._backbone = backbone
        self._windows = windows
        self._known = np.zeros(len(windows), dtype=np.bool_)
        at_once = positions_at_once(None, table.device)
        self._batches = list(by_length(windows.lengths, at_once))
        self._batch_of = np.zeros(len(windows), dtype=np.int64)
        for number, rows in enumerate(self._batches):
            self._batch_of[rows] = number
        # Not filled: where memory is handed out by page, what is never asked for costs nothing.
        self._states = table.new_empty(int(windows.offsets[-1]), table.shape[1])  # [N, D]

    @torch.no_grad()
    def take(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """States [B, T, D] of these windows; anything at all at their padding."""
        for number in np.unique(self._batch_of[rows[~self._known[rows]]]):
            self._compute(self._batches[number])
        return self._states[self._places(rows)]

    def _compute(self, rows: npt.NDArray[np.integer]) -> None:
        inputs = torch.from_numpy(self._windows.inputs(rows)).to(self._states.device)
        states = self._backbone(inputs, NO_DROPOUT)  # [B, T, D]
        self._states[self._places(rows)[inputs > 0]] = states[inputs > 0]
        self._known[rows] = True

    def _places(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """[B, T] where the states of these windows stand."""
        steps = np.arange(self._windows.lengths[rows].max(initial=0))
        places = self._windows.offsets[rows, None] + np.minimum(
            steps, self._windows.lengths[rows, None] - 1
        )
        return torch.from_numpy(places).to(self._states.device)
