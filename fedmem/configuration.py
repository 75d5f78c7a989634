"""From Hydra's configuration tree to `Settings`, with errors that a user can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedmem.errors import FedmemError
from fedmem.settings import Settings

CONFIG_MODULE = "conf"


def to_settings(config: DictConfig) -> Settings:
    """Settings from a composed configuration.

    Raises:
        FedmemError: a key is unknown, a value has the wrong type or is out of range.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise FedmemError(readable(error)) from error
    return Settings.from_dict(cast(dict[str, Any], values))


def compose_settings(overrides: Sequence[str] = (), output_dir: str = "runs/composed") -> Settings:
    """Settings as the command line would give them, for notebooks, tests and other programs.

    Raises:
        FedmemError: as `to_settings`, and for a group that has no such choice.
    """
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return to_settings(compose("config", [*overrides, f"output_dir={output_dir}"]))
    except HydraException as error:
        raise FedmemError(readable(error)) from error


def readable(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in at most two lines."""
    if isinstance(error.__cause__, FedmemError):
        return str(error.__cause__)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    group, _, choice = lines[0].partition("/")
    if lines[0].startswith("Could not find"):
        wanted = lines[0].split("'")[1]
        group, _, choice = wanted.rpartition("/")
        choices = [line for line in lines if line not in (lines[0],) and ":" not in line]
        known = sorted({line for line in choices if "/" not in line})
        return f"{group}={choice} is unknown: choose one of {', '.join(known)}."
    keys = [line.removeprefix("full_key: ") for line in lines if line.startswith("full_key:")]
    where = f"{keys[0]}: " if keys else ""
    return where + lines[0]
