"""Whatever the settings are: they work, or end in a mistake of a few lines before training.

A few hundred draws a run; `make test-full` draws more, and trains with what is let through.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmem.core.settings import Settings
from fedmem.core.settings.schema import leaves
from fedmem.core.stages import STAGES
from fedmem.doctor.case import Case
from fedmem.doctor.checks import preflight
from fedmem.runs.configuration import compose_settings
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.mistakes import or_mistake

MakeSettings = Callable[..., Settings]
NOT_DRAWN = ("output_dir", "data.dir", "checkpoint.dir", "simulation.ray_address")
"""Places, and a cluster that would be waited for."""
KEYS = sorted(set(leaves(Settings)) - set(NOT_DRAWN))
VALUES = st.one_of(
    st.integers(-2, 12),
    st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, -1.0, 1e-9, 1e9, float("inf"), float("nan")]),
    st.sampled_from([10**6, 10**12, -(10**12)]),
    st.sampled_from(["auto", "cpu", "mean", "loop", "batched", "nothing", "", "visual"]),
    st.sampled_from([None, True, False, [], ["identity"], ["visual", "visual"], [1], {"a": 1}]),
    st.permutations(list(STAGES)).flatmap(lambda names: st.just(names[:2])),
)
MISSPELT = st.sampled_from(KEYS).flatmap(
    lambda key: st.integers(0, len(key) - 1).map(lambda i: key[:i] + key[i + 1 :])
)
CHANGES = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), MISSPELT), VALUES, max_size=4
)
DRAWN = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


def changed(base: Settings, changes: dict[str, Any]) -> dict[str, Any]:
    """The settings as nested dictionaries, with other values at some dotted keys."""
    values: dict[str, Any] = json.loads(base.to_json())
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[last] = value
    return values


def started(base: Settings, changes: dict[str, Any]) -> Settings | None:
    """Settings that the command would begin to train with."""
    made = or_mistake(lambda: Settings.from_dict(changed(base, changes)))
    if made is None or or_mistake(lambda: preflight(Case(made))) is None:
        return None
    return made


@settings(max_examples=60, **DRAWN)
@given(CHANGES)
def test_any_settings_start_or_are_refused(
    make_settings: MakeSettings, changes: dict[str, Any]
) -> None:
    base = cached(make_settings)
    made = started(base, changes)
    if made is not None:  # what was asked for is what runs
        given_back = json.loads(made.to_json())
        assert given_back == changed(base, changes)


@settings(max_examples=20, **DRAWN)
@given(st.lists(st.tuples(st.one_of(st.sampled_from(KEYS), MISSPELT), VALUES), max_size=3))
def test_any_command_line_is_composed_or_refused(pairs: list[tuple[str, Any]]) -> None:
    overrides = [f"{key}={json.dumps(value)}" for key, value in pairs]
    or_mistake(lambda: compose_settings(overrides))


@settings(max_examples=60, **DRAWN)
@given(st.text(alphabet="sed=+~,.[]{}()'\"\\$:@/-0a \t%*é", max_size=12))
def test_any_text_is_composed_or_refused(text: str) -> None:
    or_mistake(lambda: compose_settings([text]))


SMALL_VALUES = st.one_of(
    st.integers(1, 3), st.sampled_from([0.25, 0.5, 1.0, "auto", "loop", "stacked", None])
)


@pytest.mark.slow
@settings(max_examples=1000, **DRAWN)
@given(CHANGES)
def test_any_settings_start_or_are_refused_in_depth(
    make_settings: MakeSettings, changes: dict[str, Any]
) -> None:
    started(cached(make_settings), changes)


@pytest.mark.slow
@settings(max_examples=60, **DRAWN)
@given(st.dictionaries(st.sampled_from(KEYS), SMALL_VALUES, max_size=3))
def test_what_is_let_through_trains(make_settings: MakeSettings, changes: dict[str, Any]) -> None:
    base = cached(make_settings)
    made = started(base, {**changes, "federation.rounds": 1, "federation.nodes": 2})
    if made is not None:
        results = or_mistake(lambda: run_in_process(made)[0])
        assert results is None or [r.stage for r in results] == list(made.stage)


def cached(make_settings: MakeSettings) -> Settings:
    """The tiny federation's settings: made once a test, since the fixture serves all its draws."""
    if not hasattr(make_settings, "made"):
        make_settings.made = make_settings()  # type: ignore[attr-defined]
    return make_settings.made  # type: ignore[attr-defined,no-any-return]
