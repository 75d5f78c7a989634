"""What in interactions looks as if a column were taken for another, each with a figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmem.core.data.ids import Ids
from fedmem.core.data.values import Numbers

Codes = npt.NDArray[np.int64]

ENOUGH = 20
"""Interactions, or values, from which on their number says something."""
MANY = 10
"""Users from which on none should have a quarter of all interactions."""
NEARLY_ALL = 0.9
SAMPLE = 1000
"""Ids, or times, that are looked at one by one."""
MANY_GAPS = 200_000
"""Interactions of which the time to the next one is looked at."""
APART = 10
"""Times as close as a user's interactions are those of an item where the columns are swapped: with
Amazon Toys a user's are 25 times as close as an item's, and that is the least of those measured."""
FEW = 5
"""Interactions that users of published data have at least."""
FAR = 30
"""Times as large, or as small, as the usual one is a time that is wrong, or in another unit."""
ONE = {"user": "one person", "item": "one item"}
PLACEHOLDERS = ("-1", "0", "unknown", "unk", "anonymous", "anon", "guest", "missing", "other")
"""Ids that may stand for none."""

ROUNDED = re.compile(r"-?\d\.\d+[eE]\+?\d+")
TIME_NAME = re.compile(r"(^|[^a-z])(time|timestamp|date|datetime|year|day|at|ts)s?([^a-z]|$)", re.I)
"""Within the name of a column that may hold times."""

DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?"  # 2024-05-01 10:00
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}([T ].*)?"  # 7/15/2017 4:22:50 AM
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?([ap]m)?"  # 4:22:50
    r"|(mon|tue|wed|thu|fri|sat|sun)[a-z]*,? .*\d.*",  # Sat Jul 15 04:22:50 +0000 2017
    re.IGNORECASE,
)
COMPACT_DATE = re.compile(
    r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([0-2]\d[0-5]\d[0-5]\d)?"
)
SECONDS = (9e8, 2.2e9)
"""Unix times from 1998 to 2039."""
UNITS = (1, 10**3, 10**6, 10**9)
"""Of a second, in which times since 1970 are counted."""
DAY = 86_400


def like_dates(values: Sequence[str]) -> list[str]:
    """Those of a column's values that look like dates or times of day; digits only if all do."""
    dates = [value for value in values if DATE.fullmatch(value)]
    if not dates and len(values) >= ENOUGH and all(map(COMPACT_DATE.fullmatch, values)):
        return list(values)
    return dates


def like_times(numbers: Sequence[float]) -> bool:
    """Whether numbers are all seconds, milliseconds, … since 1970, and most of them distinct."""
    low, high = SECONDS
    near = any(all(low <= number / unit < high for number in numbers) for unit in UNITS)
    return near and len(numbers) >= ENOUGH and len(set(numbers)) > len(numbers) / 2


def impossible(users: Codes, items: Codes, timestamps: Numbers | None) -> str | None:
    """Why codes and times [N] in the order of the file cannot be of the columns that were guessed;
    None: they can.
    """
    total = len(users)
    if total < ENOUGH:
        return None
    distinct_users, distinct_items = int(users.max()) + 1, int(items.max()) + 1
    if distinct_items > NEARLY_ALL * total:
        return f"{distinct_items:,} of {total:,} interactions have an item of their own"
    if distinct_users > NEARLY_ALL * total:
        return f"{distinct_users:,} of {total:,} interactions have a user of their own"
    # By items a file may be sorted, too, but hardly in order of time within each.
    runs = items[1:] != items[:-1]
    by_items = np.count_nonzero(runs) + 1 == distinct_items < total / 2
    by_users = np.count_nonzero(users[1:] != users[:-1]) < 2 * distinct_users
    if by_items and not by_users and (timestamps is None or (runs | _rises(timestamps)).all()):
        return (
            f"each of the {distinct_items:,} items has its lines together, in order of time, and "
            "the users have not, as if the columns were the other way round"
        )
    return None


def _rises(timestamps: Numbers) -> npt.NDArray[np.bool_]:
    """[N - 1] whether a time is not before the one above it."""
    rises: npt.NDArray[np.bool_] = timestamps[1:] >= timestamps[:-1]
    return rises


