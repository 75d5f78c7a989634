"""Whole federations on the tiny data: the invariants of the design, across stages and nodes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MessageType
from rich.console import Console

from fedmem.core.data import load_histories
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import COLD
from fedmem.core.settings import Settings
from fedmem.core.stages import CONTROLS, STAGES
from fedmem.federation import client_app, kept_nodes
from fedmem.messaging.messages import NeedsFrozen, Task
from fedmem.runs.progress import print_results
from tests.helpers.in_process_grid import InProcessGrid, run_in_process
from tests.helpers.shared_runs import TrainOnce, WholeRun, load_all
from tests.helpers.small_world import NUM_ITEMS, TEXT_WIDTH, VISUAL_WIDTH, swap_held_out

MakeSettings = Callable[..., Settings]


def test_any_number_of_nodes_gives_the_parameters_and_metrics_of_one(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    outcomes = []
    for nodes in (1, 3, 8):  # 8 nodes host one user each: UserClient
        settings = make_settings(
            "federation.num_clients=8",
            f"federation.nodes={nodes}",
            f"checkpoint.dir={tmp_path / str(nodes)}",
        )
        results, _, _ = run_in_process(settings)
        outcomes.append((load_all(settings), results))
    (first, first_results), *others = outcomes
    for checkpoints, results in others:
        for stage in STAGES:
            for name, value in first[stage].parameters.items():
                torch.testing.assert_close(
                    checkpoints[stage].parameters[name], value, rtol=0, atol=1e-5
                )
        for result, first_result in zip(results, first_results, strict=True):
            assert result.test == pytest.approx(first_result.test)
        assert [r.threshold for r in results] == [r.threshold for r in first_results]


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    make_settings: MakeSettings, tmp_path: Path, whole_run: WholeRun
) -> None:
    hashes = [[c.hash for c in whole_run.checkpoints.values()]]
    for run, seed in enumerate((0, 1)):
        settings = make_settings(f"seed={seed}", f"checkpoint.dir={tmp_path / str(run)}")
        run_in_process(settings)
        hashes.append([c.hash for c in load_all(settings).values()])
    assert hashes[0] == hashes[1]
    assert all(a != b for a, b in zip(hashes[0], hashes[2], strict=True))


def test_parameters_outside_the_scope_are_bit_identical_after_a_stage(whole_run: WholeRun) -> None:
    grid, checkpoints = whole_run.grid, whole_run.checkpoints
    before = checkpoints["pretrain_sasrec"].parameters
    aligned = checkpoints["align_projectors"].parameters
    tuned = checkpoints["finetune_moe"].parameters
    assert all(torch.equal(aligned[name], value) for name, value in before.items())
    assert torch.equal(tuned["sasrec.item_emb.weight"], before["sasrec.item_emb.weight"])
    _, reply = [(m, r) for m, r in grid.log if m.metadata.message_type == MessageType.TRAIN][-1]
    change = {n: a.numpy() for n, a in reply.content.array_records["change"].items()}
    assert set(change) == set(tuned) - {"sasrec.item_emb.weight"}
    assert all(value.any() for value in change.values())  # and all of the scope does move


def test_a_stage_first_ranks_exactly_as_the_checkpoint_it_starts_from(whole_run: WholeRun) -> None:
    watcher = whole_run.watcher
    validation = {(r.stage, r.round): r.validation for r in watcher.records}
    best = {r.stage: r.best_round for r in watcher.results}
    for parent, stage in (
        ("pretrain_sasrec", "align_projectors"),
        ("align_projectors", "finetune_moe"),
    ):
        before, start = validation[parent, best[parent]], validation[stage, 0]
        shared = {name for name in start if name.startswith("sampled/")}
        assert len(shared) == 7
        assert {name: start[name] for name in shared} == {name: before[name] for name in shared}


def test_only_the_scope_travels_and_the_frozen_rest_once(whole_run: WholeRun) -> None:
    frozen_sent: dict[tuple[int, str], int] = {}
    for message, reply in whole_run.grid.log:
        if message.metadata.message_type not in (MessageType.TRAIN, MessageType.EVALUATE):
            continue
        task = Task.from_record(message.content)
        stage = STAGES[task.stage]
        assert all(stage.in_scope(name) for name in task.scope)
        if task.frozen is not None:
            assert not any(stage.in_scope(name) for name in task.frozen)
            key = (message.metadata.dst_node_id, task.stage)
            frozen_sent[key] = frozen_sent.get(key, 0) + 1
        if message.metadata.message_type == MessageType.TRAIN:
            assert set(reply.content.array_records["change"]) == set(task.scope)
    assert set(frozen_sent.values()) == {1}


def test_a_reply_carries_changes_counts_and_sums_and_nothing_else(whole_run: WholeRun) -> None:
    allowed = {
        "train": {"change", "metrics"},
        "evaluate": {"sums", "memory"},
        "query.describe": {"about", "users"},
        "query.novelty": {"histogram"},
    }
    for message, reply in whole_run.grid.log:
        assert set(reply.content) == allowed[message.metadata.message_type]


def test_a_node_that_lost_the_frozen_rest_asks_for_it_and_the_numbers_stay(
    make_settings: MakeSettings, tmp_path: Path, whole_run: WholeRun
) -> None:
    forgetful = make_settings(f"checkpoint.dir={tmp_path / 'forgetful'}")
    grid = InProcessGrid(forgetful.federation.nodes)

    class Forgetting:
        """The ClientApp in a process that ends, on a disk that is wiped, after every message."""

        def __call__(self, message: Message, context: Context) -> Message:
            shutil.rmtree(Path(forgetful.output_dir) / "frozen", ignore_errors=True)
            kept_nodes.frozen_store.cache_clear()
            return client_app.app(message, context)

    grid.app = Forgetting()  # type: ignore[assignment]
    run_in_process(forgetful, grid)
    assert any(NeedsFrozen.is_in(reply.content) for _, reply in grid.log)
    for stage, checkpoint in load_all(forgetful).items():
        assert checkpoint.hash == whole_run.checkpoints[stage].hash


def test_a_reply_with_names_outside_the_scope_is_refused_by_name(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings("stage=pretrain_sasrec")

    def offer_more(reply: Message) -> Message:
        if "change" in reply.content and reply.metadata.src_node_id == 100:
            change = reply.content.array_records["change"]
            more = ArrayRecord({**change, "visual_proj.weight": Array(np.zeros(3, np.float32))})
            reply.content["change"] = more
        return reply

    _, watcher, _ = run_in_process(settings, InProcessGrid(2, offer_more))
    refused = [reason for record in watcher.records for reason in record.refused]
    assert len(refused) == settings.federation.rounds
    assert all("node 100" in r and "visual_proj.weight" in r for r in refused)
    assert all(record.messages == 2 and record.users < 12 for record in watcher.records)


def test_a_stage_without_a_usable_reply_stops_and_says_why(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=pretrain_sasrec", "federation.nodes=1")

    def offer_less(reply: Message) -> Message:
        if "change" in reply.content:
            reply.content["change"] = ArrayRecord()
        return reply

    with pytest.raises(FedmemError, match=r"round 1: no usable reply.*sasrec\.item_emb\.weight"):
        run_in_process(settings, InProcessGrid(1, offer_less))


def test_a_message_beyond_the_scope_is_refused_by_the_node(whole_run: WholeRun) -> None:
    settings = whole_run.settings
    parameters = whole_run.checkpoints["align_projectors"].parameters
    grid = InProcessGrid(1)
    everything = ArrayRecord({n: Array(v.numpy()) for n, v in parameters.items()})
    task = Task(settings.to_json(), "align_projectors", everything, "x", everything, 0.0, 1)
    message = Message(content=task.to_record(), dst_node_id=100, message_type="train")
    with pytest.raises(FedmemError, match=r"scope of align_projectors: .*sasrec\.item_emb"):
        grid.push_messages([message])


def test_memory_survives_in_the_context_and_is_filled_once(whole_run: WholeRun) -> None:
    memory, grid = whole_run.results[-1].memory, whole_run.grid
    assert memory is not None
    context = next(iter(grid.contexts.values()))
    kept = context.state.array_records["memory"]
    assert {str(array.numpy().dtype) for array in kept.values()} == {"int32"}
    total = sum(
        int(c.state.array_records["memory"]["counters"].numpy()[:, 0].sum())
        for c in grid.contexts.values()
    )
    assert total == memory["ingested"]  # each interaction entered once, for all rounds together
    assert memory["promotions"] > 0
    assert memory["surprises"] > 0  # item 3 has no content


def test_stages_run_one_by_one_give_the_bits_of_a_run_of_all(
    make_settings: MakeSettings, tmp_path: Path, whole_run: WholeRun
) -> None:
    for stage in STAGES:
        run_in_process(make_settings(f"stage={stage}", f"checkpoint.dir={tmp_path / 'apart'}"))
    apart = load_all(make_settings(f"checkpoint.dir={tmp_path / 'apart'}"))
    for stage, checkpoint in whole_run.checkpoints.items():
        assert checkpoint.hash == apart[stage].hash


def test_stage_3_is_refused_with_other_features_than_stage_2_had(
    make_settings: MakeSettings, data_dir: Path, tmp_path: Path
) -> None:
    own = f"checkpoint.dir={tmp_path / 'apart'}"
    run_in_process(make_settings("stage=[pretrain_sasrec,align_projectors]", own))
    rows = torch.load(data_dir / "visual_features.pt")
    torch.save(rows.flip(0), data_dir / "visual_features.pt")  # as wide as before
    with pytest.raises(FedmemError, match="was trained with other item features"):
        run_in_process(make_settings("stage=finetune_moe", own))


def test_a_node_that_restarts_goes_on_from_its_context(
    make_settings: MakeSettings, tmp_path: Path, whole_run: WholeRun
) -> None:
    settings = make_settings(f"checkpoint.dir={tmp_path / 'restarted'}")
    grid = InProcessGrid(settings.federation.nodes)

    class Restarting:
        """The ClientApp in a process that ends after every message."""

        def __call__(self, message: Message, context: Context) -> Message:
            kept_nodes.cached_node.cache_clear()
            return client_app.app(message, context)

    grid.app = Restarting()  # type: ignore[assignment]
    results, _, _ = run_in_process(settings, grid)
    assert results[-1].memory == whole_run.results[-1].memory
    for stage, checkpoint in load_all(settings).items():
        assert checkpoint.hash == whole_run.checkpoints[stage].hash


@pytest.mark.parametrize("stage", list(STAGES))
def test_what_is_held_out_changes_nothing_that_is_trained(
    stage: str, make_settings: MakeSettings, data_dir: Path, tmp_path: Path, whole_run: WholeRun
) -> None:
    """Invariant 2: swap every user's held-out items for others, and no change moves."""
    swapped = swap_held_out(data_dir, tmp_path / "swapped")
    made = whole_run.settings.checkpoint.dir
    changes = []
    for folder in (data_dir, swapped):
        settings = make_settings(
            f"stage={stage}",
            f"data.dir={folder}",
            f"checkpoint.dir={tmp_path / folder.name / 'own'}",
            *(f"checkpoint.{name}={made}/{name}.safetensors" for name in STAGES[stage].requires),
        )
        _, _, grid = run_in_process(settings)
        replies = [r for m, r in grid.log if m.metadata.message_type == MessageType.TRAIN]
        changes.append([r.content.array_records["change"] for r in replies])
    assert len(changes[0]) == len(changes[1]) > 0
    for before, after in zip(*changes, strict=True):
        assert all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)


