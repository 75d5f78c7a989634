"""From the nodes' changes to one, by Flower's own strategies: the mean, or what lies resist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from flwr.app import Message
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum

from fedmem.core.errors import FedmemError
from fedmem.core.settings import StrategySettings
from strategies.server_optimizer import Arrays

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


def aggregate(
    settings: StrategySettings, server_round: int, replies: Sequence[Message]
) -> tuple[Arrays, float]:
    """(change, mean loss a target) of a round; Krum's loss is that of the node that it chose.

    Args:
        settings: which aggregation.
        server_round: from 1.
        replies: of `TrainResult`s that were found fit, in a fixed order; some aggregations take the
            arrays out of them.

    Raises:
        FedmemError: they are too few.
    """
    nodes = len(replies)
    require_enough(settings, nodes)
    bad = max(1, int(settings.bad_share * nodes))
    strategy: FedAvg
    if settings.aggregation == "median":
        strategy = FedMedian()
    elif settings.aggregation == "trimmed_mean":
        strategy = FedTrimmedAvg(beta=(bad + 0.25) / nodes)  # which Flower rounds down
    elif settings.aggregation == "krum":
        strategy = Krum(num_malicious_nodes=min(bad, (nodes - 3) // 2))
    else:
        strategy = FedAvg()
    arrays, metrics = strategy.aggregate_train(server_round, replies)
    assert arrays is not None
    assert metrics is not None
    return {n: array.numpy() for n, array in arrays.items()}, cast(float, metrics["loss"])
