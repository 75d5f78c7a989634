"""Which updates point the wrong way."""

from __future__ import annotations

import numpy as np
import torch

from fedmem.core.updates.direction import (
    SIGNED,
    VOTERS,
    DirectionFilter,
    direction,
    reversed_among,
)
from fedmem.core.updates.filter import Reply
from fedmem.core.updates.update import Update, UserUpdates

CHANGE = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-1.5, -2.0]])


def test_a_change_points_to_its_long_rows() -> None:
    # A target's row gains h = (3, 4); four others lose a quarter of it each.
    h = torch.tensor([3.0, 4.0])
    change = torch.stack([torch.zeros(2), h, *[-h / 4] * 4])
    torch.testing.assert_close(direction(change), 5 * h - 4 * (5 / 4) * h / 4)
    torch.testing.assert_close(direction(-change), -direction(change))


def test_the_reversed_are_those_beyond_a_right_angle_to_the_median() -> None:
    honest = [torch.tensor([1.0, slant]) for slant in torch.linspace(-0.9, 0.9, VOTERS - 1)]
    assert reversed_among([*honest, torch.tensor([-1e-3, 0.0])]) == [False] * 9 + [True]
    assert not any(reversed_among([*honest, torch.tensor([1e3, 0.0])]))
    assert not any(reversed_among([*honest[1:], torch.tensor([-1.0, 0.0])])), "too few"


def test_a_user_whose_change_is_reversed_is_an_outlier() -> None:
    signs = torch.tensor([1.0] * 9 + [-1.0])
    changes = signs[:, None, None] * CHANGE
    updates = UserUpdates(np.arange(20, 30), {SIGNED: changes}, np.ones(10, int), np.ones(10))
    one = DirectionFilter()
    assert one.at_user(updates) is updates
    assert one.outliers() == {29}


def test_where_the_item_embeddings_do_not_train_nothing_can_be_said() -> None:
    one = DirectionFilter()
    one.at_user(UserUpdates(np.arange(10), {"w": torch.ones(10, 2)}, np.ones(10, int), np.ones(10)))
    assert one.outliers() == set()


def test_a_reply_that_points_the_wrong_way_is_refused() -> None:
    replies = [
        Reply(node, Update({SIGNED: sign * CHANGE}, 20, 5.0, 4))
        for node, sign in enumerate([1.0] * 9 + [-1.0])
    ]
    kept, refused = DirectionFilter().at_server(replies)
    assert [reply.node for reply in kept] == list(range(9))
    assert [str(each) for each in refused] == [
        "node 9: its change points the wrong way (strategy.guard_direction)"
    ]
