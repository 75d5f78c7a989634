"""What an encoder reads of an item: a text, or a picture.

`raw` gives the bytes that an item's input is made from, None where the item has nothing, and
`decode` the input itself. Both raise `Unreadable` where there should be one.
"""

from __future__ import annotations

import io
import string

from PIL import Image, ImageOps, UnidentifiedImageError

from fedmem.core.errors import FedmemError
from fedmem.features.table import Item

TEXT_FIELDS = ("title", "genres", "description")
PUNCTUATION = " .,;:|-"


class Unreadable(Exception):
    """An item's source is there in name and cannot be used; the message says why."""


class Texts:
    """Titles, genres and descriptions in one text.

    Args:
        template: as for `str.format`, with the fields title, genres and description. A field that
            an item lacks falls out, and with it what stands between it and the field before.

    Raises:
        FedmemError: the template has another field, or none.
    """

    def __init__(self, template: str) -> None:
        try:
            parsed = string.Formatter().parse(template)
            self._parts = [(before, field or "", form or "") for before, field, form, _ in parsed]
            fields = {field for _, field, _ in self._parts} - {""}
            if not fields or not fields <= set(TEXT_FIELDS):
                raise ValueError(f"its fields must be of {', '.join(TEXT_FIELDS)}")
            for _, _, form in self._parts:
                format("", form)
        except ValueError as error:
            raise FedmemError(f"--template {template!r} cannot be used: {error}.") from error

    def raw(self, item: Item) -> bytes | None:
        """The text in UTF-8."""
        text = ""
        for before, field, form in self._parts:
            value = getattr(item, field) if field else ""
            if value:
                text += (before if text else before.lstrip(PUNCTUATION)) + format(value, form)
            elif text and not field:  # what the template ends with
                text += before
        return text.strip().encode() or None

    def decode(self, raw: bytes) -> str:
        """The text."""
        return raw.decode()


class Pictures:
    """The items' image files."""

    def raw(self, item: Item) -> bytes | None:
        """The file's bytes."""
        if item.image is None:
            return None
        try:
            return item.image.read_bytes()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error

    def decode(self, raw: bytes) -> Image.Image:
        """The picture the right way up, in RGB; what is transparent becomes white."""
        try:
            with Image.open(io.BytesIO(raw)) as file:
                image = ImageOps.exif_transpose(file)
                if image.has_transparency_data:
                    image = image.convert("RGBA")
                    paper = Image.new("RGBA", image.size, "white")
                    image = Image.alpha_composite(paper, image)
                return image.convert("RGB")
        # Pillow's readers of the many formats raise these, SyntaxError among them.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = "no image" if isinstance(error, UnidentifiedImageError) else str(error)
            raise Unreadable(reason) from error
