"""Which replies are refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.messaging.messages import TrainResult
from strategies.reply_checks import REMEMBERED, ReplyChecks
from tests.in_process_grid import InProcessGrid

MakeSettings = Callable[..., Settings]
SCOPE = ArrayRecord(
    {
        "sasrec.w": Array(np.zeros((2, 2), np.float32)),
        "sasrec.b": Array(np.array(0.0, np.float32)),
    }
)
ASKED = dict.fromkeys(range(10), 4)
FIT = TrainResult(
    {"sasrec.w": np.full((2, 2), 0.5, np.float32), "sasrec.b": np.array(0.0, np.float32)},
    weight=20,
    loss=5.0,
    users=4,
)


def reply(node: int, content: RecordDict) -> Message:
    InProcessGrid(1)  # without a grid there are no messages
    task = Message(content=RecordDict(), dst_node_id=node, message_type="train")
    task.metadata.__dict__["_message_id"] = f"task of {node}"
    return Message(content, reply_to=task)


def changed(**values: Any) -> TrainResult:
    return replace(FIT, change={**FIT.change, **values})


def scaled(factor: float, weight: int = 20, users: int = 4) -> TrainResult:
    change = {name: np.asarray(x * factor, np.float32) for name, x in FIT.change.items()}
    return replace(FIT, change=change, weight=weight, users=users)


def refusals(checks: ReplyChecks, *results: TrainResult) -> list[str]:
    messages = [reply(node, result.to_record()) for node, result in enumerate(results)]
    fit, refused = checks.sort_out(messages, ASKED, SCOPE)
    assert len(fit) + len(refused) == len(results)
    return refused


@pytest.fixture
def checks(settings: Settings) -> ReplyChecks:
    return ReplyChecks(settings, STAGES["pretrain_sasrec"])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (changed(**{"router.w": np.zeros(1, np.float32)}), "outside the scope of pretrain_sasrec"),
        (replace(FIT, change={"sasrec.b": FIT.change["sasrec.b"]}), "lacks parameters"),
        (changed(**{"sasrec.w": np.zeros(4, np.float32)}), "sasrec.w has shape (4,), not (2, 2)"),
        (changed(**{"sasrec.w": np.zeros((2, 2))}), "sasrec.w is of type float64, not float32"),
        (replace(FIT, users=5), "tells of 5 users, and was asked for 4"),
        (replace(FIT, users=3, left_out=2), "tells of 3 users, and was asked for 4"),
        (replace(FIT, users=-1), "tells of -1 users"),
        (replace(FIT, weight=-1), "users"),
        (replace(FIT, weight=65), "claims 65 targets; 4 users have at most 64"),  # 4 · 2 · 8
        (replace(FIT, loss=float("nan")), "not finite"),
        (scaled(float("nan")), "not finite"),
        (scaled(float("inf")), "not finite"),
    ],
)
def test_a_reply_that_cannot_be_averaged_is_refused_with_node_and_reason(
    result: TrainResult, words: str, checks: ReplyChecks
) -> None:
    (refused,) = refusals(checks, FIT, result)
    assert refused.startswith("node 1: ")
    assert words in refused


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"change": ArrayRecord()}),
        RecordDict({"change": SCOPE, "metrics": MetricRecord({"loss": 1.0})}),
    ],
)
def test_a_reply_of_another_kind_is_refused(content: RecordDict, checks: ReplyChecks) -> None:
    fit, (refused,) = checks.sort_out([reply(3, content)], ASKED, SCOPE)
    assert fit == []
    assert refused.startswith("node 3: is no result of training")


def test_users_that_a_node_left_out_are_no_fault(checks: ReplyChecks) -> None:
    nobody = replace(scaled(0.0), users=0, left_out=4, weight=0, loss=0.0)
    assert refusals(checks, replace(FIT, users=3, left_out=1), nobody) == []


def test_out_of_proportion_is_by_the_median_of_the_round(checks: ReplyChecks) -> None:
    (refused,) = refusals(checks, scaled(1.0), scaled(-1.2), scaled(1e6))
    assert refused.startswith("node 2: its change is out of proportion")
    assert refusals(checks, scaled(1.0), scaled(-1.2), scaled(9.0)) == []


def test_two_replies_are_measured_by_the_rounds_before(checks: ReplyChecks) -> None:
    assert refusals(checks, scaled(1.0), scaled(1e6)) == []  # nobody knows which is the odd one
    for _ in range(3):
        assert refusals(checks, scaled(1.0), scaled(1.1)) == []
    (refused,) = refusals(checks, scaled(1.0), scaled(1e6))
    assert refused.startswith("node 1")
    # what is usual is what was averaged, in the latest rounds
    for _ in range(REMEMBERED):
        refusals(checks, scaled(1.0), scaled(1.0))
    assert checks.usual == [[1.0, 4.0]] * REMEMBERED


def test_what_is_usual_can_be_handed_on(settings: Settings) -> None:
    later = ReplyChecks(settings, STAGES["pretrain_sasrec"], [[1.0, 4.0]] * 3)
    assert later.limit_of(4) == 10.0
    assert later.limit_of(1) == 20.0  # the mean of a quarter of the users scatters twice as far
    assert later.limit_of(400) == 10.0
    (refused,) = refusals(later, scaled(11.0))
    assert refused.startswith("node 0")
    assert refusals(later, scaled(11.0, weight=5, users=1)) == []


def test_without_the_guard_values_are_taken_as_they_come(make_settings: MakeSettings) -> None:
    unguarded = ReplyChecks(make_settings("strategy.guard_ratio=null"), STAGES["pretrain_sasrec"])
    assert refusals(unguarded, FIT, FIT, scaled(1e6), scaled(float("nan"))) == []
    assert len(refusals(unguarded, FIT, replace(FIT, weight=65))) == 1


def test_the_order_does_not_depend_on_who_answers_first(checks: ReplyChecks) -> None:
    results = [scaled(1.0, weight=w) for w in (9, 3, 7)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        messages = [reply(node, results[node].to_record()) for node in order]
        fit, _ = checks.sort_out(messages, ASKED, SCOPE)
        assert [each.node for each in fit] == [1, 2, 0]


def test_a_change_that_points_the_wrong_way_is_refused(make_settings: MakeSettings) -> None:
    name = "sasrec.item_emb.weight"
    scope = ArrayRecord({name: Array(np.zeros((3, 2), np.float32))})
    change = np.array([[0, 0], [3, 4], [-3, -4]], np.float32) * [[0], [1], [0.5]]
    results = [
        replace(FIT, change={name: (sign * change).astype(np.float32)})
        for sign in [1.0] * 9 + [-1.0]
    ]
    messages = [reply(node, result.to_record()) for node, result in enumerate(results)]
    for asked_for, expected in ((True, ["node 9: its change points the wrong way"]), (False, [])):
        settings = make_settings(f"strategy.guard_direction={asked_for}")
        checks = ReplyChecks(settings, STAGES["pretrain_sasrec"])
        fit, refused = checks.sort_out(messages, ASKED, scope)
        assert len(fit) == 10 - len(expected)
        assert [line.split(" (")[0] for line in refused] == expected
