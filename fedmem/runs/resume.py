"""Which run goes on: the one that is named, or the newest unfinished one of these settings."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedmem.core.data.content import KINDS
from fedmem.core.data.identity import identity
from fedmem.core.errors import FedmemError, readable_disk_errors
from fedmem.core.memory.memory_store import FILE
from fedmem.core.settings import RunSettings, Settings, flattened
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import NODES, STATE, RunFolder, shown
from fedmem.runs.state import LAST, RunState, peek

AUTO = "auto"
OF_THE_CALL = ("simulation", "tracking")
"""Settings that are always those asked for now: how fast the run works, and who observes it."""
IN_DATA = ("dir", "path", *KINDS.values(), "pictures", "forgotten_file")
PLACES = (*(f"data.{name}" for name in IN_DATA), "checkpoint")
"""Settings that say where something is, which is known by its content: a project may be moved."""
FREE = ("output_dir", "run", *OF_THE_CALL, *PLACES)
"""Settings that may differ when a run goes on."""


def go_on(settings: Settings, overrides: Sequence[str], place: Path) -> RunFolder | None:
    """The folder of the run that `run.resume` asks for, open; None: a new run is to start.

    Args:
        settings: as asked for now.
        overrides: those of them that the command line names.
        place: where `auto` looks for runs, and for the runs of sweeps.

    Raises:
        FedmemError: there is no such run, it is damaged or in use, or it was asked for otherwise.
    """
    asked = settings.run.resume
    path = find_unfinished(settings, place) if asked == AUTO else asked
    if path is None:
        return None
    folder = RunFolder.go_on(Path(path), partial(_here, overrides))
    try:
        _require_alike(folder, overrides)
        _require_memories(folder)
    except FedmemError:
        folder.close()
        raise
    return folder


def find_unfinished(settings: Settings, place: Path) -> Path | None:
    """The newest unfinished run that was asked for with the same settings; None: there is none."""
    states = [*place.glob(f"*/{STATE}/{LAST}"), *place.glob(f"*/*/{STATE}/{LAST}")]
    for path in sorted(states, key=lambda path: path.stat().st_mtime, reverse=True):
        state = peek(path.parent)
        if state is not None and not state.done and _is_of(state, absolute(settings)):
            return path.parents[1]
    return None


def own_settings(state: RunState, overrides: Sequence[str]) -> Settings:
    """A run's own settings, but for those of `OF_THE_CALL` that the overrides ask for now."""
    now: dict[str, Any] = {
        section: getattr(compose_settings(_joined(state.overrides, overrides)), section)
        for section in OF_THE_CALL
        if any(override.startswith(section) for override in overrides)
    }
    federation = state.settings.federation
    now["federation"] = replace(federation, nodes=state.simulated_nodes or federation.nodes)
    return replace(state.settings, **now)


def absolute(settings: Settings) -> Settings:
    """Settings that mean the same from any folder, and ask for no run to go on."""
    places = {k: v and str(Path(v).absolute()) for k, v in asdict(settings.checkpoint).items()}
    return replace(
        settings,
        output_dir=str(Path(settings.output_dir).absolute()),
        data=replace(settings.data, dir=str(Path(settings.data.dir).absolute())),
        checkpoint=replace(settings.checkpoint, **places),
        run=RunSettings(resume=None),
    )


def how_to_go_on(path: Path, command: str = "simulate") -> str:
    """The command that lets the run in a folder go on."""
    return f"Go on with: python -m fedmem.{command} run.resume={shlex.quote(shown(path))}"


@contextlib.contextmanager
def saying_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    """Let whatever ends a run that can go on say how."""
    try:
        with readable_disk_errors():
            yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(how_to_go_on(folder.path)) from error
    except FedmemError as error:
        if folder.state.done:
            raise
        raise FedmemError(f"{error}\n{how_to_go_on(folder.path)}") from error


def _here(overrides: Sequence[str], settings: Settings, state: RunState) -> Settings:
    """A run's settings with the places that are asked for now; where the others are gone, anew.

    Raises:
        FedmemError: what is there are other data than the run's.
    """
    asked = absolute(compose_settings(_joined(state.overrides, overrides)))
    named = [override.split("=")[0].lstrip("+~") for override in overrides]

    def now(section: str, *names: str) -> dict[str, Any]:
        own, new = getattr(settings, section), getattr(asked, section)
        gone = not Path(own.dir).exists()
        return {n: getattr(new, n) for n in names if gone or f"{section}.{n}" in named}

    found = replace(
        settings,
        data=replace(settings.data, **now("data", *IN_DATA)),
        checkpoint=replace(settings.checkpoint, **now("checkpoint", *vars(settings.checkpoint))),
    )
    if state.data is not None and not state.done and identity(found) != state.data:
        raise FedmemError(
            f"The data in {shown(found.data.dir)} are not those that the run was begun with.\n"
            "Point data.dir to those, or start a new run."
        )
    return found


def _require_alike(folder: RunFolder, overrides: Sequence[str]) -> None:
    """Check that nothing is asked for now that the run was not asked for."""
    before = folder.state.overrides
    own, asked = (
        flattened(asdict(compose_settings(each))) for each in (before, _joined(before, overrides))
    )
    differing = [
        f"{key}={value} (there {own.get(key)})"
        for key, value in asked.items()
        if not key.startswith(FREE) and own.get(key) != value
    ]
    if differing:
        raise FedmemError(
            f"The run in {folder.path} was asked for otherwise: {', '.join(differing)}.\n"
            "A run goes on with its own settings: leave these out, or start a new run."
        )


def _require_memories(folder: RunFolder) -> None:
    """Check that the nodes' memories are there, where the stage under way has filled them."""
    state = folder.state
    shared = state.settings.simulation.ray_address is not None
    if state.stage is None or state.stage.threshold is None or shared:
        return
    for node in range(state.simulated_nodes or 0):
        path = folder.path / NODES / str(node) / FILE
        if not path.is_file():
            raise FedmemError(
                f"{path} is gone: it held what a node remembers, filled by an earlier model,\n"
                "so the run cannot go on as before. Start a new run."
            )


def _is_of(state: RunState, asked: Settings) -> bool:
    """Whether a run has these settings, or had them before it was moved with its data."""
    if _alike(state.settings, asked):
        return True
    if state.data is None or Path(state.settings.data.dir).exists():
        return False
    moved = absolute(compose_settings(_joined(state.overrides, [])))
    return _alike(moved, asked) and identity(asked) == state.data


def _alike(one: Settings, other: Settings) -> bool:
    mine, yours = _movable(one), _movable(other)
    free = tuple(set(FREE) - set(PLACES))
    return all(mine.get(k) == yours.get(k) for k in {*mine, *yours} if not k.startswith(free))


def _movable(settings: Settings) -> dict[str, Any]:
    """Settings by their full names; checkpoints in the run's own folder are named from there."""
    flat, folder = flattened(asdict(settings)), Path(settings.checkpoint.dir)
    if folder.is_relative_to(settings.output_dir):
        flat["checkpoint.dir"] = str(folder.relative_to(settings.output_dir))
    return flat


def _joined(own: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Overrides with those asked for in the place of the run's own; what is of one call is left."""
    by_key = {each.split("=")[0].lstrip("+~"): each for each in [*own, *asked]}
    return [each for key, each in by_key.items() if key not in ("run.resume", "output_dir")]
