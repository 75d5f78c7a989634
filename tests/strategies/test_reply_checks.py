"""Which replies are refused, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, MetricRecord, RecordDict

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.updates.update import Update
from fedmem.messaging.messages import to_array_record, update_to_record
from fedmem.strategies.reply_checks import ReplyChecks
from tests.helpers.replies import reply

MakeSettings = Callable[..., Settings]
SCOPE = {"sasrec.w": torch.zeros(2, 2), "sasrec.b": torch.tensor(0.0)}
ASKED = dict.fromkeys(range(10), 4)
FIT = Update(
    {"sasrec.w": torch.full((2, 2), 0.5), "sasrec.b": torch.tensor(0.0)},
    weight=20,
    loss=5.0,
    users=4,
)


def changed(**values: Any) -> Update:
    return replace(FIT, change={**FIT.change, **values})


def refusals(checks: ReplyChecks, *updates: Update) -> list[str]:
    messages = [reply(node, update_to_record(update)) for node, update in enumerate(updates)]
    fit, refused = checks.sort_out(messages, ASKED, SCOPE)
    assert len(fit) + len(refused) == len(updates)
    return [str(each) for each in refused]


@pytest.fixture
def checks(settings: Settings) -> ReplyChecks:
    return ReplyChecks(settings, STAGES["pretrain_sasrec"])


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (changed(**{"router.w": torch.zeros(1)}), "outside the scope of pretrain_sasrec"),
        (replace(FIT, change={"sasrec.b": FIT.change["sasrec.b"]}), "lacks parameters"),
        (changed(**{"sasrec.w": torch.zeros(4)}), "sasrec.w has shape (4,), not (2, 2)"),
        (
            changed(**{"sasrec.w": torch.zeros(2, 2, dtype=torch.float64)}),
            "sasrec.w is of type float64, not float32",
        ),
        (replace(FIT, users=5), "reports 5 users, and was asked for 4"),
        (replace(FIT, users=3, left_out=2), "reports 3 users, and was asked for 4"),
        (replace(FIT, users=-1), "reports -1 users"),
        (replace(FIT, weight=-1), "users"),
        (replace(FIT, weight=65), "claims 65 targets; 4 users have at most 64"),  # 4 · 2 · 8
    ],
)
def test_a_reply_that_cannot_be_averaged_is_refused_with_node_and_reason(
    result: Update, words: str, checks: ReplyChecks
) -> None:
    (refused,) = refusals(checks, FIT, result)
    assert refused.startswith("node 1: ")
    assert words in refused


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"change": ArrayRecord()}),
        RecordDict({"change": to_array_record(SCOPE), "metrics": MetricRecord({"loss": 1.0})}),
    ],
)
def test_a_reply_of_another_kind_is_refused(content: RecordDict, checks: ReplyChecks) -> None:
    fit, (refused,) = checks.sort_out([reply(3, content)], ASKED, SCOPE)
    assert fit == []
    assert str(refused).startswith("node 3: is no result of training")


def test_users_that_a_node_left_out_are_no_fault(checks: ReplyChecks) -> None:
    nobody = replace(FIT, users=0, left_out=4, weight=0, loss=0.0)
    assert refusals(checks, replace(FIT, users=3, left_out=1), nobody) == []


def test_the_order_does_not_depend_on_who_answers_first(checks: ReplyChecks) -> None:
    updates = [replace(FIT, weight=w, loss=math.nan) for w in (9, 3, 7)]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        messages = [reply(node, update_to_record(updates[node])) for node in order]
        fit, _ = checks.sort_out(messages, ASKED, SCOPE)
        assert [each.node for each in fit] == [1, 2, 0]
