"""The local two-tier memory: its rules, the novelty behind them, and many users' at one node."""

from fedmem.core.memory.account import Account, account_of
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
    "Account",
    "MemoryBank",
    "MemoryState",
    "MemoryStatistics",
    "Novelties",
    "TwoTierMemory",
    "account_of",
    "auto_threshold",
    "item_vectors",
    "novelty_histogram",
    "written_share",
]
