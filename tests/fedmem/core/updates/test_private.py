"""What one user can change, by hand, and that all ways of training agree on it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.privacy.noise import GaussianMechanism, NoiseSeries
from fedmem.core.privacy.secret import SecretStreams
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.filter import Reply
from fedmem.core.updates.filters import filter_average, make_filters
from fedmem.core.updates.private import PrivateUpdates
from fedmem.core.updates.update import Update, UserUpdates
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
STAGE = STAGES["pretrain_sasrec"]
CHANGES = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [math.nan, 1.0]])
PRIVATE = "privacy=central"


def bounded(settings: Settings) -> UserUpdates:
    updates = UserUpdates(np.arange(4), {"w": CHANGES}, np.array([7, 2, 5, 9]), np.ones(4))
    return PrivateUpdates(settings.privacy).at_user(updates)


def test_normalised_updates_have_length_one_and_weight_one(make_settings: MakeSettings) -> None:
    found = bounded(make_settings(PRIVATE))
    expected = torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found.change["w"], expected)
    assert found.weights.tolist() == [1, 1, 1, 1]  # a user whose update is lost counts all the same
    assert found.losses.tolist() == [0, 0, 0, 0]


def test_clipped_updates_keep_their_length_up_to_the_clip(make_settings: MakeSettings) -> None:
    found = bounded(make_settings(PRIVATE, "privacy.bound=clip", "privacy.clip=2"))
    expected = torch.tensor([[0.6, 0.8], [0.15, 0.2], [0.0, 0.0], [0.0, 0.0]])  # in units of 2
    torch.testing.assert_close(found.change["w"], expected)


@pytest.mark.parametrize("execution", ["batched", "stacked", "loop"])
def test_a_cohorts_mean_is_that_of_its_users_unit_vectors(
    make_settings: MakeSettings, execution: str
) -> None:
    settings = make_settings(PRIVATE, f"client.execution={execution}", "client.micro_batch=null")
    trainer = ready_node(settings, STAGE).trainer(STAGE)
    users, key = np.arange(0, 24, 2), RoundKey(0, STAGE.name, 1)
    found = train_cohort(trainer, users, key, make_filters(settings))
    single = [trainer.train_user(int(user), key) for user in users]
    trained = [each for each in single if each.weight]
    for name, value in found.change.items():
        by_hand = sum(each.change[name] / each.norm for each in trained) / len(trained)
        torch.testing.assert_close(value, by_hand, rtol=0, atol=1e-6)
    assert (found.weight, found.users, found.loss) == (len(trained), len(users), 0.0)


def test_the_server_refuses_a_mean_that_bounded_updates_cannot_have(
    make_settings: MakeSettings,
) -> None:
    (one,) = make_filters(make_settings(PRIVATE))
    lengths = [1.0, 1.01, math.nan]
    replies = [
        Reply(node, Update({"w": torch.tensor([length])}, 3, 0.0, 3))
        for node, length in enumerate(lengths)
    ]
    kept, refused = one.at_server(replies)
    assert [each.node for each in kept] == [0]
    assert [each.node for each in refused] == [1, 2]
    assert "bounded updates have at most 1" in str(refused[0])


def test_noise_comes_after_the_average_and_only_where_there_is_a_mechanism(
    make_settings: MakeSettings,
) -> None:
    settings, mean = make_settings(PRIVATE), {"w": torch.tensor([0.5, -0.5])}
    at_node = make_filters(settings)
    assert filter_average(at_node, mean, 8, 1) is mean
    series = NoiseSeries(SecretStreams("0a" * 32), "s", 1, mean)
    at_server = make_filters(settings, mechanism=GaussianMechanism(2.0, 10.0, series))
    expected = 0.8 * mean["w"] + 0.2 * series.of_round(1)["w"].float()
    torch.testing.assert_close(filter_average(at_server, mean, 8, 1)["w"], expected)
