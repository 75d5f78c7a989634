"""Who takes part: by a public order in exactly one of k rounds, or by a secret draw."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.privacy.participation import every_kth, poisson
from fedmem.core.privacy.secret import SecretStreams

USERS = np.arange(3, 203)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_every_user_has_one_turn_in_k_rounds(count: int) -> None:
    turns = [every_kth(USERS, count, 0, number) for number in range(5, 5 + count)]
    np.testing.assert_array_equal(np.sort(np.concatenate(turns)), USERS)
    sizes = [len(turn) for turn in turns]
    assert max(sizes) - min(sizes) <= 2  # of groups that are not whole


def test_a_users_turn_does_not_depend_on_the_others() -> None:
    fewer = USERS[::2]
    turn = every_kth(USERS, 4, 0, 2)
    np.testing.assert_array_equal(every_kth(fewer, 4, 0, 2), np.intersect1d(fewer, turn))
    assert not np.array_equal(turn, every_kth(USERS, 4, 1, 2))  # another seed


def test_a_secret_draw_takes_each_user_at_the_rate_whatever_the_seed_is() -> None:
    streams = SecretStreams("02" * 32)
    taken = np.concatenate([poisson(USERS, 0.3, streams, "s", n) for n in range(200)])
    share = np.bincount(taken, minlength=203)[3:] / 200
    assert share.mean() == pytest.approx(0.3, abs=0.01)
    assert share.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 200), rel=0.2)
    sizes = {len(poisson(USERS, 0.3, streams, "s", n)) for n in range(20)}
    assert len(sizes) > 5  # no fixed size
    assert not np.array_equal(
        poisson(USERS, 0.3, streams, "s", 1),
        poisson(USERS, 0.3, SecretStreams("03" * 32), "s", 1),
    )
