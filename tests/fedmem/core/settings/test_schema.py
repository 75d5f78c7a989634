"""Keys, types and the nearest key, from the dataclasses themselves."""

from __future__ import annotations

import json

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.settings.schema import leaves, nearest, require_schema
from fedmem.runs.configuration import compose_settings


def test_leaves_are_all_settings() -> None:
    def keys(values: object, prefix: str = "") -> list[str]:
        if not isinstance(values, dict):
            return [prefix.removesuffix(".")]
        return [key for k, v in values.items() for key in keys(v, f"{prefix}{k}.")]

    found = leaves(Settings)
    assert sorted(found) == sorted(keys(json.loads(compose_settings().to_json())))
    assert found["model.dim"] is int
    assert found["federation.rounds"] == int | None


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.beta", "a.beta"),
        ("beta", "a.beta"),
        ("b.beta", "a.beta"),
        ("a.bata", "a.beta"),
        ("bata", "a.beta"),
        ("gamma", "a.gamma or b.gamma"),
        ("xyzzy", None),
    ],
)
def test_the_nearest_key(word: str, expected: str | None) -> None:
    assert nearest(word, ["a.beta", "a.gamma", "b.gamma"]) == expected


@pytest.mark.parametrize("values", [None, 3, [], "text"])
def test_what_is_no_tree_is_refused(values: object) -> None:
    with pytest.raises(FedmemError, match="wrong type"):
        require_schema(Settings, values)
