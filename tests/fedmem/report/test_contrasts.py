"""What is compared with what, and that slices are parts of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest

from fedmem.errors import FedmemError
from fedmem.evaluation import Ranks
from fedmem.report.differences import rows_of, to_frame
from fedmem.report.study import Study
from fedmem.settings import Settings
from tests.fedmem.report.conftest import MakeRun, result

MakeSettings = Callable[..., Settings]


def ranks_of(*ranks: int, first: int = 0) -> Ranks:
    """Both rankings alike, of users from `first` on."""
    users = np.arange(first, first + len(ranks), dtype=np.int32)
    return Ranks(users, dict.fromkeys(("sampled", "full"), np.array(ranks, np.int32)))


def test_arms_are_compared_at_their_last_stage_over_the_seeds_that_both_have(
    make_run: MakeRun,
) -> None:
    two = [result("align_projectors", 0.5), result("finetune_moe", 0.5)]
    runs = [
        make_run("seed=0", folder="x/control/seed-0", ranks={"pretrain_sasrec": ranks_of(0, 50)}),
        make_run("seed=1", folder="x/control/seed-1", ranks={"pretrain_sasrec": ranks_of(50, 50)}),
        make_run(
            "seed=1",
            folder="x/full/seed-1",
            results=two,
            ranks={"align_projectors": ranks_of(50, 50), "finetune_moe": ranks_of(0, 50)},
        ),
    ]
    (contrast,) = Study.of(runs, "control").contrasts
    assert (contrast.name, contrast.against) == ("full", "control")
    hits = contrast.differences[0]
    assert (hits.metric, hits.users, hits.by_seed) == ("sampled/HR@10", 2, [0.5])
    (other,) = Study.of(runs, "full").contrasts
    assert other.differences[0].by_seed == [-0.5]


def test_arms_of_other_users_are_told_of_and_their_stages_compared_instead(
    make_run: MakeRun,
) -> None:
    two = [result("pretrain_sasrec", 0.5), result("finetune_moe", 0.5)]
    runs = [
        make_run(
            f"federation.num_clients={clients}",
            results=two,
            ranks={
                "pretrain_sasrec": ranks_of(50, 50, first=clients),
                "finetune_moe": ranks_of(0, 50, first=clients),
            },
        )
        for clients in (10, 20)
    ]
    study = Study.of(runs)
    assert study.notes == [
        "num_clients=20 less num_clients=10: "
        "Two arms of different users cannot be compared in pairs"
    ]
    assert [(c.name, c.against) for c in study.contrasts] == [
        (f"finetune_moe, num_clients={clients}", "pretrain_sasrec") for clients in (10, 20)
    ]
    assert study.contrasts[0].differences[0].by_seed == [0.5]


def test_without_ranks_there_is_nothing_to_compare(make_run: MakeRun) -> None:
    study = Study.of([make_run(folder=f"x/{arm}/seed-0") for arm in "ab"])
    assert study.contrasts == []
    assert "simulation.keep_ranks" in study.notes[0]
    assert to_frame(study).empty


def test_cells_show_sign_and_interval(make_run: MakeRun) -> None:
    ranks = {"a": ranks_of(50, 50), "b": ranks_of(0, 0)}
    run = make_run(results=[result("a", 0.5), result("b", 0.5)], ranks=ranks)
    (contrast,) = Study.of([run]).contrasts
    assert rows_of(contrast)[0] == ["sampled HR@10", "+1.0000", "+1.0000 … +1.0000", "one seed"]


def test_slices_are_parts_of_all_users(make_run: MakeRun, settings: Settings) -> None:
    generator = np.random.default_rng(0)
    drawn = {stage: ranks_of(*generator.integers(0, 20, 24)) for stage in ("a", "b")}
    run = make_run(results=[result("a", 0.5), result("b", 0.5)], ranks=drawn)
    run.settings.update(asdict(settings))
    study = Study.of([run])
    (contrast,) = study.contrasts
    whole = contrast.differences[0].over_users.mean
    for parts in ("item: ", "history: ", "item with"):
        found = [d[0] for name, d in contrast.slices.items() if name.startswith(parts)]
        assert sum(each.users for each in found) == 24
        total = sum(each.users * each.over_users.mean for each in found)
        assert total / 24 == pytest.approx(whole)
    frame = to_frame(study)
    assert set(frame["slice"]) == {"all users", *contrast.slices}


def test_slices_need_the_data(make_run: MakeRun) -> None:
    ranks = {"a": ranks_of(50, 50), "b": ranks_of(0, 0)}
    run = make_run("data.dir=gone", results=[result("a", 0.5), result("b", 0.5)], ranks=ranks)
    (contrast,) = Study.of([run]).contrasts
    with pytest.raises(FedmemError, match="gone"):
        _ = contrast.slices
