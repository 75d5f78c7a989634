"""Leaves out updates that are not finite, or longer than is plausible beside the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.update import Update, UserUpdates

ENOUGH = 3
"""Norms that a median is taken of: of two nobody can say which is the odd one."""

REMEMBERED = 10
"""Rounds whose medians say what is usual, where a round has too few replies to say so itself."""


class NormFilter(UpdateFilter):
    """Keeps updates whose norm is at most `ratio` times the median of the others'.

    At a node the others are the message's users. One batch shows only the users' mean, which is
    held against the server's limit. At the server they are the round's replies or, where these are
    too few, those of the rounds before.

    Args:
        ratio: `strategy.guard_ratio`.
        limit: at a node, the norm up to which the server finds a mean plausible.
        usual: at the server, the state of an earlier process.
    """

    name = "norm"

    def __init__(
        self, ratio: float, limit: float = math.inf, usual: Sequence[Sequence[float]] = ()
    ) -> None:
        self._ratio = ratio
        self._limit = limit
        self._norms: dict[int, float] = {}
        self._usual = [list(pair) for pair in usual]

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """The updates that are finite; the norms of these are kept for `outliers`."""
        norms = updates.norms
        finite = np.isfinite(norms) & np.isfinite(updates.losses)
        self._norms |= zip(updates.users[finite].tolist(), norms[finite].tolist(), strict=True)
        return updates.where(finite)

    def trusts(self, update: Update) -> bool:
        """Whether a mean is finite and within the server's limit."""
        norm = update.norm
        return math.isfinite(norm) and math.isfinite(update.loss) and norm <= self._limit

    def outliers(self) -> set[int]:
        """Users whose norms are out of proportion to the median of all."""
        limit = self._limit_of(list(self._norms.values()))
        return {user for user, norm in self._norms.items() if norm > limit}

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        """The replies that are finite and in proportion; what was usual among them is kept."""
        refused: list[Refusal] = []
        finite: list[tuple[Reply, float]] = []
        for reply in replies:
            norm = reply.update.norm
            if math.isfinite(norm) and math.isfinite(reply.update.loss):
                finite.append((reply, norm))
            else:
                refused.append(Refusal(reply.node, "its change or its loss is not finite"))
        here = _of_trained(finite)
        pairs = here if len(here) >= ENOUGH else self._usual
        kept: list[tuple[Reply, float]] = []
        for reply, norm in finite:
            limit = self._limit_beside(pairs, reply.update.users)
            if norm <= limit:
                kept.append((reply, norm))
                continue
            reason = (
                f"its change is out of proportion, of norm {norm:.3g} where at most {limit:.3g} is "
                f"plausible (strategy.guard_ratio={self._ratio})"
            )
            refused.append(Refusal(reply.node, reason))
        here = _of_trained(kept)
        if here:
            self._usual = [*self._usual, _medians(here)][-REMEMBERED:]
        return [reply for reply, _ in kept], refused

    def hint(self, users: int) -> float:
        """Norm up to which the mean change of so many users is in proportion to what is usual."""
        return self._limit_beside(self._usual, users)

    @property
    def state(self) -> list[list[float]]:
        """(median norm, median users) of the replies of the latest rounds, the latest last."""
        return self._usual

    def _limit_of(self, norms: Sequence[float]) -> float:
        """The norm up to which an update is in proportion to these; infinite where they are few."""
        return self._ratio * median(norms) if len(norms) >= ENOUGH else math.inf

    def _limit_beside(self, pairs: Sequence[Sequence[float]], users: int) -> float:
        """The same for a mean: one of fewer users scatters more, so it may be longer."""
        limit = self._limit_of([norm for norm, _ in pairs])
        if math.isinf(limit):
            return limit
        return limit * math.sqrt(max(1.0, _medians(pairs)[1] / max(users, 1)))


def _of_trained(replies: Sequence[tuple[Reply, float]]) -> list[list[float]]:
    """(norm, users) of the replies that trained on something."""
    return [[norm, float(each.update.users)] for each, norm in replies if each.update.weight]


def _medians(pairs: Sequence[Sequence[float]]) -> list[float]:
    return [median(values) for values in zip(*pairs, strict=True)]
