"""The values that a setting may have, beside its type: `dim: Annotated[int, at_least(1)]`."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Some of the values of a type."""

    words: str
    """Which ones, as messages and docs/settings.md say it."""
    holds: Callable[[Any], bool]
    """Whether a value is one of them."""


def at_least(low: float, because: str = "") -> Range:
    """Numbers from `low` upwards."""
    return Range(f"at least {low}{because}", lambda value: value >= low)


def above(low: float) -> Range:
    """Numbers greater than `low`."""
    return Range(f"above {low}", lambda value: value > low)


def within(interval: str) -> Range:
    """Numbers of an interval, as `[0, 1)`: a bracket includes its end, a parenthesis does not."""
    low, high = map(float, interval[1:-1].split(","))

    def holds(value: float) -> bool:
        inner = low < value < high
        return inner or (value == low and "[" in interval) or (value == high and "]" in interval)

    return Range(f"in {interval}", holds)


def one_of(*choices: str) -> Range:
    """One of these texts."""
    return Range(f"one of {', '.join(choices)}", lambda value: value in choices)


def some_of(*choices: str) -> Range:
    """Lists of these texts, each at most once, and at least one."""

    def holds(value: list[str]) -> bool:
        return 0 < len(value) == len(set(value)) and set(value) <= set(choices)

    return Range(f"a non-empty choice of {', '.join(choices)}", holds)


def is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of this name."""
    try:
        return bool(codecs.lookup(name))
    except (LookupError, ValueError):
        return False


Count = Annotated[int, at_least(1)]
Share = Annotated[float, within("[0, 1]")]
Positive = Annotated[float, above(0)]
