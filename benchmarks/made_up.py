"""Interactions that nobody has made, for sizes of which no public data are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fedmem.core.errors import FedmemError

FEWEST = 5
"""Interactions of a user, as `data.min_interactions` asks."""
FLATTEN = 50
"""Added to an item's rank, so that the first few items do not stand above all others."""
FILE = "interactions.parquet"


def make_up(folder: Path, users: int, items: int, interactions: int, seed: int = 0) -> None:
    """Write a log in order of time, a row an interaction.

    Everybody has `FEWEST` interactions, and the others are spread over the users by shares that are
    exponentially distributed; each item is met once at least, and otherwise in proportion to
    1 / (`FLATTEN` + its rank), a power law (B. Mandelbrot, "An Informational Theory of the
    Statistical Structure of Language", 1953).

    Raises:
        FedmemError: that is too few interactions for the users, or for the items.
    """
    if interactions < max(FEWEST * users, items):
        raise FedmemError(f"{interactions:,} interactions are too few for the users or items.")
    generator = np.random.default_rng(seed)
    shares = generator.standard_exponential(users)
    further = generator.choice(users, interactions - FEWEST * users, p=shares / shares.sum())
    who = np.concatenate([np.repeat(np.arange(users), FEWEST), further]).astype(np.int32)
    generator.shuffle(who)
    reached = np.cumsum(1.0 / (FLATTEN + np.arange(items)))
    chosen = np.searchsorted(reached / reached[-1], generator.random(interactions)).astype(np.int32)
    chosen[generator.choice(interactions, items, replace=False)] = np.arange(items)
    names = generator.permutation(items).astype(np.int32)  # an item's number says nothing
    columns = {"user": who, "item": names[chosen], "timestamp": np.arange(interactions)}
    parquet.write_table(pa.table(columns), folder / FILE)
