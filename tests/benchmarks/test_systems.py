"""The systems of the benchmark compute the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from floor import bare_gradient, sizes_of
from peer_systems.sasrec import SASRec
from plain_flower import PlainClient
from systems import Start, fill_memories

from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from tests.helpers.shared_runs import TrainOnce

MakeSettings = Callable[..., Settings]


def test_the_floor_has_the_gradient_of_a_cohort(make_settings: MakeSettings) -> None:
    settings = make_settings("model.dropout=0.0")
    stage, node, users = STAGES["pretrain_sasrec"], Node(settings), np.arange(5, 20)
    start = Start.of(settings, stage, node)
    node.load(stage, start.parameters, "frozen")
    update = train_cohort(node.trainer(stage), users, RoundKey(0, stage.name, 1))
    model = SASRec(node.interactions.num_items, **sizes_of(settings.model))
    model.load_state_dict({n.removeprefix("sasrec."): v for n, v in start.parameters.items()})
    bare_gradient(model, node.windows, users, settings.client.micro_batch)
    gradient = {f"sasrec.{name}": p.grad for name, p in model.named_parameters()}
    assert gradient.keys() == update.change.keys()
    for name, change in update.change.items():
        torch.testing.assert_close(gradient[name], -change / settings.client.learning_rate)


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_plain_flower_gives_back_the_whole_model_with_the_users_change(
    make_settings: MakeSettings, stage: Stage, train_once: TrainOnce
) -> None:
    settings = make_settings()
    train_once(settings)  # leaves the checkpoints that the later stages start from
    node, user = Node(settings), 3
    start = Start.of(settings, stage, node)
    fill_memories(node, stage, start.threshold)
    client = PlainClient(node, stage, user)
    sent = [start.parameters[name].numpy() for name in client.names]
    received, weight, _ = client.fit(sent, {"round": 1})
    node.load(stage, start.parameters, "frozen")
    update = node.trainer(stage).train_user(user, RoundKey(settings.seed, stage.name, 1))
    assert weight == update.weight
    assert client.names == list(start.parameters)
    for name, before, after in zip(client.names, sent, received, strict=True):
        change = update.change[name].numpy() if name in update.change else 0.0
        assert isinstance(after, np.ndarray)  # a number alone is no parameter to Flower
        np.testing.assert_array_equal(after, before + change)
