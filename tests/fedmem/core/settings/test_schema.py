"""Keys, types and the nearest key, from the dataclasses themselves."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from fedmem.core.errors import FedmemError, nearest
from fedmem.core.settings import Settings
from fedmem.core.settings.ranges import Range, above, at_least, one_of, some_of, within
from fedmem.core.settings.schema import leaves
from fedmem.core.stages import CONTROLS
from fedmem.runs.configuration import compose_settings


def test_leaves_are_all_settings() -> None:
    def keys(values: object, prefix: str = "") -> list[str]:
        if not isinstance(values, dict):
            return [prefix.removesuffix(".")]
        return [key for k, v in values.items() for key in keys(v, f"{prefix}{k}.")]

    found = leaves(Settings)
    composed = [json.loads(compose_settings([f"stage={s}"]).to_json()) for s in ("all", *CONTROLS)]
    expected = {key for values in composed for key in keys(values)}
    assert {key for key in found if not key.startswith("stage.centralised.")} == expected
    assert found["data.columns.user"] == str | None
    assert get_args(found["stage.finetune_moe.loss.score"])[0] is float


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (at_least(1), [1, 2], [0, -1]),
        (above(0), [1e-9, 5], [0, -1]),
        (within("[0, 1]"), [0, 0.5, 1], [-0.1, 1.1]),
        (within("(0, 1)"), [0.1, 0.9], [0, 1]),
        (within("[0, 1)"), [0, 0.9], [-1, 1]),
        (within("(0, 1]"), [0.1, 1], [0, 2]),
        (one_of("a", "b"), ["a", "b"], ["c", ""]),
        (some_of("a", "b"), [["a"], ["b", "a"]], [[], ["a", "a"], ["c"]]),
    ],
    ids=lambda value: value.words if isinstance(value, Range) else "",
)
def test_ranges(allowed: Range, inside: list[object], outside: list[object]) -> None:
    assert all(map(allowed.holds, inside))
    assert not any(map(allowed.holds, outside))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.beta", "a.beta"),
        ("beta", "a.beta"),
        ("b.beta", "a.beta"),
        ("a.bata", "a.beta"),
        ("bata", "a.beta"),
        ("gamma", "a.gamma or b.gamma"),
        ("stages.one.gamma", "stage.one.gamma"),
        ("stage.tow.gamma", "stage.two.gamma"),
        ("xyzzy", None),
    ],
)
def test_the_nearest_key(word: str, expected: str | None) -> None:
    choices = ["a.beta", "a.gamma", "b.gamma", "stage.one.gamma", "stage.two.gamma"]
    assert nearest(word, choices) == expected


@pytest.mark.parametrize("values", [None, 3, [], "text"])
def test_what_is_no_tree_is_refused(values: object) -> None:
    with pytest.raises(FedmemError, match="wrong type"):
        Settings.from_dict(values)
