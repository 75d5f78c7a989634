"""Settings that are composed once for all tests: Hydra takes a quarter of a second for each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.runs.configuration import compose_settings

PLACE = "/place-of-a-test"


def composed_once(place: Path, *overrides: str) -> Settings:
    """Settings as the command line gives them.

    Args:
        place: the test's own folder, which may stand in the overrides; tests that give the same
            overrides but for it share what was composed.
        overrides: as on the command line.
    """
    try:
        composed = _composed(*(override.replace(str(place), PLACE) for override in overrides))
    except FedmemError as error:
        raise FedmemError(str(error).replace(PLACE, str(place))) from error
    return Settings.from_json(composed.replace(PLACE, str(place)))


@cache
def _composed(*overrides: str) -> str:
    return compose_settings(overrides).to_json()
