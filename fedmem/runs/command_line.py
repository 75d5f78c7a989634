"""The command line of a Hydra program, checked before Hydra acts on it.

So a mistake is reported in a line whichever part of Hydra would have met it, and before the first
run of a sweep, not at the start of the run that has it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ValueType
from hydra.types import RunMode
from omegaconf import DictConfig

from fedmem.core.commands import SETTINGS, description, wrapped
from fedmem.core.console import show_anything
from fedmem.core.errors import DISK, FedmemError, readable_exit, readable_file_errors
from fedmem.core.files.folders import remove_unused
from fedmem.core.settings import Settings
from fedmem.runs.configuration import (
    CONFIGURATION_ERRORS,
    choices,
    compose_settings,
    expanded,
    parse,
    readable,
    to_settings,
    unreadable,
)

ELSEWHERE = ("config_path", "config_name", "config_dir", "experimental_rerun")
"""Flags by which Hydra takes its configuration from another place than `conf/`."""
NO_FOLDER = (*DISK, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
WHERE_TO = "Call it from a folder that can be written, or set hydra.run.dir=FOLDER."
"""Hydra makes a run's folder, before anything of ours begins."""
FLAGS = """\
Flags of Hydra:
  -m, --multirun   a run for each combination of values: -m seed=0,1,2
  --cfg job        print the settings and end
  --info           print what Hydra makes of the command line and end
  --hydra-help     list all flags"""


def answer_help(docstring: str | None) -> None:
    """If `--help` asks, print what a program does, by its docstring, and what it takes; and end."""
    if not {"-h", "--help"} & set(sys.argv[1:]):
        return
    groups = ["Groups of settings, such as data=ml-1m:"]
    groups += [wrapped(", ".join(names), f"  {name:<15}  ") for name, names in choices().items()]
    show_anything()
    parts = (description(docstring), wrapped(SETTINGS), "\n".join(groups), FLAGS)
    sys.stdout.write("\n\n".join(parts) + "\n")
    sys.exit()


def run_command(command: Callable[[], None]) -> None:
    """Run what `hydra.main` made; a mistake on its command line ends it with a line and code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come here, to be made readable
    show_anything()
    with readable_exit(), readable_file_errors(NO_FOLDER, WHERE_TO):
        sys.argv[1:] = settings_first(sys.argv[1:])
        check_command_line(sys.argv[1:])
        try:
            command()
        except CONFIGURATION_ERRORS as error:
            raise FedmemError(readable(error)) from error


@contextlib.contextmanager
def job(config: DictConfig) -> Iterator[Settings]:
    """The settings of a run that Hydra calls us for; a mistake ends it with a line.

    We stay in the folder that the command was called in, where relative paths mean what they say,
    whatever `hydra.job.chdir` does. Of a run that does not begin no folder stays.
    """
    called = HydraConfig.get().runtime
    os.chdir(called.cwd)
    try:
        with readable_exit():
            yield to_settings(config)
    finally:
        remove_unused(Path(called.output_dir))


def jobs_at_a_time() -> int:
    """Runs of a sweep that Hydra's launcher has side by side; 1: they take turns, or it is none."""
    called = HydraConfig.get()
    from fedmem.core.machine.placement import this_machine  # and torch, which --help can do without

    jobs = int(called.launcher.get("n_jobs") or 1) if called.mode == RunMode.MULTIRUN else 1
    return jobs if jobs > 0 else max(1, this_machine().cpus + 1 + jobs)  # as joblib counts them


def check_command_line(arguments: Sequence[str]) -> None:
    """Compose every run that the arguments ask for, and throw it away.

    Raises:
        FedmemError: there is a flag that Hydra has not, or a run that has no valid settings.
    """
    flags, overrides = _parsed(arguments)
    if any(getattr(flags, flag) for flag in ELSEWHERE):
        return
    for run in _runs(overrides) if flags.multirun else [overrides]:
        compose_settings(run)


def settings_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with flags after all settings: Hydra does not take settings on both sides.

    Nor does it read `~`.
    """
    _, overrides = _parsed(arguments)
    flags = (argument for argument in arguments if argument not in overrides)
    return [*(expanded(each) for each in overrides), *flags]


def _parsed(arguments: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Hydra's flags, and the settings wherever they stand."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags, rest = parser.parse_known_args(list(arguments))
    unknown = [argument for argument in rest if argument.startswith("-")]
    if unknown:
        raise FedmemError(unreadable(unknown[0]))
    return flags, [*flags.overrides, *rest]


def _runs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of each run of a sweep."""
    values = []
    for text, override in zip(overrides, parse(overrides), strict=True):
        if not override.is_sweep_override():
            values.append([text])
        elif override.value_type != ValueType.GLOB_CHOICE_SWEEP:  # Hydra finds only what there is
            key = override.get_key_element()
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    return map(list, itertools.product(*values))


def _refuse(message: str) -> NoReturn:
    raise FedmemError(f"The command line cannot be read: {message}.")
