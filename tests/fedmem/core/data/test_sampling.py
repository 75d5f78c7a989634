"""Who takes part depends on the seed, the stage and the round, and on no node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedmem.core.arrays import UserIndices, offsets_of
from fedmem.core.data import Interactions, sampling
from fedmem.core.data.sampling import (
    RANKING_COST,
    expected_work,
    participants,
    sample_ranked,
    sample_round,
    share_out,
    targets_in_windows,
    work_by_round,
)
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.runs.configuration import compose_settings

MakeSettings = Callable[..., Settings]
SETTINGS = compose_settings()


@pytest.fixture(autouse=True)
def data_of_a_hundred_users(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(warm=SimpleNamespace(num_users=100, complete=np.arange(100)))
    monkeypatch.setattr(sampling, "load_histories", lambda _: found)


def chosen(num_clients: int | None, seed: int = 0) -> list[int]:
    federation = replace(SETTINGS.federation, num_clients=num_clients)
    return participants(replace(SETTINGS, federation=federation, seed=seed)).tolist()


def sample(seed: int = 0, stage: str = "pretrain_sasrec", server_round: int = 1) -> list[int]:
    return sample_round(np.arange(100), 0.2, seed, stage, server_round).tolist()


def test_everybody_takes_part_by_default() -> None:
    assert chosen(None) == list(range(100))
    assert chosen(100) == list(range(100))


def test_more_clients_take_in_all_of_fewer_clients() -> None:
    sets = [set(chosen(n)) for n in (1, 10, 50, 99)]
    assert [len(s) for s in sets] == [1, 10, 50, 99]
    assert sets[0] < sets[1] < sets[2] < sets[3]


def test_participants_are_ascending_and_depend_on_the_seed() -> None:
    assert chosen(30) == sorted(chosen(30)) == chosen(30)
    assert chosen(30) != chosen(30, seed=1)


def test_more_participants_than_users_are_refused_by_the_setting() -> None:
    with pytest.raises(FedmemError, match=r"federation\.num_clients=101.*100 users"):
        chosen(101)


def test_work_is_of_targets_up_to_the_windows_and_of_ranking() -> None:
    settings = compose_settings(
        [
            "client.windows=2",
            "model.max_length=10",
            "federation.fraction=0.5",
            "federation.evaluate_every=4",
        ]
    )
    lengths = np.array([3, 4, 23, 24, 500])
    items, nobody = np.ones(lengths.sum(), np.int32), np.zeros(5, np.int64)
    interactions = Interactions(offsets_of(lengths), items, np.arange(2), nobody)
    targets = targets_in_windows(settings, interactions, np.arange(5))
    assert targets.tolist() == [0, 1, 20, 20, 20]
    work = expected_work(settings, targets)
    ranking = RANKING_COST / 4
    assert work.tolist() == [ranking, ranking + 0.5, ranking + 10, ranking + 10, ranking + 10]


@pytest.mark.parametrize("nodes", [1, 2, 3, 7, 17])
def test_the_nodes_part_the_users(nodes: int) -> None:
    users = np.arange(5, 22)
    parts = [part.tolist() for part in share_out(users, np.ones((17, 1)), nodes)]
    assert sorted(user for part in parts for user in part) == users.tolist()
    assert all(part == sorted(part) for part in parts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_work_and_not_users_are_shared_evenly() -> None:
    parts = share_out(np.arange(5), np.array([[1.0], [1.0], [4.0], [1.0], [1.0]]), 2)
    assert [part.tolist() for part in parts] == [[2], [0, 1, 3, 4]]


def test_the_busiest_node_has_little_more_than_its_share() -> None:
    work = np.random.default_rng(0).pareto(1.5, size=900) + 1
    loads = [work[part].sum() for part in share_out(np.arange(900), work[:, None], 8)]
    assert max(loads) <= max(work.sum() / 8 * 1.01, work.max())


def test_ties_go_by_order_so_that_all_processes_agree() -> None:
    parts = share_out(np.array([10, 20, 30, 40, 50]), np.ones((5, 1)), 2)
    assert [part.tolist() for part in parts] == [[10, 30, 50], [20, 40]]


def test_forty_thousand_users_are_all_shared_each_once_and_evenly() -> None:
    work = np.random.default_rng(0).pareto(1.5, size=40_000) + 1
    parts = share_out(np.arange(40_000), work[:, None], 64)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(40_000))
    assert max(work[part].sum() for part in parts) <= max(work.sum() / 64 * 1.001, work.max())


def test_every_kind_of_work_is_shared_evenly() -> None:
    generator = np.random.default_rng(0)
    targets = generator.pareto(1.5, size=2000).clip(0, 20) + 1
    trains = generator.random((2000, 60)) < 0.2
    work = np.column_stack([targets, targets[:, None] * trains])
    by_chance = share_out(np.arange(2000), work[:, :1], 4)
    planned = share_out(np.arange(2000), work, 4)

    def excess(homes: list[UserIndices]) -> float:
        """What the busiest node of a round has above the mean, over all rounds."""
        loads = np.array([work[home].sum(0) for home in homes])
        return float((loads.max(0) / loads.mean(0)).mean()) - 1

    assert excess(planned) < 0.1 * excess(by_chance)
    assert np.array_equal(np.sort(np.concatenate(planned)), np.arange(2000))


def test_homes_are_found_by_who_trains_in_the_first_rounds_of_the_stages(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("federation.rounds=2", "federation.fraction=0.5")
    monkeypatch.setattr(sampling, "ROUNDS_PLANNED", 3)
    users, targets = np.arange(2, 22), np.arange(20) + 1
    work = work_by_round(settings, users, targets)
    assert work[:, 0].tolist() == expected_work(settings, targets).astype(np.float32).tolist()
    names = [(stage, number) for stage in STAGES for number in (1, 2, 3)]
    assert work.shape == (20, 1 + len(names))
    for column, (stage, number) in zip(work[:, 1:].T, names, strict=True):
        trains = np.isin(users, sample_round(users, 0.5, settings.seed, stage, number))
        assert column.tolist() == (targets * trains).tolist()
    monkeypatch.setattr(sampling, "WORK_AT_MOST", 20 * 9 - 1)
    assert work_by_round(settings, users, targets).shape == (20, 1)


def test_the_sample_of_a_round_depends_on_seed_stage_and_round() -> None:
    assert sample() == sample()
    assert sample() != sample(seed=1)
    assert sample() != sample(stage="finetune_moe")
    assert sample() != sample(server_round=2)


def test_the_sample_of_a_round_depends_on_nothing_else() -> None:
    np.random.seed(3)  # noqa: NPY002 - global state must not matter
    shuffled = np.random.default_rng(0).permutation(100)
    found = sample_round(shuffled, 0.2, 0, "pretrain_sasrec", 1)
    assert found.tolist() == sample()


def test_a_sample_has_the_fraction_of_the_users_each_once_ascending() -> None:
    assert len(sample()) == 20
    assert sample() == sorted(set(sample()))
    assert set(sample()) <= set(range(100))


def test_a_sample_takes_indices_and_not_places() -> None:
    users = np.array([3, 30, 300])
    assert sample_round(users, 1.0, 0, "pretrain_sasrec", 1).tolist() == [3, 30, 300]


def test_a_sample_is_never_empty() -> None:
    assert len(sample_round(np.arange(100), 0.001, 0, "pretrain_sasrec", 1)) == 1


def test_every_user_has_a_turn() -> None:
    turns = [user for server_round in range(40) for user in sample(server_round=server_round)]
    assert set(turns) == set(range(100))


def ranked(users: list[int], wanted: int | None, seed: int = 0) -> list[int]:
    evaluation = replace(SETTINGS.evaluation, users=wanted)
    settings = replace(SETTINGS, evaluation=evaluation, seed=seed)
    return sample_ranked(settings, np.array(users)).tolist()


def test_all_are_ranked_by_default_and_where_more_are_asked_for_than_there_are() -> None:
    everybody = list(range(3, 90))
    assert ranked(everybody, None) == ranked(everybody, 87) == ranked(everybody, 500) == everybody


def test_more_ranked_users_take_in_all_of_fewer_and_another_seed_draws_others() -> None:
    sets = [ranked(list(range(100)), n) for n in (1, 10, 50, 99)]
    assert [len(own) for own in sets] == [1, 10, 50, 99]
    assert all(own == sorted(set(own)) for own in sets)
    assert set(sets[0]) < set(sets[1]) < set(sets[2]) < set(sets[3])
    assert ranked(list(range(100)), 50, seed=1) != sets[2]


def test_who_joins_or_goes_changes_one_other_ranked_user_at_most() -> None:
    before = set(ranked(list(range(100)), 20))
    for gone in range(100):
        after = set(ranked([user for user in range(100) if user != gone], 20))
        assert len(before - after) == (gone in before)


def test_each_user_is_ranked_as_likely_as_any_other() -> None:
    counts = np.bincount(np.concatenate([ranked(list(range(20)), 5, s) for s in range(400)]))
    assert np.abs(counts - 100).max() < 4 * np.sqrt(400 * 0.25 * 0.75)  # standard deviations


def test_ranking_a_sample_is_less_work() -> None:
    settings = compose_settings(["evaluation.users=1", "federation.evaluate_every=4"])
    found = expected_work(settings, np.array([10, 20]))
    fraction = settings.federation.fraction
    assert found.tolist() == [fraction * n + RANKING_COST / 4 / 2 for n in (10, 20)]
