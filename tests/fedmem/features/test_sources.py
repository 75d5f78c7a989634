"""What an encoder is given: texts by a template, pictures in RGB, and what cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError

pytest.importorskip("PIL", reason="no fedmem[features]")
from PIL import Image

from fedmem.features.build import TEMPLATE
from fedmem.features.sources import Pictures, Texts, Unreadable
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


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_pictures_of_any_kind_become_rgb(mode: str) -> None:
    raw = saved(Image.new(mode, (3, 2)), "TIFF")
    found = Pictures().decode(raw)
    assert (found.mode, found.size) == ("RGB", (3, 2))


def test_what_is_transparent_becomes_white() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    found = Pictures().decode(saved(image, "PNG"))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (10, 20, 30)]


def test_a_picture_is_turned_the_right_way_up() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter to the right
    assert Pictures().decode(saved(Image.new("RGB", (8, 4)), "JPEG", exif=turned)).size == (4, 8)


def test_what_is_no_picture_or_half_of_one_is_unreadable() -> None:
    noise = Image.effect_noise((64, 64), 50)
    for raw in (
        b"",
        b"<html>not found</html>",
        saved(noise, "PNG")[:200],
        saved(noise, "JPEG")[:-900],
    ):
        with pytest.raises(Unreadable):
            Pictures().decode(raw)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    assert Pictures().raw(Item("1")) is None
    with pytest.raises(Unreadable, match="No such file"):
        Pictures().raw(Item("1", image=tmp_path / "none.jpg"))
