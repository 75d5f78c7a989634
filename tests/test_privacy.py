"""Private federations on the tiny data: one ledger, the same bits again, nothing beside it."""

from __future__ import annotations

import io
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message, MessageType
from rich.console import Console

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.checkpoint.inspection import inspect
from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import content_hash
from fedmem.core.privacy import ledger, plan
from fedmem.core.settings import Settings
from fedmem.core.updates.private import PrivateUpdates
from fedmem.core.updates.update import UserUpdates
from fedmem.messaging.messages import Task, from_array_record, update_from_record
from fedmem.runs.folder import RunFolder
from fedmem.runs.progress import print_results
from tests.helpers.in_process_grid import InProcessGrid, run_in_process
from tests.helpers.interruptions import let_go_on, outcome, photographed, run_anew
from tests.helpers.shared_runs import load_all

MakeSettings = Callable[..., Settings]
KEY = "5e" * 32
PRIVATE = ("privacy=central", "privacy.delta=1e-3", "privacy.schedule=every_k")
STAGE_1 = (*PRIVATE, "stage=pretrain_sasrec")


class Killed(BaseException):
    """The end of a process, which writes nothing more."""


class Seen:
    """What nodes see of the parameters after each round, in a run that may be killed.

    Attributes:
        by_round: hashes of the parameters.
        left: messages until the run is killed; None: it is not, and users train otherwise.
    """

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.by_round: dict[int, set[str]] = defaultdict(set)
        self.left: int | None = None
        push, move, bound = (
            InProcessGrid.push_messages,
            RunFolder._move,
            PrivateUpdates.at_user,
        )

        def pushed(grid: InProcessGrid, messages: Iterable[Message]) -> Iterable[str]:
            for message in messages:
                self._look(message)
                yield from push(grid, [message])

        def moved(folder: RunFolder, **changes: Any) -> None:
            self._live()
            move(folder, **changes)

        def bounded(own: PrivateUpdates, updates: UserUpdates) -> UserUpdates:
            found = bound(own, updates)
            sign = 1 if self.left is not None else -1
            return replace(found, change={n: sign * x for n, x in found.change.items()})

        patched.setattr(InProcessGrid, "push_messages", pushed)
        patched.setattr(RunFolder, "_move", moved)
        patched.setattr(PrivateUpdates, "at_user", bounded)

    def _live(self) -> None:
        if self.left is not None and self.left <= 0:
            raise Killed

    def _look(self, message: Message) -> None:
        self._live()
        if self.left is not None:
            self.left -= 1
        if "scope" in message.content:
            task = Task.from_record(message.content)
            number = task.round - (message.metadata.message_type == MessageType.TRAIN)
            self.by_round[number].add(content_hash(from_array_record(task.scope)))


@pytest.fixture(autouse=True)
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "new_key", lambda: KEY)


def test_three_stages_spend_one_budget(make_settings: MakeSettings) -> None:
    settings = make_settings(*PRIVATE)
    results, watcher, _ = run_in_process(settings)
    spent = [record.epsilon for record in watcher.records]
    assert spent == sorted(spent)
    assert results[-1].epsilon == pytest.approx(8.0, rel=5e-3)
    assert results[-1].epsilon <= 8.0
    assert [result.memory for result in results] == [None] * 3  # exact figures of histories
    checkpoints = load_all(settings)
    names = [each["of"] for each in checkpoints["finetune_moe"].released or []]
    assert names == [name for stage in settings.stage for name in (stage, f"figures of {stage}")]
    console = Console(file=io.StringIO(), width=120)
    console.print(inspect(Path(results[-1].checkpoint)))
    print_results(results, settings, console)
    assert f"ε {results[-1].epsilon:.3f} of 8 at δ 0.001 is spent" in console.file.getvalue()  # type: ignore[attr-defined]
    assert f"ε {results[-1].epsilon:.3f} at δ 0.001" in console.file.getvalue()  # type: ignore[attr-defined]
    again = make_settings(*PRIVATE, "stage=finetune_moe", "privacy.epsilon=6")
    with pytest.raises(FedmemError, match=r"privacy\.epsilon=6 is spent"):
        run_in_process(again)


