"""Runs as read from their folders, finished or not."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedmem.core.data.id_files import USER_IDS, RecordedUsers, read_users
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.evaluation.outcomes import FILE, load_outcomes
from fedmem.core.evaluation.protocol import COLD_USERS, USERS, Ranks
from fedmem.core.files.home import at_home
from fedmem.runs.checkpoints import hashes_of
from fedmem.runs.folder import NOVELTY, RESULTS, ROUNDS, STATE
from fedmem.runs.provenance import MadeWith
from fedmem.runs.state import LAST, RunState

Record = dict[str, Any]

METRICS = ("sampled/HR@10", "sampled/NDCG@10", "full/HR@10", "full/NDCG@10")
"""The figures of a stage that are shown."""


@dataclass(frozen=True)
class RecordedRun:
    """What a run left in its folder.

    Attributes:
        folder: of the run.
        settings: as nested dictionaries, since a run may be of an earlier version.
        results: of its finished stages, see `StageResult`.
        rounds: of all its stages in order, see `RoundRecord`.
        standing: where an unfinished run stands, in words; None: it has finished.
        hashes: content hash of every checkpoint that it made or started from, by stage.
        users: that took part; None: not known.
        place: of the data when the run read them.
        people: who the users of its data are; None: not recorded, as by earlier versions.
        novelty: what the memory's threshold was found from, see `RunFolder.keep_novelty`; None: it
            was not looked for.
        ranks: of the users on the test items, by stage; none where they were not kept.
        cold_ranks: the same on items that were kept from training.
        made_with: code, packages and machine; None: not known, as of an unfinished run.
    """

    folder: Path
    settings: Record
    results: list[Record]
    rounds: list[Record]
    standing: str | None
    hashes: dict[str, str]
    users: int | None
    place: str
    people: RecordedUsers | None
    novelty: Record | None
    ranks: dict[str, Ranks]
    cold_ranks: dict[str, Ranks]
    made_with: MadeWith | None

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings["seed"])

    @property
    def sample(self) -> int | None:
        """How many of its users it was to rank; None: all."""
        ranked: int | None = self.settings.get("evaluation", {}).get("users")
        return ranked

    @property
    def data(self) -> str:
        """What is the same where the data are: their hash, or the place of data without one."""
        known = self.people and self.people.data
        return known or self.place

    def result_of(self, stage: str) -> Record | None:
        """What a stage came to; None where it has not ended, or the run has no such stage."""
        return next((result for result in self.results if result["stage"] == stage), None)

    def rounds_of(self, stage: str) -> list[Record]:
        """The rounds of a stage."""
        return [record for record in self.rounds if record["stage"] == stage]

    def moved_in(self, stage: str) -> int:
        """Bytes of all messages and replies of a stage, the test's too where it has ended."""
        tested = (self.result_of(stage) or {}).get("test_bytes", 0)  # likewise
        return sum(map(moved, self.rounds_of(stage))) + int(tested)

    def stages(self) -> list[str]:
        """Stages that have rounds or a result, in order."""
        names = [record["stage"] for record in self.rounds + self.results]
        return list(dict.fromkeys(names))


def moved(record: Record) -> int:
    """Bytes of a round's messages and replies, those of its validation too."""
    evaluation = record.get("evaluation_bytes", 0)  # earlier versions did not count
    return int(record["bytes_down"]) + int(record["bytes_up"]) + int(evaluation)


def find_runs(places: Sequence[str]) -> list[Path]:
    """The folders of runs at these places, each once, in order.

    Args:
        places: folders of runs, folders that have some below them, and patterns of either.

    Raises:
        FedmemError: there is no such folder, or no run in it.
    """
    found: list[Path] = []
    for place in places:
        path = Path(at_home(place))
        matching = [path]
        if not path.exists():  # a pattern that the shell has left as it is
            below = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            matching = sorted(below, key=_by_number)
        if not matching:
            raise FedmemError(f"There is no folder {place}.")
        runs = [run for path in matching for run in _runs_below(path)]
        if not runs:
            raise FedmemError(
                f"{place} holds no run: looked for {RESULTS} and {STATE}/{LAST} in it and below.\n"
                "A run leaves its folder under runs/<data>/, or where hydra.run.dir says."
            )
        found += runs
    return list(dict.fromkeys(path.resolve() for path in found))


