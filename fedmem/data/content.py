"""Content: frozen visual and text vectors of the items."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fedmem.data.interactions import Interactions, how_to_get
from fedmem.errors import FedmemError
from fedmem.model import Content
from fedmem.settings import DataSettings
from fedmem.torch_file import read_torch_file


def load_content(settings: DataSettings, interactions: Interactions) -> Content:
    """Read the two feature files and order their rows by dense item id.

    A file is a tensor [largest item id + 1, width] whose row is the data's own item id; a row of
    zeros says that the item lacks this modality.

    Raises:
        FedmemError: the data have none, or a file is missing, unreadable, too short for the items,
            or not finite.
    """
    return Content(
        visual=_load_rows(settings, "visual_file", interactions),
        text=_load_rows(settings, "text_file", interactions),
    )


def _load_rows(settings: DataSettings, file: str, interactions: Interactions) -> Tensor:
    name, key = getattr(settings, file), f"data.{file}"
    if name is None:
        raise FedmemError(
            f"data={settings.name} has no item features ({key}=null), which stages 2 and 3 need: "
            "choose stage=pretrain_sasrec."
        )
    path = Path(settings.dir) / name
    if not path.is_file():
        raise FedmemError(
            f"There are no item features for {key}: looked for {path}.\n"
            f"Stages 2 and 3 need them: set {key} to your file, or {how_to_get(settings)}"
        )
    rows = read_torch_file(path)
    if not isinstance(rows, Tensor) or rows.dim() != 2:
        raise FedmemError(f"{path} must hold one tensor [items + 1, width].")
    largest = int(interactions.item_ids.max())
    if len(rows) <= largest:
        raise FedmemError(
            f"{path} has {len(rows)} rows, and {key} needs {largest + 1}: "
            f"row = item id, and the largest item id is {largest}."
        )
    chosen = rows[torch.from_numpy(interactions.item_ids)].float()
    chosen[0] = 0.0
    if not chosen.isfinite().all():
        bad = int((~chosen.isfinite().all(1)).nonzero()[0])
        raise FedmemError(
            f"{path} holds values that are not finite, first in the row of item "
            f"{interactions.item_ids[bad]}: make the file again."
        )
    return chosen
