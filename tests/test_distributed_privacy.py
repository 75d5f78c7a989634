"""Private federations whose server is not trusted: nodes add the noise, and keep to limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message

from fedmem.core.errors import FedmemError
from fedmem.core.privacy import plan
from fedmem.core.privacy.discrete import NoiseShare
from fedmem.core.secure_sum.member import Member
from fedmem.core.settings import Settings
from fedmem.federation import masking, node_promise
from fedmem.federation.server_app import Run
from fedmem.messaging.messages import EvaluateResult, Task
from fedmem.messaging.secure_messages import MaskRequest, read_masked
from fedmem.runs.folder import STATE, RunFolder
from fedmem.runs.state import RunState
from fedmem.strategies import secure_collection
from tests.helpers.in_process_grid import RealNodes, run_in_process, run_on
from tests.helpers.interruptions import let_go_on, outcome, photographed
from tests.helpers.losses import losing
from tests.helpers.secure_runs import trained
from tests.helpers.shared_runs import load_all

MakeSettings = Callable[..., Settings]
KEY = "5e" * 32
PRIVATE = (
    *("privacy=distributed", "privacy.delta=1e-3", "federation.nodes=3"),
    *("federation.fraction=0.5", "strategy=fedavg"),
)
STAGE_1 = (*PRIVATE, "stage=pretrain_sasrec")
IN_TURN = "privacy.schedule=every_k"


@pytest.fixture(autouse=True)
def known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's, and each simulated node's in the order in which they ask for one."""
    keys = (f"{n:02x}" * 32 for n in range(1, 10_000))
    monkeypatch.setattr(plan, "new_key", lambda: KEY)
    monkeypatch.setattr(
        node_promise, "_kept_key", lambda folder: f"{int(folder.name) + 1:02x}" * 32
    )
    monkeypatch.setattr(node_promise, "new_key", lambda: next(keys))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What nodes encode and add, and what the server opens, of every sum in order."""
    kept: dict[str, list[Any]] = {"plain": [], "noise": [], "masked": [], "opened": []}
    encode, mask, decode = masking.encode_update, Member.mask, secure_collection.decode_update

    def encoded(update: Any, levels: float, bits: int, parties: int, generator: Any, noise: Any):  # type: ignore[no-untyped-def]
        state = generator.bit_generator.state
        kept["plain"].append(encode(update, levels, bits, parties, generator))
        generator.bit_generator.state = state
        kept["noise"].append(noise)
        return encode(update, levels, bits, parties, generator, noise)

    def masked(member: Member, integers: Any) -> Any:
        kept["masked"].append((integers, mask(member, integers)))
        return kept["masked"][-1][1]

    def opened(integers: Any, *how: Any) -> Any:
        kept["opened"].append(integers.copy())
        return decode(integers, *how)

    monkeypatch.setattr(masking, "encode_update", encoded)
    monkeypatch.setattr(Member, "mask", masked)
    monkeypatch.setattr(secure_collection, "decode_update", opened)
    return kept


def with_noise(plain: Any, noise: Any) -> Any:
    """Integers modulo 2^32 with noise on all but the counts."""
    total = plain.copy()
    total[: len(noise)] += noise.astype(np.uint32)
    return total


def test_the_server_opens_the_plain_sum_and_all_noise_and_sees_nothing_else(
    make_settings: MakeSettings, seen: dict[str, list[Any]]
) -> None:
    _, watcher, grid = run_in_process(make_settings(*STAGE_1, IN_TURN))
    assert len(seen["opened"]) == 2
    for number, total in enumerate(seen["opened"]):
        own = slice(3 * number, 3 * number + 3)
        pairs = zip(seen["plain"][own], seen["noise"][own], strict=True)
        expected = np.sum([with_noise(*pair) for pair in pairs], axis=0, dtype=np.uint32)
        np.testing.assert_array_equal(total, expected)
    received = [read_masked(r.content) for m, r in grid.log if m.metadata.message_type == "train"]
    for plain, noise, (noised, masked), got in zip(
        seen["plain"], seen["noise"], seen["masked"], received, strict=True
    ):
        np.testing.assert_array_equal(got, masked)
        np.testing.assert_array_equal(noised, with_noise(plain, noise))
        for hidden in (plain, noised):
            assert np.mean(got == hidden) < 0.01
    # What is said beside it is the same whoever was drawn, and whatever came of it.
    assert len({tuple(plain[-15:]) for plain in seen["plain"]}) == 1
    assert {record.loss for record in watcher.records} == {None}


@pytest.mark.parametrize("lost", [0, 1])
def test_the_noise_of_those_that_remain_is_what_the_ledger_charges(
    make_settings: MakeSettings, seen: dict[str, list[Any]], lost: int
) -> None:
    asked = ("federation.nodes=4", "privacy.noise=2.5", IN_TURN, "model.dim=32")
    settings = make_settings(*STAGE_1, *asked, "federation.rounds=1")
    grid = RealNodes(4, losing({("train", 103): 1} if lost else {}))
    watcher = run_on(grid, settings)
    assert watcher.records[0].messages == 4 - lost
    requests = [MaskRequest.beside(m.content) for m, _ in grid.log if m.content.config_records]
    (levels,) = {each.levels for each in requests if each is not None}
    size = len(seen["noise"][0])
    longest = levels + math.sqrt(size)
    # Of four nodes three must remain, and one of these knows its own noise.
    total = np.sum(seen["noise"], axis=0)
    shares = (4 - lost) / 2
    error = 5 * math.sqrt(2 / size)
    assert total.var() == pytest.approx((2.5 * longest) ** 2 * shares, rel=error)
    for own in seen["noise"]:
        assert (total - own).var() > (2.5 * longest) ** 2 * (1 - error)
    (each,) = load_all(settings)["pretrain_sasrec"].released[:1]  # type: ignore[index]
    assert (each["noise"], each["every"]) == (2.5, 2)


def test_with_hardly_any_noise_it_comes_to_what_a_trusted_server_does(
    make_masked: MakeSettings,
) -> None:
    quiet = ("privacy.noise=1e-3", "privacy.epsilon=1e9", IN_TURN, "privacy.delta=1e-3")
    asked = (*quiet, "strategy=fedavg", "federation.fraction=0.5")
    mine, theirs = (make_masked(f"privacy={mode}", *asked) for mode in ("distributed", "central"))
    run_in_process(mine)
    run_in_process(theirs)
    for name, value in trained(theirs).parameters.items():
        torch.testing.assert_close(trained(mine).parameters[name], value, rtol=0, atol=5e-3)
    assert trained(mine).hash != trained(theirs).hash


def test_three_stages_spend_one_budget(make_settings: MakeSettings) -> None:
    settings = make_settings(*PRIVATE, "federation.rounds=1", IN_TURN)
    results, watcher, grid = run_in_process(settings)
    spent = [record.epsilon for record in watcher.records]
    assert spent == sorted(spent)
    assert results[-1].epsilon == pytest.approx(8.0, rel=5e-3)
    assert results[-1].epsilon <= 8.0
    names = [each["of"] for each in load_all(settings)["finetune_moe"].released or []]
    assert names == [name for stage in settings.stage for name in (stage, f"figures of {stage}")]
    answers = [
        EvaluateResult.from_record(reply.content)
        for asked, reply in grid.log
        if asked.metadata.message_type == "evaluate"
    ]
    assert {len(answer.memory) for answer in answers} == {0}
    figures = [x for answer in answers for name, x in answer.sums.items() if "/" in name]
    assert any(0 < x != round(x, 3) for x in figures)  # noised where they are, not at the server


def test_nodes_draw_their_users_themselves(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []
    draw = node_promise.NodePromise.drawn

    def kept(promise: Any, users: Any) -> Any:
        drawn.append(draw(promise, users).tolist())
        return draw(promise, users)

    monkeypatch.setattr(node_promise.NodePromise, "drawn", kept)
    asked = ("federation.rounds=4", "privacy.noise=5", "privacy.epsilon=99")
    _, watcher, grid = run_in_process(make_settings(*STAGE_1, *asked))
    tasks = [Task.from_record(m.content) for m, _ in grid.log if m.metadata.message_type == "train"]
    assert sum(len(task.users) for task in tasks[:3] if task.users is not None) == 24
    assert len(tasks) == len(drawn) == 12
    for task, own in zip(tasks, drawn, strict=True):
        assert task.users is not None
        assert set(own) <= set(task.users.tolist())
    rounds = [tuple(map(tuple, drawn[n : n + 3])) for n in range(0, 12, 3)]
    assert len(set(rounds)) == 4
    assert 24 < sum(map(len, drawn)) < 72  # 48 expected, ± 5
    assert {record.users for record in watcher.records} == {12}


def test_a_stopped_run_goes_on_to_the_same_bits(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(*STAGE_1, "privacy.noise=5", "privacy.epsilon=99")
    camera = photographed(settings, tmp_path / "album")
    expected = outcome(settings)
    for moment, kept in camera.pictures[1::15]:
        camera.restore(kept)
        let_go_on(Path(settings.output_dir))
        assert outcome(settings) == expected, moment


def real_nodes(settings: Settings, nodes: int = 3, **own: Any) -> RealNodes:
    """Nodes with data, folders and limits of their own."""
    grid = RealNodes(nodes)
    for node, context in grid.contexts.items():
        place = str(Path(settings.output_dir) / f"node-{node}")
        limits = {name.replace("_", "-"): value for name, value in own.items()}
        context.node_config |= {"data": settings.data.dir, "state-dir": place, **limits}
    return grid


def released(settings: Settings) -> list[dict[str, Any]]:
    path = Path(settings.output_dir) / "node-100" / node_promise.RELEASED
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_a_node_counts_what_it_released_and_keeps_to_its_own_limit(
    make_settings: MakeSettings,
) -> None:
    asked = (IN_TURN, "federation.rounds=6", "privacy.epsilon=20", "privacy.delta=1e-5")
    settings = make_settings(*STAGE_1, *asked)
    with pytest.raises(FedmemError) as error:
        run_on(real_nodes(settings, max_epsilon=12), settings)
    assert "with it ε would be" in str(error.value)
    assert "and its own max-epsilon is 12" in str(error.value)
    (entry,) = released(settings)
    ledger = RunState.load(Path(settings.output_dir) / STATE).ledger
    assert entry["of"].startswith("pretrain_sasrec, run ")
    assert ledger is None or entry["noise"] == ledger.noise
    assert 0 < entry["times"] < 6
    assert not (Path(settings.output_dir) / "node-100" / node_promise.SECRET).exists()


def test_nodes_with_room_for_it_count_rounds_and_figures(make_settings: MakeSettings) -> None:
    settings = make_settings(*STAGE_1, IN_TURN, "privacy.epsilon=7")
    watcher = run_on(real_nodes(settings, max_epsilon=8, max_delta=1e-3), settings)
    assert [record.messages for record in watcher.records] == [3, 3]
    assert [each["times"] for each in released(settings)] == [2, 2]


@pytest.mark.parametrize(
    ("overrides", "own", "words"),
    [
        (("privacy=central",), {"max_epsilon": 9}, "sends nothing without noise of its own"),
        ((), {"max_epsilon": 9}, "privacy.delta=0.001 is above its own max-delta=1e-05"),
        (
            ("privacy.figures=exact",),
            {"max_epsilon": 99, "max_delta": 0.1},
            "privacy.figures=exact is outside of any promise",
        ),
    ],
)
def test_nodes_refuse_what_is_beyond_their_limits(
    overrides: tuple[str, ...], own: dict[str, float], words: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(*STAGE_1, IN_TURN, *overrides)
    with pytest.raises(FedmemError) as error:
        run_on(real_nodes(settings, **own), settings)
    assert words in str(error.value)


def test_a_node_adds_no_noise_that_nobody_named_and_sends_nothing_unmasked(
    make_settings: MakeSettings,
) -> None:
    settings, context = make_settings(*STAGE_1, IN_TURN), RealNodes(3).contexts[100]
    task = Task(settings.to_json(), "pretrain_sasrec", ArrayRecord(), "", None, None, round=1)
    promise = node_promise.promise_of(settings, task, context, Path("0"))
    assert promise is not None
    message = Message(task.to_record(), dst_node_id=100, message_type="train")
    with pytest.raises(FedmemError, match=r"sends no change without masks \(privacy=distributed\)"):
        masking.masking_of(message, context, promise)
    with pytest.raises(FedmemError, match="the server names no noise for it"):
        promise.noise(100.0, 5, 3)


def test_a_real_run_that_goes_on_charges_every_round_that_was_broken_off(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(*STAGE_1, IN_TURN, "federation.rounds=6", "privacy.noise=3")
    given_up = "round {} of pretrain_sasrec was given up"

    def go_on(lost: Callable[[Message], bool] = lambda _: False) -> None:
        with RunFolder.go_on(Path(settings.output_dir)) as folder:
            Run(folder.state.settings, [], folder=folder)(RealNodes(3, lost))

    with pytest.raises(FedmemError, match=given_up.format(1)):
        run_on(RealNodes(3, all_lost("train", 1)), settings)
    with pytest.raises(FedmemError, match=given_up.format(1)):
        go_on(all_lost("train", 1))
    with pytest.raises(FedmemError, match=given_up.format(4)):
        go_on(all_lost("train", 4))
    go_on()
    entries = load_all(settings)["pretrain_sasrec"].released or []
    assert [each["times"] for each in entries] == [9, 2]


def all_lost(kind: str, message: int) -> Callable[[Message], bool]:
    """All three nodes are gone at their n-th message of a kind."""
    return losing({(kind, node): message for node in (100, 101, 102)})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("privacy.secure_sum.enabled=false", "privacy.mode=distributed is out of range: none or"),
        ("privacy.mechanism=banded", "privacy.mechanism=banded is out of range: gaussian with"),
        ("federation.nodes=2", "federation.nodes=2 does not go with .*: take at least 3"),
        ("privacy.secure_sum.range=0.1", r"secure_sum.range=0.1 does not go with .*: .*set auto"),
        ("strategy.aggregation=median", "strategy.aggregation=median does not go with"),
        ("privacy.epsilon=null", "privacy.epsilon=None is out of range: a number"),
    ],
)
def test_what_does_not_go_with_it_is_named(
    override: str, words: str, make_settings: MakeSettings
) -> None:
    with pytest.raises(FedmemError, match=words) as error:
        make_settings(*STAGE_1, IN_TURN, override)
    assert "\n" not in str(error.value)


def test_a_modulus_too_coarse_is_refused_before_anything_is_sent(
    make_settings: MakeSettings,
) -> None:
    grid = RealNodes(3)
    settings = make_settings(
        *STAGE_1, IN_TURN, "model.dim=64", "privacy.secure_sum.modulus_bits=16"
    )
    with pytest.raises(FedmemError, match=r"modulus_bits=16 is too coarse .* bits are needed"):
        run_on(grid, settings)
    assert {m.metadata.message_type for m, _ in grid.log} == {"query.describe"}
    assert NoiseShare.finest(3.0, 10, 2, 16, 3, 8).coarseness < 0.1
