"""Which aggregation takes the place of the mean, and how many nodes it needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.updates.update import Update
from fedmem.messaging.messages import from_array_record, update_to_record
from fedmem.strategies.aggregation import mean_of, require_enough, robust_strategy

MakeSettings = Callable[..., Settings]
SIZES = {"table": (50, 7), "bias": (7,), "weight": ()}


@pytest.mark.parametrize(
    ("aggregation", "fewest"), [("mean", 1), ("median", 3), ("trimmed_mean", 3), ("krum", 5)]
)
def test_too_few_nodes_are_refused_in_one_line(
    aggregation: str, fewest: int, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy.aggregation={aggregation}").strategy
    require_enough(settings, fewest)
    assert (robust_strategy(settings, fewest) is None) is (aggregation == "mean")
    if fewest > 1:
        with pytest.raises(FedmemError, match=f"{aggregation} needs {fewest} nodes") as caught:
            robust_strategy(settings, fewest - 1)
        assert "\n" not in str(caught.value)


def test_the_mean_is_flowers_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    updates = [
        Update(
            {name: torch.randn(size, generator=generator) for name, size in SIZES.items()},
            weight,
            loss=7.0 / weight,
            users=2,
        )
        for weight in (9, 31, 2)
    ]
    before = [{name: value.clone() for name, value in each.change.items()} for each in updates]
    change, loss = mean_of(updates)
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    messages = [Message(update_to_record(u), dst_node_id=1, message_type="train") for u in updates]
    arrays, metrics = FedAvg(weighted_by_key="num-examples").aggregate_train(1, messages)
    assert arrays is not None
    assert metrics is not None
    assert loss == metrics["loss"]
    for name, expected in from_array_record(arrays).items():
        assert torch.equal(change[name], expected)
        assert all(
            torch.equal(u.change[name], b[name]) for u, b in zip(updates, before, strict=True)
        )
