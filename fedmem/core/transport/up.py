"""The way up: a node's update, rounded on its way to the server.

What rounding leaves of an update is added to the node's next one (F. Seide et al., "1-Bit
Stochastic Gradient Descent", Interspeech 2014), where `transport.feedback` is on.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fedmem.core.files.sealed import load_sealed, save_sealed
from fedmem.core.model.parameters import Parameters
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec
from fedmem.core.updates.update import Update

KEPT = 3
"""Rounds whose remainders a node keeps: a run that was killed goes on from before the round that
was under way, and the last that ended may not have been written by then."""

REMAINDERS = "remainder-*.safetensors"


class Remainders:
    """What rounding left of a node's updates, on the node's own disk, round by round.

    Args:
        folder: the node's own; made when the first is put.
        key: of the run and the stage. What others left behind is not taken up.
        forgotten: the `Histories.forgotten` of the histories that are trained on. What was left of
            updates on others holds traces of what was forgotten since, and is dropped.
    """

    def __init__(self, folder: Path, key: str, forgotten: str = "") -> None:
        self._folder = folder
        self._key = key
        self._forgotten = forgotten

    def before(self, number: int) -> Parameters:
        """What was left in the latest round before this one; nothing where there is none.

        Raises:
            FedmemError: the file is damaged. To go on without it is no way out that may go
                unnoticed: what it holds would be lost.
        """
        rounds = [each for each in self._rounds() if each < number]
        if not rounds:
            return {}
        about, remainder = load_sealed(self._path(rounds[-1]), "node's remainder")
        if about.get("forgotten", "") != self._forgotten:
            drop_remainders(self._folder)
            return {}
        return remainder

    def put(self, number: int, remainder: Parameters) -> None:
        """Keep what a round left, and no more of later rounds, which a run that goes on undoes.

        Raises:
            OSError: the disk does not take it; those before stay.
        """
        about = {"round": number, "forgotten": self._forgotten}
        save_sealed(self._path(number), about, remainder)
        kept = {self._path(each) for each in [e for e in self._rounds() if e <= number][-KEPT:]}
        for path in self._folder.glob(REMAINDERS):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _rounds(self) -> list[int]:
        found = self._folder.glob(f"remainder-{self._key}-*.safetensors")
        return sorted(int(path.stem.rpartition("-")[2]) for path in found)

    def _path(self, number: int) -> Path:
        return self._folder / f"remainder-{self._key}-{number}.safetensors"


def drop_remainders(folder: Path) -> int:
    """Delete what a node keeps of its updates; how many files. Training goes on without it, as
    from the first round.

    Raises:
        OSError: a file cannot be deleted.
    """
    found = list(folder.glob(REMAINDERS))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def code_update(
    update: Update, codec: Codec, key: RoundKey, who: str, remainders: Remainders | None = None
) -> bytes:
    """An update's change as it travels.

    Args:
        update: a node's, through all filters.
        codec: of the run.
        key: of the round.
        who: the node, by a name that it has in every process.
        remainders: of the node, where the codec has feedback.
    """
    change = {name: value.detach().cpu() for name, value in update.change.items()}
    if remainders is None or update.weight == 0:  # nobody takes it
        return codec.to_bytes(codec.round(change, key, who))
    left = remainders.before(key.round)
    for name, value in change.items():  # in place: a table of many items is large
        left[name] = left[name].add_(value) if name in left else value.clone()
    rounded = codec.round(left, key, who)
    for name, each in rounded.items():
        _keep_finite(left[name].sub_(each.values()))
    remainders.put(key.round, left)
    return codec.to_bytes(rounded)


def _keep_finite(remainder: Tensor) -> None:
    """The server refuses an update that is not finite; the next one shall be."""
    remainder.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
