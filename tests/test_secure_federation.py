"""Whole runs under masks: what they come to, what the server sees, and who may be lost when."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.keys import PublicKeys
from fedmem.core.secure_sum.member import Member
from fedmem.core.settings import Settings
from fedmem.core.updates.update import Update
from fedmem.federation import masking
from fedmem.federation.server_app import Run
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    SHARE_SECRETS,
    add_remaining,
    name_of,
    named,
    read_masked,
)
from fedmem.runs.folder import STATE, RunFolder
from fedmem.runs.records import RoundRecord
from fedmem.runs.state import RunState
from tests.helpers.in_process_grid import InProcessGrid, RealNodes, run_in_process, run_on
from tests.helpers.losses import losing
from tests.helpers.settings import small_settings
from tests.helpers.small_world import write_small_data

MakeSettings = Callable[..., Settings]
UNSEEN = ("strategy.guard_ratio=null", "privacy.secure_sum.enabled=true")
ASKED = (
    "stage=pretrain_sasrec",
    "federation.nodes=3",
    "federation.fraction=1.0",
    "federation.evaluate_every=2",
    *UNSEEN,
)
FOUR = ("federation.nodes=4", "strategy=fedavg", "strategy.guard_ratio=null")
PLAIN = "privacy.secure_sum.enabled=false"
STEPS = (OFFER_KEYS, SHARE_SECRETS, "train", REVEAL_SHARES)


@pytest.fixture
def make(make_settings: MakeSettings, tmp_path: Path) -> MakeSettings:
    """Settings of runs under masks, each with a folder of its own."""
    made = iter(range(100))

    def make(*overrides: str) -> Settings:
        return make_settings(*ASKED, *own_folder(tmp_path / f"run-{next(made)}"), *overrides)

    return make


def own_folder(place: Path) -> list[str]:
    return [f"output_dir={place}", f"checkpoint.dir={place / 'checkpoints'}"]


@dataclass
class Ran:
    """A run that is over: its settings, its rounds, and all that was said."""

    settings: Settings
    records: list[RoundRecord]
    grid: InProcessGrid


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("secure")
    write_small_data(place / "data")
    return place


@pytest.fixture(scope="module")
def ran(place: Path) -> Ran:
    """A run under masks, whose nodes may be asked again."""
    settings = small_settings(place, *ASKED, *own_folder(place / "masked"))
    _, watcher, grid = run_in_process(settings)
    return Ran(settings, watcher.records, grid)


@pytest.fixture(scope="module")
def without_102(place: Path) -> Callable[[str], Ran]:
    """A run without masks, in which node 102 is lost before it answers this kind of message."""

    @cache
    def run(kind: str) -> Ran:
        settings = small_settings(place, *ASKED, *FOUR, PLAIN, *own_folder(place / kind))
        grid = RealNodes(4, losing({(kind, 102): 1}))
        return Ran(settings, run_on(grid, settings).records, grid)

    return run


def trained(settings: Settings, stage: str = "pretrain_sasrec") -> Checkpoint:
    return Checkpoint.load(Path(settings.checkpoint.dir) / f"{stage}.safetensors")


def largest_difference(one: Settings, other: Settings, stage: str = "pretrain_sasrec") -> float:
    mine, theirs = trained(one, stage).parameters, trained(other, stage).parameters
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.mark.parametrize(
    ("stages", "bits", "range_", "within"),
    [("all", 32, "auto", 1e-6), ("pretrain_sasrec", 16, "0.5", 1e-3)],
)
def test_stages_come_to_what_they_do_without_masks(
    stages: str, bits: int, range_: str, within: float, make: MakeSettings
) -> None:
    asked = (f"stage={stages}", "federation.rounds=1", "strategy=fedavg", UNSEEN[0])
    coded = (f"privacy.secure_sum.modulus_bits={bits}", f"privacy.secure_sum.range={range_}")
    masked, plain = make(*asked, *coded), make(*asked, PLAIN)
    _, found, _ = run_in_process(masked)
    _, expected, _ = run_in_process(plain)
    for stage in masked.stage:
        assert 0 < largest_difference(masked, plain, stage) < within
    for mine, theirs in zip(found.records, expected.records, strict=True):
        assert figures(mine) == figures(theirs)
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-4)
        assert mine.refused == []


def test_the_same_seed_gives_the_same_bits_also_of_a_run_that_went_on(make: MakeSettings) -> None:
    coarse = ("privacy.secure_sum.modulus_bits=16", "federation.rounds=3")
    one, other, third = make(*coarse), make(*coarse), make(*coarse)
    run_in_process(one)
    run_in_process(other)
    assert trained(one).hash == trained(other).hash
    gone = losing({("train", node): 2 for node in (100, 101, 102)})
    with pytest.raises(FedmemError, match="0 nodes sent their masked numbers"):
        run_on(RealNodes(3, gone), third)
    with RunFolder.go_on(Path(third.output_dir)) as folder:
        Run(folder.state.settings, [], folder=folder)(InProcessGrid(3))
    assert trained(third).hash == trained(one).hash


def test_the_server_receives_of_a_node_nothing_but_masked_numbers(ran: Ran) -> None:
    replies = [reply for asked, reply in ran.grid.log if asked.metadata.message_type == "train"]
    assert len(replies) == 6
    size = sum(value.numel() for value in trained(ran.settings).parameters.values())
    for reply in replies:
        assert set(reply.content) == {"sum", "masked", "offer"}
        assert set(reply.content.config_records["sum"]) == {"stage", "round"}
        masked = read_masked(reply.content)
        assert masked.dtype == np.uint32
        assert 0 <= len(masked) - size <= 15
    first, second = (read_masked(reply.content).astype(float) for reply in replies[:2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(size)
    assert [figures(record)[::2] for record in ran.records] == [(24, 3), (24, 3)]


@pytest.mark.parametrize(("bits", "most"), [(32, 4.2), (16, 2.1)])
def test_bytes_of_a_coordinate_on_its_way_up(bits: int, most: float, make: MakeSettings) -> None:
    bits_ = f"privacy.secure_sum.modulus_bits={bits}"
    settings = make("model.dim=64", "federation.rounds=1", bits_)
    _, watcher, _ = run_in_process(settings)
    size = sum(value.numel() for value in trained(settings).parameters.values())
    assert size > 20_000
    assert bits / 8 * size < watcher.records[0].bytes_up / 3 < most * size


def figures(record: RoundRecord) -> tuple[int, int, int]:
    return record.users, record.targets, record.messages


@pytest.mark.parametrize("step", STEPS)
def test_a_round_whose_node_is_lost_at_any_step_sums_those_that_sent_theirs(
    step: str, make: MakeSettings, without_102: Callable[[str], Ran]
) -> None:
    settings = make(*FOUR)
    records = run_on(RealNodes(4, losing({(step, 102): 1})), settings).records
    expected = without_102("evaluate" if step == REVEAL_SHARES else "train")
    if step == REVEAL_SHARES:  # it took part in round 1; without masks it is lost after round 2
        assert [record.messages for record in records] == [4, 3]
    else:
        assert [figures(each) for each in records] == [figures(each) for each in expected.records]
        assert largest_difference(settings, expected.settings) < 1e-6
    assert "node 102: left without an answer" in [line for r in records for line in r.nodes]


@pytest.mark.parametrize(
    ("step", "number", "did"),
    [
        (OFFER_KEYS, 1, "offered their keys"),
        (SHARE_SECRETS, 1, "shared their secrets"),
        ("train", 2, "sent their masked numbers"),
        (REVEAL_SHARES, 2, "revealed their shares"),
    ],
)
def test_with_too_few_left_the_run_stops_in_one_line_after_its_last_round(
    step: str, number: int, did: str, make: MakeSettings
) -> None:
    settings = make()
    with pytest.raises(FedmemError) as error:
        run_on(RealNodes(3, losing({(step, 101): number})), settings)
    text = str(error.value)
    what = f"round {number} of pretrain_sasrec was given up: 2 nodes {did}, and 3 are needed"
    assert text.startswith(what)
    assert "node 101: left without an answer" in text
    assert "\n" not in text
    state = RunState.load(Path(settings.output_dir) / STATE)
    assert (state.stage.round if state.stage else 0) == number - 1


def tampering(change: Callable[[Message, Message], None]) -> RealNodes:
    """Four nodes; of one, what it trains in round 2 is changed, with what it sent in round 1."""
    sent: list[Message] = []

    def tamper(reply: Message) -> Message:
        if (reply.metadata.message_type, reply.metadata.src_node_id) == ("train", 102):
            sent.append(reply)
            if len(sent) == 2:
                change(*sent)
        return reply

    return RealNodes(4, tamper=tamper)


def replay(first: Message, second: Message) -> None:
    second.content = first.content


def halve(_: Message, second: Message) -> None:
    record = second.content.array_records["masked"]
    record["masked"] = type(record["masked"])(read_masked(second.content).astype("<u2"))


def unmask(_: Message, second: Message) -> None:
    del second.content["masked"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replay, "sent masked numbers of round 1 of pretrain_sasrec, not of round 2"),
        (halve, "sent numbers of type uint16, not modulo 2^32"),
        (unmask, "is no step of a secure sum: KeyError 'masked'"),
    ],
)
def test_a_masked_update_that_is_not_what_was_asked_for_is_named_and_left_out(
    change: Callable[[Message, Message], None], words: str, make: MakeSettings
) -> None:
    settings = make("federation.nodes=4")
    records = run_on(tampering(change), settings).records
    (line,) = records[1].refused
    assert line.startswith(f"node 102: {words}")
    assert (records[0].messages, records[1].messages) == (4, 3)
    assert records[1].loss is not None


def asked_first(ran: Ran, kind: str) -> Message:
    return next(asked for asked, _ in ran.grid.log if asked.metadata.message_type == kind)


def ask_again(ran: Ran, message: Message) -> Message:
    return ran.grid.app(message, ran.grid.contexts[message.metadata.dst_node_id])


@pytest.mark.parametrize("kind", STEPS)
def test_a_node_answers_no_message_of_an_earlier_round(kind: str, ran: Ran) -> None:
    with pytest.raises(FedmemError, match=r"Node \d+ refuses round 1 of pretrain_sasrec"):
        ask_again(ran, asked_first(ran, kind))


def test_a_node_that_has_revealed_shares_reveals_none_for_another_list(ran: Ran) -> None:
    kept = [asked for asked, _ in ran.grid.log if asked.metadata.message_type == REVEAL_SHARES][-1]
    own = kept.metadata.dst_node_id
    others = [node for node in ran.grid.contexts if node != own]
    kept.content = add_remaining(named(name_of(kept)), [own, others[0]])
    with pytest.raises(FedmemError, match="it revealed shares, and answers each step once"):
        ask_again(ran, kept)


def test_a_round_that_was_answered_is_not_begun_again(ran: Ran) -> None:
    asked = asked_first(ran, OFFER_KEYS)
    with pytest.raises(FedmemError, match="it has sent masked numbers of round 2"):
        ask_again(ran, asked)
    asked.content["sum"] = ConfigRecord({"stage": "align_projectors", "round": 1})
    assert ask_again(ran, asked).has_content()


def test_a_round_is_two_exchanges_but_for_the_first_and_those_with_other_nodes(
    make: MakeSettings,
) -> None:
    settings, grid = make("federation.nodes=4", "federation.rounds=5"), Leaving(4)
    run_on(grid, settings)
    kinds = [asked.metadata.message_type for asked, _ in grid.log]
    exchanges = [kind for kind, _ in itertools.groupby(kinds) if kind in STEPS]
    whole, short = list(STEPS), list(STEPS[2:])
    assert exchanges == [*whole, *short, *whole, *whole, *short]


class Leaving(RealNodes):
    """Nodes of which one is away in round 3."""

    def get_node_ids(self) -> Iterable[int]:
        trained = sum(asked.metadata.message_type == "train" for asked, _ in self.log)
        away = {103} if 8 <= trained < 11 else set()
        return [node for node in super().get_node_ids() if node not in away]


def real_node(grid: InProcessGrid, node: int, settings: Settings, fewest: int) -> None:
    """Make a node one that has data, a folder and a minimum of its own."""
    place = Path(settings.output_dir) / f"node-{node}"
    own = {"data": settings.data.dir, "state-dir": str(place), "min-members": fewest}
    grid.contexts[node].node_config |= own


def test_a_node_with_a_minimum_refuses_smaller_sums_and_to_send_without_masks(
    make: MakeSettings,
) -> None:
    lines = []
    for overrides in (("federation.nodes=4",), ("federation.nodes=4", PLAIN)):
        settings, grid = make(*overrides), RealNodes(4)
        real_node(grid, 100, settings, fewest=4)
        records = run_on(grid, settings).records
        assert {record.messages for record in records} == {3}
        lines += [line for record in records for line in record.nodes]
    small, plain = lines[0], lines[2]
    assert "the sum of 3 nodes could be opened, and this node's own minimum is 4 (min-" in small
    assert "sends no change without masks (min-members of its node-config): set" in plain


def test_no_secret_is_in_any_file_or_in_what_the_server_saw(
    make: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: dict[bytes, int] = {}
    offer = Member.offer

    def remembered(member: Member) -> PublicKeys:
        for secret in (member.sealing, member.pairs, member.own):
            secrets[secret] = member.name.number
        return offer(member)

    monkeypatch.setattr(Member, "offer", remembered)
    _, _, grid = run_in_process(make())
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    parts = [part for pair in grid.log for each in pair for part in each.content.values()]
    seen = [repr(dict(part)).encode() for part in parts]
    kept = [repr(context.state).encode() for context in grid.contexts.values()]
    assert Counter(secrets.values()) == {1: 9, 2: 9, 3: 9}  # round 3 is prepared, and never comes
    for secret, number in secrets.items():
        places = files + seen if number == 3 else files + seen + kept
        for form in (secret, secret.hex().encode(), repr(secret).encode()):
            assert not any(form in place for place in places)
    assert json.loads((tmp_path / "run-0" / "results.json").read_text())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy.guard_ratio=5.0", "strategy.guard_ratio=5.0 is out of range: null with"),
        ("strategy.guard_direction=true", "strategy.guard_direction=True is out of range: false"),
        ("strategy.aggregation=median", "strategy.aggregation=median is out of range: mean with"),
        ("strategy.aggregation=krum", "strategy.aggregation=krum is out of range: mean with"),
        (
            "federation.nodes=2",
            "federation.nodes=2 is out of range: at least 3 with privacy.secure_",
        ),
        ("privacy.secure_sum.threshold=0.5", "privacy.secure_sum.threshold=0.5 is out of range"),
        ("privacy.secure_sum.min_members=1", "min_members=1 is out of range: at least 2"),
        ("privacy.secure_sum.modulus_bits=8", "modulus_bits=8 is out of range: 16 or 32"),
        ("privacy.secure_sum.range=0", "range=0 is out of range: above 0"),
    ],
)
def test_settings_that_need_single_updates_are_refused_by_name(
    override: str, message: str, make: MakeSettings
) -> None:
    with pytest.raises(FedmemError) as error:
        make(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("nodes", "overrides", "words"),
    [
        (3, ["privacy.secure_sum.min_members=4"], "over 4 to 65536 nodes, and there are 3"),
        (2, [], "over 3 to 65536 nodes, and there are 2"),
    ],
)
def test_too_few_nodes_are_named_before_anything_is_sent(
    nodes: int, overrides: Collection[str], words: str, make: MakeSettings
) -> None:
    settings, grid = (
        make("federation.nodes=auto", f"strategy.min_nodes={nodes}", *overrides),
        RealNodes(nodes),
    )
    with pytest.raises(FedmemError, match=words):
        run_on(grid, settings)
    assert {asked.metadata.message_type for asked, _ in grid.log} == {"query.describe"}


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[Update], Update]) -> None:
    """Let nodes encode other updates than those that they have trained."""
    honest = masking.encode_update
    monkeypatch.setattr(masking, "encode_update", lambda own, *how: honest(change(own), *how))


def test_a_sum_that_claims_more_than_was_asked_for_is_not_taken(
    make: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing(monkeypatch, lambda update: replace(update, users=1000))
    with pytest.raises(FedmemError, match="the sum of the nodes reports 3000 users, and was asked"):
        run_in_process(make())


def test_a_change_that_is_not_finite_is_not_sent(
    make: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = iter([True])

    def spoilt(update: Update) -> Update:
        if next(bad, False):
            next(iter(update.change.values())).fill_(torch.nan)
        return update

    changing(monkeypatch, spoilt)
    records = run_on(RealNodes(4), make("federation.nodes=4")).records
    assert [record.messages for record in records] == [3, 4]
    (line,) = records[0].nodes
    assert "What was to be summed is not finite; nothing of it was sent" in line


def test_what_was_cut_is_said(make: MakeSettings) -> None:
    _, watcher, _ = run_in_process(make("privacy.secure_sum.range=1e-9", "federation.rounds=1"))
    (line,) = watcher.records[0].refused
    assert int(line.removesuffix(" numbers were cut to privacy.secure_sum.range")) > 1000
