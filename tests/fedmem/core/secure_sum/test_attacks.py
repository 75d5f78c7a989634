"""The server keeps all that it sees of a secure sum and tries to open the numbers of one node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import chisquare

from fedmem.core.secure_sum.codes import integer_type
from fedmem.core.secure_sum.keys import Integers, own_mask, pair_mask, stream
from fedmem.core.secure_sum.shares import joined
from tests.helpers.secure_sums import NAME, SecureSum

NODES = (1, 2, 3, 4, 5)
SIZE, NEEDED, LOST = 1 << 14, 3, 5
ONE_IN_A_MILLION = 1e-6


@pytest.fixture(params=[16, 32])
def attacked(request: pytest.FixtureRequest) -> SecureSum:
    """A sum of numbers that have a pattern; node 5's arrived after the others had opened it."""
    bits = int(request.param)
    pattern = np.arange(SIZE, dtype=integer_type(bits)) % 100
    whole = SecureSum({node: pattern * node for node in NODES}, NEEDED, bits)
    whole.offer()
    whole.share()
    whole.mask([LOST])
    whole.late = whole.again(LOST)  # type: ignore[attr-defined]
    whole.reveal()
    return whole


def late_numbers(whole: SecureSum) -> Integers:
    member = whole.members[LOST]
    member.accept(whole.coordinator.sealed_for(LOST))
    return member.mask(whole.values[LOST])


def secret_of(whole: SecureSum, owner: int) -> bytes:
    """What the server put together of the shares of a node's secret."""
    shares = {holder: own[owner] for holder, own in whole.revealed.items()}
    return joined(shares, NEEDED, NODES)


def stripped(whole: SecureSum, node: int, masked: Integers) -> Integers:
    """A node's masked numbers less every mask that the server has learnt of."""
    keys, left = whole.coordinator.keys, masked.copy()
    lost = secret_of(whole, LOST)
    if node != LOST:
        left -= stream(own_mask(secret_of(whole, node), NAME, node), left)
    for other in set(NODES) - {node}:
        if LOST in (node, other):
            pair = stream(
                pair_mask(lost, keys[min(node, other)].masking, NAME, (node, other)), left
            )
            left += pair if node == LOST else -pair
    return left


def looks_random(numbers: Integers) -> bool:
    """Whether all bytes are equally frequent, and neighbours have nothing to do with each other."""
    data = np.frombuffer(numbers.tobytes(), np.uint8)
    differences = np.frombuffer(np.diff(numbers).tobytes(), np.uint8)
    return all(
        chisquare(np.bincount(each, minlength=256)).pvalue > ONE_IN_A_MILLION
        for each in (data, differences)
    )


def subsets(nodes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for size in range(1, len(nodes)):
        yield from itertools.combinations(nodes, size)


def test_the_plain_numbers_do_not_look_random(attacked: SecureSum) -> None:
    assert not any(looks_random(own) for own in attacked.values.values())


def test_masked_numbers_say_nothing_of_what_is_under_them(attacked: SecureSum) -> None:
    for node, masked in attacked.masked.items():
        assert looks_random(masked)
        with_input = np.corrcoef(masked.astype(float), attacked.values[node].astype(float))[0, 1]
        assert abs(with_input) < 5 / np.sqrt(SIZE)


def test_only_the_whole_sum_opens_with_all_masks_that_the_server_can_find(
    attacked: SecureSum,
) -> None:
    remaining = tuple(attacked.masked)
    left = {node: stripped(attacked, node, attacked.masked[node]) for node in remaining}
    for chosen in subsets(remaining):
        assert looks_random(sum(left[node] for node in chosen))
    whole = sum(left[node] for node in remaining)
    assert np.array_equal(whole, sum(attacked.values[node] for node in remaining))
    assert attacked.opened is not None
    assert np.array_equal(whole, attacked.opened)


def test_numbers_that_come_late_stay_under_their_own_mask(attacked: SecureSum) -> None:
    masked = late_numbers(attacked)
    assert looks_random(masked)
    assert looks_random(stripped(attacked, LOST, masked))
    # With the secret that no survivor reveals a share of they would be open.
    own = attacked.late.own  # type: ignore[attr-defined]
    opened = stripped(attacked, LOST, masked)
    opened = opened - stream(own_mask(own, NAME, LOST), opened)
    assert np.array_equal(opened, attacked.values[LOST])


def test_secrets_that_are_not_to_be_opened_are_nowhere_in_what_the_server_saw() -> None:
    whole = SecureSum({node: np.zeros(4, np.uint32) for node in NODES}, NEEDED)
    secrets = {node: (m.sealing, m.pairs, m.own) for node, m in whole.members.items()}
    whole.run({3: [LOST]})
    sealed = [whole.coordinator.sealed_for(node) for node in NODES]
    boxes = [each for own in sealed for box in own.values() for each in (box.box, *box.digests)]
    shares = [share for own in whole.revealed.values() for share in own.values()]
    opened = {secret_of(whole, node) for node in NODES}
    assert opened == {secrets[n][1 if n == LOST else 2] for n in NODES}
    closed = {each for own in secrets.values() for each in own} - opened
    seen = b"\n".join(boxes + shares)
    assert [secret for secret in closed if secret in seen] == []


def test_one_share_too_few_gives_another_secret() -> None:
    whole = SecureSum({node: np.zeros(4, np.uint32) for node in NODES}, NEEDED)
    own = {node: member.own for node, member in whole.members.items()}
    whole.run()
    for owner in NODES:
        shares = {holder: each[owner] for holder, each in whole.revealed.items()}
        for few in itertools.combinations(shares, NEEDED - 1):
            assert joined({n: shares[n] for n in few}, NEEDED, NODES) != own[owner]
        for enough in itertools.combinations(shares, NEEDED):
            assert joined({n: shares[n] for n in enough}, NEEDED, NODES) == own[owner]


def test_a_node_never_draws_the_same_masks_twice() -> None:
    values = {node: np.zeros(64, np.uint32) for node in NODES}
    one, other = SecureSum(values, NEEDED), SecureSum(values, NEEDED)
    assert np.array_equal(one.run(), other.run())
    for node in NODES:
        assert not (one.masked[node] == other.masked[node]).any()
