"""What an encoder is given: texts by a template, and the bytes of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError

pytest.importorskip("PIL", reason="no fedmem[features]")
from fedmem.features.options import TEMPLATE
from fedmem.features.pictures import Unreadable
from fedmem.features.sources import Pictures, Texts
from fedmem.features.table import Item


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (
            Item("1", "Heat (1995)", "Action, Crime", "Cops."),
            "Heat (1995). Genres: Action, Crime. Cops.",
        ),
        (Item("1", "Heat", "", "Cops."), "Heat. Cops."),
        (Item("1", "Heat", "Crime"), "Heat. Genres: Crime"),
        (Item("1", "", "Crime", "Cops."), "Genres: Crime. Cops."),
        (Item("1", "...And Justice"), "...And Justice"),
        (Item("1", "T", "", "x" * 700), "T. " + "x" * 600),
    ],
)
def test_a_field_that_is_missing_falls_out_with_what_leads_to_it(item: Item, text: str) -> None:
    source = Texts(TEMPLATE)
    raw = source.raw(item)
    assert raw is not None
    assert source.decode(raw) == text


def test_an_item_without_any_text_has_none() -> None:
    assert Texts(TEMPLATE).raw(Item("1")) is None
    assert Texts("A film: {title}!").raw(Item("1", genres="Crime")) is None
    assert Texts("A film: {title}!").raw(Item("1", "Heat")) == b"A film: Heat!"


@pytest.mark.parametrize("template", ["", "no field", "{year}", "{title", "{title:.x}", "{}"])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(FedmemError, match="--template"):
        Texts(template)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    assert Pictures().raw(Item("1")) is None
    with pytest.raises(Unreadable, match="No such file"):
        Pictures().raw(Item("1", image=tmp_path / "none.jpg"))