@pytest.mark.parametrize("schedule", ["poisson", "every_k", "all"])
def test_any_number_of_nodes_gives_the_same_private_parameters(
    make_settings: MakeSettings, tmp_path: Path, schedule: str
) -> None:
    share = "federation.fraction=1" if schedule == "all" else "federation.fraction=0.5"
    found = []
    for nodes in (1, 3):
        place = tmp_path / str(nodes)
        settings = make_settings(
            *STAGE_1,
            f"privacy.schedule={schedule}",
            share,
            f"federation.nodes={nodes}",
            f"checkpoint.dir={place}",
            f"output_dir={place / 'run'}",
        )
        run_in_process(settings)
        found.append(Checkpoint.load(place / "pretrain_sasrec.safetensors").parameters)
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-5)


def test_a_private_round_shows_neither_losses_nor_counts_nor_a_choice(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(*STAGE_1, "federation.rounds=4")
    results, watcher, grid = run_in_process(settings)
    assert [record.loss for record in watcher.records] == [None] * 4
    assert {record.users for record in watcher.records} == {12}  # expected, not counted
    assert [record.validation is None for record in watcher.records] == [True, True, True, False]
    assert results[0].best_round == 4
    updates = [update_from_record(r.content) for m, r in grid.log if "train" in str(m.metadata)]
    trained = [u for u in updates if u.users]
    assert trained
    assert all(update.loss == 0.0 and update.norm <= 1.001 for update in trained)


def test_figures_are_noised_and_exact_ones_are_asked_for(make_settings: MakeSettings) -> None:
    noised, exact = (
        run_in_process(make_settings(*STAGE_1, "privacy.noise=900", *more))[0][0]
        for more in ((), ("privacy.figures=exact",))
    )
    assert noised.test != exact.test
    assert all(0.0 <= value <= 1.0 for value in noised.test.values())
    users = 24
    assert exact.test["sampled/HR@10"] * users == pytest.approx(
        round(exact.test["sampled/HR@10"] * users)
    )


def test_a_stopped_private_run_goes_on_to_the_same_bits_and_one_ledger(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(*STAGE_1, "privacy.mechanism=banded")
    camera = photographed(settings, tmp_path / "album")
    expected = outcome(settings)
    for moment, kept in camera.pictures[1::9]:
        camera.restore(kept)
        let_go_on(Path(settings.output_dir))
        assert outcome(settings) == expected, moment
    released = load_all(settings)["pretrain_sasrec"].released or []
    assert [each["times"] for each in released] == [2, 2]  # rounds, figures


def test_no_round_is_seen_twice_though_users_train_otherwise_after_a_kill(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first round is not validated, the second is.
    often = ("federation.evaluate_every=2", "privacy.figures=exact", "federation.nodes=1")
    settings = make_settings(*STAGE_1, *often, "privacy.mechanism=banded")
    seen = Seen(monkeypatch)
    for fatal in itertools.count(1):
        seen.by_round.clear()
        seen.left = fatal
        try:
            run_anew(settings)
            break
        except Killed:
            seen.left = None
        let_go_on(Path(settings.output_dir))
        # Before the first round, and after both.
        assert {number: len(each) for number, each in seen.by_round.items()} == {0: 1, 1: 1, 2: 1}
    assert fatal == 6  # who is there; twice to train; the validation, the test


def test_without_privacy_nothing_is_kept_of_it(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=pretrain_sasrec")
    results, watcher, _ = run_in_process(settings)
    assert results[0].epsilon is None
    assert {record.epsilon for record in watcher.records} == {None}
    assert load_all(settings)["pretrain_sasrec"].released is None
    with pytest.raises(FedmemError, match="trained without privacy"):
        run_in_process(make_settings(*PRIVATE, "stage=align_projectors"))


def test_a_node_that_does_not_bound_its_updates_is_left_out(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrivateUpdates, "at_user", lambda _, updates: updates)
    settings = make_settings(*STAGE_1, "client.learning_rate=1000")
    with pytest.raises(FedmemError, match="bounded updates have at most 1"):
        run_in_process(settings, InProcessGrid(2))


def test_the_ledger_counts_rounds_once_each() -> None:
    one = ledger.Ledger(1e-5, 2.0, KEY)
    for _ in range(3):
        one = one.charged(plan.Release("pretrain_sasrec", 2.0))
    assert one.releases == (plan.Release("pretrain_sasrec", 2.0, 3),)
