"""Aggregation against averages computed by hand, and who is asked to train."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from fedmem.core.data.sampling import sample_round
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.messaging.messages import Task, TrainResult
from fedmem.messaging.roster import Roster
from strategies import StageFedAvg
from tests.in_process_grid import InProcessGrid

MakeSettings = Callable[..., Settings]
HOMES = {7: np.arange(0, 12), 8: np.arange(12, 20), 9: np.arange(20, 24)}
START = ArrayRecord({"sasrec.w": Array(np.array([1.0, 2.0], np.float32))})


def make_strategy(settings: Settings, present: Iterable[int] = HOMES) -> StageFedAvg:
    grid = InProcessGrid(1)
    grid.get_node_ids = lambda: list(present)  # type: ignore[method-assign]
    roster = Roster(settings, grid, content=False, simulated=True, stop=threading.Event())
    roster.homes = dict(HOMES)
    stage = STAGES["pretrain_sasrec"]
    return StageFedAvg(settings, stage, roster, ArrayRecord(), "none", None, lambda *_: None)


def reply(task: Message, change: dict[str, list[float]], weight: int) -> Message:
    arrays = {name: np.array(value, np.float32) for name, value in change.items()}
    users = Task.from_record(task.content).users
    assert users is not None
    result = TrainResult(arrays, weight, loss=float(weight), users=len(users))
    return Message(result.to_record(), reply_to=task)


def configured(strategy: StageFedAvg, server_round: int = 1) -> list[Message]:
    grid = InProcessGrid(1)
    tasks = list(strategy.configure_train(server_round, START, ConfigRecord(), grid))
    for place, task in enumerate(tasks):
        task.metadata.__dict__["_message_id"] = str(place)
    return tasks


def test_changes_are_averaged_by_targets(make_settings: MakeSettings) -> None:
    strategy = make_strategy(make_settings("strategy=fedavg"))
    one, two, three = configured(strategy)
    replies = [
        reply(one, {"sasrec.w": [1.0, 0.0]}, 2),
        reply(two, {"sasrec.w": [0.0, 4.0]}, 6),
        reply(three, {"sasrec.w": [-2.0, 1.0]}, 12),
    ]
    arrays, metrics = strategy.aggregate_train(1, replies)
    assert arrays is not None
    assert metrics is not None
    # change: (2·1 − 12·2) / 20 = −1.1 and (6·4 + 12·1) / 20 = 1.8
    np.testing.assert_allclose(arrays["sasrec.w"].numpy(), [-0.1, 3.8], atol=1e-6)
    assert metrics["num-examples"] == strategy.taken["targets"] == 20
    assert strategy.taken["users"] == 12
    assert metrics["loss"] == (2 * 2 + 6 * 6 + 12 * 12) / 20


def test_a_faulty_reply_is_left_out_of_the_average(make_settings: MakeSettings) -> None:
    for faulty in (
        {"sasrec.w": [9.0, 9.0], "router.bias": [9.0]},
        {"sasrec.v": [9.0, 9.0]},
        {"sasrec.w": [9.0, 9.0, 9.0]},
    ):
        strategy = make_strategy(make_settings("strategy=fedavg"))
        one, two, _ = configured(strategy)
        replies = [reply(one, {"sasrec.w": [1.0, 0.0]}, 10), reply(two, faulty, 1000)]
        arrays, _ = strategy.aggregate_train(1, replies)
        assert arrays is not None
        np.testing.assert_allclose(arrays["sasrec.w"].numpy(), [2.0, 2.0])


def test_the_sampled_users_are_asked_where_they_live(make_settings: MakeSettings) -> None:
    settings = make_settings()
    asked: dict[int, list[int]] = {}
    for task in configured(make_strategy(settings), server_round=3):
        users = Task.from_record(task.content).users
        assert users is not None
        asked[task.metadata.dst_node_id] = users.tolist()
    everyone = np.arange(24)
    expected = sample_round(everyone, 0.5, settings.seed, "pretrain_sasrec", 3)
    assert sorted(user for users in asked.values() for user in users) == expected.tolist()
    assert all(set(users) <= set(HOMES[node].tolist()) for node, users in asked.items())


def test_the_frozen_rest_goes_out_on_first_contact_only(make_settings: MakeSettings) -> None:
    strategy = make_strategy(make_settings("federation.fraction=1.0"))
    first, second = configured(strategy), configured(strategy, 2)
    assert all(Task.from_record(m.content).frozen is not None for m in first)
    assert all(Task.from_record(m.content).frozen is None for m in second)
