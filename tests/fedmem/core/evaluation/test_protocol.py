"""Rankings and metrics by hand; negatives; sums that add up; no look at what is held out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fedmem.core.data import Interactions, load_content, load_interactions
from fedmem.core.evaluation.protocol import (
    RANKINGS,
    Ranks,
    draw_negatives,
    means,
    metrics_of,
    rank_users,
    sampled_negatives,
)
from fedmem.core.evaluation.ranking import OWN_AT_ONCE, SHARED_AT_ONCE, SHARED_READS_AT_ONCE
from fedmem.core.model import Recommender
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.hidden_states import last_hidden
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

TINY = compose_settings(SMALL)
NUM_ITEMS = 9


def interactions_of(*histories: list[int], num_items: int = NUM_ITEMS) -> Interactions:
    return Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(num_items + 1),
        user_ids=np.arange(len(histories)),
    )


def scorer(scores: list[float]) -> Recommender:
    """A model that gives items 1, 2, … these scores, whoever asks."""
    model = Recommender(TINY.model, STAGES["pretrain_sasrec"], len(scores), None)
    with torch.no_grad():
        model.sasrec.norm.weight.zero_()
        model.sasrec.norm.bias.zero_()
        model.sasrec.norm.bias[0] = 1.0
        model.sasrec.item_emb.weight.zero_()
        model.sasrec.item_emb.weight[1:, 0] = torch.tensor(scores)
    return model


def drawn(stage: str, settings: Settings, interactions: Interactions) -> Recommender:
    """A model whose parameters are all away from where they start."""
    content = load_content(settings.data, interactions) if stage != "pretrain_sasrec" else None
    model = Recommender(settings.model, STAGES[stage], interactions.num_items, content)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        model.sasrec.item_emb.weight[0].zero_()
    return model


def ranks_of(model: Recommender, history: list[int], split: Any, ranking: str = "full") -> int:
    settings = replace(TINY, evaluation=replace(TINY.evaluation, negatives=100))
    found = rank_users(model, settings, interactions_of(history), np.array([0]), split, (ranking,))
    return int(found.ranks[ranking][0])


SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_rank_counts_the_items_before_it_that_the_user_never_touched(ranking: str) -> None:
    # Untouched are 2, 4, 6, 8 and 9; before item 5 (test) come 2 and 4, before 7 also 6.
    assert ranks_of(scorer(SCORES), [1, 3, 7, 5], "test", ranking) == 2
    assert ranks_of(scorer(SCORES), [1, 3, 7, 5], "validation", ranking) == 3
    assert ranks_of(scorer(SCORES), [3, 5, 7, 1], "test", ranking) == 0


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_tie_counts_against_the_held_out_item(ranking: str) -> None:
    scores = [0.9, 0.5, 0.7, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1]
    assert ranks_of(scorer(scores), [1, 3, 7, 5], "test", ranking) == 3
    assert ranks_of(scorer([0.0] * 9), [1, 3, 7, 5], "test", ranking) == 5


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_score_that_is_no_number_counts_against_the_held_out_item(ranking: str) -> None:
    of_another = [*SCORES[:7], math.nan, math.nan]
    assert ranks_of(scorer(of_another), [1, 3, 7, 5], "test", ranking) == 4
    its_own = [*SCORES[:4], math.nan, *SCORES[5:]]
    assert ranks_of(scorer(its_own), [1, 3, 7, 5], "test", ranking) == 5


def test_full_leaves_out_exactly_the_users_own_history() -> None:
    # All items beat item 9: its rank is the number of items that count.
    for history in ([1, 2, 3, 9], [4, 5, 9], [8, 1, 6, 2, 4, 9], [1, 1, 2, 9]):
        expected = NUM_ITEMS - len(set(history))
        assert ranks_of(scorer(SCORES), history, "test") == expected


def test_an_item_of_the_history_that_is_held_out_too_can_be_ranked() -> None:
    assert ranks_of(scorer(SCORES), [2, 5, 1, 5], "test") == 2


def test_a_user_who_has_touched_nearly_everything_has_few_negatives() -> None:
    history = [1, 2, 3, 4, 5, 6, 8, 9]
    assert ranks_of(scorer(SCORES), history, "test", "sampled") == 1
    assert ranks_of(scorer(SCORES), [*history, 7], "test", "sampled") == 0


def test_metrics_by_hand() -> None:
    found = metrics_of(np.array([0, 4, 5, 30]))
    assert found["HR@5"].tolist() == [1, 1, 0, 0]
    assert found["HR@10"].tolist() == [1, 1, 1, 0]
    assert found["HR@20"].tolist() == [1, 1, 1, 0]
    ndcg = [1.0, 1 / math.log2(6), 1 / math.log2(7), 0.0]
    assert found["NDCG@5"].tolist() == pytest.approx([*ndcg[:2], 0.0, 0.0])
    assert found["NDCG@10"].tolist() == pytest.approx(ndcg)
    assert found["NDCG@20"].tolist() == pytest.approx(ndcg)
    assert found["MRR"].tolist() == pytest.approx([1.0, 1 / 5, 1 / 6, 1 / 31])


def test_sums_and_means_by_hand() -> None:
    users = np.arange(4, dtype=np.int32)
    sums = Ranks(users, {"full": np.array([0, 4, 5, 30], dtype=np.int32)}).sums()
    assert sums["users"] == 4
    assert sums["full/HR@10"] == 3
    assert sums["full/MRR"] == pytest.approx(1 + 1 / 5 + 1 / 6 + 1 / 31)
    assert means(sums)["full/HR@10"] == 0.75
    assert "users" not in means(sums)


def test_means_of_nobody_are_zero() -> None:
    sums = Ranks(np.zeros(0, np.int32), {"full": np.zeros(0, np.int32)}).sums()
    assert set(means(sums).values()) == {0.0}


def negatives_of(settings: Settings, user: int, seed: int = 0, count: int = 8) -> list[int]:
    return sampled_negatives(load_interactions(settings.data), user, seed, count).tolist()


def test_negatives_are_items_that_the_user_never_touched_each_once(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    for user in range(interactions.num_users):
        found = negatives_of(settings, user)
        assert len(set(found)) == 8
        assert not set(found) & set(interactions.history(user).tolist())
        assert set(found) <= set(range(1, interactions.num_items + 1))


def test_negatives_are_the_same_in_every_call(settings: Settings) -> None:
    in_order = [negatives_of(settings, user) for user in range(5)]
    backwards = [negatives_of(settings, user) for user in reversed(range(5))]
    assert in_order == backwards[::-1]


def test_negatives_differ_by_seed_and_by_user(settings: Settings) -> None:
    assert negatives_of(settings, 0) != negatives_of(settings, 0, seed=1)
    same_history = interactions_of([1, 2, 3], [1, 2, 3], num_items=50)
    first, second = (sampled_negatives(same_history, user, 0, 8).tolist() for user in (0, 1))
    assert first != second


@pytest.mark.parametrize("count", [1, 8, 100])
def test_negatives_are_drawn_from_the_ascending_list_of_untouched_items(
    settings: Settings, count: int
) -> None:
    """This is part of what a seed means: old figures hang on it."""
    interactions = load_interactions(settings.data)
    for user in range(interactions.num_users):
        pool = np.setdiff1d(np.arange(1, interactions.num_items + 1), interactions.history(user))
        generator = np.random.Generator(np.random.PCG64([7, user]))
        expected = generator.choice(pool, size=min(count, len(pool)), replace=False)
        found = sampled_negatives(interactions, user, 7, count)
        assert found.tolist() == expected.tolist()


def test_negatives_of_many_users_are_filled_up_with_0() -> None:
    interactions = interactions_of([1, 2, 3], [1, 2, 3, 4, 5, 6, 7], num_items=9)
    found = draw_negatives(interactions, np.array([1, 0]), 5, 4)
    assert found[1].tolist() == sampled_negatives(interactions, 0, 5, 4).tolist()
    assert sorted(found[0].tolist()) == [0, 0, 8, 9]
    assert found[0, 2:].tolist() == [0, 0]


def reads_of(settings: Settings, users: int, items: int) -> npt.NDArray[np.int32]:
    generator = np.random.default_rng(0)
    reads = generator.integers(1, items + 1, size=(users, settings.memory.top_k))
    reads[::3, 2:] = 0
    return reads.astype(np.int32)


@pytest.mark.parametrize("stage", list(STAGES))
@pytest.mark.parametrize("at_once", [1, 50, 300])
def test_how_many_scores_are_held_at_a_time_does_not_matter(
    settings: Settings, stage: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    interactions = load_interactions(settings.data)
    users = np.arange(interactions.num_users)
    model = drawn(stage, settings, interactions)
    memory = STAGES[stage].memory
    reads = reads_of(settings, len(users), interactions.num_items) if memory else None
    expected = rank_users(model, settings, interactions, users, "test", memory_reads=reads)
    for chunks in (OWN_AT_ONCE, SHARED_READS_AT_ONCE, SHARED_AT_ONCE):
        monkeypatch.setitem(chunks, "cpu", at_once)
        found = rank_users(model, settings, interactions, users, "test", memory_reads=reads)
        for ranking in RANKINGS:
            assert found.ranks[ranking].tolist() == expected.ranks[ranking].tolist()


@pytest.mark.parametrize("stage", list(STAGES))
@pytest.mark.parametrize("split", ["validation", "test"])
def test_ranks_are_counts_over_the_scores_of_each_user_alone(
    settings: Settings, stage: str, split: Any
) -> None:
    interactions = load_interactions(settings.data)
    users = np.arange(interactions.num_users)
    model = drawn(stage, settings, interactions)
    memory = STAGES[stage].memory
    reads = reads_of(settings, len(users), interactions.num_items) if memory else None
    found = rank_users(model, settings, interactions, users, split, memory_reads=reads)
    held_out = 1 if split == "test" else 2
    everything = torch.arange(1, interactions.num_items + 1)
    for user in range(len(users)):
        history = interactions.history(user)
        states = last_hidden(model, settings, [history[:-held_out]])[:, None]
        read = None if reads is None else torch.from_numpy(reads[user]).long()[None, None]
        with torch.no_grad():
            scores = model.score(states, everything, model.tables(), read).total[0, 0].numpy()
        at_positive = scores[history[-held_out] - 1]
        others = np.setdiff1d(everything.numpy(), history)
        sampled = sampled_negatives(interactions, user, settings.seed, 10)
        for ranking, items in (("full", others), ("sampled", sampled)):
            above = int((scores[items - 1] > at_positive - 1e-6).sum())
            assert found.ranks[ranking][user] == above


def test_what_is_given_is_what_is_ranked_by(settings: Settings) -> None:
    """A node draws negatives and computes frozen states once, for all rounds."""
    interactions = load_interactions(settings.data)
    users = np.array([4, 1, 9])
    model = drawn("align_projectors", settings, interactions)
    count = settings.evaluation.negatives
    negatives = draw_negatives(interactions, users, settings.seed, count)
    hidden = last_hidden(model, settings, [interactions.history(u)[:-1] for u in users])

    def ranks(**given: Any) -> dict[str, list[int]]:
        found = rank_users(model, settings, interactions, users, "test", **given)
        return {ranking: of_users.tolist() for ranking, of_users in found.ranks.items()}

    assert ranks(negatives=negatives, hidden=hidden) == ranks()
    assert ranks(negatives=negatives * 0)["sampled"] == [0, 0, 0]
    assert ranks(hidden=-hidden) != ranks()


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
def test_by_content_items_are_ranked_as_if_they_had_no_id(settings: Settings, stage: str) -> None:
    interactions = load_interactions(settings.data)
    users = np.arange(interactions.num_users)
    model = drawn(stage, settings, interactions)
    reads = reads_of(settings, len(users), interactions.num_items)
    found = rank_users(
        model, settings, interactions, users, "validation", ("content",), memory_reads=reads
    )
    with torch.no_grad():
        content = model.content()
        for user in range(len(users)):
            history = interactions.history(user)
            scores = content @ last_hidden(model, settings, [history[:-2]])[0]
            sampled = sampled_negatives(interactions, user, settings.seed, 10)
            above = int((scores[sampled] > scores[history[-2]] - 1e-6).sum())
            assert found.ranks["content"][user] == above


@pytest.mark.parametrize("micro_batch", [1, 24, 10_000])
def test_hidden_states_do_not_hang_on_the_batch(settings: Settings, micro_batch: int) -> None:
    interactions = load_interactions(settings.data)
    model = drawn("pretrain_sasrec", settings, interactions)
    histories = [interactions.training(user) for user in range(interactions.num_users)]
    other = replace(settings, client=replace(settings.client, micro_batch=micro_batch))
    at_once = last_hidden(model, other, histories)
    alone = torch.cat([last_hidden(model, settings, [h]) for h in histories])
    assert at_once.shape == (len(histories), settings.model.dim)
    assert torch.allclose(at_once, alone, atol=1e-6)


def test_a_hidden_state_is_that_of_the_last_item(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    model = drawn("pretrain_sasrec", settings, interactions)
    found = last_hidden(model, settings, [np.array([3, 1], np.int32), np.array([4], np.int32)])
    with torch.no_grad():
        states = model.sasrec(torch.tensor([[3, 1], [4, 0]]), NO_DROPOUT)
    torch.testing.assert_close(found, torch.stack([states[0, 1], states[1, 0]]))


def test_the_latest_items_are_what_the_model_sees(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    model = drawn("pretrain_sasrec", settings, interactions)
    long = np.arange(1, 21, dtype=np.int32)
    with torch.no_grad():
        seen = last_hidden(model, settings, [long])
        latest = last_hidden(model, settings, [long[-settings.model.max_length :]])
        fewer = last_hidden(model, settings, [long[1 - settings.model.max_length :]])
    assert torch.equal(seen, latest)
    assert not torch.allclose(seen, fewer)


@pytest.mark.parametrize("stage", list(STAGES))
@pytest.mark.parametrize("split", ["validation", "test"])
def test_sums_of_two_halves_add_up_to_the_sums_of_all(
    settings: Settings, stage: str, split: Any
) -> None:
    interactions = load_interactions(settings.data)
    users = np.arange(interactions.num_users)
    model = drawn(stage, settings, interactions)
    memory = STAGES[stage].memory
    reads = reads_of(settings, len(users), interactions.num_items) if memory else None

    def sums(part: npt.NDArray[np.integer]) -> dict[str, float]:
        own = None if reads is None else reads[part]
        return rank_users(model, settings, interactions, part, split, memory_reads=own).sums()

    halves, everybody = (sums(users[::2]), sums(users[1::2])), sums(users)
    assert everybody["users"] == interactions.num_users
    added = {name: sum(half[name] for half in halves) for name in everybody}
    assert added == pytest.approx(everybody, abs=1e-9)


def test_only_the_rankings_asked_for_are_made(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    model = drawn("pretrain_sasrec", settings, interactions)
    found = rank_users(model, settings, interactions, np.array([3, 1]), "test", ("full",))
    assert set(found.ranks) == {"full"}
    assert found.users.tolist() == [3, 1]
    nobody = rank_users(model, settings, interactions, np.array([], dtype=np.int64), "test")
    assert nobody.sums()["users"] == 0


def test_ranking_changes_no_parameter_and_wants_no_gradient(settings: Settings) -> None:
    interactions = load_interactions(settings.data)
    model = drawn("pretrain_sasrec", settings, interactions)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rank_users(model, settings, interactions, np.arange(3), "test")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_validation_does_not_see_the_test_item() -> None:
    """Another test item only changes places with the old one among the items that count."""
    model = drawn("pretrain_sasrec", TINY, interactions_of([1], num_items=30))
    with torch.no_grad():
        hidden = last_hidden(model, TINY, [np.array([3, 1, 4], dtype=np.int32)])
        scores = model.score(hidden[:, None], torch.arange(1, 31)).total[0, 0]
    middle, others = int(scores.argsort()[15]) + 1, {1, 3, 4}
    candidates = set(range(1, 31)) - others - {middle}
    above = {item for item in candidates if scores[item - 1] >= scores[middle - 1]}
    assert 0 < len(above) < len(candidates)
    for last in candidates:
        interactions = interactions_of([3, 1, 4, middle, last], num_items=30)
        found = rank_users(model, TINY, interactions, np.array([0]), "validation", ("full",))
        assert found.ranks["full"][0] == len(above - {last})


def test_the_test_item_is_predicted_from_the_validation_item_too() -> None:
    first, second = interactions_of([3, 1, 4, 2, 5]), interactions_of([3, 1, 4, 6, 5])
    model = drawn("pretrain_sasrec", TINY, first)
    everything = torch.arange(1, NUM_ITEMS + 1)
    with torch.no_grad():
        scores = [
            model.score(last_hidden(model, TINY, [i.history(0)[:-1]])[:, None], everything).total
            for i in (first, second)
        ]
    ranks = [
        rank_users(model, TINY, i, np.array([0]), "test", ("full",)).ranks["full"][0]
        for i in (first, second)
    ]
    untouched = ([6, 7, 8, 9], [2, 7, 8, 9])
    for score, rank, items in zip(scores, ranks, untouched, strict=True):
        assert rank == sum(bool(score[0, 0, i - 1] >= score[0, 0, 4]) for i in items)
