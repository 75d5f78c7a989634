"""GF(2^128), in which secrets are shared: what of Shamir's scheme many secrets have in common.

Elements are integers whose bits are coefficients of a polynomial modulo 1 + x + x² + x⁷ + x¹²⁸,
as in pycryptodome's Shamir. That puts one secret together at a time, and finds the weights of the
holders anew for each; here they are found once for all secrets that the same nodes hold shares of.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce

BITS = 128
WHOLE = (1 << BITS) - 1


def product(one: int, other: int) -> int:
    """The product of two elements; the sooner, the smaller `other` is."""
    total = 0
    while other:
        if other & 1:
            total ^= one
        one <<= 1
        other >>= 1
    while total > WHOLE:  # x¹²⁸ = 1 + x + x² + x⁷
        above = total >> BITS
        total = total & WHOLE ^ above ^ above << 1 ^ above << 2 ^ above << 7
    return total


def inverse(element: int) -> int:
    """1 / element: its power 2^128 − 2."""
    power, total = element, 1
    for _ in range(BITS - 1):
        power = product(power, power)
        total = product(total, power)
    return total


@lru_cache(maxsize=4)
def weights_at_zero(places: tuple[int, ...]) -> tuple[int, ...]:
    """By which to multiply the values of a polynomial at these places to get that at 0.

    Lagrange's Π_m x_m / (x_m − x_j) over all others; there are as many places as coefficients.
    """
    found = []
    for own in places:
        others = [place for place in places if place != own]
        above = reduce(product, others, 1)
        below = reduce(product, [place ^ own for place in others], 1)
        found.append(product(above, inverse(below)))
    return tuple(found)


def value_at_zero(places: Sequence[int], values: Sequence[int]) -> int:
    """The value at 0 of the polynomial that has these values at these places."""
    weighted = map(product, weights_at_zero(tuple(places)), values)
    return reduce(int.__xor__, weighted, 0)
