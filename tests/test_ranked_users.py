"""`evaluation.users`: a sample of the users is ranked, the same throughout, and results say so."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MessageType
from rich.console import Console

from fedmem.centralised import train_centrally
from fedmem.core.data.sampling import participants, sample_ranked
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import load_outcomes
from fedmem.core.evaluation.protocol import COLD_USERS, USERS, means
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.messaging.messages import EvaluateResult, Task
from fedmem.report.runs import read_run
from fedmem.report.study import Study
from fedmem.report.tables import tables_of
from fedmem.runs.progress import print_results
from fedmem.runs.records import StageResult
from tests.helpers.in_process_grid import InProcessGrid, Watcher

MakeSettings = Callable[..., Settings]
NOTE = "of 7 users drawn from 24 (evaluation.users)"
STAGES = ["pretrain_sasrec", "align_projectors", "finetune_moe"]


def run(settings: Settings) -> tuple[list[StageResult], Watcher, InProcessGrid]:
    """All stages, with each user's ranks of the test."""
    grid, watcher = InProcessGrid(int(settings.federation.nodes)), Watcher()
    return Run(settings, [watcher], keep_ranks=True)(grid), watcher, grid


def make_of(make_settings: MakeSettings, tmp_path: Path) -> MakeSettings:
    """Settings of runs that each have a folder of their own."""

    def make(name: str, *overrides: str) -> Settings:
        place = [f"output_dir={tmp_path / name}", f"checkpoint.dir={tmp_path / name / 'kept'}"]
        return make_settings("federation.rounds=1", *place, *overrides)

    return make


def test_the_same_users_are_ranked_in_all_stages_and_on_any_number_of_nodes(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    make = make_of(make_settings, tmp_path)
    everyone = make("all", "federation.nodes=2", "stage=pretrain_sasrec")
    (alone,), _, _ = run(everyone)
    assert (alone.ranked_users, alone.drawn_from) == (24, None)
    others = load_outcomes(Path(everyone.output_dir))[STAGES[0]][USERS]
    for nodes in (1, 3):
        settings = make(str(nodes), "evaluation.users=7", f"federation.nodes={nodes}")
        drawn = sample_ranked(settings, participants(settings))
        results, _, grid = run(settings)
        found = load_outcomes(Path(settings.output_dir))
        for stage, result in zip(STAGES, results, strict=True):
            ranks = found[stage][USERS]
            assert ranks.users.tolist() == drawn.tolist()
            assert means(ranks.sums()) == pytest.approx(result.test)
            assert (result.ranked_users, result.drawn_from) == (7, 24)
            if stage == STAGES[0]:  # whose only round is the best, whoever is ranked
                for name, own in ranks.ranks.items():
                    assert own.tolist() == others.ranks[name][drawn].tolist()
        evaluations = [
            (Task.from_record(message.content), EvaluateResult.from_record(reply.content))
            for message, reply in grid.log
            if message.metadata.message_type == MessageType.EVALUATE and "sums" in reply.content
        ]
        asked: dict[tuple[str, str, int], list[int]] = {}
        for task, reply in evaluations:
            assert task.users is not None
            assert reply.sums[USERS] == len(task.users)
            key = task.stage, task.split, task.round
            asked[key] = sorted([*asked.get(key, []), *task.users.tolist()])
        assert len(asked) == 3 + 3 + 2  # a test and a validation each, two of them of round 0 too
        assert all(users == drawn.tolist() for users in asked.values())


def test_a_node_with_nobody_to_rank_takes_part(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_of(make_settings, tmp_path)(
        "one", "evaluation.users=1", "evaluation.cold_items=0.2", "federation.nodes=2"
    )
    results, _, _ = run(settings)
    assert [result.ranked_users for result in results] == [1, 1, 1]
    cold = load_outcomes(Path(settings.output_dir))["finetune_moe"][COLD_USERS]
    assert len(cold.users) <= 1
    memory = results[-1].memory
    assert memory is not None  # which everybody has, ranked or not
    everybody = len(participants(settings))
    assert memory["st_capacity"] == everybody * settings.memory.short_term_capacity


def test_pooled_training_ranks_the_same_users(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_of(make_settings, tmp_path)(
        "pooled", "evaluation.users=7", "centralised.epochs=1"
    )
    _, (result,) = train_centrally(settings)
    ranks = load_outcomes(Path(settings.output_dir))["centralised"][USERS]
    assert ranks.users.tolist() == sample_ranked(settings, np.arange(24)).tolist()
    assert (result.ranked_users, result.drawn_from) == (7, 24)


def test_results_table_and_report_say_whom_the_figures_are_of(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    make = make_of(make_settings, tmp_path)
    found = {}
    for asked in ("7", "25", "null"):
        settings = make(asked, "stage=pretrain_sasrec", f"evaluation.users={asked}")
        results, _, _ = run(settings)
        console = Console(file=io.StringIO(), width=100)
        print_results(results, settings, console)
        (stage,) = json.loads((tmp_path / asked / "results.json").read_text())["stages"]
        found[asked] = stage["test"]
        study = Study.of([read_run(tmp_path / asked)])
        (block,) = tables_of(study)["arms"].blocks
        texts = (console.file.getvalue(), block.note)  # type: ignore[attr-defined]
        sampled = asked == "7"
        assert [NOTE in text for text in texts] == [sampled, sampled]
        assert (stage["ranked_users"], stage["drawn_from"]) == ((7, 24) if sampled else (24, None))
    assert found["25"] == found["null"] != found["7"]  # more than there are: all


def test_runs_of_one_seed_are_paired_on_the_sample(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    make = make_of(make_settings, tmp_path)
    asked = ("stage=pretrain_sasrec", "federation.nodes=1")
    for name, own in {
        "a": ("evaluation.users=7",),
        "b": ("evaluation.users=7", "strategy.learning_rate=0.1"),
        "c": (),
    }.items():
        run(make(name, *asked, *own))
    study = Study.of([read_run(tmp_path / name) for name in "abc"])
    assert {found.users for each in study.contrasts for found in each.differences} == {7}
    assert len(study.contrasts) == 2


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "some"])
def test_a_sample_that_can_be_none_is_refused_in_a_line(
    make_settings: MakeSettings, value: str
) -> None:
    with pytest.raises(FedmemError, match=r"evaluation\.users=\S+ is ") as refused:
        make_settings(f"evaluation.users={value}")
    assert len(str(refused.value).splitlines()) == 1
