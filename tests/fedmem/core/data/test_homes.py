"""Homes of simulated users: each node has as much work as the others, in every round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedmem.core.arrays import UserIndices, offsets_of
from fedmem.core.data import Interactions, homes
from fedmem.core.data.homes import RANKING_COST, expected_work, share_out, work_by_round
from fedmem.core.data.sampling import sample_round, targets_in_windows
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.runs.configuration import compose_settings

MakeSettings = Callable[..., Settings]


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
    monkeypatch.setattr(homes, "ROUNDS_PLANNED", 3)
    users, targets = np.arange(2, 22), np.arange(20) + 1
    work = work_by_round(settings, users, targets)
    assert work[:, 0].tolist() == expected_work(settings, targets).astype(np.float32).tolist()
    names = [(stage, number) for stage in STAGES for number in (1, 2, 3)]
    assert work.shape == (20, 1 + len(names))
    for column, (stage, number) in zip(work[:, 1:].T, names, strict=True):
        trains = np.isin(users, sample_round(users, 0.5, settings.seed, stage, number))
        assert column.tolist() == (targets * trains).tolist()
    monkeypatch.setattr(homes, "WORK_AT_MOST", 20 * 9 - 1)
    assert work_by_round(settings, users, targets).shape == (20, 1)


def test_ranking_a_sample_is_less_work() -> None:
    settings = compose_settings(["evaluation.users=1", "federation.evaluate_every=4"])
    found = expected_work(settings, np.array([10, 20]))
    fraction = settings.federation.fraction
    assert found.tolist() == [fraction * n + RANKING_COST / 4 / 2 for n in (10, 20)]
