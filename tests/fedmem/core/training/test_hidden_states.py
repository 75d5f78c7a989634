"""Hidden states that are kept are those of the backbone, each computed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmem.core.machine.device import POSITIONS_AT_ONCE
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT, Dropout
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.hidden_states import HiddenStates, losses_at
from tests.helpers.small_world import ready_node


class Counting(SASRec):
    """A backbone that remembers how many rows it was given, call by call."""

    calls: list[int]

    def forward(self, items: Tensor, dropout: Dropout) -> Tensor:
        self.calls.append(len(items))
        return super().forward(items, dropout)


@pytest.fixture
def backbone(settings: Settings) -> Counting:
    torch.manual_seed(0)
    model = Counting(settings.model, 40)
    model.calls = []
    return model


def test_states_are_those_of_the_backbone(settings: Settings, backbone: Counting) -> None:
    windows = ready_node(settings, STAGES["align_projectors"]).windows
    states = HiddenStates(backbone, windows)
    for rows in (np.array([3, 0, 9]), np.array([9, 1]), np.array([5, 5]), np.arange(len(windows))):
        found = states.take(rows)
        inputs = torch.from_numpy(windows.inputs(rows))
        with torch.no_grad():
            expected = backbone(inputs, NO_DROPOUT)
        assert found.shape == expected.shape
        torch.testing.assert_close(found[inputs > 0], expected[inputs > 0])
        assert not found.requires_grad


def test_a_window_is_computed_once_and_only_near_what_was_asked_for(
    settings: Settings, backbone: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POSITIONS_AT_ONCE, "cpu", 24)
    windows = ready_node(settings, STAGES["align_projectors"]).windows
    states = HiddenStates(backbone, windows)
    states.take(np.array([3, 0]))
    some = sum(backbone.calls)
    assert some < len(windows)
    states.take(np.array([0, 3]))
    assert sum(backbone.calls) == some
    for rows in (np.arange(5), np.arange(len(windows))):
        states.take(rows)
    assert sum(backbone.calls) == len(windows)


def test_what_was_asked_for_before_changes_no_bit(
    settings: Settings, backbone: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on asks for other windows first than the one that was stopped did."""
    monkeypatch.setitem(POSITIONS_AT_ONCE, "cpu", 24)
    windows = ready_node(settings, STAGES["align_projectors"]).windows
    everything = np.arange(len(windows))
    whole = HiddenStates(backbone, windows).take(everything)
    calls, backbone.calls = backbone.calls, []
    later = HiddenStates(backbone, windows)
    for row in everything[::-1]:
        later.take(np.array([row]))
    real = torch.from_numpy(windows.inputs(everything)) > 0
    assert torch.equal(later.take(everything)[real], whole[real])
    assert sorted(backbone.calls) == sorted(calls)  # the same batches, so bits by construction


def test_no_windows_have_no_states(settings: Settings, backbone: Counting) -> None:
    states = HiddenStates(backbone, ready_node(settings, STAGES["align_projectors"]).windows)
    assert states.take(np.arange(0)).shape == (0, 0, settings.model.dim)
    assert backbone.calls == []


def test_losses_of_many_users_are_those_of_each_alone(
    make_settings: Callable[..., Settings],
) -> None:
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
