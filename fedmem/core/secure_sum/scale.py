"""The scale of a round's integers, which all nodes share and which the server sets.

It is made of what is public anyway, sums of rounds before, so that it gives nothing away. Whatever
it is, no sum wraps around (`fedmem.core.secure_sum.codes`): a scale that is too fine cuts what is
large, one that is too coarse rounds what is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmem.core.secure_sum.codes import largest

HEADROOM = {16: 8.0, 32: 1024.0}
"""How many times larger than any number of the last sum a node's may be, by the modulus's bits:
of 32 there are enough for every case."""
USUAL = 2.0**-7
"""Largest number of a mean change before there was a sum: .005 to .01 in the first rounds of all
stages on MovieLens-100K."""


@dataclass(frozen=True)
class CommonScale:
    """What is known of the nodes' changes before a round.

    Attributes:
        targets: that a user trains on, in the mean.
        change: the largest number of the mean change.
    """

    targets: float
    change: float = USUAL

    def levels(
        self, bits: int, parties: int, users: int, limit: float | Literal["auto"] = "auto"
    ) -> float:
        """Integers per unit of (change · targets) of so many parties.

        Args:
            bits: of the modulus.
            parties: nodes of the sum.
            users: the most that a node was asked for.
            limit: largest number of a node's change that is sent whole; `auto`: by `HEADROOM`.
        """
        range_ = HEADROOM[bits] * self.change if limit == "auto" else limit
        return largest(bits, parties) / (range_ * self.targets * max(users, 1))
