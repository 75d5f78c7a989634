"""Ragged arrays: many stretches of different length, one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def ranges(
    starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """start, start + 1, … [Σ lengths] of each stretch, one stretch after the other."""
    begins = np.cumsum(lengths) - lengths  # of each stretch, in the result
    found: npt.NDArray[np.int64] = np.repeat(starts - begins, lengths) + np.arange(lengths.sum())
    return found
