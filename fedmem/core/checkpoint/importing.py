"""Stage 1 from a file that was made elsewhere: its backbone, exactly, or nothing."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fedmem.core.checkpoint.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import WAY_OUT, Left, diagnose, is_foreign, read_foreign
from fedmem.core.data import Interactions, Windows, load_interactions
from fedmem.core.errors import FedmemError
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.model.parameters import Parameters, submodule
from fedmem.core.settings import ModelSettings, Settings
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.losses import cross_entropy_over_items

SAMPLE_USERS = 30
ROWS_AT_ONCE = 16


class Imported(NamedTuple):
    """What came of an import."""

    path: Path
    """Of the checkpoint written."""
    taken: list[str]
    """Names of tensors, as they are here."""
    left: list[Left]
    loss: float
    """Of the backbone on users' training items: `training_loss`."""
    guess: float
    """The loss of a guess, ln(items)."""


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
    if not found.backbone:
        raise FedmemError(f"{path} is {found.kind}: {found.why_not or 'no backbone'}.\n{WAY_OUT}")
    differing = [
        f"model.{key}={size} (here {getattr(settings.model, key)})"
        for key, size in found.sizes.items()
        if key != "items" and size != getattr(settings.model, key)
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
    loss = training_loss(found.backbone, settings.model, interactions)
    guess = math.log(interactions.num_items)
    if not loss < guess:
        raise FedmemError(
            f"{path} predicts these data's training items no better than a guess (loss {loss:.2f}, "
            f"a guess {guess:.2f}):\nits rows belong to other items, or model.heads="
            f"{settings.model.heads} is not its own. {WAY_OUT}"
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


@torch.no_grad()
def training_loss(
    parameters: Parameters, settings: ModelSettings, interactions: Interactions
) -> float:
    """Mean cross-entropy over all items at the latest training windows of some users.

    A guess has ln(items). A backbone that was never trained, or whose rows belong to other items,
    has no less. Of the parameters, those of the backbone are used.
    """
    with torch.random.fork_rng(devices=[]):
        model = SASRec(settings, interactions.num_items)
    model.load_state_dict(submodule(parameters, "sasrec"), strict=True)
    generator, count = np.random.default_rng(0), min(SAMPLE_USERS, interactions.num_users)
    users = np.sort(generator.choice(interactions.num_users, count, replace=False))
    windows = Windows.cut(interactions, users, 1, settings.max_length)
    total = 0.0
    for rows in np.array_split(np.arange(len(windows)), -(-len(windows) // ROWS_AT_ONCE)):
        targets = torch.from_numpy(windows.targets(rows)).long()  # [B, T]
        hidden = model(torch.from_numpy(windows.inputs(rows)).long(), NO_DROPOUT)[targets > 0]
        total += float(
            cross_entropy_over_items(hidden, model.item_emb.weight, targets[targets > 0]).sum()
        )
    return total / max(int(windows.lengths.sum()), 1)
