"""The average of a round: Flower's mean or, where nodes may lie, its robust strategies."""

from __future__ import annotations

from collections.abc import Sequence

from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum

from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import StrategySettings
from fedmem.core.updates.update import Update

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


def mean_of(updates: Sequence[Update]) -> tuple[Parameters, float]:
    """(change, loss) of updates on average, weighted by targets.

    What Flower's `FedAvg.aggregate_train` does, in the same order and so to the same bits, but for
    the bytes that it makes of every array and takes apart again.
    """
    total = sum(update.weight for update in updates)
    change: Parameters = {}
    loss = 0.0
    for update in updates:
        share = update.weight / total
        for name, value in update.change.items():
            part = value * share
            change[name] = change[name].add_(part) if name in change else part
        loss += update.loss * share
    return change, loss
