"""What a node computes once: memories as they stood before each target."""

from __future__ import annotations

import numpy as np

from fedmem.memory import TwoTierMemory, novelty, novelty_histogram
from fedmem.node import Node
from fedmem.settings import Settings
from fedmem.stages import STAGES

STAGE = STAGES["finetune_moe"]


def test_a_target_meets_the_memory_of_what_came_before_it(settings: Settings) -> None:
    node = Node(settings)
    bank = node.open_bank(0.8)
    node.ingest(STAGE, "validation")
    trainer = node.trainer(STAGE)
    assert trainer.memory_reads is not None
    windows = node.windows
    for row in range(len(windows.user)):
        user = int(windows.user[row])
        history = node.interactions.history(user)
        for place in range(int(windows.lengths[row])):
            position = int(windows.start[row]) + place
            assert windows.targets[row, place] == history[position]
            memory = TwoTierMemory(settings.memory, bank.threshold, node.vectors)
            memory.extend(
                history[:position], np.full(position, np.inf)
            )  # a fresh model is surprised
            read = trainer.memory_reads[row, place]
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


def test_the_histogram_counts_training_items_with_content(settings: Settings) -> None:
    node = Node(settings)
    vectors = node.vectors
    expected = sum(
        novelty_histogram(novelty(node.interactions.training(int(u)), vectors, 4))
        for u in node.users
    )
    assert np.array_equal(node.novelty_histogram(), expected)
    training = np.concatenate([node.interactions.training(int(u)) for u in node.users])
    assert node.novelty_histogram().sum() == vectors[training].any(axis=1).sum()
