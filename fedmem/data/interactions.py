"""Interactions: from a file to dense histories in time order, and the leave-one-out split."""

from __future__ import annotations

import functools
import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedmem.errors import FedmemError
from fedmem.settings import DataSettings

FORMS = {4: ("user", "item", "rating", "timestamp"), 2: ("user", "item")}


@dataclass(frozen=True)
class Interactions:
    """Histories of all users, items dense from 1 (0 = padding).

    Attributes:
        offsets: [U + 1]; user u's history is items[offsets[u] : offsets[u + 1]], oldest first.
        items: [N] dense item ids.
        item_ids: [I + 1] the data's own id of each dense item; entry 0 is 0.
        user_ids: [U] the data's own id of each user.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    item_ids: npt.NDArray[np.int64]
    user_ids: npt.NDArray[np.int64]

    @property
    def num_users(self) -> int:
        """Users, with those of other nodes below `data.first_index`, who have no history here."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Items without the padding."""
        return len(self.item_ids) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[U] interactions of each user."""
        return np.diff(self.offsets)

    def history(self, user: int) -> npt.NDArray[np.int32]:
        """All of a user's items, oldest first: the last is for test, the one before validation."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def training(self, user: int) -> npt.NDArray[np.int32]:
        """The user's items that training may look at."""
        return self.history(user)[:-2]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the catalogue: models fit where it is the same, whoever the users are."""
        return hashlib.sha256(self.item_ids.astype("<i8").tobytes()).hexdigest()[:16]


def absent_items(
    present: npt.NDArray[np.integer], places: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """The items at these places of the ascending list 1, 2, … without those present.

    Args:
        present: item ids, ascending, each once.
        places: [n] from 0.
    """
    absent_before = present - 1 - np.arange(len(present))  # absent items below each of them
    return places + 1 + np.searchsorted(absent_before, places, side="right")


@functools.lru_cache(maxsize=2)
def load_interactions(settings: DataSettings) -> Interactions:
    """Read `data.interactions_file` in `data.dir`.

    Four columns, user item rating timestamp, or two, user item, in time order (SASRec's form);
    separated by `::`, tabs or spaces; a RecBole header (`user_id:token …`) is recognised. Ties in
    time keep the file's order.

    Raises:
        FedmemError: the file is not there, is not of this form, or leaves no user.
    """
    path = Path(settings.dir) / settings.interactions_file
    if not path.is_file():
        raise FedmemError(
            f"There are no interactions for data={settings.name}: looked for {path}.\n"
            f"To go on, {how_to_get(settings)}"
        )
    table = _read_table(path)
    lengths = table.groupby("user")["item"].transform("size")
    table = table[lengths >= settings.min_interactions]
    if table.empty:
        raise FedmemError(f"No user in {path} has {settings.min_interactions} interactions.")
    table = table.sort_values([c for c in ("user", "timestamp") if c in table], kind="stable")
    user_ids, counts = np.unique(table["user"].to_numpy(), return_counts=True)
    items = table["item"].to_numpy()
    item_ids = _catalogue(settings, np.unique(items))
    nobody = np.zeros(settings.first_index, dtype=np.int64)  # users of other nodes
    return Interactions(
        offsets=np.concatenate([[0], nobody, np.cumsum(counts)]).astype(np.int64),
        items=(np.searchsorted(item_ids, items) + 1).astype(np.int32),
        item_ids=np.concatenate([[0], item_ids]).astype(np.int64),
        user_ids=np.concatenate([nobody, user_ids]).astype(np.int64),
    )


def _catalogue(settings: DataSettings, seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ids of all items, ascending: those seen here, or those of `data.catalogue_file`."""
    if settings.catalogue_file is None:
        return seen
    path = Path(settings.dir) / settings.catalogue_file
    try:
        ids = np.unique(np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64))
    except OSError as error:
        raise FedmemError(
            f"data.catalogue_file: {path} cannot be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise FedmemError(f"{path} must hold the item ids, one a line: {error}.") from error
    strange = np.setdiff1d(seen, ids)
    if len(strange) or not len(ids) or ids[0] < 1:
        wrong = f"lacks item {strange[0]}" if len(strange) else "must hold ids from 1"
        raise FedmemError(f"The catalogue {path} {wrong}: all nodes need one and the same.")
    return ids


def _read_table(path: Path) -> pd.DataFrame:
    with path.open(encoding="latin-1") as file:
        first = file.readline()
    separator = next((s for s in ("::", "\t", " ") if s in first), None)
    header = ":token" in first
    columns = FORMS.get(len(first.split(separator)))
    if columns is None:
        forms = " or ".join(" ".join(form) for form in FORMS.values())
        raise FedmemError(
            f"{path} is not a table of interactions: line 1 has not the columns {forms}, "
            "separated by ::, tabs or spaces."
        )
    try:
        with warnings.catch_warnings():
            # A row wider than the columns is only warned of, and would be cut.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=separator,
                engine="python" if separator == "::" else "c",
                names=list(columns),
                index_col=False,
                skiprows=1 if header else 0,
                dtype={"user": np.int64, "item": np.int64},
                encoding="latin-1",
            )
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise FedmemError(f"{path} is not a table of interactions: {error}.") from error
    for column in columns[2:]:  # user and item are whole numbers already
        if not pd.api.types.is_numeric_dtype(table[column]) or table[column].isna().any():
            raise FedmemError(f"{path} has a line whose {column} is missing or no number.")
    if (table["item"] < 1).any():
        raise FedmemError(f"{path} has an item id below 1; 0 is kept for padding.")
    return table


def how_to_get(settings: DataSettings) -> str:
    """What a user can do about a file that is not in the data folder."""
    if settings.name == "ml-100k":
        return f"fetch the data with: python -m fedmem.download {settings.dir}"
    return "point data.dir to the folder that holds your files."
