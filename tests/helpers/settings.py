"""Settings that are composed once for all tests: Hydra takes a quarter of a second for each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

PLACE = "/place-of-a-test"


def composed_once(place: Path, *overrides: str) -> Settings:
    """Settings as the command line gives them.

    Args:
        place: the test's own folder, which may stand in the overrides; tests that give the same
            overrides but for it share what was composed.
        overrides: as on the command line.
    """
    try:
        found = _composed(*(override.replace(str(place), PLACE) for override in overrides))
    except FedmemError as error:
        raise FedmemError(str(error).replace(PLACE, str(place))) from error
    return Settings.from_json(found.replace(PLACE, str(place)))


def composed(*overrides: str) -> Settings:
    """Settings of tests that have no place, or that name one in no override."""
    return Settings.from_json(_composed(*overrides))


def small_settings(place: Path, *overrides: str) -> Settings:
    """Settings of the tiny world whose data, checkpoints and output are in a folder."""
    own = [f"data.dir={place / 'data'}", f"checkpoint.dir={place / 'checkpoints'}"]
    return composed_once(place, f"output_dir={place / 'run'}", *SMALL, *own, *overrides)


@cache
def _composed(*overrides: str) -> str:
    return compose_settings(overrides).to_json()
