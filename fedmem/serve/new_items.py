"""New items of a request: encoded at this node, within limits, or as vectors that came with it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmem.core.data.ids import padded
from fedmem.core.errors import FedmemError
from fedmem.core.model import Content
from fedmem.core.model.new_items import places_new_items
from fedmem.features.encoders import Encoder
from fedmem.features.pictures import Unreadable, decoded
from fedmem.recommend.new_items import NewItems
from fedmem.serve.model import ServedModel
from fedmem.serve.schemas import NewItem

MOST_PIXELS = 40_000_000
"""Of a picture that is sent: about 120 MB once it is decoded."""


@dataclass(frozen=True)
class Encoders:
    """What turns a text and a picture into the vectors that the model was trained with; None: this
    node was started without.
    """

    text: Encoder | None = None
    picture: Encoder | None = None

    def check(self, served: ServedModel) -> None:
        """See that they give vectors of the widths that the model knows.

        Raises:
            FedmemError: one does not.
        """
        if not served.stage.content:
            return
        for kind, encoder, width in zip(
            ("text", "picture"), (self.text, self.picture), _widths(served), strict=True
        ):
            if encoder is not None and encoder.width != width:
                raise FedmemError(
                    f"The {kind} encoder gives vectors of {encoder.width} numbers, and the model "
                    f"was trained with {width}: give the encoder of its features, or none."
                )


def make_new_items(served: ServedModel, encoders: Encoders, items: Sequence[NewItem]) -> NewItems:
    """Items to rank beside those that the model knows.

    Raises:
        FedmemError: the stage knows no content, an id is known or there twice, or an item has no
            content that this node can use.
    """
    if not places_new_items(served.stage, served.node.settings.model):
        raise FedmemError(
            f"{served.stage.name} knows no content, which is all that new items have."
        )
    ids = [item.id for item in items]
    known = [own for own in ids if own in served.item_indices]
    if known or len(set(ids)) < len(ids):
        what = f"{known[0]} is an item of the catalogue" if known else "an id is there twice"
        raise FedmemError(f"New items need ids of their own: {what}.")
    text_width, picture_width = _widths(served)
    text = _rows([_text_of(item, encoders) for item in items], text_width, "text")
    visual = _rows([_picture_of(item, encoders) for item in items], picture_width, "picture")
    content = Content(visual, text)
    bare = [own for own, has in zip(ids, content.present[1:].any(1), strict=True) if not has]
    if bare:
        raise FedmemError(f"New item {bare[0]} has no content: give it a text or a picture.")
    return NewItems(padded(np.array(ids, dtype=object)), content, served.new_places)


def _widths(served: ServedModel) -> tuple[int, int]:
    """Of text and picture vectors."""
    content = served.node.content
    return content.text.shape[1], content.visual.shape[1]


def _text_of(item: NewItem, encoders: Encoders) -> list[float] | None:
    if item.text_vector is not None or not item.text.strip():
        return item.text_vector
    if encoders.text is None:
        raise FedmemError(
            "This node was started without an encoder of texts (--text-model): send text_vector."
        )
    return _encoded(encoders.text, item.text.strip())


def _picture_of(item: NewItem, encoders: Encoders) -> list[float] | None:
    if item.picture_vector is not None or not item.picture:
        return item.picture_vector
    if encoders.picture is None:
        raise FedmemError(
            "This node was started without an encoder of pictures (--image-model): send "
            "picture_vector."
        )
    try:
        raw = base64.b64decode(item.picture, validate=True)
        return _encoded(encoders.picture, decoded(raw, MOST_PIXELS))
    except (binascii.Error, Unreadable) as error:
        raise FedmemError(f"The picture of new item {item.id} cannot be read: {error}.") from error


def _encoded(encoder: Encoder, source: object) -> list[float]:
    """A vector of unit length, as feature files hold them."""
    vector = encoder.encode([source])[0]
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or not length:
        raise FedmemError("The encoder makes nothing of it.")
    unit: list[float] = (vector / length).tolist()
    return unit


def _rows(vectors: Sequence[list[float] | None], width: int, kind: str) -> Tensor:
    """[K + 1, width], zeros for the padding and where an item has none."""
    rows = torch.zeros(len(vectors) + 1, width)
    for row, vector in zip(rows[1:], vectors, strict=True):
        if vector is None:
            continue
        if len(vector) != width:
            raise FedmemError(
                f"A {kind} vector has {len(vector)} numbers, and the model's have {width}."
            )
        row.copy_(torch.tensor(vector))
    return rows
