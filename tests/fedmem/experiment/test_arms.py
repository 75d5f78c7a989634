"""Arms of an experiment, the runs that they come to, and how far each has come."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fedmem.core.data import write_id_files
from fedmem.core.errors import FedmemError
from fedmem.core.stages import ALL_STAGES, CENTRALISED
from fedmem.experiment.arms import Condition, PlannedRun, load_experiment, override
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RESULTS, ROUNDS, RunFolder

CONF = Path(__file__).parents[3] / "conf" / "experiment"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_an_experiment_plans_runs_that_differ_and_follow_their_parents(name: str) -> None:
    experiment = load_experiment(name)
    two = experiment.seeds[:2]
    runs = experiment.plan(Path("out"), two)
    assert len(runs) == len(experiment.arms) * len(two)
    assert list(dict.fromkeys(run.arm for run in runs)) == list(experiment.arms)
    seen: set[PlannedRun] = set()
    for run in runs:
        assert set(run.settings.stage) <= {*ALL_STAGES, CENTRALISED.name}
        assert seen.issuperset(run.parents)
        assert {parent.seed for parent in run.parents} <= {run.seed}
        seen.add(run)
    assert len({run.settings.to_json() for run in runs}) == len(runs)


def test_an_arm_starts_from_the_checkpoints_of_its_parents() -> None:
    runs = load_experiment("ml-100k").plan(Path("out"), [7], ["without_memory"])
    assert [run.arm for run in runs] == ["stage1", "full", "without_memory"]
    words = runs[-1].command()
    assert "seed=7" in words
    assert "ablation.memory=false" in words
    for parent, stage in (("stage1", "pretrain_sasrec"), ("full", "align_projectors")):
        path = f"out/{parent}/seed-7/checkpoints/{stage}.safetensors"
        assert f"checkpoint.{stage}={path}" in words


def planned(tmp_path: Path, *overrides: str) -> PlannedRun:
    (run,) = load_experiment("ml-100k", overrides).plan(tmp_path, [0], ["stage1"])
    return run


def begun(run: PlannedRun) -> RunFolder:
    settings = replace(run.settings, output_dir=str(run.folder))
    return RunFolder.start(settings, run.overrides, simulated_nodes=1)


def test_a_folder_of_other_stages_is_never_taken_for_this_run(tmp_path: Path) -> None:
    run = planned(tmp_path)
    other = replace(run.settings, stage=compose_settings(["stage=finetune_moe"]).stage)
    written(run, asdict(other))
    with pytest.raises(FedmemError, match=r"stage=\['finetune_moe'\] \(asked for: \['pretrain_"):
        run.condition()


def test_a_run_of_an_earlier_version_is_done_where_it_listed_the_same_stages(
    tmp_path: Path,
) -> None:
    run = planned(tmp_path)
    values = asdict(run.settings)
    del values["stage"], values["strategy"]["min_nodes"]
    written(run, {**values, "stages": ["pretrain_sasrec"]})
    assert run.condition() is Condition.DONE
    written(run, {**values, "stages": ["continue_sasrec"]})
    with pytest.raises(FedmemError, match="continue_sasrec"):
        run.condition()


def written(run: PlannedRun, settings: dict[str, Any]) -> None:
    """The results of a run that was done with these settings."""
    run.folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings, "stages": [{"stopped": None}]}
    (run.folder / "results.json").write_text(json.dumps(content))


def test_a_run_that_broke_off_goes_on_where_it_has_a_state(tmp_path: Path) -> None:
    run = planned(tmp_path)
    assert run.condition() is Condition.MISSING
    run.make_ready()
    (run.folder / ROUNDS).write_text("half a li")
    run.make_ready()
    assert list(run.folder.iterdir()) == []
    with begun(run) as folder:
        assert run.condition() is Condition.BROKEN_OFF
        run.make_ready()
        assert run.command()[-1] == f"run.resume={run.folder}"
        folder.give_up()  # as a run does that has nothing to be kept
    assert run.condition() is Condition.MISSING


def test_a_run_that_broke_off_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    begun(planned(tmp_path)).close()
    assert planned(tmp_path, "simulation.workers=1").condition() is Condition.BROKEN_OFF
    with pytest.raises(
        FedmemError, match=r"other settings: federation\.fraction=0\.2 \(asked for: 0\.3\)"
    ):
        planned(tmp_path, "federation.fraction=0.3").condition()


def test_a_run_of_other_histories_is_not_done(tmp_path: Path) -> None:
    def of(name: str, last: int) -> PlannedRun:
        (tmp_path / name).mkdir()
        lines = [f"{user} {(user + k) % 9}" for user in range(3) for k in range(6)]
        (tmp_path / name / "own.txt").write_text("\n".join([*lines, f"2 {last}"]))
        return planned(tmp_path / "out", f"data.dir={tmp_path / name}", "data.path=own.txt")

    run = of("here", 1)
    written(run, asdict(run.settings))
    write_id_files(run.folder, run.settings)
    assert of("moved", 1).condition() is Condition.DONE
    with pytest.raises(FedmemError, match=r"other settings: data\.dir=.*here, with other hist"):
        of("other", 2).condition()


def test_a_place_that_can_be_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(FedmemError, match="taken/stage1/seed-0 can be no folder: Not a directory"):
        planned(tmp_path / "taken").make_ready()


def test_settings_that_came_up_after_a_run_do_not_make_it_another(tmp_path: Path) -> None:
    run = planned(tmp_path)
    run.make_ready()
    path = run.folder / RESULTS
    written: dict[str, Any] = {"settings": asdict(run.settings), "stages": [{"stopped": None}]}
    del written["settings"]["ablation"]["memory"]
    path.write_text(json.dumps(written))
    assert run.condition() is Condition.DONE
    del written["settings"]
    path.write_text(json.dumps(written))
    with pytest.raises(FedmemError, match=r"results\.json is damaged"):
        run.condition()


@pytest.mark.parametrize("name", ["plain", "with space", "a,b=[c]", "it's", "back\\'slash"])
def test_a_path_is_given_to_hydra_as_it_is(name: str, tmp_path: Path) -> None:
    composed = compose_settings([override("checkpoint.dir", tmp_path / name)])
    assert composed.checkpoint.dir == str(tmp_path / name)
