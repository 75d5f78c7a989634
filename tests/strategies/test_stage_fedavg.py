"""Aggregation against averages computed by hand, and who is asked to train."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Message

from fedmem.core.data.sampling import sample_round
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.updates.filter import Reply
from fedmem.core.updates.update import Update
from fedmem.messaging.messages import Task, update_to_record
from fedmem.messaging.roster import Roster
from fedmem.runs.records import RoundRecord
from fedmem.runs.schedule import Schedule
from fedmem.runs.stage_progress import StageProgress, StageRules
from fedmem.strategies import StageFedAvg
from tests.helpers.in_process_grid import InProcessGrid

MakeSettings = Callable[..., Settings]
HOMES = {7: np.arange(0, 12), 8: np.arange(12, 20), 9: np.arange(20, 24)}
START = {"sasrec.w": torch.tensor([1.0, 2.0])}
STAGE = STAGES["pretrain_sasrec"]
Answer = Callable[[Task], Update]


class Nodes(InProcessGrid):
    """Three nodes that answer a task with an update of the test's own."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        super().__init__(1)
        self.answers = answers
        self.tasks: list[tuple[int, Task]] = []

    def get_node_ids(self) -> Iterable[int]:
        return list(self.answers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for place, message in enumerate(messages):
            node, task = message.metadata.dst_node_id, Task.from_record(message.content)
            self.tasks.append((node, task))
            message.metadata.__dict__["_message_id"] = f"{task.round} {place}"
            record = update_to_record(self.answers[node](task))
            self._replies[message.metadata.message_id] = Message(record, reply_to=message)
            ids.append(message.metadata.message_id)
        return ids


def answer(change: dict[str, list[float]], weight: int) -> Answer:
    tensors = {name: torch.tensor(value) for name, value in change.items()}

    def make(task: Task) -> Update:
        assert task.users is not None
        return Update(tensors, weight, loss=float(weight), users=len(task.users))

    return make


FIT = answer({"sasrec.w": [1.0, 0.0]}, 10)


def in_round(settings: Settings, number: int) -> StageProgress:
    begun = StageRules(settings, STAGE).begin(START, threshold=None)
    return replace(begun, round=number, schedule=Schedule(10, 1.0, 0.0))


def strategy_of(settings: Settings, grid: Nodes) -> StageFedAvg:
    roster = Roster(settings, grid, content=False, simulated=True, stop=threading.Event())
    roster.homes = dict(HOMES)
    return StageFedAvg(settings, STAGE, roster, {}, in_round(settings, 0))


def train(settings: Settings, *answers: Answer) -> tuple[dict[str, torch.Tensor], RoundRecord]:
    grid = Nodes(dict(zip(HOMES, answers, strict=True)))
    progress, record = strategy_of(settings, grid).train(in_round(settings, 1))
    return progress.parameters, record


def test_changes_are_averaged_by_targets(make_settings: MakeSettings) -> None:
    parameters, record = train(
        make_settings("strategy=fedavg"),
        answer({"sasrec.w": [1.0, 0.0]}, 2),
        answer({"sasrec.w": [0.0, 4.0]}, 6),
        answer({"sasrec.w": [-2.0, 1.0]}, 12),
    )
    # change: (2·1 − 12·2) / 20 = −1.1 and (6·4 + 12·1) / 20 = 1.8
    torch.testing.assert_close(parameters["sasrec.w"], torch.tensor([-0.1, 3.8]))
    assert (record.targets, record.users) == (20, 12)
    assert record.loss == (2 * 2 + 6 * 6 + 12 * 12) / 20
    assert torch.equal(START["sasrec.w"], torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize(
    "faulty",
    [
        {"sasrec.w": [9.0, 9.0], "router.bias": [9.0]},
        {"sasrec.v": [9.0, 9.0]},
        {"sasrec.w": [9.0, 9.0, 9.0]},
        {"sasrec.w": [float("nan"), 9.0]},
    ],
)
def test_a_faulty_reply_is_left_out_of_the_average(
    faulty: dict[str, list[float]], make_settings: MakeSettings
) -> None:
    parameters, record = train(make_settings("strategy=fedavg"), FIT, answer(faulty, 30), FIT)
    assert parameters["sasrec.w"].tolist() == [2.0, 2.0]
    assert record.targets == 20
    (line,) = record.refused
    assert line.startswith("node 8: ")


def test_without_a_usable_reply_parameters_stay_and_there_is_no_loss(settings: Settings) -> None:
    bad = answer({"sasrec.v": [9.0]}, 30)
    parameters, record = train(settings, bad, bad, bad)
    assert parameters == START
    assert record.loss is None
    assert len(record.refused) == 3


def averaged(
    settings: Settings, *values: float, weights: Sequence[int] = ()
) -> tuple[dict[str, torch.Tensor], float]:
    grid = Nodes(dict.fromkeys(HOMES, FIT))
    strategy = strategy_of(settings, grid)
    replies = []
    for node, value in enumerate(values):
        change = {"w": torch.tensor([value, 2 * value]), "b": torch.tensor(value)}
        weight = weights[node] if weights else 1
        replies.append(Reply(node, Update(change, weight, loss=float(node), users=1)))
    return strategy._averaged(1, replies)


@pytest.mark.parametrize(
    ("aggregation", "values", "expected"),
    [
        ("mean", (1.0, 2.0, 6.0), 3.0),
        ("median", (1.0, 2.0, 6.0), 2.0),
        ("median", (1.0, 2.0, 4.0, 1e6), 3.0),
        ("trimmed_mean", (1.0, 2.0, 1e6), 2.0),  # one at either end, even of fewer than five
        ("trimmed_mean", (-1e6, 1.0, 2.0, 6.0, 1e6), 3.0),
        ("trimmed_mean", (*map(float, range(8)), -1e6, 1e6), 3.5),  # two of ten at either end
        ("krum", (1.0, 1.1, 1.3, 5.0, 1e3), 1.1),  # the closest two of others are closest to it
    ],
)
def test_the_change_is_what_a_hand_computes(
    aggregation: str,
    values: tuple[float, ...],
    expected: float,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(HOMES, 10, np.array([24]))
    monkeypatch.setitem(HOMES, 11, np.array([25]))
    change, _ = averaged(make_settings(f"strategy.aggregation={aggregation}"), *values)
    torch.testing.assert_close(change["w"], torch.tensor([expected, 2 * expected]))
    torch.testing.assert_close(change["b"], torch.tensor(expected))


def test_the_mean_weighs_by_targets_and_the_others_do_not(make_settings: MakeSettings) -> None:
    for aggregation, expected in (("mean", 39 / 8), ("median", 2.0)):
        settings = make_settings(f"strategy.aggregation={aggregation}")
        change, loss = averaged(settings, 1.0, 2.0, 6.0, weights=(1, 1, 6))
        torch.testing.assert_close(change["b"], torch.tensor(expected))
        assert loss == pytest.approx((0 + 1 + 6 * 2) / 8)


def test_the_sampled_users_are_asked_where_they_live(settings: Settings) -> None:
    grid = Nodes(dict.fromkeys(HOMES, FIT))
    strategy_of(settings, grid).train(in_round(settings, 3))
    asked: dict[int, list[int]] = {}
    for node, task in grid.tasks:
        assert task.users is not None
        asked[node] = task.users.tolist()
    expected = sample_round(np.arange(24), 0.5, settings.seed, STAGE.name, 3)
    assert sorted(user for users in asked.values() for user in users) == expected.tolist()
    assert all(set(users) <= set(HOMES[node].tolist()) for node, users in asked.items())


def test_the_frozen_rest_goes_out_on_first_contact_only(make_settings: MakeSettings) -> None:
    grid = Nodes(dict.fromkeys(HOMES, FIT))
    settings = make_settings("federation.fraction=1.0")
    strategy = strategy_of(settings, grid)
    for number in (1, 2):
        strategy.train(in_round(settings, number))
    assert [task.frozen is not None for _, task in grid.tasks] == [True] * 3 + [False] * 3


def test_flowers_own_loop_is_refused(settings: Settings) -> None:
    with pytest.raises(NotImplementedError, match="run_rounds"):
        strategy_of(settings, Nodes(dict.fromkeys(HOMES, FIT))).start()
