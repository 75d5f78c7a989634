"""Which column is which, by its name."""

from __future__ import annotations

import pytest

from fedmem.core.data.columns import find_column


@pytest.mark.parametrize(
    ("field", "names", "found"),
    [
        ("item", ["asin", "parent_asin"], "parent_asin"),
        ("item", ["asin", "title"], "asin"),
        ("item", ["MovieID", "id"], "MovieID"),
        ("user", ["item_id:token", "user_id:token"], "user_id:token"),
        ("user", ["session_id", "userId"], "userId"),
        ("timestamp", ["date", "Time-Stamp"], "Time-Stamp"),
        ("image", ["Image-URL-S", "Image-URL-L"], "Image-URL-L"),
        ("rating", ["votes"], None),
        ("item", ["id"], None),
    ],
)
def test_the_known_name_that_comes_first(field: str, names: list[str], found: str | None) -> None:
    assert find_column(field, names) == found


def test_where_a_row_is_an_item_its_id_may_be_called_so() -> None:
    assert find_column("item", ["title", "ID"], row_is_item=True) == "ID"
    assert find_column("item", ["id", "asin"], row_is_item=True) == "asin"


def test_a_column_that_is_asked_for_is_taken_or_none_is() -> None:
    assert find_column("item", ["item", "SKU"], "SKU") == "SKU"
    assert find_column("item", ["item"], "SKU") is None
