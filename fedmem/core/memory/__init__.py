"""The local two-tier memory: its rules, the novelty behind them, and many users' at one node."""

from fedmem.core.memory.bank import MemoryBank
from fedmem.core.memory.novelty import (
    Novelties,
    auto_threshold,
    item_vectors,
    novelty_histogram,
    written_share,
)
from fedmem.core.memory.two_tier import MemoryState, MemoryStatistics, TwoTierMemory

__all__ = [
    "MemoryBank",
    "MemoryState",
    "MemoryStatistics",
    "Novelties",
    "TwoTierMemory",
    "auto_threshold",
    "item_vectors",
    "novelty_histogram",
    "written_share",
]
