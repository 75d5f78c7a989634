"""The settings as a schema: keys, types and ranges, which one checker holds values up to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as all_hints

from fedmem.core.errors import FedmemError, nearest
from fedmem.core.files.home import at_home
from fedmem.core.settings.ranges import Range

Auto = Literal["auto"]
TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    list[str]: "a list of texts, as [a,b]",
    Auto: "auto",
    NoneType: "null",
}
"""Those of single settings, in words."""


@dataclass(frozen=True)
class Section:
    """Settings that belong together, which are checked when the section is made.

    Args:
        at: dotted key of the section; None: the one in its class statement.

    Raises:
        FedmemError: a value has the wrong type, is out of range, or does not go with another.
    """

    usual: ClassVar[str]
    at: InitVar[str | None] = field(default=None, kw_only=True)

    def __init_subclass__(cls, key: str = "") -> None:
        super().__init_subclass__()
        cls.usual = key

    def __post_init__(self, at: str | None) -> None:
        section = self.usual if at is None else at
        for name, hint in self.hints().items():
            if parts(hint) is None:
                _check(dotted(section, name), getattr(self, name), hint)
        for name, allowed in self.contradictions():
            raise _out_of_range(dotted(section, name), getattr(self, name), allowed)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Settings that do not go with others, and which of their values would."""
        return iter(())

    @classmethod
    @cache
    def hints(cls) -> dict[str, Any]:
        """The annotations of the section's settings, in order."""
        found = all_hints(cls, include_extras=True)
        (given,) = get_args(getattr(cls, "__orig_bases__", (cls,))[0]) or (None,)  # Base[given]
        hints = {each.name: found[each.name] for each in fields(cls)}
        return {name: given if isinstance(hint, TypeVar) else hint for name, hint in hints.items()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The section from nested dictionaries.

        Raises:
            FedmemError: a key is unknown or missing, or a value is of the wrong type or range.
        """
        return _made(cls, values, cls.usual, list(leaves(cls)))  # type: ignore[no-any-return]


def parts(hint: Any) -> dict[str, Any] | None:
    """What a section, or a dictionary of sections, is made of; None: it is a single setting."""
    if isinstance(hint, type) and issubclass(hint, Section):
        return hint.hints()
    if get_origin(hint) is Annotated and get_origin(hint.__origin__) is dict:
        (names,) = hint.__metadata__  # the keys that it may have
        return dict.fromkeys(names, get_args(hint.__origin__)[1])
    return None


def kinds(hint: Any) -> list[tuple[Any, Range | None]]:
    """The types that a single setting may have, each with its range; None: all of its values."""
    if get_origin(hint) in (Union, UnionType):
        return [kind for each in get_args(hint) for kind in kinds(each)]
    return [
        (hint.__origin__, *hint.__metadata__) if get_origin(hint) is Annotated else (hint, None)
    ]


def leaves(hint: Any, key: str = "") -> dict[str, Any]:
    """The annotation of every setting in a section, by its dotted key, in order."""
    inside = parts(hint)
    if inside is None:
        return {key: hint}
    found: dict[str, Any] = {}
    for name, each in inside.items():
        found |= leaves(each, dotted(key, name))
    return found


def dotted(section: str, name: str) -> str:
    """The key of what has this name in a section; the settings as a whole have no key."""
    return f"{section}.{name}" if section else name


def unknown(key: str, choices: Iterable[str]) -> FedmemError:
    """The error for a key that no setting has."""
    meant = nearest(key, choices)
    hint = f"did you mean {meant}?" if meant else "conf/ lists them all."
    return FedmemError(f"{key} is no setting: {hint}")


def _made(hint: Any, values: Any, key: str, known: list[str]) -> Any:
    """A section of a mapping, sections within it too; a single setting stays, but for `~`."""
    inside = parts(hint)
    if inside is None:
        return _expanded(values)
    if not isinstance(values, Mapping):
        raise _of_wrong_type(key, values, f"it holds {', '.join(inside)}")
    for name in values:
        if name not in inside:
            raise unknown(dotted(key, name), known)
    made = {n: _made(inside[n], each, dotted(key, n), known) for n, each in values.items()}
    if get_origin(hint) is Annotated:
        return made
    for name in inside:
        if name not in values:
            absent = dotted(key, name)
            raise FedmemError(
                f"{absent} is missing: conf/ gives it a value, so do not take it out."
            )
    return hint(**made, at=key)


def _expanded(value: Any) -> Any:
    """A single setting, whose text may name a file below somebody's home."""
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return at_home(value) if isinstance(value, str) else value


def _check(key: str, value: Any, hint: Any) -> None:
    """Hold a single setting up to the types that it may have, and to their ranges."""
    fitting = [allowed for kind, allowed in kinds(hint) if _fits(value, kind)]
    if not fitting:
        expected = " or ".join(TYPES[kind] for kind, _ in kinds(hint))
        raise _of_wrong_type(key, value, f"expected {expected}")
    if not any(allowed is None or allowed.holds(value) for allowed in fitting):
        words = (allowed.words if allowed else TYPES[kind] for kind, allowed in kinds(hint))
        raise _out_of_range(key, value, ", or ".join(words))


def _fits(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is float:  # a whole number stands for a real one; true and false do not
        return type(value) in (int, float) and math.isfinite(value)
    return bool(value == "auto") if kind == Auto else type(value) is kind


def _of_wrong_type(key: str, value: Any, expected: str) -> FedmemError:
    shown = "null" if value is None else value
    return FedmemError(f"{key}={shown} is of the wrong type: {expected}.")


def _out_of_range(key: str, value: Any, allowed: str) -> FedmemError:
    return FedmemError(f"{key}={value} is out of range: {allowed}.")
