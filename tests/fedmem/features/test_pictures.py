"""Pictures of every kind become RGB that looks the same, large ones small while they are read."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("PIL", reason="no fedmem[features]")
from PIL import Image

from fedmem.features import pictures
from fedmem.features.pictures import Unreadable, decoded

GREY = (np.add.outer(np.arange(6), np.arange(8)) * 20).astype(np.uint8)
"""[6, 8] from 0 to 240."""


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "CMYK", "YCbCr", "LAB"])
def test_pictures_of_any_kind_become_rgb(mode: str) -> None:
    found = decoded(saved(Image.new(mode, (3, 2)), "TIFF"))
    assert (found.mode, found.size) == ("RGB", (3, 2))


DEEP: dict[str, tuple[npt.NDArray[np.generic], str]] = {
    "16 bits": (GREY.astype(np.uint16) * 257, "PNG"),
    "16 bits in a TIFF": (GREY.astype(np.uint16) * 257, "TIFF"),
    "16 bits in a portable map": (GREY.astype(np.uint16) * 257, "PPM"),
    "8 bits stored in 16": (GREY.astype(np.uint16), "PNG"),
    "8 bits stored in 32": (GREY.astype(np.int32), "TIFF"),
    "16 bits stored in 32": (GREY.astype(np.int32) * 257, "TIFF"),
    "fractions": (GREY.astype(np.float32) / 255, "TIFF"),
    "8 bits as floats": (GREY.astype(np.float32), "TIFF"),
    "16 bits as floats": (GREY.astype(np.float32) * 257, "TIFF"),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_more_than_8_bits_is_as_bright_as_its_twin_of_8(name: str) -> None:
    values, form = DEEP[name]
    expected = np.asarray(decoded(saved(Image.fromarray(GREY), "PNG")))
    assert np.array_equal(np.asarray(decoded(saved(Image.fromarray(values), form))), expected)


@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.float32) * 1e-2,  # above 1, and far below 255
        GREY.astype(np.float32) - 300,
        GREY.astype(np.int32) * 1000,
        GREY.astype(np.uint16) * 16,  # 12 bits
    ],
)
def test_grey_of_an_unusual_range_is_scaled_from_its_lowest_to_its_highest(
    values: npt.NDArray[np.generic],
) -> None:
    found = np.asarray(decoded(saved(Image.fromarray(values), "TIFF")))[..., 0]
    assert np.abs(found - GREY / 240 * 255).max() <= 0.51


def test_a_constant_and_a_broken_deep_picture() -> None:
    constant = Image.fromarray(np.full((2, 2), -5.0, dtype=np.float32))
    assert not np.asarray(decoded(saved(constant, "TIFF"))).any()
    broken = Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32))
    with pytest.raises(Unreadable, match="not finite"):
        decoded(saved(broken, "TIFF"))


def test_what_is_transparent_becomes_white() -> None:
    shown, hidden = (10, 10, 10), (255, 255, 255)
    colour = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    colour.putpixel((1, 0), (*shown, 255))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, *shown])
    palette.putpixel((1, 0), 1)
    deep = Image.fromarray(np.array([[60_000, 10 * 257]], dtype=np.uint16))
    for image, options in (
        (colour, {}),
        (palette, {"transparency": 0}),
        (Image.fromarray(np.array([[0, 10]], dtype=np.uint8)), {"transparency": 0}),
        (colour.convert("RGB"), {"transparency": (0, 0, 0)}),
        (deep, {"transparency": 60_000}),
    ):
        found = decoded(saved(image, "PNG", **options))
        assert [found.getpixel((x, 0)) for x in (0, 1)] == [hidden, shown]


def test_a_picture_is_turned_the_right_way_up() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter to the right
    image = Image.new("RGB", (8, 4))
    assert decoded(saved(image, "JPEG", exif=turned)).size == (4, 8)
    assert decoded(saved(image, "PNG", exif=turned)).size == (4, 8)


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {}), ("PNG", {}), ("PNG", {"transparency": (1, 2, 3)})]
)
def test_a_large_picture_is_shrunk_and_looks_the_same(
    form: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.linspace(0, 240, 96).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp, (64, 96)).copy()).convert("RGB")
    raw = saved(image, form, **options)
    whole = np.asarray(decoded(raw))
    monkeypatch.setattr(pictures, "SHORT_SIDE", 16)
    found = np.asarray(decoded(raw)).astype(int)
    assert found.shape == (16, 24, 3)
    assert np.abs(found - whole.reshape(16, 4, 24, 4, 3).mean((1, 3))).max() < 5
    monkeypatch.setattr(pictures, "SHORT_SIDE", 1024)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 96 // 4)
    assert decoded(raw).size == (48, 32)


def test_a_picture_of_a_usual_size_is_left_as_it_is() -> None:
    noise = Image.effect_noise((2047, 1400), 50).convert("RGB")
    assert np.array_equal(np.asarray(decoded(saved(noise, "PNG", compress_level=1))), noise)


def test_what_is_no_picture_or_half_of_one_is_unreadable() -> None:
    noise = Image.effect_noise((64, 64), 50)
    for raw in (
        b"",
        b"<html>not found</html>",
        saved(noise, "PNG")[:200],
        saved(noise, "JPEG")[:-900],
    ):
        with pytest.raises(Unreadable):
            decoded(raw)
