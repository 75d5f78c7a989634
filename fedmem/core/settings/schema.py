"""The settings as a schema: keys, their types, and the nearest key to a misspelt one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeGuard, get_args, get_type_hints

from fedmem.core.errors import FedmemError

LIKENESS = 0.7
"""Of the last parts of two keys, from 0 to 1, to take one for the other."""

WORDS = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    list[str]: "a list of texts, as [a,b]",
}


def leaves(section: type, prefix: str = "") -> dict[str, Any]:
    """The type of every setting, by its dotted key, in order."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(section).items():
        key = prefix + name
        found.update(leaves(hint, f"{key}.") if _is_section(hint) else {key: hint})
    return found


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys, in order."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        flat |= flattened(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant; None where nothing is near.

    A key that lacks its section, or stands in another one, is known by its last part.
    """
    known, last = list(choices), word.rpartition(".")[2]
    same = [choice for choice in known if choice.rpartition(".")[2] == last]
    if same:
        return same[0] if len(same) == 1 else " or ".join(same)
    close = difflib.get_close_matches(word, known, n=1)
    ends = {choice.rpartition(".")[2]: choice for choice in known}
    close = close or [ends[end] for end in difflib.get_close_matches(last, ends, 1, LIKENESS)]
    return close[0] if close else None


def unknown(key: str, choices: Iterable[str]) -> FedmemError:
    """The error for a key that no setting has."""
    meant = nearest(key, choices)
    hint = f"did you mean {meant}?" if meant else "conf/ lists them all."
    return FedmemError(f"{key} is no setting: {hint}")


def require_schema(section: type, values: Any) -> None:
    """Check nested dictionaries against a dataclass and those inside it.

    Raises:
        FedmemError: the first key that is unknown or missing, or a value of the wrong type.
    """
    for problem in _problems(section, values, "", list(leaves(section))):
        raise problem


def _problems(section: type, values: Any, prefix: str, keys: list[str]) -> Iterator[FedmemError]:
    hints = get_type_hints(section)
    if not isinstance(values, Mapping):
        name = prefix.removesuffix(".")
        yield FedmemError(f"{name}={values} is of the wrong type: it holds {', '.join(hints)}.")
        return
    for name in values:
        if name not in hints:
            yield unknown(f"{prefix}{name}", keys)
    for name, hint in hints.items():
        key = prefix + name
        if name not in values:
            yield FedmemError(f"{key} is missing: conf/ gives it a value, so do not take it out.")
        elif _is_section(hint):
            yield from _problems(hint, values[name], f"{key}.", keys)
        elif hint is not Any and not any(_fits(values[name], kind) for kind in _kinds(hint)):
            expected = " or ".join(WORDS[kind] for kind in _kinds(hint))
            shown = "null" if values[name] is None else values[name]
            yield FedmemError(f"{key}={shown} is of the wrong type: expected {expected}.")


def _is_section(hint: Any) -> TypeGuard[type]:
    return is_dataclass(hint)


def _kinds(hint: Any) -> list[Any]:
    """The types that a hint allows."""
    return [hint] if hint in WORDS else list(get_args(hint))


def _fits(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is float:  # a whole number stands for a real one; true and false do not
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind
