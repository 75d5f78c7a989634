"""Whole federations whose messages are coded: the same bits whatever happens to the nodes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message, RecordDict

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.model.parameters import content_hash, initial_parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.transport.codec import Codec, shapes_of
from fedmem.core.transport.payload import HEADER, Shapes
from fedmem.federation import client_app, kept_nodes
from fedmem.federation.parameter_store import ParameterStore
from fedmem.federation.server_app import Run
from fedmem.messaging.messages import CODED, NeedsScope, Task, from_coded_record, to_coded_record
from fedmem.messaging.packing import pack_messages_of
from fedmem.runs.folder import FROZEN, RunFolder
from tests.helpers.in_process_grid import InProcessGrid, Watcher, run_in_process
from tests.helpers.interruptions import AT_THE_EDGE, let_go_on, outcome, photographed
from tests.helpers.settings import small_settings
from tests.helpers.small_world import write_small_data

MakeSettings = Callable[..., Settings]
STAGE = ("stage=pretrain_sasrec", "federation.rounds=4")
TRANSPORTS = ("int4", "coded", "signs")


def _trained(settings: Settings) -> dict[str, torch.Tensor]:
    path = Path(settings.checkpoint.dir) / "pretrain_sasrec.safetensors"
    return Checkpoint.load(path).parameters


def trained_in(settings: Settings, stage: str = "pretrain_sasrec") -> str:
    return Checkpoint.load(Path(settings.checkpoint.dir) / f"{stage}.safetensors").hash


def tasks(grid: InProcessGrid, kind: str) -> list[Task]:
    return [Task.from_record(m.content) for m, _ in grid.log if m.metadata.message_type == kind]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_messages_are_small_and_validations_bring_what_training_needs(
    transport: str, make_settings: MakeSettings
) -> None:
    asked = make_settings(*STAGE, f"transport={transport}", "federation.fraction=1.0")
    _, watcher, grid = run_in_process(asked)
    trained, ranked = tasks(grid, "train"), tasks(grid, "evaluate")
    assert not any(task.scope for task in trained)  # the start is made from the seed
    assert not any(task.steps for task in trained)  # they are there since the validation
    assert [len(task.steps) for task in ranked[:8]] == [1] * 8
    scope = sum(value.numel() * 4 for value in _trained(asked).values())
    assert all(record.bytes_down < 2 * scope / 5 for record in watcher.records)
    for record in watcher.records:
        assert record.refused == []
        assert record.bytes_down == sum(record.traffic["train_down"].values())
        assert record.bytes_up == sum(record.traffic["train_up"].values())
        both = (record.traffic[f"evaluate_{way}"] for way in ("down", "up"))
        assert record.evaluation_bytes == sum(sum(kinds.values()) for kinds in both)
        assert record.traffic["evaluate_down"]["scope"] == 0 < record.traffic["train_up"]["coded"]


def test_what_is_kept_is_what_the_nodes_hold(make_settings: MakeSettings) -> None:
    asked = make_settings("transport=coded")
    _, watcher, grid = run_in_process(asked)
    assert {record.stage for record in watcher.records} == set(asked.stage)
    tested = [task for task in tasks(grid, "evaluate") if task.split == "test"]
    for stage in asked.stage:
        checkpoint = Checkpoint.load(Path(asked.checkpoint.dir) / f"{stage}.safetensors")
        scope, _ = STAGES[stage].split(checkpoint.parameters)
        kept = content_hash({name: checkpoint.parameters[name] for name in scope})
        ranked = {task.path[-1] for task in tested if task.stage == stage}
        last = checkpoint.round == asked.federation.rounds  # which are held with the optimizer's
        assert last or ranked == {kept}


def test_a_start_that_a_node_does_not_draw_alike_is_sent(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = make_settings(*STAGE, "transport=coded")
    run_in_process(asked)
    alike = trained_in(asked)
    drawn = client_app._fresh
    monkeypatch.setattr(
        client_app, "_fresh", lambda *of: {n: v + 1e-7 for n, v in drawn(*of).items()}
    )
    kept_nodes.scope_store.cache_clear()
    _, _, grid = run_in_process(asked)
    assert trained_in(asked) == alike
    lacking = [NeedsScope.is_in(reply.content) for _, reply in grid.log]
    assert sum(lacking) == 2  # both nodes, once


def test_few_rows_of_a_large_catalogue_travel(make_settings: MakeSettings) -> None:
    asked = make_settings(
        *STAGE, "transport=coded", "client.candidates=3", "client.windows=1",
        "model.max_length=3", "strategy.lazy=true", "federation.fraction=0.1",
        "federation.rounds=1", "federation.nodes=1",
    )  # fmt: skip
    _, _, grid = run_in_process(asked)
    (task,) = tasks(grid, "train")
    (update,) = [r for m, r in grid.log if m.metadata.message_type == "train"]
    codec, parameters = Codec(asked.transport), _trained(asked)
    shapes = shapes_of(parameters)
    (data,) = from_coded_record(update.content.array_records[CODED])
    up = codec.from_bytes(data, shapes)["sasrec.item_emb.weight"]
    (ranked, *_) = [each for each in tasks(grid, "evaluate") if each.steps]
    (data,) = from_coded_record(ranked.steps)
    down = codec.from_bytes(data, shapes)["sasrec.item_emb.weight"]
    assert task.users is not None
    assert 3 <= len(up.rows) <= 3 + 4 * len(task.users) < 40
    assert up.rows.tolist() == down.rows.tolist()


class Forgetful(InProcessGrid):
    """Nodes that lose what they hold before every so many-th message."""

    def __init__(self, nodes: int, folder: Path, every: int) -> None:
        super().__init__(nodes)
        self._folder, self._every = folder, every

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            if len(self.log) % self._every == self._every - 1:
                kept_nodes.scope_store.cache_clear()
                shutil.rmtree(self._folder, ignore_errors=True)
            yield from super().push_messages([message])


def test_a_node_that_lost_what_it_held_is_sent_all_of_it(make_settings: MakeSettings) -> None:
    asked = make_settings(*STAGE, "transport=coded")
    run_in_process(asked)
    undisturbed = trained_in(asked)
    folder = Path(asked.output_dir) / FROZEN / kept_nodes.SCOPE
    _, _, grid = run_in_process(asked, Forgetful(2, folder, 4))
    assert trained_in(asked) == undisturbed
    assert any(NeedsScope.is_in(reply.content) for _, reply in grid.log)
    for message, reply in grid.log:
        if NeedsScope.is_in(reply.content):
            assert (
                reply.content.config_records["needs-scope"]["hash"]
                == (Task.from_record(message.content).path[-1])
            )


class Away(InProcessGrid):
    """Nodes of which one is not there in some rounds; each keeps what it holds for itself."""

    def __init__(self, nodes: int, place: Path, away: Iterable[int]) -> None:
        super().__init__(nodes)
        self._place, self._away, self.rounds = place, set(away), 0

    def get_node_ids(self) -> list[int]:
        missing = self.rounds in self._away
        return [node for node in self.contexts if not (missing and node == 101)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            if message.metadata.message_type in ("train", "evaluate"):
                self.rounds = Task.from_record(message.content).round
                store = ParameterStore(self._place / str(message.metadata.dst_node_id))
                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(client_app, "scope_store", lambda _, own=store: own)
                    yield from super().push_messages([message])
            else:
                yield from super().push_messages([message])


def test_a_node_that_was_away_is_sent_the_steps_that_it_missed(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    asked = make_settings(
        *STAGE, "transport=coded", "federation.rounds=7", "federation.evaluate_every=7",
        "federation.fraction=1.0",
    )  # fmt: skip
    grid = Away(2, tmp_path, away=(3, 4))  # asked for before the message of the next round
    watcher = Watcher()
    with RunFolder.start(asked) as folder:
        Run(asked, [watcher], folder=folder)(grid)
    own = [
        Task.from_record(message.content)
        for message, _ in grid.log
        if message.metadata.dst_node_id == 101 and message.metadata.message_type == "train"
    ]
    assert [(task.round, len(task.steps), bool(task.scope)) for task in own] == [
        (1, 0, False), (2, 1, False), (3, 1, False), (6, 3, False), (7, 1, False)
    ]  # fmt: skip
    assert not any(NeedsScope.is_in(reply.content) for _, reply in grid.log)
    assert any("is back" in line for record in watcher.records for line in record.nodes)


@pytest.mark.parametrize("every", [170, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    every: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("coded")
    write_small_data(place / "data")
    asked = small_settings(place, *AT_THE_EDGE, "transport=coded", "federation.rounds=3")
    camera = photographed(asked, place / "album")
    expected = without_bytes(outcome(asked))
    for moment, kept in camera.pictures[1::every]:
        camera.restore(kept)
        let_go_on(Path(asked.output_dir))
        assert without_bytes(outcome(asked)) == expected, moment


def without_bytes(found: dict[str, Any]) -> str:
    """A run that goes on sends full copies again."""
    text = json.loads(json.dumps(found))
    for part in ("rounds", "results"):
        for record in text[part]:
            for name in [key for key in record if key.startswith("bytes")]:
                del record[name]
    return json.dumps(text)


def test_the_order_of_nodes_changes_nothing(make_settings: MakeSettings) -> None:
    asked = make_settings(*STAGE, "transport=int4", "federation.nodes=3")
    run_in_process(asked)
    first = trained_in(asked)
    grid = InProcessGrid(3)
    grid.contexts = dict(reversed(grid.contexts.items()))
    run_in_process(asked, grid)
    assert trained_in(asked) == first


def test_through_a_superlink_they_come_to_the_same(make_settings: MakeSettings) -> None:
    asked = make_settings(*STAGE, "transport=coded")
    run_in_process(asked)
    plain = trained_in(asked)
    grid = InProcessGrid(2)
    pack_messages_of(grid)
    _, watcher, _ = run_in_process(asked, grid)
    assert trained_in(asked) == plain
    assert all(record.refused == [] for record in watcher.records)


def spoiled(data: bytes, how: str, codec: Codec, shapes: Shapes) -> bytes:
    if how == "scales":
        rounded = codec.from_bytes(data, shapes)
        for name, each in rounded.items():
            rounded[name] = replace(each, scales=np.full_like(each.scales, np.inf))
        return codec.to_bytes(rounded)
    if how == "cut":
        return data[: len(data) // 2]
    if how == "bomb":
        magic, version, deflated, _ = HEADER.unpack_from(data)
        return HEADER.pack(magic, version, deflated, 1 << 40) + data[HEADER.size :]
    if how == "version":
        return data[:4] + b"\7" + data[5:]
    return b"PK\3\4" + data[4:]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "ends before what it declares: it was cut"),
        ("bomb", "declares 1099511627776 bytes, and tensors of the scope take at most"),
        ("version", "is of version 7.1 of the codec, and this is 3"),
        ("another", "is of another codec"),
        ("scales", "has scales of sasrec."),
        ("plain", "is of another codec than transport.bits asks for"),
    ],
)
def test_a_payload_that_cannot_be_taken_is_named_and_the_round_goes_on(
    how: str, said: str, make_settings: MakeSettings
) -> None:
    def tamper(reply: Message) -> Message:
        if (reply.metadata.message_type, reply.metadata.src_node_id) == ("train", 101):
            if how == "plain":
                parts = {k: v for k, v in reply.content.items() if k != CODED}
                reply.content = RecordDict(parts)
            else:
                (data,) = from_coded_record(reply.content.array_records[CODED])
                spoilt = spoiled(data, how, Codec(asked.transport), shapes)
                reply.content[CODED] = to_coded_record([spoilt])
        return reply

    asked = make_settings(*STAGE, "transport=coded", "federation.nodes=3")
    shapes = shapes_of(
        initial_parameters(asked.model, STAGES["pretrain_sasrec"], 40, (0, 0), 0, {})
    )
    _, watcher, _ = run_in_process(asked, InProcessGrid(3, tamper))
    for record in watcher.records:
        (line,) = record.refused
        assert line.startswith(f"node 101: its payload {said}")
        assert "\n" not in line
        assert record.loss is not None


def test_a_step_that_arrives_damaged_fails_at_its_node_by_name(
    make_settings: MakeSettings,
) -> None:
    class Noise(InProcessGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            for message in messages:
                if message.content.array_records.get("steps"):
                    (data,) = from_coded_record(message.content.array_records["steps"])
                    message.content["steps"] = to_coded_record([data[:-9]])
                yield from super().push_messages([message])

    asked = make_settings(*STAGE, "transport=coded")
    torch.set_num_threads(1)
    with pytest.raises(Exception, match="The server's step ends before what it declares"):
        run_in_process(asked, Noise(2))
