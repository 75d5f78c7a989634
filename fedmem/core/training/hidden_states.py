"""Hidden states without gradients: of a backbone that does not train, and after a history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, by_length, offsets_of
from fedmem.core.data import Interactions, Windows
from fedmem.core.machine.device import positions_at_once
from fedmem.core.model import Recommender
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.settings import Settings
from fedmem.core.training import losses


class HiddenStates:
    """Hidden states at the inputs of training windows; a window is computed when first asked for.

    With it are those that share its batch, and every process makes the same batches: products over
    other rows may round otherwise, and a run that goes on elsewhere would end with other bits.
    The backbone must not change.
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
            batch = self._batches[number]
            inputs = torch.from_numpy(self._windows.inputs(batch)).to(self._states.device)
            states = self._backbone(inputs, NO_DROPOUT)  # [B, T, D]
            self._states[self._places(batch)[inputs > 0]] = states[inputs > 0]
            self._known[batch] = True
        return self._states[self._places(rows)]

    def _places(self, rows: npt.NDArray[np.integer]) -> Tensor:
        """[B, T] where the states of these windows stand."""
        lengths = self._windows.lengths[rows, None]
        steps = np.minimum(np.arange(lengths.max(initial=0)), lengths - 1)
        return torch.from_numpy(self._windows.offsets[rows, None] + steps).to(self._states.device)


@torch.no_grad()
def last_hidden(model: Recommender, settings: Settings, histories: list[Ints]) -> Tensor:
    """Hidden states [U, D] after the latest window of each history, none of them empty."""
    device, width = model.sasrec.norm.weight.device, settings.model.dim
    hidden = torch.empty(len(histories), width, device=device)
    longest = settings.model.max_length
    latest = [history[-longest:] for history in histories]
    lengths = np.array(list(map(len, latest)), dtype=np.int64)
    everything, first = np.concatenate([*latest, [0]]), offsets_of(lengths)
    for rows in by_length(lengths, positions_at_once(settings.client.micro_batch, device)):
        steps = np.arange(lengths[rows[0]])  # [T]
        there = steps < lengths[rows, None]  # [B, T]
        items = everything[np.where(there, first[rows, None] + steps, -1)].astype(np.int64)
        ends = torch.from_numpy(lengths[rows] - 1).to(device)
        hidden[rows] = model.sasrec.at(torch.from_numpy(items).to(device), ends)
    return hidden


@torch.no_grad()
def losses_at(
    model: Recommender,
    settings: Settings,
    interactions: Interactions,
    places: npt.NDArray[np.integer],
) -> npt.NDArray[np.float64]:
    """The model's cross-entropy [n] over all items at places in `Interactions.items`.

    By it a memory finds what surprises, where items have no content. The first position of a
    history has nothing before it to predict from: its loss is that of a guess.
    """
    items, first = interactions.items, interactions.starts_at(places)
    result = np.full(len(places), np.log(interactions.num_items))
    later = np.flatnonzero(places > first)
    hidden = last_hidden(model, settings, [items[first[k] : places[k]] for k in later])
    item_emb = model.sasrec.item_emb.weight
    for batch in np.array_split(np.arange(len(later)), 1 + len(later) // 256):
        targets = torch.from_numpy(items[places[later[batch]]]).long().to(hidden.device)
        values = losses.cross_entropy_over_items(hidden[batch], item_emb, targets)
        result[later[batch]] = values.cpu().numpy()
    return result
