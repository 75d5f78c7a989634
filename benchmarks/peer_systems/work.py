"""The work that all peers do, from the file that `peers.py` wrote, and how they report it.

A peer runs in an environment of its own, without fedmem: here is nothing but torch and numpy.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sasrec import SASRec
from torch import Tensor


@dataclass(frozen=True)
class Work:
    """What to train.

    Attributes:
        settings: `model`, the arguments of `SASRec`; `adam`, those of the server's optimizer;
            `learning_rate` and `local_steps` of the clients; `processes` at most.
        start: parameters by name.
        windows: (inputs, targets) of every user that trains, each [windows, T], padded with 0.
        rounds: the users of each round.
    """

    settings: dict[str, Any]
    start: dict[str, Tensor]
    windows: dict[int, tuple[Tensor, Tensor]]
    rounds: list[list[int]]

    @classmethod
    def read(cls, path: Path) -> Work:
        """From a file."""
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        settings = json.loads(path.with_suffix(".json").read_text())
        windows = {
            user: (arrays[f"inputs/{user}"].long(), arrays[f"targets/{user}"].long())
            for user in sorted({user for users in settings["rounds"] for user in users})
        }
        start = {n.removeprefix("start/"): x for n, x in arrays.items() if n.startswith("start/")}
        return cls(settings, start, windows, settings["rounds"])

    def model(self) -> SASRec:
        """A model with the start's parameters."""
        model = SASRec(**self.settings["model"])
        model.load_state_dict(self.start)
        return model

    def adam(self, model: SASRec) -> torch.optim.Adam:
        """The server's optimizer."""
        return torch.optim.Adam(model.parameters(), **self.settings["adam"])


class Clock:
    """Prints, as JSON, when the first round begins, and the seconds and the loss of each."""

    def __init__(self) -> None:
        _say(began=time.time())
        self._since = time.perf_counter()

    def round(self, loss: float) -> None:
        """A round has ended, whose users had this mean loss a target."""
        now = time.perf_counter()
        _say(seconds=now - self._since, loss=loss)
        self._since = now


def _say(**figures: float) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
