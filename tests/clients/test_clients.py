"""One user's client, and the cohort that must give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.clients import CohortClient, UserClient
from fedmem.core.evaluation.protocol import metrics_of
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize(("steps", "execution"), [(1, "auto"), (2, "auto"), (2, "stacked")])
def test_a_cohort_is_the_weighted_mean_of_its_users(
    stage: Stage, steps: int, execution: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"client.local_steps={steps}", f"client.execution={execution}")
    node = ready_node(settings, stage)
    users = np.array([0, 3, 4, 11, 17])
    cohort = CohortClient(node, stage, users)
    parameters = cohort.get_parameters({})
    change, weight, metrics = cohort.fit(parameters, {"round": 5})
    alone = [UserClient(node, stage, users[i : i + 1]) for i in range(len(users))]
    replies = [client.fit(parameters, {"round": 5}) for client in alone]
    assert weight == sum(n for _, n, _ in replies)
    assert metrics["users"] == len(users)
    assert metrics["loss"] == pytest.approx(sum(n * m["loss"] for _, n, m in replies) / weight)
    for place, name in enumerate(cohort.scope):
        mean = sum(n * c[place] for c, n, _ in replies) / weight
        np.testing.assert_allclose(change[place], mean, rtol=0, atol=1e-5, err_msg=name)
        assert change[place].any(), name


def test_one_step_of_a_user_is_one_sgd_step_on_its_mean_loss(make_settings: MakeSettings) -> None:
    stage = STAGES["pretrain_sasrec"]
    rates = (1.0, 0.25)
    changes = []
    for rate in rates:
        node = ready_node(make_settings(f"client.learning_rate={rate}"), stage)
        client = UserClient(node, stage, np.array([2]))
        changes.append(client.fit(client.get_parameters({}), {"round": 1})[0])
    for large, small in zip(*changes, strict=True):
        np.testing.assert_allclose(large * rates[1], small, atol=1e-7)


def test_training_leaves_the_model_as_it_was_given(settings: Settings) -> None:
    stage = STAGES["finetune_moe"]
    node = ready_node(settings, stage)
    before = {n: v.clone() for n, v in node.model(stage).state_dict().items()}
    client = UserClient(node, stage, np.array([1]))
    client.fit(client.get_parameters({}), {"round": 1})
    assert all(torch.equal(before[n], v) for n, v in node.model(stage).state_dict().items())


def test_a_round_has_randomness_of_its_own(make_settings: MakeSettings) -> None:
    stage = STAGES["pretrain_sasrec"]
    settings = make_settings("simulation.device=cpu")  # a GPU adds up in any order
    node = ready_node(settings, stage)
    client = CohortClient(node, stage)
    parameters = client.get_parameters({})
    first, again, second = (client.fit(parameters, {"round": r})[0] for r in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], second[0])  # other dropout


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_evaluation_of_a_cohort_sums_its_users(stage: Stage, settings: Settings) -> None:
    node = ready_node(settings, stage)
    config = {"split": "validation", "rankings": "sampled,full"}
    cohort = CohortClient(node, stage)
    parameters = cohort.get_parameters({})
    loss, users, sums = cohort.evaluate(parameters, dict(config))
    assert users == 24
    assert loss == pytest.approx(1 - sums["sampled/HR@10"] / 24)
    alone = [UserClient(node, stage, node.users[i : i + 1]) for i in range(24)]
    replies = [client.evaluate(parameters, dict(config))[2] for client in alone]
    for name, total in sums.items():
        assert total == pytest.approx(sum(reply[name] for reply in replies)), name
    assert set(sums) == {"users"} | {
        f"{ranking}/{name}" for ranking in ("sampled", "full") for name in metrics_of(np.zeros(1))
    }
