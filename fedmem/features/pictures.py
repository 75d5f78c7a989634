"""Pictures as encoders read them: in RGB of 8 bits, the right way up, and no larger than is of use.

One that is far larger than any encoder looks at is shrunk as soon as it is there, a JPEG already
while it is decoded, so that a batch of them takes little memory.
"""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fedmem.core.errors import first_line

SHORT_SIDE = 1024
"""Pixels that the shorter side keeps; encoders look at a few hundred."""
MAX_PIXELS = 1 << 22
"""Of a picture that is handed on, whatever its sides."""
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Modes of grey with more than 8 bits, which Pillow would clip."""
WITH_ALPHA = ("LA", "RGBA")
RANGES = (255.0, 65535.0)
"""Highest values of the usual kinds of grey, the narrow first; of fractions it is 1."""


class Unreadable(Exception):
    """An item's source is there in name and cannot be used; the message says why."""


def decoded(raw: bytes, most_pixels: int | None = None) -> Image.Image:
    """A picture in RGB, the right way up; what is transparent becomes white.

    Raises:
        Unreadable: the bytes are no picture, or only part of one, or say that it has more than
            `most_pixels`, which are then not decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is shrunk below
            with Image.open(io.BytesIO(raw)) as file:
                if most_pixels is not None and math.prod(file.size) > most_pixels:
                    raise Unreadable(f"it has more than {most_pixels:,} pixels")
                file.draft(None, (SHORT_SIDE, SHORT_SIDE))
                ImageOps.exif_transpose(file, in_place=True)
                return _on_white(_shrunk(_of_8_bits(file)))
    except Unreadable:
        raise
    except Exception as error:  # Pillow's readers of the many formats raise of many kinds
        reason = "no image" if isinstance(error, UnidentifiedImageError) else first_line(error)
        raise Unreadable(reason) from error


def _shrunk(image: Image.Image) -> Image.Image:
    width, height = image.size
    by_sides = min(width, height) // SHORT_SIDE
    by_pixels = math.ceil(math.sqrt(width * height / MAX_PIXELS))
    factor = max(by_sides, by_pixels)
    return image.reduce(factor) if factor > 1 else image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """In a mode with 8 bits a channel, of which a mean can be taken; with its transparency."""
    if image.mode in DEEP:
        return _grey(image)
    if image.mode in WITH_ALPHA:
        return image  # convert would copy it
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("1", "P") else image


def _grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, scaled to 8 by the usual range that its values are of.

    A picture that uses less than a sixteenth of that range, as one of 12 bits that is stored in 16,
    is scaled by its own lowest and highest value.
    """
    clear = image.info.get("transparency")
    whole = image.mode != "F"
    image = image.convert("I") if image.mode.startswith("I;") else image
    opaque = None
    if clear is not None:
        shown = np.asarray(image) != clear
        opaque = _shrunk(Image.fromarray(np.where(shown, 255, 0).astype(np.uint8)))
    values = np.asarray(_shrunk(image), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Unreadable("its values are not finite")
    ranges = RANGES if whole else (1.0, *RANGES)
    top = next((top for top in ranges if high <= top), math.inf)
    bottom = 0.0
    if low < 0.0 or (top > 1.0 and high < top / 16):
        bottom, top = low, high
    scaled = np.rint((values - bottom) * (255.0 / ((top - bottom) or 1.0)))
    grey = Image.fromarray(scaled.astype(np.uint8))
    return grey if opaque is None else Image.merge("LA", (grey, opaque))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in WITH_ALPHA:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")
