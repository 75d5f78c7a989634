"""The counts are those of the models themselves."""

from __future__ import annotations

import pytest

from fedmem.core.model.parameters import initial_parameters
from fedmem.core.stages import ALIGN_PROJECTORS, STAGES
from fedmem.doctor.arithmetic import parameter_counts
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
@pytest.mark.parametrize("overrides", [[], SMALL, [*SMALL, "model.experts=[identity]"]])
def test_counts_are_those_of_the_model(stage, overrides: list[str]) -> None:  # type: ignore[no-untyped-def]
    model, widths = compose_settings(overrides).model, (12, 8)
    counts = parameter_counts(model, stage, 40, widths)
    real = initial_parameters(model, stage, 40, widths, 0, {})
    assert {name.split(".")[0] for name in real} == {name.split(".")[0] for name in counts}
    for prefix, count in counts.items():
        named = [v.numel() for name, v in real.items() if name.startswith(f"{prefix}.")]
        assert sum(named) == count, prefix
    scope, _ = stage.split(real)
    trained = sum(n for prefix, n in counts.items() if stage.in_scope(prefix))
    assert trained == sum(real[name].numel() for name in scope)


def test_stage_2_trains_139714() -> None:
    counts = parameter_counts(compose_settings().model, ALIGN_PROJECTORS, 1682, (512, 384))
    assert sum(n for prefix, n in counts.items() if ALIGN_PROJECTORS.in_scope(prefix)) == 139_714
