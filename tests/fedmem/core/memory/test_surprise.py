"""Losses of many places are those of each alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.memory.surprise import losses_at
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES

MakeSettings = Callable[..., Settings]


def test_losses_of_many_users_are_those_of_each_alone(make_settings: MakeSettings) -> None:
    settings, other = make_settings(), make_settings("client.micro_batch=2")
    node = Node(settings)
    interactions, model = node.interactions, node.model(STAGES["finetune_moe"])
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    offsets = interactions.offsets
    places = np.concatenate([offsets[:-1], offsets[:-1] + 3, offsets[1:] - 1])
    found = losses_at(model, settings, interactions, places)
    np.testing.assert_allclose(found, losses_at(model, other, interactions, places), rtol=1e-5)
    alone = [losses_at(model, settings, interactions, np.array([place]))[0] for place in places]
    np.testing.assert_allclose(found, alone, rtol=1e-5)
    assert found[: interactions.num_users] == pytest.approx(np.log(40))
    assert len(losses_at(model, settings, interactions, places[:0])) == 0
