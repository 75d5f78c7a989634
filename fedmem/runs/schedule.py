"""How long a stage trains, and how fast the server learns in each round of it.

A constant learning rate with a linear cooldown, which can begin at any time: A. Hägele et al.,
"Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024. So a
stage whose patience has run out cools down before it ends: a plateau at the full rate does not
show what the parameters come to at a lower one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fedmem.core.settings import Settings
from fedmem.core.stages import Stage

COOLED = 0.05  # share of the learning rate that is left in a stage's last round


@dataclass(frozen=True)
class Schedule:
    """A stage's rounds, and what multiplies the server's learning rate in them.

    Attributes:
        rounds: how many it has if its patience never runs out.
        own: the stage's own pace, before it cools down.
        cooldown: share of `rounds`, the last ones, over which the rate falls linearly to `COOLED`
            of itself; 0: it does not.
        cut_after: the round in which patience ran out, and after which it cools down; None: it did
            not run out before the rate fell.
    """

    rounds: int
    own: float
    cooldown: float
    cut_after: int | None = None

    def within(self, rounds: int) -> Schedule:
        """The schedule with at most so many rounds."""
        return replace(self, rounds=min(self.rounds, rounds))

    @classmethod
    def of(cls, settings: Settings, stage: Stage) -> Schedule:
        """That of a stage, as the settings have it."""
        numbers = settings.of_stage(stage.name)
        return cls(numbers.rounds, numbers.pace, settings.strategy.cooldown)

    @property
    def _full(self) -> float:
        """Rounds at the full rate."""
        return (1.0 - self.cooldown) * self.rounds if self.cut_after is None else self.cut_after

    @property
    def last(self) -> int:
        """The last round."""
        if self.cut_after is None:
            return self.rounds
        return self.cut_after + math.ceil(self.cooldown * self.rounds)

    def pace(self, server_round: int) -> float:
        """What multiplies the learning rate in a round, from 1 to `last`."""
        full = self._full
        if server_round <= full:
            return self.own
        return self.own * (1.0 - (1.0 - COOLED) * (server_round - full) / (self.last - full))

    def cut(self, server_round: int) -> Schedule:
        """The schedule that cools down after this round; the same if it does so already."""
        return replace(self, cut_after=server_round) if server_round < self._full else self
