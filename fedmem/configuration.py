"""From Hydra's configuration tree to `Settings`, with errors that a user can read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any, cast

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
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
    ready = contextlib.nullcontext() if GlobalHydra.instance().is_initialized() else None
    try:  # within the command, Hydra knows the tree already
        with ready or initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return to_settings(compose("config", [*overrides, f"output_dir={output_dir}"]))
    except HydraException as error:
        raise FedmemError(readable(error)) from error


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
