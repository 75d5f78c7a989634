"""From Hydra's configuration tree to `Settings`, with errors that a user can read."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedmem.core.errors import FedmemError, nearest, one_of
from fedmem.core.files.folders import new_folder
from fedmem.core.files.home import at_home
from fedmem.core.settings import Settings
from fedmem.core.settings.schema import leaves, unknown
from fedmem.core.stages import CENTRALISED, PRETRAIN_SASREC

CONFIG_MODULE = "fedmem.conf"
CONFIGURATION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What Hydra raises for a mistake of the user; `readable` says it in words."""
EXPERIMENT = "experiment"
"""A group, and the key of its files' arms (`fedmem.experiment.arms`): no setting of a run."""


def _in_sweep(then: str, otherwise: str) -> str:
    """One value in the jobs of a sweep, another elsewhere."""
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return then if sweeps else otherwise


OmegaConf.register_new_resolver("in_sweep", _in_sweep, replace=True)
OmegaConf.register_new_resolver("new_folder", new_folder, replace=True, use_cache=True)


def to_settings(config: DictConfig) -> Settings:
    """Settings from a composed configuration.

    Raises:
        FedmemError: a key is unknown, a value has the wrong type or is out of range.
    """
    try:
        found = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise FedmemError(readable(error)) from error
    values = cast(dict[str, Any], found)
    return Settings.from_dict({k: v for k, v in values.items() if k != EXPERIMENT})


def compose_settings(overrides: Sequence[str] = (), output_dir: str = "runs/composed") -> Settings:
    """Settings as the command line would give them, for notebooks, tests and other programs.

    An override of `output_dir` comes before the argument.

    Raises:
        FedmemError: as `to_settings`, and for a group that has no such choice.
    """
    return to_settings(_compose([f"output_dir={output_dir}", *overrides]))


