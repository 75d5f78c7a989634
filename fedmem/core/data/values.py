"""The values of a column of numbers or times, and what stands for one that is missing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WORDS = (
    *("nan", "-nan", "1.#qnan", "-1.#ind", "null", "(null)", "[null]", "<null>", "#null!", "nil"),
    *("none", "(none)", "na", "n/a", "n.a.", "#na", "#n/a", "<na>", "nat", "\\n", "undefined"),
    *("-", "--", "?"),
)
"""What programs write where there is no value, whatever the case."""
NUMBERS = (pa.int64(), pa.float64())
DATES = (pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
OTHER_FORMS = (
    "%a %b %d %H:%M:%S %z %Y",  # Twitter's and Foursquare's
    "%d/%b/%Y:%H:%M:%S %z",  # of a web server's log
    "%Y-%m-%dT%H:%M:%S,%f",
    *(
        f"{day}{time}"
        for day in ("%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%d", "%Y/%m/%d")
        for time in (" %I:%M %p", " %I:%M:%S %p")
    ),
    *(
        f"{day}{time}"
        for day in ("%d %b %y", "%d-%b-%y", "%m/%d/%y", "%d/%m/%y")
        for time in ("", " %H:%M", " %H:%M:%S")
    ),
)
"""Of dates that pandas reads and does not guess."""
TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[ap]m)?", re.IGNORECASE)
FORMS = "numbers, ISO dates as 2024-05-01 10:00:00, and dates whose form pandas recognises"


class BadValue(Exception):
    """A value that cannot be taken: its row, from 0, and what is wrong with it."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


def is_missing(values: pa.Array | pa.ChunkedArray, words: bool = True) -> Mask:
    """Where values [n] are null, not a number, blank, or one of the words for that."""
    missing: Mask = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if is_text(values.type):
        plain = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        stands_for = pa.array(["", *WORDS] if words else [""], values.type)
        missing = missing | pc.is_in(plain, stands_for).to_numpy(zero_copy_only=False)
    return missing


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def numbers(column: pa.ChunkedArray, dates: bool) -> tuple[Numbers, Mask | None]:
    """A column [N] as numbers, and where they are missing; None: nowhere.

    Dates, where they are allowed, are nanoseconds since 1970. What is missing becomes 0.

    Raises:
        BadValue: a value is not a number.
    """
    found = _at_once(column, dates)
    if found is not None:
        return found, None
    missing = is_missing(column)
    places = np.flatnonzero(~missing)
    present = column.filter(pa.array(~missing)) if missing.any() else column
    values = _at_once(present, dates)
    try:
        if values is None:
            values = _of_dates(present) if dates and is_text(column.type) else _refused(present)
    except BadValue as bad:
        raise BadValue(int(places[bad.row]), str(bad)) from bad
    if not missing.any():
        return values, None
    filled: Numbers = np.zeros(len(column), values.dtype)  # type: ignore[assignment]
    filled[places] = values
    return filled, missing


def _at_once(column: pa.ChunkedArray, dates: bool) -> Numbers | None:
    """What Arrow makes of a column without missing values; None: nothing."""
    if column.null_count:
        return None
    text = is_text(column.type)
    if text:
        column = pc.utf8_trim_whitespace(column)
    # Of text, the first value decides, so that 2024 is never a number among dates.
    first_is_number = text and _cast(column[:1], pa.float64()) is not None
    kinds = [*NUMBERS, *(DATES if dates and not first_is_number else ())]
    for kind in kinds:
        cast = _cast(column, kind)
        if cast is not None:
            values: Numbers = cast.cast(kind if kind in NUMBERS else pa.int64()).to_numpy()
            return values if np.isfinite(values).all() else None
    return None


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column.cast(kind)
    return None


def _refused(column: pa.ChunkedArray) -> Numbers:
    """Raise for the first value that is no finite number."""
    if not (is_text(column.type) or pa.types.is_floating(column.type)):
        raise BadValue(0, f"is of type {column.type}, which is no number")

    def is_number(value: str | float) -> bool:
        # As Arrow reads numbers, which knows no 1_000.
        return (
            re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", str(value).strip()) is not None
        )

    raise _first_bad(column, is_number, "number")


def _first_bad(column: pa.ChunkedArray, fits: Callable[[str], bool], what: str) -> BadValue:
    distinct = dict.fromkeys(column.to_pylist())
    bad = next((value for value in distinct if not fits(value)), None)
    row = next((i for i, value in enumerate(column.to_pylist()) if value == bad), 0)
    return BadValue(row, f"{str(column[row].as_py())[:60]!r} is no {what}")


def _of_dates(column: pa.ChunkedArray) -> Numbers:
    """Dates of whatever form pandas recognises in the first, the day or the month first."""
    text = pc.utf8_trim_whitespace(column)
    first = text[0].as_py()
    if _cast(text[:1], pa.float64()) is not None:
        return _refused(column)
    if any(_cast(text[:1], kind) is not None for kind in DATES):
        kinds = [kind for kind in DATES if _cast(text[:1], kind) is not None]

        def is_date(value: str) -> bool:
            return any(_cast(pa.chunked_array([[value]]), kind) is not None for kind in kinds)

        raise _first_bad(text, is_date, "date like the first")
    import pandas as pd  # takes half a second, and few data have dates of other forms
    from pandas.tseries.api import guess_datetime_format

    day_first = (False,) if re.match(r"\d{4}", first) else (False, True)
    with warnings.catch_warnings(action="ignore"):  # both orders are tried, one of which is odd
        guessed = [guess_datetime_format(first, dayfirst=each) for each in day_first]
    if guessed[0] is None:
        guessed = [
            f for f in OTHER_FORMS if pd.notna(pd.to_datetime(first, format=f, errors="coerce"))
        ]
    orders = list(dict.fromkeys(form for form in guessed if form is not None))
    if TIME_OF_DAY.fullmatch(first):
        raise BadValue(
            0, f"{first!r} is a time of day without its day: name another column, or join the two"
        )
    if not orders:
        raise BadValue(0, f"{first[:60]!r} is no number and no date: {FORMS} are read")
    encoded = text.combine_chunks().dictionary_encode()
    distinct = pd.Series(encoded.dictionary.to_pylist(), dtype=object)
    codes = encoded.indices.to_numpy()
    parsed = [pd.to_datetime(distinct, format=f, utc=True, errors="coerce") for f in orders]
    whole = [times for times in parsed if not times.isna().any()]
    if not whole:
        bad = int(np.argmax(parsed[0].isna().to_numpy()))
        row = int(np.argmax(codes == bad))
        raise BadValue(row, f"{distinct[bad][:60]!r} is no date like the first, {first[:40]!r}")
    if any(not whole[0].equals(other) for other in whole[1:]):
        raise BadValue(
            0, f"{first[:60]!r} may have the day or the month first: write it as 2024-05-01"
        )
    values: Numbers = whole[0].astype("datetime64[ns, UTC]").astype(np.int64).to_numpy()[codes]
    return values
