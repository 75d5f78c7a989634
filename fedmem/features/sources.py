"""What an encoder reads of an item: a text, or a picture.

`raw` gives the bytes that an item's input is made from, None where the item has nothing, and
`decode` the input itself. Both raise `Unreadable` where there should be one. `way` stands for how
inputs are made of the bytes: another where `decode` gives another input.
"""

from __future__ import annotations

import string

from PIL import Image

from fedmem.core.errors import FedmemError
from fedmem.features.pictures import Unreadable, decoded
from fedmem.features.table import Item

TEXT_FIELDS = ("title", "genres", "description")
PUNCTUATION = " .,;:|-"


class Texts:
    """Titles, genres and descriptions in one text.

    Args:
        template: as for `str.format`, with the fields title, genres and description. A field that
            an item lacks falls out, and with it what stands between it and the field before.

    Raises:
        FedmemError: the template has another field, or none.
    """

    way = b""

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

    way = b"scaled, shrunk"

    def raw(self, item: Item) -> bytes | None:
        """The file's bytes."""
        if item.image is None:
            return None
        try:
            return item.image.read_bytes()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error

    def decode(self, raw: bytes) -> Image.Image:
        """The picture, as `pictures.decoded` gives it."""
        return decoded(raw)
