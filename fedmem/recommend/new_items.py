"""New items from a table: their ids, and the content that is all there is of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from fedmem.core.data import Interactions, load_content
from fedmem.core.data.ids import LISTED, Ids, as_text, padded, to_ids
from fedmem.core.errors import FedmemError
from fedmem.core.model import Content, Recommender
from fedmem.core.model.new_items import NewPlaces, places_new_items
from fedmem.core.node import Node


@dataclass(frozen=True)
class NewItems:
    """Items that the model does not know.

    Attributes:
        ids: [K + 1] their own ids; entry 0 is padding's.
        content: [K + 1, …].
        places: for them, in the model.
    """

    ids: Ids
    content: Content
    places: NewPlaces

    def among(self, touched: set[str]) -> npt.NDArray[np.int64]:
        """Places of those whose id, as text, was touched."""
        return np.array([k for k, own in enumerate(self.ids) if k and str(own) in touched], int)


def load_new_items(
    node: Node, model: Recommender, table: dict[str, str], visual: Path | None, text: Path | None
) -> NewItems:
    """The items of a table that the model does not know, as far as they have content.

    Their vectors come from files of their own, or from the data's, which may well hold more items
    than the interactions do.

    Raises:
        FedmemError: the stage uses no content, all items are known, none has content, or the
            vectors are not of the model's widths.
    """
    if not places_new_items(model.stage, node.settings.model):
        raise FedmemError(
            f"{model.stage.name} knows no content, which is all that new items have: "
            "train align_projectors and name it with --stage, or train with "
            "model.item_start=content."
        )
    known = {str(item) for item in node.interactions.item_ids[1:]}
    unknown = [item for item in table if item not in known]
    if not unknown:
        raise FedmemError(f"All {len(table):,} items of --new-items are known to the model.")
    ids = padded(_as_ids(unknown, node.interactions.item_ids))
    data = node.settings.data
    if visual or text:
        visual_file, text_file = (str(file.absolute()) if file else None for file in (visual, text))
        data = replace(data, visual_file=visual_file, text_file=text_file)
    content = load_content(data, Interactions.of_nobody(ids))
    content = Content(
        _as_wide(content.visual, node.content.visual.shape[1], "picture"),
        _as_wide(content.text, node.content.text.shape[1], "text"),
    )
    kept = content.present.any(1)
    if not kept.any():
        raise FedmemError(
            f"None of the {len(unknown):,} new items, {', '.join(unknown[:LISTED])} …, has "
            "content: make vectors of the table with python -m fedmem.features, and give them as "
            "--new-text FILE and --new-visual FILE."
        )
    kept[0] = True
    content = Content(content.visual[kept], content.text[kept])
    places = NewPlaces(model, node.settings.model, node.content)
    return NewItems(ids[kept.numpy()], content, places)


def _as_ids(items: list[str], like: Ids) -> Ids:
    """Ids as those of the data are: whole numbers, if these are too, or text."""
    ids = to_ids(pa.array(items, pa.string()))
    return as_text(ids) if like.dtype == object else ids


def _as_wide(rows: Tensor, width: int, kind: str) -> Tensor:
    if rows.shape[1] != width and rows.any():
        raise FedmemError(
            f"The new items' {kind} vectors have width {rows.shape[1]}, and the model was trained "
            f"with {width}: make them with the same encoder."
        )
    return rows if rows.shape[1] == width else rows.new_zeros(len(rows), width)
