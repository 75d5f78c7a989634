"""Every check sees the fault that it is for, and is content with a run that is well."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data import write_id_files
from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.settings import LossWeights, Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.core.training.batches import RoundKey
from fedmem.doctor import __main__, environment, resources
from fedmem.doctor.case import Case
from fedmem.doctor.checkpoints import untouched
from fedmem.doctor.checks import CHECKS, examine
from fedmem.doctor.checks import preflight as preflight
from fedmem.doctor.finding import Finding, Level
from fedmem.runs import configuration, tracking
from tests.helpers.shared_runs import TrainOnce, WholeRun
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
FIRST, SECOND, THIRD = STAGES.values()
KEY = RoundKey(seed=0, stage="any", round=1)
BY_NAME = {check.name: check for check in CHECKS}
Change = Callable[[dict[str, Tensor]], None]


def fresh(case: Case, stage: Stage) -> dict[str, Tensor]:
    """What a stage without predecessors would start from."""
    items, model = case.interactions.num_items, case.settings.model
    return initial_parameters(model, stage, items, case.widths, case.settings.seed, {})


class Faulty:
    """The tiny federation, to be broken in one place."""

    def __init__(
        self, make: MakeSettings, data: Path, whole_run: WholeRun, patch: pytest.MonkeyPatch
    ) -> None:
        self.make = make
        self.data = data
        self.whole_run = whole_run
        self.patch = patch

    def rows(self, lines: list[str], *overrides: str) -> Case:
        (self.data / "ratings.dat").write_text("\n".join(lines) + "\n")
        return Case(self.make(*overrides))

    def features(self, change: Callable[[Tensor], Tensor]) -> Case:
        for name in ("visual_features.pt", "text_features.pt"):
            path = self.data / name
            torch.save(change(torch.load(path, weights_only=True).float()), path)
        return Case(self.make("stage=finetune_moe"))

    def checkpoints(self, change: Change, stage: str = "finetune_moe") -> Case:
        """Checkpoints of stages 1 and 2 as if trained, but for what `change` does to both."""
        case = Case(self.make(f"stage={stage}"))
        hashes: dict[str, str] = {}
        for made in (FIRST, SECOND):
            torch.manual_seed(1)
            parameters = {n: v + torch.randn(v.shape) * 0.1 for n, v in fresh(case, made).items()}
            if "sasrec.item_emb.weight" in parameters:
                torch.manual_seed(2)  # of both alike
                parameters["sasrec.item_emb.weight"].normal_(std=0.1)
            change(parameters)
            checkpoint = Checkpoint(
                stage=made.name,
                catalogue=case.interactions.fingerprint,
                model=case.settings.model,
                round=1,
                metrics={"sampled/HR@10": 0.5},
                parents=dict(hashes),
                parameters=parameters,
            )
            checkpoint.save(Path(case.settings.checkpoint.dir) / f"{made.name}.safetensors")
            hashes[made.name] = checkpoint.hash
        return Case(self.make(f"stage={stage}"))

    def run(self, change: Callable[[dict[str, dict[str, Any]]], None]) -> Case:
        """A finished run, but for what `change` does to its results."""
        settings = self.make()
        own = shutil.copytree(self.whole_run.settings.checkpoint.dir, settings.checkpoint.dir)
        results = {r.stage: asdict(r) for r in self.whole_run.results}
        for stage, result in results.items():
            result["checkpoint"] = str(Path(own) / f"{stage}.safetensors")
        change(results)
        folder = Path(settings.output_dir)
        folder.mkdir(exist_ok=True)
        write_id_files(folder, settings)
        return Case(settings, results, folder)

    def of_other_data(self) -> Case:
        """A finished run whose data are others now."""
        case = self.run(lambda _: None)
        assert case.folder is not None
        other = self.make("data.min_interactions=9")
        write_id_files(case.folder, other)
        return case

    def left(self, change: Change) -> Case:
        """A finished run, but for what `change` does to the last checkpoint."""

        def alter(results: dict[str, dict[str, Any]]) -> None:
            path = Path(results[THIRD.name]["checkpoint"])
            made = Checkpoint.load(path)
            change(made.parameters)
            made.save(path)

        return self.run(alter)


@pytest.fixture
def faulty(
    make_settings: MakeSettings,
    data_dir: Path,
    whole_run: WholeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> Faulty:
    return Faulty(make_settings, data_dir, whole_run, monkeypatch)


def short_histories(faulty: Faulty) -> Case:
    lines = [f"{user} {item} 1 {item}" for user in range(1, 25) for item in range(user, user + 3)]
    return faulty.rows([*lines, "1 30 1 30"], "data.min_interactions=3")


def untrained_items(parameters: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    parameters["sasrec.item_emb.weight"].normal_()


def not_a_number(parameters: dict[str, Tensor]) -> None:
    parameters["sasrec.norm.bias"][0] = torch.nan


def zero(*prefixes: str) -> Change:
    def change(parameters: dict[str, Tensor]) -> None:
        for name, value in parameters.items():
            if name.startswith(prefixes):
                value.zero_()

    return change


def one_expert_only(parameters: dict[str, Tensor]) -> None:
    parameters["router.weights.bias"][0] += 20


def spread_router(parameters: dict[str, Tensor]) -> None:
    torch.manual_seed(5)
    for name in ("router.hidden.weight", "router.weights.weight"):
        parameters[name].normal_(std=2.0)


def other_widths(faulty: Faulty) -> Case:
    faulty.checkpoints(lambda _: None)
    return faulty.features(lambda rows: rows[:, :5])


def too_little_memory(faulty: Faulty) -> Case:
    faulty.patch.setattr(resources, "memory_free", lambda: 1e9)
    return Case(faulty.make())


def a_file_in_the_way(faulty: Faulty) -> Case:
    (faulty.data / "file").touch()
    return Case(faulty.make(f"checkpoint.dir={faulty.data}/file/checkpoints"))


def old_packages(faulty: Faulty) -> Case:
    wanted = ["flwr<1", "a-package-that-nobody-has", "ray; extra == 'never'"]
    faulty.patch.setattr(environment.metadata, "requires", lambda _: wanted)
    return Case(faulty.make())


def no_cluster(faulty: Faulty) -> Case:
    def survey(address: str) -> None:
        raise FedmemError(f"No cluster answers at {address}.")

    faulty.patch.setattr("fedmem.core.machine.cluster.survey", survey)
    return Case(faulty.make("simulation.ray_address=127.0.0.1:1"))


def no_mlflow(faulty: Faulty) -> Case:
    faulty.patch.setattr(tracking.util, "find_spec", lambda _: None)
    return Case(faulty.make("tracking.mlflow=true"))


def no_gpu(faulty: Faulty) -> Case:
    faulty.patch.setattr(environment, "local_gpus", lambda: 0)
    return Case(faulty.make("simulation.device=cuda"))


def put(stage: str, **values: Any) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change(results: dict[str, dict[str, Any]]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                results[stage][key] |= value
            else:
                results[stage][key] = value

    return change


def fall(stage: str, before: float, after: float) -> Callable[[dict[str, dict[str, Any]]], None]:
    def change(results: dict[str, dict[str, Any]]) -> None:
        put(FIRST.name, test={HIT: before})(results)
        put(stage, test={HIT: after})(results)

    return change


OK, WARNING, PROBLEM = Level
HIT = "sampled/HR@10"
Fault = tuple[Callable[[Faulty], Case], Level, str]
FAULTS: dict[str, Fault] = {
    "interactions": (
        lambda f: Case(f.make("data.path=none.dat")),
        PROBLEM,
        "none.dat",
    ),
    "histories": (short_histories, WARNING, "23 of 24 users have no training target"),
    "round": (lambda f: Case(f.make("federation.fraction=0.04")), PROBLEM, "24 users is 1.0"),
    "rankings": (lambda f: Case(f.make("evaluation.negatives=39")), WARNING, "24 of 24 users"),
    "loss": (
        lambda f: Case(f.make("stage=pretrain_sasrec", "loss.identity=0")),
        PROBLEM,
        "pretrain_sasrec has no loss",
    ),
    "features": (lambda f: Case(f.make("data.visual_file=none.pt")), PROBLEM, "none.pt"),
    "coverage": (lambda f: f.features(torch.zeros_like), PROBLEM, "0% have pictures"),
    "duplicates": (lambda f: f.features(torch.ones_like), PROBLEM, "100% of the pictures"),
    "norms": (
        lambda f: f.features(lambda rows: rows * torch.eye(41)[:, :1].flip(0) * 999 + rows),
        WARNING,
        "longest",
    ),
    "quality": (lambda f: Case(f.make()), WARNING, "pictures"),
    "start": (lambda f: Case(f.make("model.item_start=content")), WARNING, "not likely to pay"),
    "threshold": (lambda f: Case(f.make("memory.threshold=2")), PROBLEM, "lets 0.0% in"),
    "checkpoints": (
        lambda f: Case(f.make("stage=align_projectors")),
        PROBLEM,
        "there is none: looked for",
    ),
    "values": (lambda f: f.checkpoints(not_a_number), PROBLEM, "first sasrec.norm.bias"),
    "item embeddings": (lambda f: f.checkpoints(untrained_items), PROBLEM, "that of a guess 3.689"),
    "trained parameters": (other_widths, PROBLEM, "projectors (12, 8) wide, the features (5, 5)"),
    "alignment": (
        lambda f: f.checkpoints(
            lambda p: [zero(n)(p) for n in ("visual_proj", "text_proj")] and None
        ),
        PROBLEM,
        "the projectors are zero",
    ),
    "memory": (too_little_memory, PROBLEM, "1.0 free"),
    "disk": (a_file_in_the_way, PROBLEM, "cannot be written to"),
    "versions": (old_packages, PROBLEM, "<1 is needed; a-package-that-nobody-has is missing"),
    "threads": (lambda f: Case(f.make("simulation.threads=64")), WARNING, "of 64 threads"),
    "trackers": (no_mlflow, PROBLEM, "tracking.mlflow=true needs MLflow"),
    "Ray": (no_cluster, PROBLEM, "No cluster answers at 127.0.0.1:1"),
    "GPU": (no_gpu, PROBLEM, "CUDA finds no GPU"),
    "data of the run": (lambda f: f.of_other_data(), PROBLEM, "are others than the run in"),
    "figures": (
        lambda f: f.run(put(SECOND.name, test={HIT: float("nan")})),
        PROBLEM,
        "align_projectors nan",
    ),
    "best round": (
        lambda f: f.run(put(THIRD.name, best_round=0)),
        WARNING,
        "0 of 2: early in",
    ),
    "stage 2": (
        lambda f: f.run(fall(SECOND.name, 0.7, 0.6)),
        WARNING,
        "HR@10 0.6000 after 0.7000",
    ),
    "stage 3": (
        lambda f: f.run(fall(THIRD.name, 0.7, 0.69)),
        WARNING,
        "HR@10 0.6900 after 0.7000",
    ),
    "memory filled": (
        lambda f: f.run(put(THIRD.name, memory={"lt_size": 0.0})),
        PROBLEM,
        "lt_size 0.0 of 6",
    ),
    "router": (lambda f: f.left(zero("router.weights")), WARNING, "alike for all items"),
    "load balance": (lambda f: f.left(one_expert_only), WARNING, "has least, 0.00"),
    "memory counts": (lambda f: f.left(zero("gating_weight.memory")), WARNING, "of memory 0.000"),
}


def see(case: Case, name: str) -> Finding:
    (finding,) = examine(case, [BY_NAME[name]])
    return finding


def test_a_checkpoint_that_knows_other_items_is_not_the_run_s(faulty: Faulty) -> None:
    case = faulty.of_other_data()
    assert "visual 0." in see(case, "router").figure
    items = Path(str(case.folder)) / "items.parquet"
    pq.write_table(pq.read_table(items).slice(1), items)
    assert "is of another run since" in see(case, "router").figure
    Path(case.results[THIRD.name]["checkpoint"]).unlink()
    assert "is gone" in see(case, "router").figure


def test_every_check_has_a_fault_and_a_name_of_its_own() -> None:
    assert list(FAULTS) == [check.name for check in CHECKS]


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_check_sees_its_fault(name: str, faulty: Faulty) -> None:
    make, level, words = FAULTS[name]
    finding = see(make(faulty), name)
    assert (finding.level, finding.check) == (level, name)
    assert words in finding.figure
    assert finding.advice or name in ("features", "trackers", "Ray", "GPU")


def test_a_kind_of_content_that_is_null_or_taken_out_is_left_out(faulty: Faulty) -> None:
    for override, kept, absent in (
        ("data.text_file=null", "pictures", "texts"),
        ("ablation.content=without_picture", "texts", "pictures"),
    ):
        case = Case(faulty.make(override))
        assert see(case, "features").figure.endswith(f" wide, no {absent}")
        for name in ("coverage", "duplicates", "norms", "quality"):
            figure = see(case, name).figure
            assert (kept in figure, absent in figure, "nan" in figure) == (True, False, False)


def test_vectors_of_too_few_neighbours_are_not_called_noise(faulty: Faulty) -> None:
    def of_one_item(rows: Tensor) -> Tensor:
        return torch.zeros_like(rows).index_put((torch.tensor([1]),), torch.tensor(1.0))

    finding = see(faulty.features(of_one_item), "quality")
    assert finding.figure.count("(too few neighbours have them)") == 2
    assert (finding.level, finding.advice) == (OK, "")


@pytest.mark.parametrize(
    "name", sorted(set(FAULTS) - {"quality", "start", "rankings", "memory counts"})
)
def test_a_check_is_content_where_its_fault_is_not(
    name: str, faulty: Faulty, train_once: TrainOnce
) -> None:
    if name == "item embeddings":
        train_once(faulty.make("stage=pretrain_sasrec"))
        case = Case(faulty.make("stage=align_projectors"))
    elif BY_NAME[name].after:
        equal = {stage: {HIT: 0.5} for stage in STAGES}

        def well(results: dict[str, dict[str, Any]]) -> None:
            for stage, test in equal.items():
                put(stage, test=test, best_round=2)(results)

        case = faulty.run(well) if name != "router" else faulty.left(spread_router)
    elif BY_NAME[name].look.__module__.endswith(".checkpoints"):
        case = faulty.checkpoints(lambda _: None)
        content = case.content
        if name == "alignment":  # the table is what the projectors make of content
            case = faulty.checkpoints(_aligned(content.visual, content.text))
    else:
        case = Case(faulty.make())
    finding = see(case, name)
    assert finding.level is OK, finding
    assert not finding.advice


def _aligned(visual: Tensor, text: Tensor) -> Change:
    def change(parameters: dict[str, Tensor]) -> None:
        torch.manual_seed(4)
        weights = {"visual_proj": visual, "text_proj": text}
        table = torch.zeros_like(parameters["sasrec.item_emb.weight"])
        for name, vectors in weights.items():
            projector = torch.randn(table.shape[1], vectors.shape[1]) * 0.1
            table += vectors @ projector.T
            if f"{name}.weight" in parameters:
                parameters[f"{name}.weight"].copy_(projector)
                parameters[f"{name}.bias"].zero_()
        parameters["sasrec.item_emb.weight"].copy_(table)

    return change


def test_only_what_matters_to_the_stages_is_looked_at(faulty: Faulty) -> None:
    names = {finding.check for finding in examine(Case(faulty.make("stage=pretrain_sasrec")))}
    assert names.isdisjoint({"features", "checkpoints", "alignment", "router"})
    assert {"interactions", "memory", "versions"} <= names


def test_one_mistake_is_reported_once(faulty: Faulty) -> None:
    settings = faulty.make("data.path=none.dat")
    findings = [f for f in examine(Case(settings)) if "none.dat" in f.figure]
    assert [finding.check for finding in findings] == ["interactions"]


def test_preflight_gives_warnings_and_raises_the_first_problem(faulty: Faulty) -> None:
    warned = preflight(Case(faulty.make("evaluation.negatives=39")))
    assert "rankings" in {finding.check for finding in warned}
    assert {finding.level for finding in warned} == {WARNING}
    with pytest.raises(FedmemError, match=r"fraction=0\.04.*\n.*federation\.fraction to at least"):
        preflight(Case(faulty.make("federation.fraction=0.04")))


def test_a_table_after_two_rounds_is_no_problem(faulty: Faulty, train_once: TrainOnce) -> None:
    train_once(faulty.make("stage=pretrain_sasrec"))
    assert see(Case(faulty.make("stage=align_projectors")), "item embeddings").level is not PROBLEM


@pytest.mark.parametrize("seed", range(3))
def test_a_whole_model_before_training_is_a_problem(seed: int, faulty: Faulty) -> None:
    """At the real width, where chance does not reach a loss below that of a guess."""
    wide = ("model.dim=128", f"seed={seed}")
    settings = faulty.make("stage=pretrain_sasrec", *wide)
    case = Case(settings)
    Checkpoint(
        stage=FIRST.name,
        catalogue=case.interactions.fingerprint,
        model=settings.model,
        round=1,
        metrics={},
        parents={},
        parameters=fresh(case, FIRST),
    ).save(Path(settings.checkpoint.dir) / "pretrain_sasrec.safetensors")
    finding = see(Case(faulty.make("stage=align_projectors", *wide)), "item embeddings")
    assert finding.level is PROBLEM, finding


@pytest.mark.parametrize("seed", range(3))
def test_rows_before_training_are_as_long_as_expected(seed: int) -> None:
    torch.manual_seed(seed)
    assert untouched(torch.randn(200, 128) * 0.02) > 0.99
    assert untouched(torch.randn(200, 128) * 0.04) == 0.0


def test_untouched_rows_by_hand() -> None:
    table = torch.full((4, 100), 0.02)
    table[0] *= 1.5
    assert untouched(table) == 0.75


def command(*arguments: str, patch: pytest.MonkeyPatch) -> int:
    patch.setattr(sys, "argv", ["doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    return int(ended.value.code or 0)


def test_the_command_ends_with_the_worst_level(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = faulty.make()
    monkeypatch.setattr(configuration, "compose_settings", lambda _: settings)
    assert command(patch=monkeypatch) == 1  # the features are noise
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("warning quality: ")]
    assert all(line.split()[0] in ("ok", "warning") for line in lines)
    broken = replace(settings, data=replace(settings.data, dir="nowhere"))
    monkeypatch.setattr(configuration, "compose_settings", lambda _: broken)
    assert command(patch=monkeypatch) == 2


def test_the_command_looks_at_a_finished_run(
    whole_run: WholeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--run", whole_run.settings.output_dir, patch=monkeypatch) in (0, 1)
    names = [
        line.split(":")[0].split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()
    ]
    assert names == [check.name for check in CHECKS if check.after]


@pytest.mark.parametrize("term", LossWeights.hints())
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_stage_has_a_loss_where_it_trains(
    stage: Stage, term: str, make_settings: MakeSettings
) -> None:
    alone = [f"loss.{other}={float(other == term)}" for other in LossWeights.hints()]
    settings = make_settings(f"stage={stage.name}", *alone)
    trainer = ready_node(settings, stage).trainer(stage)
    try:
        trains = any(x.any() for x in trainer.train_user(3, KEY).change.values())
    except RuntimeError:  # nothing that gradients would be of
        trains = False
    assert (BY_NAME["loss"].look(Case(settings)).level is OK) == trains


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"stages": []}', '{"settings": {}, "stages": [{}]}']
)
def test_a_damaged_result_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(FedmemError, match=r"results\.json"):
        Case.of_run(tmp_path)


def test_results_of_another_version_are_named(faulty: Faulty, tmp_path: Path) -> None:
    settings = json.loads(faulty.make().to_json())
    del settings["seed"]
    (tmp_path / "results.json").write_text(json.dumps({"settings": settings, "stages": []}))
    with pytest.raises(FedmemError, match="another version of fedmem: seed is missing"):
        Case.of_run(tmp_path)
