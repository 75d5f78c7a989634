"""Nothing that training draws or stores for a user reveals which items are held out.

Interactions are random here and no user meets an item twice, so that nothing can be learned: a
scorer that ranks the held-out item above chance, or below it, knows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from fedmem.core.data import Interactions
from fedmem.core.data.interactions import HELD_OUT, Split
from fedmem.core.evaluation.protocol import draw_negatives, metrics_of
from fedmem.core.evaluation.ranking import Scorer, ranks_among
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import ALIGN_PROJECTORS, ALL_STAGES, CENTRALISED, FINETUNE_MOE, Stage
from fedmem.core.training.batches import BatchMaker, RoundKey
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

USERS, ITEMS, ROUNDS = 400, 200, 20
CANDIDATES = 101
"""That an item is ranked among, itself included."""

Counts = npt.NDArray[np.int64]
"""[U, I + 1] how often each user's training met each item in some place."""


class Leaky(Interactions):
    """Interactions whose users have trained on everything, so that no negative is held out."""

    @classmethod
    def of(cls, whole: Interactions) -> Leaky:
        return cls(whole.offsets, whole.items, whole.item_ids, whole.user_ids)

    def training(self, user: int) -> npt.NDArray[np.int32]:
        return self.history(user)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    generator = np.random.default_rng(0)
    lines = [
        f"{user} {item} 1 {step}"
        for user in range(1, USERS + 1)
        for step, item in enumerate(generator.permutation(ITEMS)[: generator.integers(8, 20)] + 1)
    ]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    for file in ("visual_features.pt", "text_features.pt"):
        features = torch.from_numpy(generator.normal(size=(ITEMS + 1, 8)))
        features[[0, 3]] = 0  # item 3 is written by surprise
        torch.save(features.half(), tmp_path / file)
    own = [f"data.dir={tmp_path}", "evaluation.negatives=100", "client.negatives=32"]
    return compose_settings([*SMALL, *own], output_dir=str(tmp_path / "run"))


def ready(settings: Settings, stage: Stage, ingested: Split) -> Node:
    """A node whose memories, where the stage has any, have come so far."""
    node = Node(settings)
    if stage.memory:
        node.open_bank(0.5)
        node.ingest(stage, ingested)
    return node


def drawn(node: Node, stage: Stage, interactions: Interactions) -> dict[str, Counts]:
    """What the batches of some rounds hold of each user, by the place where it stands."""
    windows = replace(node.windows, interactions=interactions)
    reads = node.reads_at_targets() if stage.memory else None
    widths = node.model(stage).sasrec.dropout_widths
    maker = BatchMaker(node.settings, stage, windows, widths, reads)
    counts: dict[str, Counts] = {}
    for number in range(1, ROUNDS + 1):
        key = RoundKey(node.settings.seed, stage.name, number)
        batch = maker.make(np.arange(len(windows)), key, step=0)
        held = {"inputs": batch.inputs, "targets": batch.targets}
        if batch.scoring is not None:
            held["negatives"] = batch.scoring.negatives
            if batch.scoring.memories is not None:
                held["memories"] = batch.scoring.memories.flatten(1)
        for place, items in held.items():
            found = counts.setdefault(place, np.zeros((USERS, ITEMS + 1), dtype=np.int64))
            np.add.at(found, (windows.user[:, None], items.numpy()), 1)
    return counts


def stored(node: Node) -> Counts:
    """What the users' memories hold."""
    bank = node.open_bank(0.5)
    packed, capacity = bank.pack(), node.settings.memory.short_term_capacity
    counts = np.zeros((USERS, ITEMS + 1), dtype=np.int64)
    ends = np.cumsum([len(part) for part in parts_of(packed)])
    assert ends[-1] == len(packed["long_term"])
    for user, cursor, entries in zip(
        packed["users"], bank.cursors(packed["users"]), parts_of(packed), strict=True
    ):
        counts[user, entries[:, 0]] += entries[:, 2]  # by frequency
        counts[user, node.interactions.history(user)[max(0, cursor - capacity) : cursor]] += 1
    return counts


