"""Aggregations against values computed by hand, and how many nodes they need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Message

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.messaging.messages import TrainResult
from strategies.aggregation import aggregate, require_enough
from tests.strategies.test_reply_checks import reply

MakeSettings = Callable[..., Settings]


def replies(*values: float, weights: tuple[int, ...] = ()) -> list[Message]:
    made = []
    for node, value in enumerate(values):
        change = {"w": np.array([value, 2 * value], np.float32), "b": np.array(value, np.float32)}
        weight = weights[node] if weights else 1
        made.append(reply(node, TrainResult(change, weight, loss=float(node), users=1).to_record()))
    return made


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        ("mean", (1.0, 2.0, 6.0), 3.0),
        ("median", (1.0, 2.0, 6.0), 2.0),
        ("median", (1.0, 2.0, 4.0, 1e6), 3.0),
        ("trimmed_mean", (1.0, 2.0, 1e6), 2.0),  # one at either end, be they fewer than five
        ("trimmed_mean", (-1e6, 1.0, 2.0, 6.0, 1e6), 3.0),
        ("trimmed_mean", (*range(8), -1e6, 1e6), 3.5),  # two of ten at either end
        ("krum", (1.0, 1.1, 1.3, 5.0, 1e3), 1.1),  # the closest two of others are closest to it
    ],
)
def test_the_change_is_what_a_hand_computes(
    aggregation: str, values: tuple[float, ...], expected: float, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy.aggregation={aggregation}").strategy
    change, _ = aggregate(settings, 1, replies(*values))
    np.testing.assert_allclose(change["w"], [expected, 2 * expected], rtol=1e-6)
    np.testing.assert_allclose(change["b"], expected, rtol=1e-6)
    assert change["b"].shape == ()
    assert {x.dtype for x in change.values()} == {np.dtype(np.float32)}


def test_the_mean_weighs_by_targets_and_the_others_do_not(make_settings: MakeSettings) -> None:
    weighted = replies(1.0, 2.0, 6.0, weights=(1, 1, 6))
    for aggregation, expected in (("mean", 39 / 8), ("median", 2.0)):
        settings = make_settings(f"strategy.aggregation={aggregation}").strategy
        change, loss = aggregate(settings, 1, weighted)
        np.testing.assert_allclose(change["b"], expected, rtol=1e-6)
        assert loss == pytest.approx((0 + 1 + 6 * 2) / 8)


@pytest.mark.parametrize(
    ("aggregation", "fewest"), [("mean", 1), ("median", 3), ("trimmed_mean", 3), ("krum", 5)]
)
def test_too_few_nodes_are_refused_in_one_line(
    aggregation: str, fewest: int, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy.aggregation={aggregation}").strategy
    require_enough(settings, fewest)
    aggregate(settings, 1, replies(*range(fewest)))
    if fewest > 1:
        with pytest.raises(FedmemError, match=f"{aggregation} needs {fewest} nodes") as caught:
            require_enough(settings, fewest - 1)
        assert "\n" not in str(caught.value)
