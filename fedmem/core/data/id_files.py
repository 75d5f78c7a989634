"""`items.parquet` and `users.parquet`: what the dense indices of a run stand for.

- `items.parquet`: `index` from 1, 0 being padding, and `id`, the data's own.
- `users.parquet`: `index` from 0 and `id`; `test` and `cold`, check values of the user and the item
  that each is tested on, alike where both are, 0 where there is none; and the data's hash.

Runs are compared by these: an index means somebody else wherever data or filters differ. Only a
simulation, and training on pooled data, write the users': they hold all histories anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fedmem.core.data.cold import Histories, load_histories
from fedmem.core.data.forgotten import load_interactions
from fedmem.core.data.ids import Ids, comparable
from fedmem.core.errors import FedmemError
from fedmem.core.files.atomic import replacing
from fedmem.core.settings import Settings

ITEM_IDS, USER_IDS = "items.parquet", "users.parquet"
TEST, COLD = "test", "cold"
DATA = b"data"
"""Under which the metadata of `users.parquet` have `Interactions.histories_hash`."""

CheckValues = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RecordedUsers:
    """What `users.parquet` says.

    Attributes:
        ids: [U] the data's own id of each user.
        data: hash of all histories, before cold items are taken out; None: of an earlier version.
        tested_on: [U] by `TEST` and `COLD`; empty: of an earlier version.
    """

    ids: Ids
    data: str | None
    tested_on: dict[str, CheckValues]

    def are_of(self, settings: Settings) -> bool:
        """Whether the data of these settings, as they are now, are those of these users; of an
        earlier version whether the users' ids are.

        Raises:
            FedmemError: as `load_histories`.
        """
        if self.data is not None:
            return self.data == load_interactions(settings.data).histories_hash
        return np.array_equal(*comparable(self.ids, load_histories(settings).warm.user_ids))


def write_id_files(folder: Path, settings: Settings) -> None:
    """Write both files of a run of these settings into its folder.

    Raises:
        FedmemError: as `load_histories`.
    """
    histories = load_histories(settings)
    items, users = histories.warm.item_ids[1:], histories.warm.user_ids
    columns = {"index": np.arange(len(users)), "id": users, **_tested_on(histories)}
    hash_ = load_interactions(settings.data).histories_hash
    for name, table in (
        (ITEM_IDS, pa.table({"index": np.arange(1, len(items) + 1), "id": items})),
        (USER_IDS, pa.table(columns).replace_schema_metadata({DATA: hash_})),
    ):
        with replacing(folder / name) as partial:
            pq.write_table(table, partial)


def read_item_ids(folder: Path) -> Ids | None:
    """[I] the data's own id of each item of the run in a folder, from 1; None: not recorded.

    Raises:
        FedmemError: the file is damaged.
    """
    table = _read(folder / ITEM_IDS)
    return None if table is None else _column(table, "id", folder / ITEM_IDS)


def read_users(folder: Path) -> RecordedUsers | None:
    """Who the users of the run in a folder are; None: not recorded.

    Raises:
        FedmemError: the file is damaged.
    """
    path = folder / USER_IDS
    table = _read(path)
    if table is None:
        return None
    data = (table.schema.metadata or {}).get(DATA)
    return RecordedUsers(
        ids=_column(table, "id", path),
        data=data and data.decode(),
        tested_on={n: _column(table, n, path) for n in (TEST, COLD) if n in table.column_names},
    )


def require_same_data(folder: Path, settings: Settings) -> None:
    """Check that the data are still those that the run in a folder was begun with, if it is known.

    Raises:
        FedmemError: they are others, or cannot be read.
    """
    users = read_users(folder)
    if users is not None and not users.are_of(settings):
        raise FedmemError(
            f"The data in {settings.data.dir} are others than the run in {folder} was begun with: "
            "other users or histories.\nPoint data.dir to those, or start a new run."
        )


def _read(path: Path) -> pa.Table | None:
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FedmemError(f"{path} cannot be read: it is damaged, or no Parquet file.") from error


def _column(table: pa.Table, name: str, path: Path) -> Ids:
    if name not in table.column_names:
        raise FedmemError(f"{path} has no column {name}: it is not of a run.")
    values: Ids = table[name].to_numpy()
    return values


def _tested_on(histories: Histories) -> dict[str, CheckValues]:
    """[U] check values of each user's test item, and of the latest cold item."""
    warm, cold = histories.warm, histories.cold
    everybody = np.arange(warm.num_users)
    with_cold, places = histories.latest_cold(everybody)
    found = {TEST: _none(warm.num_users), COLD: _none(warm.num_users)}
    tested = everybody[warm.held_out_positions("test") >= 0]
    for name, users, items in (
        (TEST, tested, warm.item_ids[warm.held_out("test", tested)]),
        (COLD, with_cold, cold.item_ids[cold.items[places]]),
    ):
        pairs = zip(warm.user_ids[users].tolist(), items.tolist(), strict=True)
        found[name][users] = list(map(_check_value, pairs))
    return found


def _none(count: int) -> CheckValues:
    return np.zeros(count, dtype=np.int64)


def _check_value(pair: Iterable[object]) -> int:
    """Never 0, which stands for no item."""
    digest = hashlib.sha256("\0".join(map(str, pair)).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True) or 1