def test_cold_items_change_nothing_that_is_trained(
    make_settings: MakeSettings, data_dir: Path, tmp_path: Path
) -> None:
    """A run that keeps items from training is one on a file that never had them."""
    cold = make_settings("evaluation.cold_items=0.3", f"checkpoint.dir={tmp_path / 'cold'}")
    results, _, _ = run_in_process(cold)
    items = set(load_histories(cold).cold.item_ids[1:].tolist())
    other = tmp_path / "without"
    shutil.copytree(data_dir, other)
    lines = (data_dir / "ratings.dat").read_text().splitlines()
    kept = [line for line in lines if int(line.split()[1]) not in items]
    (other / "ratings.dat").write_text("\n".join(kept) + "\n")
    plain = make_settings(f"data.dir={other}", f"checkpoint.dir={tmp_path / 'plain'}")
    expected, _, _ = run_in_process(plain)
    for stage, checkpoint in load_all(cold).items():
        assert checkpoint.hash == load_all(plain)[stage].hash
    for result, of_plain in zip(results, expected, strict=True):
        warm = {name: x for name, x in result.test.items() if not name.startswith(COLD)}
        assert warm == of_plain.test
        assert set(result.test) - set(warm) >= {"cold_id/HR@10"}
    assert "cold_full/MRR" in results[1].test


