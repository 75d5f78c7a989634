"""Real nodes that answer badly: each is named, and a round comes to what it does without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from flwr.app import Error, Message
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.updates.update import Update
from fedmem.federation.server_app import Run
from fedmem.messaging.messages import update_from_record, update_to_record
from fedmem.runs.folder import STATE, RunFolder
from fedmem.runs.state import RunState
from tests.helpers.in_process_grid import InProcessGrid, run_on
from tests.helpers.settings import small_settings
from tests.helpers.small_world import write_small_data

MakeSettings = Callable[..., Settings]
Spoil = Callable[[Message], Message]
ASKED = ("stage=pretrain_sasrec", "federation.nodes=3", "federation.evaluate_every=2")
BAD = 101


def spoiled(change: Callable[[Update], Update]) -> Spoil:
    """What makes another result of training of one."""

    def spoil(reply: Message) -> Message:
        reply.content = update_to_record(change(update_from_record(reply.content)))
        return reply

    return spoil


@spoiled
def no_numbers(result: Update) -> Update:
    name = "sasrec.item_emb.weight"
    return replace(
        result, change={**result.change, name: torch.full_like(result.change[name], torch.nan)}
    )


@spoiled
def a_name_too_many(result: Update) -> Update:
    return replace(result, change={**result.change, "router.bias": torch.zeros(3)})


@spoiled
def a_weight_of_billions(result: Update) -> Update:
    return replace(result, weight=10**9)


def a_failure(reply: Message) -> Message:
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "OSError: disk full")
    return make_message(reply.metadata, error=error)


def bad_from(first: int, spoil: Spoil) -> InProcessGrid:
    """Three nodes, one of which answers badly from its so many-th training on."""
    trained = 0

    def tamper(reply: Message) -> Message:
        nonlocal trained
        if (reply.metadata.message_type, reply.metadata.src_node_id) != ("train", BAD):
            return reply
        trained += 1
        return spoil(reply) if trained >= first else reply

    return InProcessGrid(3, tamper)


class WithoutIt(InProcessGrid):
    """The same nodes, of which that one has told who lives there, and was never seen again."""

    met = False

    def get_node_ids(self) -> Iterable[int]:
        connected = [node for node in self.contexts if not (self.met and node == BAD)]
        self.met = True
        return connected


def trained_in(settings: Settings) -> str:
    return Checkpoint.load(Path(settings.checkpoint.dir) / "pretrain_sasrec.safetensors").hash


@pytest.fixture(scope="module")
def without_it(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What comes of a run that the bad node takes no part in."""
    return hash_of(WithoutIt(3), tmp_path_factory.mktemp("without_it"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What comes of a run in which nobody answers badly."""
    return hash_of(InProcessGrid(3), tmp_path_factory.mktemp("undisturbed"))


def hash_of(grid: InProcessGrid, place: Path) -> str:
    torch.set_num_threads(1)
    write_small_data(place / "data")
    settings = small_settings(place, *ASKED)
    run_on(grid, settings)
    return trained_in(settings)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_numbers, "its change or its loss is not finite"),
        (a_name_too_many, "offers parameters outside the scope of pretrain_sasrec: router.bias"),
        (a_weight_of_billions, "claims 1000000000 targets"),
        (a_failure, "failed: OSError: disk full"),
    ],
)
def test_a_round_is_what_it_is_without_the_bad_reply(
    spoil: Spoil, reason: str, make_settings: MakeSettings, without_it: str, undisturbed: str
) -> None:
    settings = make_settings(*ASKED)
    records = run_on(bad_from(1, spoil), settings).records
    assert len(records) == 2
    for record in records:
        (line,) = [*record.refused, *record.nodes]
        assert line.startswith(f"node {BAD}: ")
        assert reason in line
    assert trained_in(settings) == without_it != undisturbed


@pytest.mark.parametrize("spoil", [no_numbers, a_failure])
def test_with_too_few_replies_the_run_stops_and_goes_on_from_its_last_round(
    spoil: Spoil, make_settings: MakeSettings, undisturbed: str
) -> None:
    settings = make_settings(*ASKED, "strategy.min_nodes=3")
    words = rf"round 2: 2 usable replies, and 3 are needed .*min_nodes.*: node {BAD}: "
    with pytest.raises(FedmemError, match=words):
        run_on(bad_from(2, spoil), settings)
    path = Path(settings.output_dir)
    stage = RunState.load(path / STATE).stage
    assert stage is not None
    assert stage.round == 1
    assert all(torch.isfinite(value).all() for value in stage.parameters.values())
    with RunFolder.go_on(path) as folder:
        Run(folder.state.settings, [], folder=folder)(InProcessGrid(3))
    assert trained_in(settings) == undisturbed
