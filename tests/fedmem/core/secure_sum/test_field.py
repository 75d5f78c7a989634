"""The field of shared secrets, held up to pycryptodome's own."""

from __future__ import annotations

import secrets

import pytest
from Crypto.Protocol.SecretSharing import Shamir

from fedmem.core.secure_sum.field import inverse, product, value_at_zero
from fedmem.core.secure_sum.shares import joined, split

ANY = 0x5E3F_9A17_0C44_D2B8_6E91_7F03_A5CC_1D28


def test_products_are_those_of_the_field() -> None:
    assert product(1 << 127, 2) == 0b1000_0111  # x¹²⁸
    assert product(ANY, 1) == product(1, ANY) == ANY
    assert product(ANY, 0) == 0
    one, other, third = (secrets.randbits(128) for _ in range(3))
    assert product(one, other) == product(other, one)
    assert product(one, other ^ third) == product(one, other) ^ product(one, third)
    assert product(product(one, other), third) == product(one, product(other, third))
    assert product(ANY, inverse(ANY)) == 1


@pytest.mark.parametrize(("needed", "count"), [(2, 3), (3, 7), (20, 30)])
def test_any_enough_shares_give_what_the_library_gives(needed: int, count: int) -> None:
    secret = secrets.token_bytes(16)
    members = [10 * n for n in range(count)]
    shares = split(secret, needed, members)
    for chosen in (members[:needed], members[-needed:], members[::-1]):
        assert joined({member: shares[member] for member in chosen}, needed, members) == secret
    placed = [(members.index(m) + 1, shares[m]) for m in members[-needed:]]
    assert Shamir.combine(placed) == secret
    values = [int.from_bytes(share) for _, share in placed]
    assert value_at_zero([place for place, _ in placed], values) == int.from_bytes(secret)
