"""Which files hold the interactions: one, the parts of one, or a training, validation and test
split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fedmem.core.data.files import PACKED_SUFFIXES
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings

WITH_INTERACTIONS = ("ml-100k", "ml-1m")
WITH_FEATURES = ("ml-100k",)
"""Data whose interactions, or features, are fetched by `python -m fedmem.download`."""
KNOWN_FILES = (
    "ratings.dat u.data ratings.csv *.inter interactions.* *.parquet *.feather *.jsonl *.csv *.tsv "
    "part-*"
)
"""Names under which a folder's interactions are found, the first that is there."""
SPLITS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
"""Words in the names of the files of a split: for training, validation and test."""


def find_files(settings: DataSettings) -> list[Path]:
    """The files that `data.path` names, or those in a folder whose names are recognised: splits
    from training to test, parts in the order of the numbers in their names.

    Raises:
        FedmemError: there is no such file, or there are several that do not belong together.
    """
    folder = Path(settings.dir)
    if isinstance(settings.path, list):
        if not settings.path:
            raise FedmemError("data.path=[] names no file.")
        files = [folder / each for each in settings.path]
        for file in files:
            if not file.is_file():
                raise _not_there(settings, f"looked for {file}")
        return in_order_of_splits(files) or files
    path = folder / settings.path
    if path.is_file():
        return [path]
    if path.is_dir():
        for pattern in KNOWN_FILES.split():
            matching = {f for end in PACKED_SUFFIXES for f in path.glob(pattern + end)}
            found = sorted(file for file in matching if file.is_file())
            if len(found) > 1:
                together = in_order_of_splits(found) or _parts(found)
                if together:
                    return together
                names = ", ".join(file.name for file in found[:6])
                raise FedmemError(
                    f"{path} holds {names}: say which with data.path=FILE, or data.path=[A,B] if "
                    "they are parts of one."
                )
            if found:
                return found
        looked_for = f"looked in {path} for {', '.join(KNOWN_FILES.split())}"
    elif path.exists():
        looked_for = f"{path} is neither a file nor a folder"
    else:
        looked_for = f"looked for {path}"
    raise _not_there(settings, looked_for)


def are_here(settings: DataSettings) -> bool:
    """Whether what `data.path` names is on this machine."""
    paths = settings.path if isinstance(settings.path, list) else [settings.path]
    return all((Path(settings.dir) / path).exists() for path in paths)


def _not_there(settings: DataSettings, looked_for: str) -> FedmemError:
    return FedmemError(
        f"There are no interactions for data={settings.name}: {looked_for}.\n"
        f"To go on, set data.path to your file, or {how_to_get(settings, WITH_INTERACTIONS)}"
    )


def split_of(path: Path) -> int | None:
    """0, 1 or 2 for a file of a training, validation or test split, by its name; None: of none."""
    words = re.split(r"[^a-z]+", path.name.lower())
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def in_order_of_splits(files: Sequence[Path]) -> list[Path] | None:
    """The files of a split, from training to test; None: they are not one."""
    by_split = {split_of(file): file for file in files}
    if len(by_split) < len(files) or None in by_split or not {0, 2} <= set(by_split):
        return None
    return [by_split[split] for split in range(3) if split in by_split]


def _parts(files: Sequence[Path]) -> list[Path] | None:
    """Files whose names differ by numbers only, in the order of these; None: others differ."""
    # Spark adds a word that no part shares with the next run's.
    plain = [re.sub(r"^(part-\d+)-[0-9a-f-]{36}", r"\1", file.name) for file in files]
    if len({re.sub(r"\d+", "0", name) for name in plain}) > 1:
        return None
    numbers = [tuple(map(int, re.findall(r"\d+", name))) for name in plain]
    return [file for _, file in sorted(zip(numbers, files, strict=True))]


def how_to_get(settings: DataSettings, fetched: tuple[str, ...]) -> str:
    """What a user can do about a file that is not in the data folder.

    `python -m fedmem.download` fetches such a file for the data whose names are in `fetched`.
    """
    own = "point data.dir to the folder that holds your files."
    if settings.name not in fetched:
        return own
    name = "" if settings.name == "ml-100k" else f"--data {settings.name} "
    return f"fetch it with: python -m fedmem.download {name}{settings.dir}, or {own}"
