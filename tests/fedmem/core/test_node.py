"""What a node computes once: memories as they stood before each target, and frozen states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.memory import TwoTierMemory
from fedmem.core.model.backbone import SASRec
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort

MakeSettings = Callable[..., Settings]
STAGE = STAGES["finetune_moe"]


def test_a_target_meets_the_memory_of_what_came_before_it(settings: Settings) -> None:
    node = Node(settings)
    bank = node.open_bank(0.8)
    node.ingest(STAGE, "validation")
    reads, windows = node.reads_at_targets(), node.windows
    targets = windows.targets(np.arange(len(windows)))
    for row in range(len(windows.user)):
        user = int(windows.user[row])
        history = node.interactions.history(user)
        for place in range(int(windows.lengths[row])):
            position = int(windows.start[row]) + place
            assert targets[row, place] == history[position]
            memory = TwoTierMemory(settings.memory, bank.threshold, node.corpus.vectors)
            memory.extend(
                history[:position], np.full(position, np.inf)
            )  # a fresh model is surprised
            read = reads[windows.offsets[row] + place]
            assert np.array_equal(read, memory.retrieve()[0])
            assert set(read[read > 0]) <= set(history[:position])


def test_validation_is_ranked_without_what_the_test_has_ingested(settings: Settings) -> None:
    node = Node(settings)
    node.open_bank(0.8)
    node.ingest(STAGE, "validation")
    before = node.rank(STAGE, node.users, "validation", ("full",)).ranks["full"]
    assert node.ingest(STAGE, "test")
    assert not node.ingest(STAGE, "test")  # each interaction enters once
    after = node.rank(STAGE, node.users, "validation", ("full",)).ranks["full"]
    assert np.array_equal(before, after)


def test_a_subset_is_ranked_as_among_all(settings: Settings) -> None:
    node = Node(settings, np.arange(3, 20))
    node.open_bank(0.8)
    node.ingest(STAGE, "validation")
    all_ranks = node.rank(STAGE, node.users, "validation", ("full",)).ranks["full"]
    some = np.array([11, 4, 19])
    ranks = node.rank(STAGE, some, "validation", ("full",)).ranks["full"]
    assert ranks.tolist() == all_ranks[some - 3].tolist()


def test_restored_memories_are_read_anew(settings: Settings) -> None:
    node, other = Node(settings), Node(settings)
    for one in (node, other):
        one.open_bank(0.8)
    node.ingest(STAGE, "validation")
    empty = other.reads_at_targets()
    other.restore(node.open_bank(0.8).pack())
    restored, expected = other.reads_at_targets(), node.reads_at_targets()
    assert np.array_equal(restored, expected)
    assert not np.array_equal(restored, empty)  # by the items without content that surprised


def test_the_histogram_counts_training_items_with_content(settings: Settings) -> None:
    node = Node(settings)
    vectors = node.corpus.vectors
    halves = [Node(settings, node.users[part::2]).novelty_histogram() for part in (0, 1)]
    assert np.array_equal(node.novelty_histogram(), sum(halves))
    training = np.concatenate([node.interactions.training(int(u)) for u in node.users])
    assert node.novelty_histogram().sum() == vectors[training].any(axis=1).sum()


ALIGNED = STAGES["align_projectors"]


def other_parameters(node: Node, seed: int) -> dict[str, torch.Tensor]:
    """All parameters of stage 2, drawn."""
    generator = torch.Generator().manual_seed(seed)
    own = node.model(ALIGNED).state_dict()
    return {name: torch.randn(value.shape, generator=generator) for name, value in own.items()}


def outcome(node: Node) -> list[object]:
    """Ranks and the loss of a round, both of which hang on states that are kept."""
    ranks = node.rank(ALIGNED, node.users, "validation", ("full",)).ranks["full"].tolist()
    update = train_cohort(node.trainer(ALIGNED), node.users, RoundKey(0, ALIGNED.name, 1))
    return [ranks, update.loss]


def test_a_new_hash_of_the_frozen_rest_drops_what_was_computed_from_the_old(
    settings: Settings,
) -> None:
    node, fresh = Node(settings), Node(settings)
    node.load(ALIGNED, other_parameters(node, seed=1), "one")
    before = outcome(node)
    for one in (node, fresh):
        one.load(ALIGNED, other_parameters(node, seed=2), "two")
    assert outcome(node) == outcome(fresh) != before


def test_the_same_hash_of_the_frozen_rest_keeps_what_was_computed_from_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(settings)
    first = other_parameters(node, seed=1)
    second = other_parameters(node, seed=2)
    second.update({n: v for n, v in first.items() if not ALIGNED.in_scope(n)})
    fresh = Node(settings)
    fresh.load(ALIGNED, second, "one")
    expected = outcome(fresh)
    node.load(ALIGNED, first, "one")
    before = outcome(node)
    node.load(ALIGNED, second, "one")
    passes = []
    monkeypatch.setattr(SASRec, "forward", lambda *_: passes.append(1))
    assert outcome(node) == expected != before
    assert passes == []


@pytest.mark.parametrize("wrong", ["sasrec.norm.weight", "router.hidden.weight"])
def test_parameters_are_taken_whole_or_not_at_all(settings: Settings, wrong: str) -> None:
    node = Node(settings)
    parameters = other_parameters(node, seed=1)
    if wrong in parameters:
        del parameters[wrong]
    else:
        parameters[wrong] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=wrong):
        node.load(ALIGNED, parameters, "one")
