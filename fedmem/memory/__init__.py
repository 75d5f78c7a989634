"""The local two-tier memory: its rules, the novelty behind them, and many users' at one node."""

from fedmem.memory.bank import MemoryBank
from fedmem.memory.novelty import Novelties, auto_threshold, item_vectors, novelty_histogram
from fedmem.memory.two_tier import MemoryState, MemoryStatistics, TwoTierMemory

__all__ = [
    "MemoryBank",
    "MemoryState",
    "MemoryStatistics",
    "Novelties",
    "TwoTierMemory",
    "auto_threshold",
    "item_vectors",
    "novelty_histogram",
]
