"""Which updates are too long, or not finite, at a node and at the server."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fedmem.core.updates.filter import Reply
from fedmem.core.updates.norm import REMEMBERED, NormFilter
from fedmem.core.updates.update import Update, UserUpdates


def users(*norms: float, losses: dict[int, float] | None = None) -> UserUpdates:
    """Users 0, 1, … with changes of these norms."""
    values = np.ones(len(norms))
    for user, loss in (losses or {}).items():
        values[user] = loss
    change = {"w": torch.tensor([[norm, 0.0] for norm in norms])}
    return UserUpdates(np.arange(len(norms)), change, np.ones(len(norms), dtype=int), values)


def replies(*norms: float, users: int = 4, weight: int = 20) -> list[Reply]:
    return [
        Reply(node, Update({"w": torch.tensor([norm])}, weight, 5.0, users))
        for node, norm in enumerate(norms)
    ]


def refusals(one: NormFilter, of: list[Reply]) -> list[str]:
    kept, refused = one.at_server(of)
    assert len(kept) + len(refused) == len(of)
    return [str(each) for each in refused]


@pytest.mark.parametrize(
    ("norms", "outliers"),
    [
        ((1.0, 2.0, 3.0, 20.1), {3}),  # the median is 2.5: at most 20
        ((1.0, 2.0, 3.0, 19.9), set()),
        ((1.0, 1e6), set()),  # nobody can say which is the odd one
    ],
)
def test_a_user_is_an_outlier_beyond_so_many_medians(
    norms: tuple[float, ...], outliers: set[int]
) -> None:
    one = NormFilter(8.0)
    assert one.at_user(users(*norms)).users.tolist() == list(range(len(norms)))
    assert one.outliers() == outliers


def test_what_is_not_finite_is_dropped_at_once_and_does_not_count() -> None:
    one = NormFilter(10.0)
    kept = one.at_user(users(1.0, math.nan, 1.0, math.inf, 1.0, 1.0, losses={4: math.nan}))
    assert kept.users.tolist() == [0, 2, 5]
    assert one.outliers() == set()
    one.at_user(users(11.0))
    assert one.outliers() == {0}


def test_a_mean_is_trusted_within_the_limit_of_the_server() -> None:
    (reply,) = replies(5.0)
    assert NormFilter(10.0).trusts(reply.update)
    assert NormFilter(10.0, limit=5.0).trusts(reply.update)
    assert not NormFilter(10.0, limit=4.9).trusts(reply.update)
    for value in (math.nan, math.inf):
        (bad,) = replies(value)
        assert not NormFilter(10.0).trusts(bad.update)


def test_out_of_proportion_is_by_the_median_of_the_round() -> None:
    (refused,) = refusals(NormFilter(10.0), replies(1.0, -1.2, 1e6))
    assert refused.startswith("node 2: its change is out of proportion")
    assert "(strategy.guard_ratio=10.0)" in refused
    assert refusals(NormFilter(10.0), replies(1.0, -1.2, 9.0)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reply_that_is_not_finite_is_refused(value: float) -> None:
    (refused,) = refusals(NormFilter(10.0), replies(1.0, value))
    assert refused == "node 1: its change or its loss is not finite"


def test_two_replies_are_measured_by_the_rounds_before() -> None:
    one = NormFilter(10.0)
    assert refusals(one, replies(1.0, 1e6)) == []  # nobody knows which is the odd one
    for _ in range(3):
        assert refusals(one, replies(1.0, 1.1)) == []
    (refused,) = refusals(one, replies(1.0, 1e6))
    assert refused.startswith("node 1")
    # what is usual is what was averaged, in the latest rounds
    for _ in range(REMEMBERED):
        refusals(one, replies(1.0, 1.0))
    assert one.state == [[1.0, 4.0]] * REMEMBERED


def test_what_is_usual_can_be_handed_on() -> None:
    later = NormFilter(10.0, usual=[[1.0, 4.0]] * 3)
    assert later.hint(4) == 10.0
    assert later.hint(1) == 20.0  # the mean of a quarter of the users scatters twice as far
    assert later.hint(400) == 10.0
    (refused,) = refusals(later, replies(11.0))
    assert refused.startswith("node 0")
    assert refusals(later, replies(11.0, users=1, weight=5)) == []


def test_a_node_that_left_out_all_of_its_users_is_no_fault() -> None:
    assert refusals(NormFilter(10.0), [*replies(1.0), *replies(0.0, users=0, weight=0)]) == []
