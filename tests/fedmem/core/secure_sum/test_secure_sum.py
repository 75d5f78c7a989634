"""The secure sum against the plain sum of the same integers, and what each side refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.coordinator import GivenUp
from fedmem.core.secure_sum.keys import Integers, PublicKeys
from fedmem.core.secure_sum.member import Member
from fedmem.core.secure_sum.shares import Share
from tests.helpers.secure_sums import NAME, SecureSum, integers, without

NODES = (4, 9, 2, 7, 5)
Losses = dict[int, Collection[int]]


def plain(values: Mapping[int, Integers], nodes: Collection[int]) -> Integers:
    total = np.zeros_like(next(iter(values.values())))
    for node in nodes:
        total += values[node]
    return total


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("nodes", [NODES[:3], NODES, range(11)])
def test_the_sum_is_the_plain_sum_bit_for_bit(bits: int, nodes: Collection[int]) -> None:
    values = integers(nodes, bits)
    found = SecureSum(values, len(nodes), bits).run()
    assert found.dtype == plain(values, nodes).dtype
    assert np.array_equal(found, plain(values, nodes))


@pytest.mark.parametrize(
    "lost",
    [
        {1: [9, 7]},
        {2: [2, 4]},
        {3: [9, 2]},
        {4: [4, 5]},
        {1: [9], 2: [5]},
        {2: [5], 3: [2]},
        {3: [7], 4: [2]},
        {1: [4], 4: [9]},
    ],
)
def test_nodes_lost_at_any_step_leave_the_sum_of_those_that_sent_theirs(lost: Losses) -> None:
    values = integers(NODES, 32)
    found = SecureSum(values, 3).run(lost)
    sent = set(NODES) - {node for step in (1, 2, 3) for node in lost.get(step, ())}
    assert np.array_equal(found, plain(values, sent))


@pytest.mark.parametrize(
    ("lost", "did"),
    [
        ({1: [9, 7, 2]}, "2 nodes offered their keys"),
        ({2: [9, 7, 2]}, "2 nodes shared their secrets"),
        ({3: [9, 7, 2]}, "2 nodes sent their masked numbers"),
        ({4: [9, 7, 2]}, "2 nodes revealed their shares"),
        ({1: [9], 2: [7], 3: [2]}, "2 nodes sent their masked numbers"),
    ],
)
def test_too_many_lost_give_the_sum_up_in_one_line(lost: Losses, did: str) -> None:
    with pytest.raises(GivenUp) as error:
        SecureSum(integers(NODES, 32), 3).run(lost)
    assert str(error.value) == (
        f"round 3 of pretrain_sasrec was given up: {did}, and 3 are needed (privacy.secure_sum)."
    )


def test_every_set_of_losses_ends_in_the_plain_sum_or_is_given_up() -> None:
    nodes = NODES[:3]
    values = integers(nodes, 16, size=8)
    for steps in itertools.product(range(1, 6), repeat=3):  # 5: never
        until = dict(zip(nodes, steps, strict=True))
        lost: Losses = {s: [n for n, at in until.items() if at == s] for s in range(1, 5)}
        whole = SecureSum(values, 2, 16)
        if 1 in steps or steps.count(5) < 2:  # at its start a sum has at least three nodes
            with pytest.raises(GivenUp):
                whole.run(lost)
            assert whole.opened is None
        else:
            sent = [node for node, at in until.items() if at > 3]
            assert np.array_equal(whole.run(lost), plain(values, sent))


def test_a_secret_of_a_node_is_never_revealed_in_both_kinds() -> None:
    whole = SecureSum(integers(NODES, 32), 3)
    whole.run({3: [9]})
    held = whole.revealed[4]
    assert set(held) == set(NODES)
    with pytest.raises(FedmemError, match="it revealed shares, and answers each step once"):
        whole.again(4).reveal([4, 9, 2])


def in_step(step: int) -> tuple[SecureSum, Member]:
    """A sum whose nodes have all done so many steps, and one of its members."""
    whole = SecureSum(integers(NODES, 32), 3)
    for each in [whole.offer, whole.share, whole.mask][:step]:
        each()
    return whole, whole.again(4)


def keys_of(nodes: Collection[int]) -> dict[int, PublicKeys]:
    return {node: Member(node, NAME, 2).offer() for node in nodes}


@pytest.mark.parametrize(
    ("step", "ask", "words"),
    [
        (1, lambda _, m: m.accept({}), "it offered its keys, and answers each step once, in order"),
        (1, lambda _, m: m.reveal(NODES), "it offered its keys, and answers each step once"),
        (1, lambda _, m: m.share(keys_of([4, 9]), 2), "2 nodes take part, and at least 3 have to"),
        (1, lambda w, m: m.share(w.coordinator.keys, 1), "own minimum is 2 (min-members)"),
        (1, lambda w, m: m.share(w.coordinator.keys, 2), "2 of 5 nodes are no majority of them"),
        (1, lambda w, m: m.share(w.coordinator.keys, 6), "6 of 5 nodes are no majority of them"),
        (1, lambda _, m: m.share(keys_of(NODES), 3), "the keys that this node offered are not"),
        (
            1,
            lambda w, m: m.share({**w.coordinator.keys, 9: w.coordinator.keys[2]}, 3),
            "a public key stands twice",
        ),
        (2, lambda w, m: m.share(w.coordinator.keys, 3), "it shared its secrets, and answers"),
        (
            2,
            lambda w, m: m.accept(without(w.coordinator.sealed_for(4), [9, 2, 7])),
            "2 nodes shared, and 3 are needed",
        ),
        (
            2,
            lambda w, m: m.accept({**w.coordinator.sealed_for(4), 1: None}),
            "those that shared their secrets are not this sum's nodes",
        ),
        (
            2,
            lambda w, m: m.accept(
                {**w.coordinator.sealed_for(4), 9: w.coordinator.sealed_for(2)[9]}
            ),
            "the share that node 9 sealed for it was tampered with",
        ),
        (3, lambda w, m: m.accept(w.coordinator.sealed_for(4)), "it sent its masked numbers, and"),
        (3, lambda _, m: m.reveal([4, 9]), "2 nodes remain, and 3 are needed"),
        (3, lambda _, m: m.reveal([9, 2, 7]), "the list of those that remain is not one of this"),
        (3, lambda _, m: m.reveal([4, 9, 2, 1]), "the list of those that remain is not one of"),
    ],
)
def test_a_member_refuses_in_one_line_and_stays_as_it_was(
    step: int, ask: Callable[[SecureSum, Member], object], words: str
) -> None:
    whole, member = in_step(step)
    before = member.to_bytes()
    with pytest.raises(FedmemError) as error:
        ask(whole, member)
    text = str(error.value)
    assert text.startswith("Node 4 refuses round 3 of pretrain_sasrec of the secure sum: ")
    assert words in text
    assert "\n" not in text
    assert member.to_bytes() == before


def test_after_the_last_step_a_member_holds_no_secret() -> None:
    _, member = in_step(3)
    secrets = [member.sealing, member.pairs, member.own, *itertools.chain(*member.held.values())]
    member.reveal(NODES)
    left = member.to_bytes()
    assert [each for each in secrets if each.hex().encode() in left] == []


def test_secrets_do_not_stand_in_what_is_printed_of_a_member() -> None:
    _, member = in_step(3)
    assert member.own.hex() not in repr(member)
    assert repr(member.own) not in repr(member)


@pytest.mark.parametrize("kind", ["box", "digests"])
def test_a_share_that_was_tampered_with_on_its_way_is_found(kind: str) -> None:
    whole, member = in_step(2)
    sealed = whole.coordinator.sealed_for(4)
    box, digests = sealed[9].box, sealed[9].digests
    changed = bytes([box[0] ^ 1]) + box[1:], Share(digests.pairs, digests.pairs)
    sealed[9] = replace(sealed[9], **{kind: changed[kind == "digests"]})
    with pytest.raises(FedmemError, match="the share that node 9 sealed for it was tampered with"):
        member.accept(sealed)


def test_a_share_that_is_revealed_otherwise_than_it_was_made_is_found_and_left_out() -> None:
    values = integers(NODES, 32)
    whole = SecureSum(values, 3)
    whole.offer()
    whole.share()
    whole.mask([9])
    revealed = {
        node: whole.again(node).reveal(whole.coordinator.remaining) for node in (4, 2, 7, 5)
    }
    revealed[2][9] = bytes(16)
    found, faults = whole.coordinator.open(revealed)
    assert faults == {2: "the share of node 9 that it revealed was tampered with"}
    assert np.array_equal(found, plain(values, [4, 2, 7, 5]))
    del revealed[7]
    with pytest.raises(GivenUp, match="node 2 the share of node 9 that it revealed was tampered"):
        whole.coordinator.open(revealed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: (replace(NAME, number=2), x), "of round 2 of pretrain_sasrec, not of round 3"),
        (lambda x: (replace(NAME, run=2), x), "sent masked numbers of"),
        (lambda x: (NAME, x.astype("<u2")), "of type uint16, not modulo 2^32"),
        (lambda x: (NAME, x.astype("<f4")), "of type float32, not modulo 2^32"),
        (lambda x: (NAME, x[:-1]), "of shape (49,), not (50,)"),
    ],
)
def test_masked_numbers_that_are_not_what_was_asked_for_are_left_out(
    change: Callable[[Integers], tuple[object, Integers]], words: str
) -> None:
    values = integers(NODES, 32)
    whole = SecureSum(values, 3)
    whole.offer()
    whole.share()
    sent = {}
    for node in NODES:
        whole.again(node).accept(whole.coordinator.sealed_for(node))
        masked = whole.members[node].mask(values[node])
        sent[node] = change(masked) if node == 7 else (NAME, masked)
    faults = whole.coordinator.take_masked({**sent, 1: sent[7]}, 50)
    assert words in faults[7]
    assert faults[1] == "is not a node of this sum"
    assert np.array_equal(whole.reveal(), plain(values, [4, 9, 2, 5]))


def test_keys_and_shares_that_are_none_are_left_out() -> None:
    whole = SecureSum(integers(NODES, 32), 3)
    offered = {node: member.offer() for node, member in whole.members.items()}
    faults = whole.coordinator.take_keys({**offered, 9: PublicKeys(b"short", bytes(32))})
    assert faults == {9: "offers keys that are none"}
    sent = {n: whole.members[n].share(whole.coordinator.keys, 3) for n in (4, 2, 7, 5)}
    del sent[4][2]
    assert whole.coordinator.take_shares(sent) == {4: "did not share its secrets with every node"}


def test_a_node_that_shares_another_secret_than_its_key_is_named() -> None:
    whole = SecureSum(integers(NODES, 32), 3)
    whole.offer()
    whole.members[9].pairs, honest = bytes(16), whole.members[9].pairs
    whole.members[9].offer = lambda: whole.coordinator.keys[9]  # type: ignore[method-assign]
    keys = whole.coordinator.keys
    sent = {node: whole.members[node].share(keys, 3) for node in NODES}
    whole.coordinator.take_shares(sent)
    whole.members[9].pairs = honest
    for node in (4, 2, 7):
        whole.members[node].accept(whole.coordinator.sealed_for(node))
        whole.masked[node] = whole.members[node].mask(whole.values[node])
    whole.coordinator.take_masked({n: (NAME, x) for n, x in whole.masked.items()}, 50)
    revealed = {node: whole.members[node].reveal([4, 2, 7]) for node in (4, 2, 7)}
    with pytest.raises(GivenUp, match="node 9 shared another secret than it offered"):
        whole.coordinator.open(revealed)