def parts_of(packed: dict[str, npt.NDArray[np.int32]]) -> Iterator[npt.NDArray[np.int32]]:
    """Long-term entries of each user in turn: as many as promotions less evictions."""
    start = 0
    for _, promotions, _, evictions, _ in packed["counters"]:
        yield packed["long_term"][start : start + promotions - evictions]
        start += promotions - evictions


def ranks_by(node: Node, counts: Counts, split: Split, sign: int) -> npt.NDArray[np.int32]:
    """[U] rank of the held-out item by how often it was met; of like items chance decides."""
    interactions = node.interactions
    noise = np.random.default_rng(1).random(counts.shape) / 2
    scores = torch.from_numpy(sign * counts + noise)

    def score(batch: slice, candidates: Tensor) -> Tensor:
        return scores[batch].gather(1, candidates)

    scorer = Scorer(score, torch.device("cpu"))
    positives = interactions.items[interactions.offsets[1:] - HELD_OUT[split]]
    settings = node.settings
    count = settings.evaluation.negatives
    negatives = draw_negatives(interactions, node.users, settings.seed, count)
    return ranks_among(scorer, positives, negatives)


def assert_chance(ranks: npt.NDArray[np.int32]) -> None:
    """Ranks as if all were alike likely, within four standard errors of mean and HR@10."""
    mean, deviation = (CANDIDATES - 1) / 2, math.sqrt((CANDIDATES**2 - 1) / 12)
    assert ranks.mean() == pytest.approx(mean, abs=4 * deviation / math.sqrt(USERS))
    share = 10 / CANDIDATES
    hits = float(metrics_of(ranks)["HR@10"].mean())
    assert hits == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / USERS))


@pytest.mark.parametrize("stage", [*ALL_STAGES.values(), CENTRALISED], ids=lambda s: s.name)
def test_nothing_drawn_or_stored_tells_the_held_out_item(settings: Settings, stage: Stage) -> None:
    node = ready(settings, stage, "validation")
    counts = drawn(node, stage, node.interactions)
    expected = {"inputs", "targets"}
    expected |= {"negatives"} if stage.content else set()
    expected |= {"memories"} if stage.memory else set()
    assert set(counts) == expected
    assert all(place[:, 1:].sum(1).min() > 0 for place in counts.values())  # of every user
    if stage.memory:
        counts["stored"] = stored(node)
    for met in counts.values():
        for split in HELD_OUT:
            for sign in (1, -1):
                assert_chance(ranks_by(node, met, split, sign))


def test_memories_that_are_past_an_item_do_not_reveal_it_in_training(settings: Settings) -> None:
    node = ready(settings, FINETUNE_MOE, "test")
    counts = drawn(node, FINETUNE_MOE, node.interactions)
    for split in HELD_OUT:
        assert_chance(ranks_by(node, counts["memories"], split, 1))
    assert_chance(ranks_by(node, stored(node), "test", 1))


@pytest.mark.parametrize("split", HELD_OUT)
@pytest.mark.parametrize("stage", [ALIGN_PROJECTORS, FINETUNE_MOE], ids=lambda s: s.name)
def test_negatives_without_the_whole_history_would_reveal_it(
    settings: Settings, stage: Stage, split: Split
) -> None:
    node = ready(settings, stage, "validation")
    counts = drawn(node, stage, Leaky.of(node.interactions))
    ranks = ranks_by(node, counts["negatives"], split, -1)
    assert metrics_of(ranks)["HR@10"].mean() > 0.95
    with pytest.raises(AssertionError):
        assert_chance(ranks)


def test_a_memory_that_has_gone_too_far_would_reveal_it(settings: Settings) -> None:
    node = ready(settings, FINETUNE_MOE, "test")  # which takes in the item of the validation
    ranks = ranks_by(node, stored(node), "validation", 1)
    assert metrics_of(ranks)["HR@10"].mean() > 0.95
