"""Rows that list a user's items, as RecBole's `item_id_list`: back to one interaction a row.

Such a row may hold the item that follows as well. Where a user has several rows, each is a
beginning of the longest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedmem.core.arrays import ranges
from fedmem.core.data.records import Columns
from fedmem.core.data.values import is_text
from fedmem.core.errors import FedmemError

Files = npt.NDArray[np.int16]


def unrolled(columns: Columns, files: Files) -> tuple[Columns, Files]:
    """Users and items, oldest first for each user, of rows [R] with a `history`; and the file of
    each interaction: that of the row that ends with it, else the first.

    Args:
        columns: `user`, `history` as text or lists, and perhaps `item`, the one that follows.
        files: [R] the file of each row.

    Raises:
        FedmemError: a user has two rows of which none is the beginning of the other.
    """
    items, lengths = _sequences(columns)
    users = columns["user"].combine_chunks().dictionary_encode()
    user = pc.fill_null(users.indices, len(users.dictionary)).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths
    order = np.lexsort((lengths, user))
    last = np.flatnonzero(np.diff(user[order], append=-1))  # of each user, the longest row
    longest = order[last]
    of_row = np.empty(len(user), dtype=np.int64)  # the longest row of the row's user
    of_row[order] = np.repeat(longest, np.diff(last, prepend=-1))
    codes = items.dictionary_encode()
    item = codes.indices.to_numpy(zero_copy_only=False)
    same = item[ranges(starts, lengths)] == item[ranges(starts[of_row], lengths)]
    if not same.all():
        row = int(np.searchsorted(np.cumsum(lengths), np.argmin(same), side="right"))
        raise FedmemError(
            f"lists of items of user {columns['user'][row].as_py()} do not begin alike: what came "
            "first cannot be known from them"
        )
    of_items = np.full(len(items), files.min(initial=np.iinfo(np.int16).max), np.int16)
    ends = lengths > 0
    of_items[(starts[of_row] + lengths - 1)[ends]] = files[ends]
    longest = np.sort(longest)
    chosen = ranges(starts[longest], lengths[longest])
    by_row = np.repeat(longest, lengths[longest])
    found = {
        "user": columns["user"].take(pa.array(by_row)),
        "item": pa.chunked_array([items.take(pa.array(chosen))]),
    }
    return found, of_items[chosen]


def _sequences(columns: Columns) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The items of all rows, one row's after another's, and how many each has [R]."""
    history = columns["history"].combine_chunks()
    if is_text(history.type):
        text = pc.utf8_trim_whitespace(history)
        text = pc.if_else(pc.equal(text, ""), None, text)  # no items, and not one without a name
        history = pc.utf8_split_whitespace(text)
    lengths = pc.fill_null(pc.list_value_length(history), 0).to_numpy(zero_copy_only=False)
    lengths = lengths.astype(np.int64)
    values = history.flatten()
    if "item" not in columns:
        return values, lengths
    following = columns["item"].combine_chunks().cast(values.type)
    ends = np.cumsum(lengths + 1) - 1
    places = np.arange(int(lengths.sum())) + np.repeat(np.arange(len(lengths)), lengths)
    source = np.empty(len(values) + len(following), dtype=np.int64)
    source[places] = np.arange(len(values))
    source[ends] = len(values) + np.arange(len(following))
    both = pa.concat_arrays([values, following])
    return both.take(pa.array(source)), lengths + 1
