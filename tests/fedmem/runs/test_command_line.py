"""A mistake on the command line is told in a line, with the key and what would be right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf

from fedmem.core.errors import FedmemError
from fedmem.core.machine import placement
from fedmem.core.machine.placement import Machine
from fedmem.runs.command_line import check_command_line, jobs_at_a_time, settings_first
from fedmem.runs.configuration import choices, readable

MISTAKES = {
    # unknown keys, with the nearest
    "evaluation.user=5": "did you mean evaluation.users?",
    "federation.fracton=1": "federation.fracton is no setting: did you mean federation.fraction?",
    "+federation.fracton=1": "did you mean federation.fraction?",
    "++federation.fracton=1": "did you mean federation.fraction?",
    "rounds=3": "did you mean federation.rounds?",
    "learning_rate=3": "did you mean client.learning_rate or strategy.learning_rate or",
    "memory.dim=3": "did you mean model.dim?",
    "stag=all": "did you mean stage?",
    "strategy.min_fit_clients=2": "did you mean strategy.min_nodes?",
    "stages=[align_projectors,finetune_moe]": "stages is no setting: did you mean stage?",
    "stage.finetune.rounds=3": "did you mean stage.finetune_moe.rounds?",
    "stage.finetune_moe.loss.scor=1": "did you mean stage.finetune_moe.loss.score?",
    "stage=all +stage.finetune_moe.scor=1": "stage.finetune_moe.scor is no setting",
    "stage=pretrain_sasrec stage.finetune_moe.rounds=9": "choose its stage too, as stage=[",
    "xyzzy=1": "xyzzy is no setting: conf/ lists them all.",
    "hydra.nope=1": "hydra.nope is no setting of Hydra.",
    "~xyzzy": "xyzzy is no setting",
    # choices
    "stage=pretrain": "stage=pretrain is unknown: did you mean pretrain_sasrec?",
    "data=ml1m": "did you mean ml-1m?",
    "experiment=nope": "experiment=nope is unknown: choose one of amazon-beauty-bytes, ",
    "+experiment=ml-1m": "write experiment=ml-1m, without +",
    "experiment=null": "experiment=null is unknown",
    "model=3": "model=3 is unknown: choose one of default",
    "data=[ml-1m,nope]": "data=nope is unknown",
    "hydra/launcher=nope": "hydra/launcher=nope is unknown",
    # forms
    "seed": "seed has no value: write seed=VALUE",
    "=3": "=3 has no key",
    "seed=0,1": "add -m to run each of them",
    "+seed=1": "write seed=VALUE, without +",
    "~seed": "seed is missing",
    "~data": "data.name",
    "model.experts=[visual": "Quote a value twice",
    "a=b=c": "Quote a value twice",
    '"data.dir=it\'s"': "Quote a value twice",
    "'data.dir=${nope}'": "data.dir: Interpolation key 'nope' not found",
    # flags
    "--num_rounds 3": "--num_rounds is no flag: settings are given as key=value. "
    "Did you mean federation.rounds? docs/migration.md has a table of flags.",
    "--stage=pretrain": "Did you mean stage?",
    "--xyzzy": "--xyzzy is no flag",
    "--cfg nope": "The command line cannot be read",
    "--cfg": "The command line cannot be read",
    # types
    "model.dim=many": "model.dim=many is of the wrong type: expected a whole number.",
    "model.dim=true": "expected a whole number",
    "model.dim=1.5": "expected a whole number",
    "model.dim=null": "model.dim=null is of the wrong type",
    "client.learning_rate=inf": "expected a finite number",
    "client.learning_rate=nan": "expected a finite number",
    "federation.rounds=few": "expected a whole number or null",
    "model.experts=visual": "expected a list of texts, as [a,b]",
    "model.experts=[1]": "expected a list of texts",
    "checkpoint.dir=5": "expected text",
    "federation=fast": "federation=fast is of the wrong type: it holds rounds,",
    "stage.finetune_moe.loss.score=null": "score=null is of the wrong type: expected a finite",
    "~stage.finetune_moe.loss.score": "stage.finetune_moe.loss.score is missing",
    "+stage.finetune_moe.loss=3": "loss has a value already",
    # ranges and contradictions
    "stage.align_projectors.rounds=0": "stage.align_projectors.rounds=0 is out of range: at least",
    "stage.finetune_moe.loss.score=-1": "stage.finetune_moe.loss.score=-1 is out of range",
    "memory.threshold=3": "memory.threshold=3 is out of range: in [0, 2], or auto.",
    "model.dropout=1.5": "model.dropout=1.5 is out of range: in [0, 1).",
    "memory.merge_similarity=3": "memory.merge_similarity=3 is out of range",
    "memory.surprise_threshold=-1": "memory.surprise_threshold=-1 is out of range: at least 0",
    "memory.threshold=true": "expected a finite number or auto",
    "memory.top_k=300": "at most 250, what both tiers hold together",
    "client.execution=batched client.local_steps=2": "with client.local_steps=2",
    # sweeps: the last run's mistake too
    "-m seed=0,1 client.learning_rate=1,-1": "client.learning_rate=-1 is out of range",
    "-m model.dim=64,100 model.heads=4,8": "model.heads=8 is out of range: must divide dim 100",
    "-m stage=all,nope": "stage=nope is unknown",
    "-m seed=range(3) rounds=1": "did you mean federation.rounds?",
}


@pytest.mark.parametrize("line", list(MISTAKES))
def test_a_mistake_is_told_in_a_line_or_two(line: str) -> None:
    with pytest.raises(FedmemError) as caught:
        check_command_line(shlex.split(line))
    message = str(caught.value)
    assert MISTAKES[line] in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize(
    "line",
    [
        "",
        "stage=all seed=3",
        "experiment=ml-1m",
        "-m seed=0,1 stage=pretrain_sasrec,align_projectors",
        "-m 'stage=glob(*)'",
        "--multirun 'seed=range(2)'",
        "stage=pretrain_sasrec -m seed=0,1",
        "--cfg job",
        "--help",
        "hydra.run.dir=x",
        "\"data.dir='a, b'\"",
        "--config-dir somewhere experiment=of_somewhere",
    ],
)
def test_what_hydra_takes_is_let_through(line: str) -> None:
    check_command_line(shlex.split(line))


@pytest.mark.parametrize(
    ("line", "ordered"),
    [
        ("-m seed=0,1", "seed=0,1 -m"),
        ("data=ml-1m -m seed=0,1 stage=all", "data=ml-1m seed=0,1 stage=all -m"),
        ("--cfg job seed=1", "seed=1 --cfg job"),
        ("seed=1 --info", "seed=1 --info"),
    ],
)
def test_settings_may_stand_on_both_sides_of_a_flag(line: str, ordered: str) -> None:
    assert settings_first(line.split()) == ordered.split()


def test_a_launcher_that_is_an_extra_says_so_where_it_is_missing() -> None:
    error = MissingConfigException("Could not find 'hydra/launcher/joblib'", "joblib")
    assert readable(error) == (
        "hydra/launcher=joblib is not installed: pip install 'fedmem[sweeps]'."
    )


@pytest.mark.parametrize(
    ("mode", "launcher", "jobs"),
    [
        (RunMode.RUN, {"n_jobs": 3}, 1),
        (RunMode.MULTIRUN, {}, 1),  # Hydra's own: they take turns
        (RunMode.MULTIRUN, {"n_jobs": None}, 1),
        (RunMode.MULTIRUN, {"n_jobs": 3}, 3),
        (RunMode.MULTIRUN, {"n_jobs": -1}, 8),
        (RunMode.MULTIRUN, {"n_jobs": -2}, 7),
    ],
)
def test_jobs_at_a_time_are_those_of_the_launcher(
    mode: RunMode, launcher: dict[str, int], jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = OmegaConf.create({"launcher": launcher, "mode": mode})
    monkeypatch.setattr(HydraConfig, "get", lambda: called)
    monkeypatch.setattr(placement, "this_machine", lambda: Machine(cpus=8, gpus=0))
    assert jobs_at_a_time() == jobs


def test_choices_are_those_of_the_folders() -> None:
    conf = Path(__file__).parents[3] / "conf"
    for group, names in choices().items():
        assert names == sorted(path.stem for path in (conf / group).glob("*.yaml"))
    assert {"data", "experiment", "memory", "model", "simulation", "stage", "strategy"} <= set(
        choices()
    )
