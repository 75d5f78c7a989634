"""Runs are one arm where they differ in the seed alone; an arm is named by what sets it apart."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from fedmem.report.curves import ROUNDS, VALUES, _mean
from fedmem.report.page import make_page
from fedmem.report.study import Study
from tests.helpers.recorded_runs import MakeRun, result, rounds


def test_runs_that_differ_in_the_seed_or_in_place_and_speed_are_one_arm(make_run: MakeRun) -> None:
    runs = [
        make_run("seed=1"),
        make_run("seed=0", "checkpoint.dir=elsewhere", "simulation.threads=1"),
        make_run("seed=2", "federation.nodes=4", "client.execution=loop"),
    ]
    (arm,) = Study.of(runs).groups
    assert [run.seed for run in arm.runs] == [0, 1, 2]
    assert arm.name == "ml-100k"


def test_an_arm_is_called_by_the_settings_in_which_it_differs(make_run: MakeRun) -> None:
    runs = [
        make_run("federation.num_clients=50"),
        make_run("federation.num_clients=50", "strategy=fedavg"),
        make_run(),
    ]
    assert [arm.name for arm in Study.of(runs).groups] == [
        "optimizer=adam, num_clients=50",
        "optimizer=none, num_clients=50",
        "optimizer=adam, num_clients=all",
    ]


def test_groups_of_other_stages_are_called_by_them_and_those_of_other_numbers_by_these(
    make_run: MakeRun,
) -> None:
    runs = [
        make_run("stage=pretrain_sasrec"),
        make_run("stage=[pretrain_sasrec,finetune_moe]", "stage.finetune_moe.rounds=9"),
        make_run("stage=[pretrain_sasrec,finetune_moe]"),
    ]
    assert [group.name for group in Study.of(runs[:2]).groups] == [
        "stage=pretrain_sasrec",
        "stage=pretrain_sasrec+finetune_moe",
    ]
    assert [group.name for group in Study.of(runs[1:]).groups] == ["rounds=9", "rounds=100"]


def test_a_run_of_an_earlier_version_which_listed_its_stages_is_read(make_run: MakeRun) -> None:
    earlier, later = make_run("seed=0"), make_run("stage=pretrain_sasrec", "seed=1")
    names = list(earlier.settings.pop("stage"))
    earlier.settings["stages"] = names
    groups = Study.of([earlier, later]).groups
    assert [group.name for group in groups] == [f"stage={'+'.join(names)}", "stage=pretrain_sasrec"]
    assert all(name in make_page(Study.of([earlier, later]), "the command")[0] for name in names)


def test_an_arm_of_an_experiment_is_called_by_its_folder(make_run: MakeRun) -> None:
    runs = [
        make_run(f"seed={seed}", f"federation.rounds={rounds}", folder=f"x/{arm}/seed-{seed}")
        for arm, rounds in (("short", 3), ("long", 9))
        for seed in (0, 1)
    ]
    arms = Study.of(runs).groups
    assert [(arm.name, len(arm.runs)) for arm in arms] == [("short", 2), ("long", 2)]
    other = [make_run("federation.rounds=5", folder="y/short/seed-0")]
    names = [arm.name for arm in Study.of([*runs, *other]).groups]
    assert len(set(names)) == 3
    assert names[1] == "long"
    assert names[::2] == ["short (rounds=3)", "short (rounds=5)"]


def test_of_the_same_run_made_twice_the_finished_and_the_latter_count(make_run: MakeRun) -> None:
    unfinished = make_run(folder="a", standing="stands after round 1")
    first, second = make_run(folder="b"), make_run(folder="c")
    study = Study.of([first, second, unfinished])
    assert study.groups[0].runs == [second]
    assert len(study.notes) == 2
    assert str(first.folder) in study.notes[0]


def test_rounds_are_counted_through_the_stages_of_a_run_and_of_those_it_starts_from(
    make_run: MakeRun,
) -> None:
    stage1 = make_run("stage=pretrain_sasrec", folder="1", hashes={"pretrain_sasrec": "h1"})
    later = make_run(
        "stage=[align_projectors,finetune_moe]",
        folder="2",
        results=[result("align_projectors", 0.5)],
        rounds=rounds("align_projectors", [0.1] * 3, 0) + rounds("finetune_moe", [0.1] * 3, 0),
        standing="stands after round 2",
        hashes={"pretrain_sasrec": "h1", "align_projectors": "h2"},
    )
    alone = make_run("stage=align_projectors", folder="3", hashes={"pretrain_sasrec": "other"})
    found = Study.of([later, stage1, alone]).before
    assert found[stage1.folder, "pretrain_sasrec"] == (0, 0)
    assert found[later.folder, "align_projectors"] == (4, 12_000_000)
    assert found[later.folder, "finetune_moe"] == (4 + 2, 21_000_000)
    assert found[alone.folder, "pretrain_sasrec"] == (0, 0)


def test_an_arm_that_is_not_there_is_a_mistake_that_names_those_that_are(
    make_run: MakeRun,
) -> None:
    runs = [make_run(folder=f"x/{arm}/seed-0") for arm in ("longer", "full")]
    with pytest.raises(FedmemError, match=r"longest.*did you mean longer\? There are longer, full"):
        Study.of(runs, "longest")


def test_runs_of_which_none_has_ended_a_stage_are_a_mistake_that_says_how_to_go_on(
    make_run: MakeRun,
) -> None:
    run = make_run(results=[], standing="stands pretrain_sasrec after round 3")
    with pytest.raises(FedmemError, match=r"after round 3\.\n.*run\.resume=.*a/0"):
        Study.of([run])


def test_curves_of_seeds_are_averaged_round_by_round() -> None:
    curves = [
        np.array([[10, 20, 30], [1, 2, 3], [0.1, 0.2, 0.3], [10, 20, 30]]),
        np.array([[10, 17, 20], [1, 1.7, 2], [0.3, 0.9, 0.4], [10, 17, 20]]),  # one more at 17
    ]
    mean = _mean(curves)
    assert mean[[ROUNDS, VALUES]] == pytest.approx(np.array([[10, 20], [0.2, 0.3]]))
