"""The counts of a case are those of the models themselves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fedmem.core.model.parameters import initial_parameters
from fedmem.core.stages import ALIGN_PROJECTORS, STAGES, Stage
from fedmem.doctor.case import Case
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL


def sized(patch: pytest.MonkeyPatch, items: int, widths: tuple[int, int], *overrides: str) -> Case:
    """A case with so many items, and vectors so wide."""
    patch.setattr(Case, "interactions", SimpleNamespace(num_items=items))
    patch.setattr(Case, "widths", widths)
    return Case(compose_settings(overrides))


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
@pytest.mark.parametrize("overrides", [[], SMALL, [*SMALL, "model.experts=[identity]"]])
def test_counts_are_those_of_the_model(
    stage: Stage, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = sized(monkeypatch, 40, (12, 8), *overrides)
    real = initial_parameters(case.settings.model, stage, 40, (12, 8), 0, {})
    sizes = {name: value.numel() for name, value in real.items()}
    scope, _ = stage.split(real)
    assert case.counts(stage) == (sum(sizes.values()), sum(sizes[name] for name in scope))


def test_stage_2_trains_139714(monkeypatch: pytest.MonkeyPatch) -> None:
    case = sized(monkeypatch, 1682, (512, 384))
    assert case.counts(ALIGN_PROJECTORS) == (633_156, 139_714)