def defaults(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings as `conf/` has them; what depends on the call is an interpolation of Hydra's.

    Raises:
        FedmemError: an override does not fit.
    """
    return cast(dict[str, Any], OmegaConf.to_container(_compose(overrides), resolve=False))


def pooled(settings: Settings) -> Settings:
    """Settings of the training on pooled data: one stage, with the loss weights of stage 1."""
    if CENTRALISED.name in settings.stage:
        return settings
    name = PRETRAIN_SASREC.name
    federated = settings if name in settings.stage else compose_settings([f"stage={name}"])
    numbers = replace(federated.stage[name], rounds=settings.centralised.epochs)
    return replace(settings, stage={CENTRALISED.name: numbers})


def compose_experiment(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What an experiment says of its arms; empty where it is one run.

    Raises:
        FedmemError: there is no such experiment, or an override does not fit.
    """
    found = _compose([f"{EXPERIMENT}={name}", *overrides]).get(EXPERIMENT) or OmegaConf.create()
    return cast(dict[str, Any], OmegaConf.to_container(found, resolve=True))


def _compose(overrides: Sequence[str]) -> DictConfig:
    overrides = [expanded(each) for each in overrides]
    _require_choices(overrides)
    ready = contextlib.nullcontext() if GlobalHydra.instance().is_initialized() else None
    try:  # within the command, Hydra knows the tree already
        with ready or initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return compose("config", list(overrides))
    except CONFIGURATION_ERRORS as error:
        raise FedmemError(readable(error)) from error


def expanded(override: str) -> str:
    """An override whose values may begin with `~`, which Hydra does not read."""
    values = r"(?<=[=,\[])~[\w.-]*(/[^\],]*)?(?=[\],]|$)"
    return re.sub(values, lambda found: quoted(at_home(found[0])), override)


def quoted(value: str) -> str:
    """A value as Hydra reads it back, whatever letters it has."""
    if re.fullmatch(r"[\w./-]+", value):
        return value
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", value) + "'"


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them.

    Raises:
        FedmemError: one is none.
    """
    try:
        found: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise FedmemError(unreadable(error.override)) from error
    for text, override in zip(overrides, found, strict=True):
        if not override.key_or_group:
            raise FedmemError(unreadable(text))
    return found


def choices() -> dict[str, list[str]]:
    """The groups of `conf/` and what each offers."""
    with resources.as_file(resources.files(CONFIG_MODULE)) as conf:
        files = sorted(file.with_suffix("") for file in conf.glob("*/*.yaml"))
    groups = itertools.groupby(files, lambda file: file.parent.name)
    return {group: [file.name for file in own] for group, own in groups}


def readable(error: Exception) -> str:
    """What Hydra or OmegaConf found wrong, in at most two lines."""
    text = str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, is no YAML: {error.problem}."
    for pattern, explain in _EXPLANATIONS:
        if found := re.search(pattern, text):
            return explain(found)
    key = re.search(r"full_key: (\S+)", text)
    return (f"{key[1]}: " if key else "") + text.strip().splitlines()[0]


def _require_choices(overrides: Sequence[str]) -> None:
    """Find a choice that is a number or null, of which Hydra would not say where it stands."""
    groups = choices()
    for override in parse(overrides):
        key = override.key_or_group
        if key in groups and not override.is_delete() and not override.is_sweep_override():
            value = override.value()
            if not isinstance(value, str | list):
                raise FedmemError(_unknown_choice(key, "null" if value is None else str(value)))


def unreadable(override: str) -> str:
    """What is wrong with an argument that is no override, and how to write it."""
    key, equals, _ = override.partition("=")
    if override.startswith("-"):
        meant = nearest(key.strip("-").replace("-", "_"), _names())
        hint = f"Did you mean {meant}? " if meant else ""
        return (
            f"{key.split()[0]} is no flag: settings are given as key=value. {hint}"
            "docs/migration.md has a table of flags."
        )
    if not equals:
        return f"{override} has no value: write {override}=VALUE."
    if not key.strip("+~"):
        return f"{override} has no key: write KEY=VALUE."
    return (
        f"{override} cannot be read. Quote a value twice if it holds spaces, commas, =, quotes or "
        f"brackets:\n\"{key}='VALUE'\""
    )


def _unknown_choice(group: str, choice: str) -> str:
    offered = choices().get(group)
    if (group, choice) == ("hydra/launcher", "joblib"):
        return "hydra/launcher=joblib is not installed: pip install 'fedmem[sweeps]'."
    if offered is None:
        return f"{group}={choice} is unknown."
    return f"{group}={choice} is unknown: {one_of(choice, offered)}."


def _unknown_key(key: str) -> str:
    if key.startswith("hydra."):
        return f"{key} is no setting of Hydra."
    names = _names()
    if key in names:
        return f"{key} is none of this run's settings: choose its stage too, as stage=[NAME,NAME]."
    return str(unknown(key, names))


def _names() -> list[str]:
    """All that may stand before `=`."""
    return [*leaves(Settings), *choices()]


_EXPLANATIONS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"Could not (?:find|load) '(?P<group>[^']+)/(?P<choice>[^/']*)'",
        lambda found: _unknown_choice(found["group"], found["choice"]),
    ),
    (r"Could not override '([^']+)'", lambda found: _unknown_key(found[1])),
    (r"Could not delete from config\. '([^']+)'", lambda found: _unknown_key(found[1])),
    (
        r"An item is already at '([^']+)'",
        lambda found: f"{found[1]} has a value already: write {found[1]}=VALUE, without +.",
    ),
    (
        r"Multiple values for (\S+)\. To override a value use 'override \S+ (\S+)'",
        lambda found: f"{found[1]} has a value already: write {found[1]}={found[2]}, without +.",
    ),
    (
        r"Ambiguous value for argument '([^=']+)=([^']*)'",
        lambda found: (
            f"{found[1]}={found[2]} is several values: add -m to run each of them, or "
            f"write a list as {found[1]}=[{found[2]}]."
        ),
    ),
)
