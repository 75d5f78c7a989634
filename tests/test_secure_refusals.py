"""What nodes and server refuse of a sum under masks, and in which words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message

from fedmem.core.errors import FedmemError
from fedmem.core.machine import placement
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.updates.update import Update
from fedmem.federation import masking
from fedmem.messaging.roster import Roster
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    add_remaining,
    name_of,
    named,
    read_masked,
)
from fedmem.runs.stage_progress import StageRules
from fedmem.strategies import StageFedAvg
from tests.helpers.in_process_grid import InProcessGrid, RealNodes, run_in_process, run_on
from tests.helpers.secure_runs import (
    MEMBERS,
    PLAIN,
    STEPS,
    Ran,
)

MakeSettings = Callable[..., Settings]
BESIDE = "does not go with privacy.secure_sum.enabled=true"


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
    change: Callable[[Message, Message], None], words: str, make_masked: MakeSettings
) -> None:
    settings = make_masked("federation.nodes=4")
    records = run_on(tampering(change), settings).records
    (line,) = records[1].refused
    assert line.startswith(f"node 102: {words}")
    assert (records[0].messages, records[1].messages) == (4, 3)
    assert records[1].loss is not None


def asked_first(masked_run: Ran, kind: str) -> Message:
    return next(asked for asked, _ in masked_run.grid.log if asked.metadata.message_type == kind)


def ask_again(masked_run: Ran, message: Message) -> Message:
    return masked_run.grid.app(message, masked_run.grid.contexts[message.metadata.dst_node_id])


@pytest.mark.parametrize("kind", STEPS)
def test_a_node_answers_no_message_of_an_earlier_round(kind: str, masked_run: Ran) -> None:
    with pytest.raises(FedmemError, match=r"Node \d+ refuses round 1 of pretrain_sasrec"):
        ask_again(masked_run, asked_first(masked_run, kind))


def test_a_node_that_has_revealed_shares_reveals_none_for_another_list(masked_run: Ran) -> None:
    kept = [
        asked for asked, _ in masked_run.grid.log if asked.metadata.message_type == REVEAL_SHARES
    ][-1]
    own = kept.metadata.dst_node_id
    others = [node for node in masked_run.grid.contexts if node != own]
    kept.content = add_remaining(named(name_of(kept)), [own, others[0]])
    with pytest.raises(FedmemError, match="it revealed shares, and answers each step once"):
        ask_again(masked_run, kept)


def test_a_round_that_was_answered_is_not_begun_again(masked_run: Ran) -> None:
    asked = asked_first(masked_run, OFFER_KEYS)
    with pytest.raises(FedmemError, match="it has sent masked numbers of round 2"):
        ask_again(masked_run, asked)
    asked.content["sum"] = ConfigRecord({"stage": "align_projectors", "round": 1})
    assert ask_again(masked_run, asked).has_content()


def real_node(grid: InProcessGrid, node: int, settings: Settings, fewest: int) -> None:
    """Make a node one that has data, a folder and a minimum of its own."""
    place = Path(settings.output_dir) / f"node-{node}"
    own = {"data": settings.data.dir, "state-dir": str(place), "min-members": fewest}
    grid.contexts[node].node_config |= own


def test_a_node_with_a_minimum_refuses_smaller_sums_and_to_send_without_masks(
    make_masked: MakeSettings,
) -> None:
    lines = []
    for overrides in (("federation.nodes=4",), ("federation.nodes=4", PLAIN)):
        settings, grid = make_masked(*overrides), RealNodes(4)
        real_node(grid, 100, settings, fewest=4)
        records = run_on(grid, settings).records
        assert {record.messages for record in records} == {3}
        lines += [line for record in records for line in record.nodes]
    small, plain = lines[0], lines[2]
    assert "the sum of 3 nodes could be opened, and this node's own minimum is 4 (min-" in small
    assert "sends no change without masks (min-members of its node-config): set" in plain


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "strategy.guard_ratio=5.0",
            f"strategy.guard_ratio=5.0 {BESIDE}: no single",
        ),
        ("strategy.guard_direction=true", f"strategy.guard_direction=true {BESIDE}: no single"),
        ("strategy.aggregation=median", f"strategy.aggregation=median {BESIDE}: take mean"),
        ("strategy.aggregation=krum", f"strategy.aggregation=krum {BESIDE}: take mean"),
        ("federation.nodes=2", f"federation.nodes=2 {BESIDE}: take at least 3"),
        ("privacy.secure_sum.threshold=0.5", "privacy.secure_sum.threshold=0.5 is out of range"),
        ("privacy.secure_sum.min_members=1", "min_members=1 is out of range: at least 2"),
        ("privacy.secure_sum.modulus_bits=8", "modulus_bits=8 is out of range: 16 or 32"),
        ("privacy.secure_sum.range=0", "range=0 is out of range: above 0"),
    ],
)
def test_settings_that_need_single_updates_are_refused_by_name(
    override: str, message: str, make_masked: MakeSettings
) -> None:
    with pytest.raises(FedmemError) as error:
        make_masked(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_has_as_many_nodes_as_its_sums_ask_for(make_masked: MakeSettings) -> None:
    def nodes(*overrides: str) -> int:
        settings = make_masked("federation.nodes=auto", *overrides)
        return placement.place(settings, [placement.Machine(cpus=1, gpus=0)], 24).nodes

    assert (nodes(), nodes(MEMBERS.format(5)), nodes(PLAIN)) == (3, 5, 1)
    with pytest.raises(FedmemError, match=f"{BESIDE}: take at least 4"):
        make_masked(MEMBERS.format(4))


def test_a_run_on_real_nodes_waits_for_as_many(
    make_masked: MakeSettings,
) -> None:
    looks = 0

    class Coming(RealNodes):
        """Nodes that are there one by one."""

        def get_node_ids(self) -> Iterable[int]:
            nonlocal looks
            looks += 1
            return list(super().get_node_ids())[:looks]

    settings = make_masked("federation.nodes=auto", MEMBERS.format(4))
    assert [record.messages for record in run_on(Coming(4), settings).records] == [4, 4]


def test_more_nodes_than_the_modulus_counts_are_named(make_masked: MakeSettings) -> None:
    settings = make_masked("privacy.secure_sum.modulus_bits=16")
    roster = Roster(settings, RealNodes(3), False, False, threading.Event())
    roster.homes = {node: np.array([node]) for node in range(257)}
    stage = STAGES["pretrain_sasrec"]
    with pytest.raises(FedmemError, match=r"modulo 2\^16 is over at most 256 nodes, and there are"):
        StageFedAvg(settings, stage, roster, {}, StageRules(settings, stage).begin({}, None))


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[Update], Update]) -> None:
    """Let nodes encode other updates than those that they have trained."""
    honest = masking.encode_update
    monkeypatch.setattr(masking, "encode_update", lambda own, *how: honest(change(own), *how))


def test_a_sum_that_claims_more_than_was_asked_for_is_not_taken(
    make_masked: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing(monkeypatch, lambda update: replace(update, users=1000))
    with pytest.raises(FedmemError, match="the sum of the nodes reports 3000 users, and was asked"):
        run_in_process(make_masked())


def test_a_change_that_is_not_finite_is_not_sent(
    make_masked: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = iter([True])

    def spoilt(update: Update) -> Update:
        if next(bad, False):
            next(iter(update.change.values())).fill_(torch.nan)
        return update

    changing(monkeypatch, spoilt)
    records = run_on(RealNodes(4), make_masked("federation.nodes=4")).records
    assert [record.messages for record in records] == [3, 4]
    (line,) = records[0].nodes
    assert "What was to be summed is not finite; nothing of it was sent" in line


def test_what_was_cut_is_said(make_masked: MakeSettings) -> None:
    _, watcher, _ = run_in_process(
        make_masked("privacy.secure_sum.range=1e-9", "federation.rounds=1")
    )
    (line,) = watcher.records[0].refused
    assert int(line.removesuffix(" numbers were cut to privacy.secure_sum.range")) > 1000
