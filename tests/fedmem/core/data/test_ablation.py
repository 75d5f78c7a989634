"""Content that is taken away, handed round, or replaced by noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from fedmem.core.data.content import ablate
from fedmem.core.model import Content
from fedmem.core.settings import CONTENTS, Settings
from fedmem.core.stages import STAGES
from tests.helpers.small_world import ready_node

VISUAL = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
TEXT = torch.tensor([[0.0], [1.0], [2.0], [0.0], [4.0]])
REAL = Content(VISUAL, TEXT)


def test_real_content_is_left_as_it_is() -> None:
    assert ablate(REAL, "real", "0") is REAL


def test_one_of_both_can_be_taken_away() -> None:
    without_picture, without_text = (ablate(REAL, f"without_{x}", "0") for x in ("picture", "text"))
    assert not without_picture.visual.any()
    assert torch.equal(without_picture.text, TEXT)
    assert not without_text.text.any()
    assert torch.equal(without_text.visual, VISUAL)


def test_shuffled_content_is_whole_and_of_another_item() -> None:
    shuffled = ablate(REAL, "shuffled", "0")
    rows = torch.cat([VISUAL, TEXT], 1)
    given = torch.cat([shuffled.visual, shuffled.text], 1)
    assert not given[0].any()
    assert sorted(given.tolist()) == sorted(rows.tolist())  # picture and text stay together
    assert not any(torch.equal(a, b) for a, b in zip(given[1:], rows[1:], strict=True))


def test_random_content_is_as_long_and_missing_where_the_real_is() -> None:
    random = ablate(REAL, "random", "0")
    torch.testing.assert_close(random.visual.norm(dim=1), VISUAL.norm(dim=1))
    torch.testing.assert_close(random.text.norm(dim=1), TEXT.norm(dim=1))
    assert torch.equal(random.present, REAL.present)
    assert not torch.allclose(random.visual, VISUAL)


@pytest.mark.parametrize("instead", ["shuffled", "random"])
def test_what_is_drawn_hangs_on_the_key(instead: str) -> None:
    one, same, other = (ablate(REAL, instead, key).visual for key in ("3", "3", "4"))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("instead", CONTENTS)
def test_a_node_holds_what_the_settings_ask_for(
    instead: str, make_settings: Callable[..., Settings]
) -> None:
    real = ready_node(make_settings(), STAGES["align_projectors"]).content
    node = ready_node(make_settings(f"ablation.content={instead}"), STAGES["align_projectors"])
    expected = ablate(real, instead, f"0 content {node.interactions.fingerprint}")
    assert torch.equal(node.content.text, expected.text)
    assert torch.equal(node.content.visual, expected.visual)


def test_without_memory_every_read_is_empty_and_the_expert_adds_nothing(
    make_settings: Callable[..., Settings],
) -> None:
    stage = STAGES["finetune_moe"]
    node = ready_node(make_settings("ablation.memory=false"), stage)
    assert not node.reads_at_targets().any()
    ranks = [node.rank(stage, node.users, "test", ("full",)).ranks["full"]]
    with torch.no_grad():
        node.model(stage).gating_weight.memory.zero_()
    ranks.append(node.rank(stage, node.users, "test", ("full",)).ranks["full"])
    assert (ranks[0] == ranks[1]).all()
    assert ready_node(make_settings(), stage).reads_at_targets().any()
