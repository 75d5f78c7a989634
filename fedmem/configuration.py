"""From Hydra's configuration tree to `Settings`, with errors that a user can read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedmem.errors import FedmemError
from fedmem.settings import Settings

CONFIG_MODULE = "conf"
GROUP = "experiment"
"""What an experiment tells of its arms, which is no setting of a run (`fedmem.experiment`)."""


def _in_sweep(then: str, otherwise: str) -> str:
    """One value in the jobs of a sweep, another elsewhere."""
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return then if sweeps else otherwise


OmegaConf.register_new_resolver("in_sweep", _in_sweep, replace=True)


def to_settings(config: DictConfig) -> Settings:
    """Settings from a composed configuration.

    Raises:
        FedmemError: a key is unknown, a value has the wrong type or is out of range.
    """
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise FedmemError(readable(error)) from error
    settings = {k: v for k, v in cast(dict[str, Any], values).items() if k != GROUP}
    return Settings.from_dict(settings)


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


def compose_group(experiment: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What an experiment tells of its arms; empty where it is one run.

    Raises:
        FedmemError: there is no such experiment, or an override does not fit.
    """
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = compose("config", [f"experiment={experiment}", *overrides])
            group = OmegaConf.to_container(config.get(GROUP) or OmegaConf.create(), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise FedmemError(readable(error)) from error
    return cast(dict[str, Any], group)


def readable(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in at most two lines."""
    text = str(error)
    missing = re.search(r"Could not find '(?P<group>[^/']+)/(?P<choice>[^']+)'", text)
    if missing:
        group, choice = missing["group"], missing["choice"]
        listed = re.search(rf"Available options in '{group}':\n(?P<names>(\t\S+\n?)+)", text)
        names = ", ".join(listed["names"].split()) if listed else "what conf/ holds"
        return f"{group}={choice} is unknown: choose one of {names}."
    unknown = re.search(r"Could not override '(?P<key>[^']+)'", text)
    if unknown:
        return f"{unknown['key']} is no setting: conf/ lists them all."
    key = re.search(r"full_key: (\S+)", text)
    return (f"{key[1]}: " if key else "") + text.strip().splitlines()[0]
