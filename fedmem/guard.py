"""Which updates cannot be meant: not finite, or out of all proportion to the others.

A change that points the wrong way at its usual length is neither; see `strategy.aggregation`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

ENOUGH = 3
"""Norms that a median is taken of: of two nobody can tell which is the odd one."""


def norm_limit(norms: Sequence[float], ratio: float | None) -> float:
    """The norm up to which an update is in proportion to these.

    Args:
        norms: of updates of the like; those that are not finite do not count.
        ratio: `strategy.guard_ratio`.

    Returns:
        `ratio` times their median; infinite where the guard is off or the norms are too few.
    """
    finite = [norm for norm in norms if math.isfinite(norm)]
    if ratio is None or len(finite) < ENOUGH:
        return math.inf
    return ratio * median(finite)


def is_fit(norm: float, loss: float, limit: float = math.inf) -> bool:
    """Whether an update of this norm and loss can be averaged."""
    return math.isfinite(norm) and math.isfinite(loss) and norm <= limit
