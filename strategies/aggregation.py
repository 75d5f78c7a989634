"""What takes the place of the mean where nodes may lie: Flower's own robust strategies."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum

from fedmem.core.errors import FedmemError
from fedmem.core.settings import StrategySettings

FEWEST = {"mean": 1, "median": 3, "trimmed_mean": 3, "krum": 5}
"""Nodes that an aggregation needs, to bear one of them that is bad."""


def require_enough(settings: StrategySettings, nodes: int) -> None:
    """Check that there are enough nodes for the aggregation.

    Raises:
        FedmemError: there are not.
    """
    fewest = FEWEST[settings.aggregation]
    if nodes < fewest:
        raise FedmemError(
            f"strategy.aggregation={settings.aggregation} needs {fewest} nodes and there are "
            f"{nodes}: set federation.nodes={fewest} or more, or strategy.aggregation=mean."
        )


def robust_strategy(settings: StrategySettings, nodes: int) -> FedAvg | None:
    """Flower's strategy that aggregates the changes of so many nodes; None: their mean does.

    Raises:
        FedmemError: they are too few.
    """
    require_enough(settings, nodes)
    bad = max(1, int(settings.bad_share * nodes))
    if settings.aggregation == "median":
        return FedMedian()
    if settings.aggregation == "trimmed_mean":
        return FedTrimmedAvg(beta=(bad + 0.25) / nodes)  # which Flower rounds down
    if settings.aggregation == "krum":
        return Krum(num_malicious_nodes=min(bad, (nodes - 3) // 2))
    return None
