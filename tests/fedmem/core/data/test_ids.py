"""The data's own ids: when they are numbers, in which order they come, and their hash."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fedmem.core.data.ids import as_text, encode, example, fingerprint, padded
from fedmem.core.data.values import BadValue


def ids_of(values: list[object]) -> list[object]:
    codes, ids = encode(pa.chunked_array([pa.array(values)]))
    assert ids[codes].tolist() == [
        str(v).strip() if ids.dtype == object else int(v) for v in values
    ]  # type: ignore[call-overload]
    return ids.tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 9, 10], [9, 10]),
        (["10", "9", "10"], [9, 10]),
        ([" 9", "9 ", "10"], [9, 10]),
        (["-5", "0", "9223372036854775807"], [-5, 0, 2**63 - 1]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["7", "07"], ["07", "7"]),
        (["7", "7.0"], ["7", "7.0"]),
        (["7", "-0"], ["-0", "7"]),
        (["7", "9223372036854775808"], ["7", "9223372036854775808"]),
        ([7.0, 5.0], [5, 7]),
        (["é", "z", "a", "B"], ["B", "a", "z", "é"]),
    ],
)
def test_text_is_a_number_where_all_of_it_is_written_as_one(
    values: list[object], expected: list[object]
) -> None:
    assert ids_of(values) == expected


def test_unsigned_numbers_beyond_64_bits_are_text() -> None:
    _, ids = encode(pa.chunked_array([pa.array([2**64 - 1, 7], pa.uint64())]))
    assert ids.tolist() == ["18446744073709551615", "7"]


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        ([1, 1, None], 2, "is missing"),
        (["a", "a", " "], 2, "is empty"),
        ([1.0, 1.0, 2.5], 2, "2.5 is no id"),
        ([1.0, 1.0, 1e300], 2, "1e.300 is no id"),
        ([True], 0, "of type bool"),
    ],
)
def test_what_is_no_id_is_refused_with_its_row(values: list[object], row: int, reason: str) -> None:
    with pytest.raises(BadValue, match=reason) as caught:
        encode(pa.chunked_array([pa.array(values)]))
    assert caught.value.row == row


def test_the_padding_s_entry_is_of_the_ids_type() -> None:
    assert padded(np.array([3, 5])).tolist() == [0, 3, 5]
    assert padded(np.array(["a"], dtype=object)).tolist() == ["", "a"]


def test_the_fingerprint_tells_ids_and_their_types_apart() -> None:
    numbers, text = np.array([1, 23]), np.array(["1", "23"], dtype=object)
    other = np.array(["12", "3"], dtype=object)
    assert len({fingerprint(numbers), fingerprint(text), fingerprint(other)}) == 3
    assert as_text(numbers).tolist() == text.tolist()


def test_an_example_is_an_id_for_which_all_are_text() -> None:
    assert example(np.array(["1", "many", "2"], dtype=object)) == "many"