def read_runs(
    folders: Sequence[Path], data_dir: Path | None = None
) -> tuple[list[RecordedRun], list[str]]:
    """The runs in these folders as `read_run` reads them, and why some were left out.

    Raises:
        FedmemError: none can be read; it is the error of the first.
    """
    runs: list[RecordedRun] = []
    errors: list[FedmemError] = []
    for folder in folders:
        try:
            runs.append(read_run(folder, data_dir))
        except FedmemError as error:
            errors.append(error)
    if not runs:
        raise errors[0]
    return runs, [f"A run is left out: {first_line(error)}" for error in errors]


def read_run(folder: Path, data_dir: Path | None = None) -> RecordedRun:
    """Read a run's folder; its data are in `data_dir` now, or where the run found them.

    Raises:
        FedmemError: a file is damaged, or of another version.
    """
    made_with, novelty, people = None, folder / NOVELTY, read_users(folder)
    if (folder / RESULTS).is_file():
        standing: str | None = None
        hashes = hashes_of(folder)
        (content,) = _objects(folder / RESULTS)
    else:
        state = RunState.load(folder / STATE, with_best=False)
        hashes = state.checkpoints
        standing = "could not go on" if state.done else f"stands {state}"
        content = {"settings": asdict(state.settings), "stages": state.results}
    with contextlib.suppress(KeyError, TypeError):  # earlier versions recorded nothing, or others
        made_with = MadeWith(**content["made_with"])
    try:
        clients = content["settings"]["federation"]["num_clients"]
        counted = None if people is None else len(people.ids)
        data = content["settings"]["data"]
        place = f"{data['dir']}/{data.get('path')}"
        if data_dir is not None:
            content["settings"]["data"]["dir"] = str(data_dir)
        outcomes = load_outcomes(folder).items()
        ranks, cold_ranks = (
            {stage: own[count] for stage, own in outcomes if count in own}
            for count in (USERS, COLD_USERS)
        )
        ranked = max((len(own.users) for own in ranks.values()), default=None)
        _require_known(people, [*ranks.values(), *cold_ranks.values()], folder)
        return RecordedRun(
            folder=folder,
            settings=content["settings"],
            results=list(content["stages"]),
            rounds=_objects(folder / ROUNDS) if (folder / ROUNDS).is_file() else [],
            standing=standing,
            hashes=hashes,
            users=clients or counted or ranked,
            place=place,
            people=people,
            novelty=_objects(novelty)[0] if novelty.is_file() else None,
            ranks=ranks,
            cold_ranks=cold_ranks,
            made_with=made_with,
        )
    except (KeyError, TypeError) as error:
        raise FedmemError(f"{folder / RESULTS} is not of a run: {error!r} is missing.") from error


def _require_known(people: RecordedUsers | None, ranks: Sequence[Ranks], folder: Path) -> None:
    """Check that ranks are of users whom the run has."""
    most = max((int(own.users.max()) for own in ranks if len(own.users)), default=-1)
    if people is not None and most >= len(people.ids):
        raise FedmemError(
            f"{folder / FILE} has ranks of {most + 1:,} users, and {folder / USER_IDS} names "
            f"{len(people.ids):,}: they are of two runs."
        )


def _runs_below(path: Path) -> Iterator[Path]:
    """The path itself where it is a run, else those below it, 2 before 10."""
    if (path / RESULTS).is_file() or (path / STATE / LAST).is_file():
        yield path
    elif path.is_dir():
        for below in sorted(path.iterdir(), key=_by_number):
            if below.is_dir() and not below.is_symlink():
                yield from _runs_below(below)


def _by_number(path: Path) -> list[tuple[int, str]]:
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.name)]


def _objects(path: Path) -> list[Record]:
    """The JSON object in a file, or those on its lines, of which the last may be half written."""
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1].splitlines() if path.suffix == ".jsonl" else [text]
        found = [json.loads(each) for each in whole]
    except ValueError as error:
        raise FedmemError(f"{path} is damaged: {error}.") from error
    if not all(isinstance(each, dict) for each in found):
        raise FedmemError(f"{path} is not of a run.")
    return found
