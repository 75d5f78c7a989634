"""Which filters there are, and that a filter of one's own has a hook at user, node and server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.direction import DirectionFilter
from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.filters import filter_replies, hints_for, make_filters, states_of
from fedmem.core.updates.norm import NormFilter
from fedmem.core.updates.update import Update, UserUpdates
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
STAGE = STAGES["pretrain_sasrec"]
KEY = RoundKey(0, STAGE.name, 1)
USERS = np.array([1, 4, 6])


class Halving(UpdateFilter):
    """Halves every user's update, doubles a node's mean, and halves what the server receives."""

    name = "halving"

    def trusts(self, update: Update) -> bool:
        return False

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        return replace(updates, change={n: x / 2 for n, x in updates.change.items()})

    def at_node(self, update: Update) -> Update:
        return replace(update, change={n: x * 2 for n, x in update.change.items()})

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        kept = [
            replace(
                reply,
                update=replace(
                    reply.update, change={n: x / 2 for n, x in reply.update.change.items()}
                ),
            )
            for reply in replies
        ]
        return kept[1:], [Refusal(kept[0].node, "is the first")]


@pytest.mark.parametrize(
    ("overrides", "kinds"),
    [
        ((), [NormFilter]),
        (("strategy.guard_direction=true",), [NormFilter, DirectionFilter]),
        (("strategy.guard_ratio=null",), []),
    ],
)
def test_the_settings_say_which_filters_there_are(
    overrides: tuple[str, ...], kinds: list[type[UpdateFilter]], make_settings: MakeSettings
) -> None:
    assert [type(each) for each in make_filters(make_settings(*overrides))] == kinds


def test_hints_and_states_reach_the_filter_of_their_name(settings: Settings) -> None:
    usual = [[1.0, 4.0]] * 3
    at_server = make_filters(settings, states={"norm": usual})
    assert states_of(at_server) == {"norm": usual}
    hints = hints_for(at_server, users=4)
    assert hints == {"norm": 10.0}
    (at_node,) = make_filters(settings, hints=hints)
    assert not at_node.trusts(Update({"w": torch.tensor([10.1])}, 1, 0.0, 1))
    assert hints_for([Halving()], users=4) == {}


@pytest.mark.parametrize("execution", ["batched", "loop", "stacked"])
def test_a_filter_of_ones_own_sees_every_update_at_user_and_node(
    execution: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"client.execution={execution}")
    trainer = ready_node(settings, STAGE).trainer(STAGE)
    plain = train_cohort(trainer, USERS, KEY)
    filtered = train_cohort(trainer, USERS, KEY, [Halving(), Halving()])
    assert (filtered.weight, filtered.users) == (plain.weight, plain.users)
    for name, value in plain.change.items():
        torch.testing.assert_close(filtered.change[name], value, rtol=0, atol=1e-6)
    once = train_cohort(trainer, USERS, KEY, [UpdateFilter(), Halving()])
    assert once.weight == plain.weight


def test_at_the_server_each_filter_passes_its_replies_to_the_next() -> None:
    replies = [Reply(node, Update({"w": torch.tensor([8.0])}, 1, 0.0, 1)) for node in (3, 5, 9)]
    (kept,), refused = filter_replies([Halving(), Halving()], replies)
    assert (kept.node, kept.update.change["w"].item()) == (9, 2.0)
    assert [str(each) for each in refused] == ["node 3: is the first", "node 5: is the first"]
