"""Who takes part depends on the seed, the stage and the round, and on no node."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedmem.core.data import sampling
from fedmem.core.data.sampling import participants, sample_ranked, sample_round
from fedmem.core.errors import FedmemError
from fedmem.runs.configuration import compose_settings

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
