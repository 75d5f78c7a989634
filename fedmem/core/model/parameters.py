"""Parameters by name: their hash, one module's, and what a stage starts from."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from fedmem.core.model import Content, Recommender
from fedmem.core.model.experts import Router
from fedmem.core.settings import ModelSettings
from fedmem.core.stages import Stage

Parameters = dict[str, Tensor]


def content_hash(parameters: Mapping[str, Tensor]) -> str:
    """Hash of names, shapes and values: the same parameters have the same hash everywhere."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        value = parameters[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def submodule(parameters: Mapping[str, Tensor], name: str) -> Parameters:
    """The parameters of one module, by their names in it."""
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}


@torch.no_grad()
def router_weights(settings: ModelSettings, parameters: Mapping[str, Tensor]) -> Tensor:
    """The weights [I, E] of the experts for every item, from a stage's parameters by name."""
    router = Router(settings.dim, settings.router_hidden, len(settings.experts))
    router.load_state_dict(submodule(parameters, "router"), strict=True)
    weights: Tensor = router(parameters["sasrec.item_emb.weight"][1:])
    return weights


def initial_parameters(
    settings: ModelSettings,
    stage: Stage,
    num_items: int,
    widths: tuple[int, int],
    seed: int,
    inherited: Mapping[str, Parameters],
    item_rows: Tensor | None = None,
) -> Parameters:
    """What a stage starts from: every module from the stage that trained it last, or fresh.

    Fresh modules are drawn by the seed, for so many items without the padding and these widths of
    the visual and the text vectors. `inherited` are the parameters of the stages that this one
    requires, by stage name, in their order. `item_rows` [I + 1, K], K ≤ D, take the place of what
    was drawn for the items and dimensions that they have; rows of zeros leave all of it.

    Raises:
        RuntimeError: inherited parameters do not fit the modules that they are for.
    """
    shapes = Content(torch.zeros(num_items + 1, widths[0]), torch.zeros(num_items + 1, widths[1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed} {stage.name}".encode()))
        model = Recommender(settings, stage, num_items, shapes if stage.reads_content else None)
    if item_rows is not None:
        known = item_rows.any(1)
        with torch.no_grad():
            model.sasrec.item_emb.weight[known, : item_rows.shape[1]] = item_rows[known]
    for parameters in inherited.values():
        for module in {name.split(".")[0] for name in parameters} & set(stage.modules):
            part = submodule(parameters, module)
            model.get_submodule(module).load_state_dict(part, strict=True)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