def looks_wrong(
    users: Codes, user_ids: Ids, items: Codes, item_ids: Ids, timestamps: Numbers | None
) -> list[str]:
    """What looks wrong with interactions [N] and the ids in them, a line each; as in `Table`."""
    found = []
    total = len(users)
    if len(item_ids) > NEARLY_ALL * total and total >= ENOUGH:
        found.append(
            f"{len(item_ids):,} of {total:,} interactions have an item of their own: nothing can "
            "be learned of items that are seen once. Are these the items?"
        )
    for role, codes, ids in (("user", users, user_ids), ("item", items, item_ids)):
        counts = np.bincount(codes)
        first, most = str(ids[counts.argmax()]), counts.max()
        none = first.lower() in PLACEHOLDERS and 2 * np.median(counts) < most
        if len(ids) >= MANY and (none or (role == "user" and most >= total / 4)):
            found.append(
                f"{role} {first} has {most:,} of {total:,} interactions ({most / total:.0%}): is "
                f"this {ONE[role]}, and not a word for none?"
            )
        sample = [str(value) for value in ids[:SAMPLE]]
        if rounded := [value for value in sample if ROUNDED.fullmatch(value)]:
            found.append(
                f"{len(rounded):,} of {len(sample):,} {role} ids are written as {rounded[0]} is: "
                "as spreadsheets shorten long numbers, so that different ids become one"
            )
        dates = like_dates(sample)
        if 2 * len(dates) > len(sample):
            found.append(
                f"{len(dates):,} of {len(sample):,} {role} ids look like dates, as {dates[0]!r} "
                f"does: is this the column of the {role}s?"
            )
        elif ids.dtype != object and like_times(ids[:SAMPLE].tolist()):
            found.append(
                f"{len(sample):,} of {len(sample):,} {role} ids look like times, as {ids[0]} does: "
                f"is this the column of the {role}s?"
            )
    return found if timestamps is None else [*found, *_of_times(users, timestamps)]


def swapped(users: Codes, items: Codes, timestamps: Numbers | None) -> list[str]:
    """What looks as if columns that were guessed were the other way round, a line at most.

    Codes and times [N] are in the order of the file, which counts where there are no times. One
    person's interactions come close together, an item's are spread over the time that it is there;
    and data are left with users of so many interactions, hardly with such items alone.
    """
    of_users, of_items = np.bincount(users), np.bincount(items)
    if min(len(of_users), len(of_items)) < ENOUGH:
        return []
    times = np.arange(len(users)) if timestamps is None else timestamps
    by_user, by_item = _usual_gap(users, times), _usual_gap(items, times)
    seldom = np.count_nonzero(of_users < FEW)
    if APART * by_item < by_user:
        figure = (
            f"an item's interactions follow each other {by_user / by_item:,.0f} times as closely "
            "as a user's"
            if by_item
            else "of an item's interactions most have the time of the one before, of a user's not"
        )
    elif of_items.min() >= FEW and seldom > len(of_users) / 10:
        figure = (
            f"{seldom:,} of {len(of_users):,} users have under {FEW} interactions, and no item has"
        )
    else:
        return []
    return [
        f"{figure}: are users and items the other way round? Then begin data.columns.order with "
        "item,user"
    ]


def _usual_gap(codes: Codes, times: npt.NDArray[Any]) -> float:
    """The median time between two interactions of a group that follow each other, as a part of
    what it were if the group's were spread evenly; of some groups where there are many.
    """
    some = codes % max(1, len(codes) // MANY_GAPS) == 0
    sizes = np.bincount(codes)
    codes, times = codes[some], times[some].astype(float)
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    same = codes[1:] == codes[:-1]
    span = np.ptp(times)
    if not same.any() or not span:
        return 1.0
    return float(np.median((np.diff(times) * sizes[codes[1:]])[same]) / span)


def unused_times(names: Sequence[str]) -> list[str]:
    """What is to be said where no column of times is known by its name, and some may be one."""
    may_be = [name for name in names if TIME_NAME.search(re.sub("([a-z])([A-Z])", r"\1_\2", name))]
    if not may_be:
        return []
    return [
        f"no column of times is known by its name, so the order of the file counts; "
        f"{len(may_be)} of {len(names)} may be one: {', '.join(may_be[:6])}. Is one "
        "data.columns.timestamp?"
    ]


def _of_times(users: Codes, timestamps: Numbers) -> list[str]:
    usual = float(np.median(timestamps))
    far = timestamps[(timestamps < usual / FAR) | (timestamps > usual * FAR)]
    if len(far) and usual >= SECONDS[0]:
        return [
            f"{len(far):,} of {len(timestamps):,} times are far from the others, as {far[0]:.0f} "
            f"is from {usual:.0f}: are they missing, or in another unit?"
        ]
    first = timestamps[:SAMPLE]
    if (first != first[0]).any() and not _whole_days(first):
        return []
    distinct, codes = np.unique(timestamps, return_inverse=True)
    alone = len(np.unique(users * len(distinct) + codes))
    if len(distinct) == 1:
        what = f"all times are {distinct[0]:g}"
    elif _whole_days(distinct):
        what = f"times are whole days, {len(distinct):,} of them"
    else:
        return []
    shared = 1 - alone / len(users)
    return [
        f"{what}: {shared:.0%} of the interactions come at the same time as one of the same user "
        "before, and stay in the order of the file"
    ]


def _whole_days(times: npt.NDArray[Any]) -> bool:
    """Whether times are midnights, or dates as 20240501."""
    if all(COMPACT_DATE.fullmatch(f"{time:.0f}") for time in times[:SAMPLE].tolist()):
        return bool(times.max() < 1e8)
    low, high = SECONDS
    return any(
        low * unit <= times.min() and times.max() < high * unit and not (times % (DAY * unit)).any()
        for unit in UNITS
    )
