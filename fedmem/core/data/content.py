"""Content: frozen visual and text vectors of the items, or what a control puts in their place."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.data.cold import drawn_cold, load_histories
from fedmem.core.data.ids import Ids, comparable, example, padded, read_catalogue
from fedmem.core.data.interactions import Interactions
from fedmem.core.data.sources import WITH_FEATURES, are_here, how_to_get
from fedmem.core.data.vectors import Vectors, read_vectors
from fedmem.core.errors import FedmemError
from fedmem.core.model import Content
from fedmem.core.model.parameters import content_hash
from fedmem.core.settings import DataSettings, Settings

KINDS = {"visual": "visual_file", "text": "text_file"}
"""The setting that names the file of each kind of content."""
WITHOUT = {"visual": "without_picture", "text": "without_text"}
"""The value of `ablation.content` that takes a kind out."""


def kinds_of(settings: Settings) -> list[str]:
    """The kinds of content that items of a run may have: none that is null or taken out."""
    return [
        kind
        for kind, file in KINDS.items()
        if getattr(settings.data, file) is not None and settings.ablation.content != WITHOUT[kind]
    ]


def content_of(settings: Settings, items: Interactions) -> Content:
    """The items' content from `load_content`, or what `ablation.content` puts in its place."""
    key = f"{settings.seed} content {items.fingerprint}"
    return ablate(load_content(settings.data, items), settings.ablation.content, key)


def files_hash(settings: Settings, items: Interactions, used: Content | None = None) -> str:
    """Hash of the items' content as the files hold it, whatever `ablation.content` makes of it.

    `used` is `content_of` these settings, where it is known.
    """
    if used is None or settings.ablation.content != "real":
        used = load_content(settings.data, items)
    return content_hash(vars(used))


def has_files(settings: DataSettings) -> bool:
    """Whether the data name feature files, and all that they name are there."""
    named = [name for file in KINDS.values() if (name := getattr(settings, file)) is not None]
    return bool(named) and all((Path(settings.dir) / name).is_file() for name in named)


def content_here(settings: Settings, fingerprint: str) -> Content | None:
    """The content of the items with this fingerprint, where this machine has files of them.

    Which rows of the files they are, the interactions say, or `data.catalogue_file`, where there
    are no interactions here.

    Raises:
        FedmemError: the files are damaged.
    """
    data = settings.data
    if not has_files(data):
        return None
    if are_here(data):
        items = load_histories(settings).warm
    elif data.catalogue_file is not None:
        ids = padded(read_catalogue(data.dir, data.catalogue_file, data.encoding))
        cold = drawn_cold(ids, settings.evaluation.cold_items, settings.seed)
        items = Interactions.of_nobody(ids[~cold])
    else:
        return None
    return content_of(settings, items) if items.fingerprint == fingerprint else None