def test_cold_metrics_do_not_hang_on_the_number_of_nodes(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    found = []
    for nodes in (1, 3):
        settings = make_settings(
            f"federation.nodes={nodes}",
            f"checkpoint.dir={tmp_path / str(nodes)}",
            "evaluation.cold_items=0.2",
            "stage=[pretrain_sasrec,align_projectors]",
        )
        found.append([result.test for result in run_in_process(settings)[0]])
    assert found[0][1] == pytest.approx(found[1][1])


def test_the_results_show_what_cold_items_came_to(make_settings: MakeSettings) -> None:
    settings = make_settings("evaluation.cold_items=0.3")
    results, _, _ = run_in_process(settings)
    console = Console(width=80, record=True, file=io.StringIO())
    print_results(results, settings, console)
    _, _, shown = console.export_text().partition("kept from training")
    rows = [line.split() for line in shown.splitlines() if line.startswith(tuple(STAGES))]
    for row, result in zip(rows, results, strict=True):
        names = ("cold_sampled", "cold_full", "cold_text", "cold_picture", "cold_id")
        figures = [result.test.get(f"{name}/HR@10") for name in names]
        assert row[1:] == ["-" if x is None else f"{x:.4f}" for x in figures]


@pytest.mark.parametrize(("cooldown", "more"), [(0.0, 0), (0.1, 4)])
def test_patience_that_runs_out_ends_a_stage_and_keeps_its_best_round(
    cooldown: float, more: int, make_settings: MakeSettings
) -> None:
    settings = make_settings(
        "stage=pretrain_sasrec",
        "federation.rounds=40",
        "strategy.patience=3",
        "strategy.learning_rate=0.5",  # diverges: validation gets no better for long
        f"strategy.cooldown={cooldown}",
    )
    (result,), watcher, _ = run_in_process(settings)
    scores = [r.validation["sampled/HR@10"] for r in watcher.records if r.validation]
    assert watcher.records[-1].last == result.rounds < 40
    ran_out = next(r for r in range(4, 40) if max(scores[r - 3 : r]) <= max(scores[: r - 3]))
    assert result.rounds == ran_out + more
    assert scores[result.best_round - 1] == max(scores)
    assert load_all(settings)["pretrain_sasrec"].round == result.best_round


def test_the_best_round_of_stage_2_is_so_by_content_too(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=[pretrain_sasrec,align_projectors]", "federation.rounds=5")
    results, watcher, _ = run_in_process(settings)
    worth = {
        record.round: [record.validation[f"{ranking}/HR@10"] for ranking in ("sampled", "content")]
        for record in watcher.records
        if record.stage == "align_projectors" and record.validation
    }
    assert worth[0][1] == 0.0  # before content is learned all of it is tied
    best = max(worth, key=lambda server_round: sum(worth[server_round]))
    assert results[1].best_round == best > 0


def test_fewer_clients_take_part(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=pretrain_sasrec", "federation.num_clients=7")
    _, watcher, _ = run_in_process(settings)
    assert {record.users for record in watcher.records} == {4}  # half of 7, rounded to even


def test_results_are_written_as_json(whole_run: WholeRun) -> None:
    written = json.loads((Path(whole_run.settings.output_dir) / "results.json").read_text())
    assert [stage["stage"] for stage in written["stages"]] == list(STAGES)
    assert written["stages"][1]["bytes_up"] < 3 * written["stages"][1]["trained_parameters"] * 4


def test_the_time_of_evaluations_is_told_apart(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=pretrain_sasrec", "federation.evaluate_every=2")
    (result,), watcher, _ = run_in_process(settings)
    without, validated = watcher.records
    assert without.evaluation_seconds == 0.0 < without.seconds
    assert 0.0 < validated.evaluation_seconds < validated.seconds
    spent = sum(record.seconds for record in watcher.records)
    assert 0.0 < result.test_seconds < result.seconds - spent


@pytest.mark.parametrize("control", [name for name, c in CONTROLS.items() if c.requires])
def test_a_control_goes_on_from_stage_1(
    control: str, make_settings: MakeSettings, train_once: TrainOnce
) -> None:
    train_once(make_settings("stage=pretrain_sasrec"))
    (result,), watcher, _ = run_in_process(make_settings(f"stage={control}"))
    started = load_all(make_settings("stage=pretrain_sasrec"))["pretrain_sasrec"]
    ended = load_all(make_settings(f"stage={control}"))[control]
    assert watcher.records[0].validation == started.metrics
    moved = {
        name
        for name, value in ended.parameters.items()
        if not value.equal(started.parameters[name])
    }
    frozen = {"sasrec.item_emb.weight"} if control.endswith("frozen") else set()
    assert moved == (set(started.parameters) - frozen if result.best_round else set())


def test_a_control_whose_items_are_projections_trains_and_sends_no_row_of_an_item(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings("stage=projected_sasrec", "strategy.learning_rate=0.01")
    (result,), watcher, grid = run_in_process(settings)
    made = load_all(settings)["projected_sasrec"]
    assert result.best_round
    assert watcher.records[-1].loss < watcher.records[0].loss
    trained = {name: tuple(value.shape) for name, value in made.parameters.items()}
    assert trained["sasrec.item_emb.projection"] == (VISUAL_WIDTH + TEXT_WIDTH, 16)
    assert all(NUM_ITEMS + 1 not in shape for shape in trained.values())
    replies = [r for m, r in grid.log if m.metadata.message_type == MessageType.TRAIN]
    assert set(replies[-1].content.array_records["change"]) == set(trained)
