"""Stage 1 from a file that was made elsewhere: its backbone, exactly, or nothing."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from fedmem.core.checkpoint.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import (
    Diagnosis,
    Left,
    diagnose,
    is_foreign,
    read_foreign,
    way_out,
)
from fedmem.core.checkpoint.sanity import training_loss
from fedmem.core.data import Interactions, load_interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC


@dataclass(frozen=True)
class Imported:
    """What came of an import.

    Attributes:
        path: the checkpoint written.
        taken: names taken, as they are here.
        left: what was not taken.
        loss: of the backbone on users' training items, mean cross-entropy over all items.
        guess: the loss of a guess, ln(items).
    """

    path: Path
    taken: list[str]
    left: list[Left]
    loss: float
    guess: float


def import_backbone(path: Path, folder: Path, settings: Settings) -> Imported:
    """Take the backbone of a file as a checkpoint of stage 1 of these data and sizes.

    It is tried on the data first: rows that belong to other items predict worse than a guess.

    Raises:
        FedmemError: the file cannot be read, does not fit, or does not know these items; or there
            is a checkpoint already.
    """
    target = folder / f"{PRETRAIN_SASREC.name}.safetensors"
    if target.exists():
        raise FedmemError(f"{target} exists already: name another folder with --to, or move it.")
    interactions = load_interactions(settings.data)
    if is_foreign(path):
        tensors = read_foreign(path)
        parents = {"file": hashlib.sha256(path.read_bytes()).hexdigest()[:32]}
    else:
        source = Checkpoint.load(path)
        source.require_fit(path, source.stage, interactions.fingerprint, settings.model)
        tensors, parents = source.parameters, {source.stage: source.hash}
    found = diagnose(tensors)
    _require_fit(path, found, interactions, settings)
    loss = training_loss(found.backbone, settings.model, interactions)
    guess = math.log(interactions.num_items)
    if not loss < guess:
        raise FedmemError(
            f"{path} predicts these data's training items no better than a guess (loss {loss:.2f}, "
            f"a guess {guess:.2f}):\nits rows belong to other items, or model.heads="
            f"{settings.model.heads} is not its own. {way_out()}"
        )
    Checkpoint(
        stage=PRETRAIN_SASREC.name,
        catalogue=interactions.fingerprint,
        model=settings.model,
        round=0,
        metrics={},
        parents=parents,
        parameters=found.backbone,
    ).save(target)
    return Imported(target, list(found.backbone), found.left, loss, guess)


def _require_fit(
    path: Path, found: Diagnosis, interactions: Interactions, settings: Settings
) -> None:
    if not found.backbone:
        raise FedmemError(f"{path} is {found.kind}: {found.why_not or 'no backbone'}.\n{way_out()}")
    differing = [
        f"model.{key}={found.sizes[key]} (here {getattr(settings.model, key)})"
        for key in ("dim", "blocks", "feedforward", "max_length")
        if found.sizes[key] != getattr(settings.model, key)
    ]
    if found.sizes["items"] != interactions.num_items:
        differing.append(f"{found.sizes['items']} items (the data have {interactions.num_items})")
    if differing:
        raise FedmemError(f"The backbone in {path} is of another size: {', '.join(differing)}.")
    if found.backbone["sasrec.item_emb.weight"][0].any():
        raise FedmemError(f"Row 0 of the item embeddings in {path} is an item; here it is padding.")
    bad = [name for name, value in found.backbone.items() if not value.isfinite().all()]
    if bad:
        raise FedmemError(f"{path} holds values that are not finite, first in {bad[0]}.")