def ablate(content: Content, instead: str, key: str) -> Content:
    """What stands in the place of the data's own content, as a control; drawn by the key.

    Of `fedmem.core.settings.CONTENTS`, `shuffled` hands the items' pictures and texts round
    together, so that every item has those of one other; `random` puts normal noise of the same
    length in the place of each vector. Both leave as many items without content.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    visual, text = content.visual, content.text
    if instead == WITHOUT["visual"]:
        return Content(torch.zeros_like(visual), text)
    if instead == WITHOUT["text"]:
        return Content(visual, torch.zeros_like(text))
    if instead == "shuffled":
        order = torch.randperm(len(visual) - 1, generator=generator) + 1
        giver = torch.zeros(len(visual), dtype=torch.long)
        giver[order] = order.roll(1)  # one cycle: nobody keeps their own
        return Content(visual[giver], text[giver])
    if instead == "random":
        drawn = []
        for vectors in (visual, text):
            noise = F.normalize(torch.randn(vectors.shape, generator=generator), dim=1)
            drawn.append(noise * torch.linalg.vector_norm(vectors, dim=1, keepdim=True))
        return Content(*drawn)
    return content


def load_content(settings: DataSettings, interactions: Interactions) -> Content:
    """Read the feature files and order their rows by dense item id.

    What files may hold: `fedmem/core/data/vectors.py`. A row of zeros, or none in a file that is
    keyed by item id, says that the item lacks this kind of content; where a whole kind is absent
    (`null`), all items lack it.

    Raises:
        FedmemError: the data have neither kind, or a file is missing, unreadable, too short for the
            items, or not finite.
    """
    if all(getattr(settings, file) is None for file in KINDS.values()):
        raise FedmemError(
            f"data={settings.name} has no item features (data.visual_file=null "
            "data.text_file=null), which stages 2 and 3 and model.item_start=content need: set one "
            "to your file, which python -m fedmem.features makes, or choose stage=pretrain_sasrec "
            "and model.item_start=random."
        )
    return Content(**{kind: _load_rows(settings, kind, interactions) for kind in KINDS})


def _load_rows(settings: DataSettings, kind: str, interactions: Interactions) -> Tensor:
    """[I + 1, W] vectors of the items, zeros where there is none."""
    name, key = getattr(settings, KINDS[kind]), f"data.{KINDS[kind]}"
    if name is None:
        return torch.zeros(interactions.num_items + 1, 1)
    path = Path(settings.dir) / name
    if not path.is_file():
        found = f"{path} is a folder" if path.is_dir() else f"looked for {path}"
        raise FedmemError(
            f"There are no item features for {key}: {found}.\n"
            f"Stages 2 and 3 and model.item_start=content need them: set {key} to your file, or "
            f"{how_to_get(settings, WITH_FEATURES)}"
        )
    vectors = read_vectors(path, settings.columns.item)
    places_of = _by_row if vectors.ids is None else _by_id
    places = places_of(path, key, vectors, interactions.item_ids[1:])
    rows = vectors.take(np.concatenate([[-1], places]))
    measurable = torch.linalg.vector_norm(rows, dim=1).isfinite()  # lengths are compared with
    if not measurable.all():
        bad = int((~measurable).nonzero()[0])
        what = "too large" if rows[bad].isfinite().all() else "not finite"
        raise FedmemError(
            f"{path} holds values that are {what}, first in the row of item "
            f"{interactions.item_ids[bad]}: make the file again."
        )
    return rows


def _by_row(path: Path, key: str, vectors: Vectors, ids: Ids) -> npt.NDArray[np.int64]:
    """Places [I] of the items' rows where the row is the item's id."""
    found, what = len(vectors.rows), ""
    if ids.dtype == object:
        what = f"the item ids of these data are text, as {example(ids)!r} is"
    elif ids.min() < 0:
        what = f"an id of these data is {ids.min()}"
    if what:
        raise FedmemError(
            f"{path} has its {found} rows by item id, and {what}.\n"
            f"For {key} use a file that is keyed by id: .parquet or .npz."
        )
    largest = int(ids.max())
    if found <= largest:
        raise FedmemError(
            f"{path} has {found} rows, and {key} needs {largest + 1}: "
            f"row = item id, and the largest item id is {largest}."
        )
    return ids


def _by_id(path: Path, key: str, vectors: Vectors, ids: Ids) -> npt.NDArray[np.int64]:
    """Places [I] of the items' rows where each row has its id; -1 where there is none."""
    assert vectors.ids is not None
    wanted, given = comparable(ids, vectors.ids)
    distinct, first = np.unique(given, return_index=True)
    if len(distinct) < len(given):
        twice = np.setdiff1d(np.arange(len(given)), first)[0]
        raise FedmemError(
            f"{path} has {len(given)} rows for {len(distinct)} items: {given[twice]} is there "
            "twice."
        )
    places = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
    known = distinct[places] == wanted
    if not known.any():
        raise FedmemError(
            f"{path} has {len(given)} rows for {key}, of none of the {len(wanted)} items of these "
            f"data: its ids are {given[0]}, …, and theirs {wanted[0]}, …"
        )
    return np.where(known, first[places], -1)
