"""Cold rankings: counts over the scores of each user alone, and sums over users that add up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.evaluation.cold import BY_ID, untrained_embeddings
from fedmem.core.evaluation.protocol import COLD, COLD_USERS, means, sampled_negatives
from fedmem.core.model import Content
from fedmem.core.model.new_items import NewPlaces
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.hidden_states import last_hidden as states_after
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
WITH_CONTENT = pytest.mark.parametrize("name", ["align_projectors", "finetune_moe"])

ALL_RANKINGS = {"cold_sampled", "cold_full", "cold_text", "cold_picture", BY_ID}


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings("evaluation.cold_items=0.3", "evaluation.negatives=5")


@WITH_CONTENT
def test_ranks_are_counts_over_the_scores_of_each_user_alone(name: str, settings: Settings) -> None:
    stage = STAGES[name]
    node = ready_node(settings, stage)
    found = node.rank_cold(stage, node.users)
    warm, cold = node.histories.warm, node.histories.cold
    first, content = warm.num_items, node.corpus.cold_content
    kinds = {
        "cold_sampled": content,
        "cold_text": Content(content.visual * 0, content.text),
        "cold_picture": Content(content.visual, content.text * 0),
    }
    models = {
        ranking: NewPlaces(node.model(stage), settings.model, node.content).model_with(kind)
        for ranking, kind in kinds.items()
    }
    assert len(found.users) > 15
    for row, user in enumerate(found.users.tolist()):
        place = int(cold.offsets[user + 1]) - 1
        before = int(node.histories.before[place])
        hidden = states_after(node.model(stage), settings, [warm.history(user)[:before]])
        positive = int(cold.items[place])
        assert warm.history(user)[:before].size
        sampled = sampled_negatives(cold, user, settings.seed, 5)
        assert not set(sampled) & set(cold.history(user))
        read = None
        if stage.memory:
            memories = node._open().replay(np.array([user]), np.array([before]))
            read = torch.from_numpy(memories).long()[None].to(node.device)
        for ranking, model in models.items():
            with torch.no_grad():
                items = torch.arange(1, first + cold.num_items + 1, device=node.device)
                scores = model.score(hidden[:, None], items, model.tables(), read).total[0, 0]
            at_positive = scores[first + positive - 1]
            above = (scores[first + sampled - 1] > at_positive - 1e-6).sum()
            assert found.ranks[ranking][row] == above
            if ranking == "cold_sampled":
                own = [*warm.history(user), *(cold.history(user) + first)]
                others = np.setdiff1d(items.cpu().numpy(), own)
                above = (scores[others - 1] > at_positive - 1e-6).sum()
                assert found.ranks["cold_full"][row] == above
        by_id = hidden[0].cpu() @ untrained_embeddings(settings, cold.num_items).T
        assert found.ranks[BY_ID][row] == (by_id[sampled] >= by_id[positive]).sum()


@pytest.mark.parametrize("name", list(STAGES))
def test_sums_of_two_halves_add_up_to_the_sums_of_all(name: str, settings: Settings) -> None:
    stage = STAGES[name]
    node = ready_node(settings, stage)
    everybody = node.rank_cold(stage, node.users).sums(COLD_USERS)
    halves = [node.rank_cold(stage, node.users[k::2]).sums(COLD_USERS) for k in (0, 1)]
    added = {key: sum(half[key] for half in halves) for key in everybody}
    assert added == pytest.approx(everybody, abs=1e-9)
    rankings = {key.partition("/")[0] for key in everybody if key != COLD_USERS}
    assert rankings == (ALL_RANKINGS if stage.content else {BY_ID})
    assert all(ranking.startswith(COLD) for ranking in rankings)


@pytest.mark.parametrize(
    ("override", "absent"),
    [("data.text_file=null", "cold_text"), ("ablation.content=without_picture", "cold_picture")],
)
def test_a_kind_of_content_that_is_not_there_ranks_nothing(
    override: str, absent: str, make_settings: MakeSettings
) -> None:
    stage = STAGES["align_projectors"]
    node = ready_node(make_settings("evaluation.cold_items=0.3", override), stage)
    assert set(node.rank_cold(stage, node.users).ranks) == ALL_RANKINGS - {absent}


def test_means_are_over_the_users_that_each_ranking_has() -> None:
    sums = {"users": 4.0, "sampled/MRR": 2.0, "cold_users": 2.0, "cold_full/MRR": 1.5}
    assert means(sums) == {"sampled/MRR": 0.5, "cold_full/MRR": 0.75}


def test_untrained_embeddings_are_those_of_the_seed(make_settings: MakeSettings) -> None:
    first, again = (untrained_embeddings(make_settings(), 7) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, untrained_embeddings(make_settings("seed=1"), 7))
    assert not first[0].any()


def test_nobody_has_ranks_but_no_error(settings: Settings) -> None:
    node = Node(settings)
    ranks = node.rank_cold(STAGES["align_projectors"], np.zeros(0, dtype=np.int64))
    assert set(ranks.ranks) == ALL_RANKINGS
    assert len(ranks.users) == 0
