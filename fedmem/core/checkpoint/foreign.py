"""Files of models that fedmem did not write: what they are, what of them fits, and why not more.

A backbone fits if all of its tensors have the names and shapes of ours. SASRec as it is commonly
ported to PyTorch does not, though its tensors could be renamed: it pads on the left, attends to the
padding, counts positions from there and has another epsilon in its LayerNorms, and its file does
not say whether it normalises before or after a sub-layer. The same numbers would give other hidden
states for every history shorter than the window.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import METADATA_KEY
from fedmem.core.files.torch_file import is_torch_file, plain, read_torch_file
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import ModelSettings

EARLIER: dict[str, Any] = {"item_start": "random", "item_length": "auto", "item_whitening": 0.5}
"""Model settings that models made before lack, as they were."""
WAY_OUT = "Train stage 1 again: python -m fedmem.simulate stage=pretrain_sasrec data=NAME"
"""What to do where no backbone can be taken."""

WRAPPERS = ("model_state_dict", "state_dict", "model", "net", "module")
"""Names around a model's own, which say nothing."""

FEATURE_WIDTHS = (512, 384)
"""Of pictures and texts. The earlier architecture's experts keep them."""

PORT = r"(attention_layers|attention_layernorms|forward_layers|forward_layernorms|last_layernorm)\."
REASONS = (
    (PORT, "of SASRec's PyTorch port, which treats padding and positions otherwise"),
    (r"(item|pos)_emb\.", "it means something only to the rest of its own backbone"),
    (r"memory", "a memory of vectors; here it keeps item ids, at its user's node"),
    (r"(visual|image|text|semantic)_proj|align_gating", "stage 2 trains it"),
    (r"expert|router|gating", "stage 3 trains it"),
)


class Left(NamedTuple):
    """A tensor that cannot be taken."""

    name: str
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Diagnosis:
    """What a foreign file is."""

    kind: str
    why_not: str
    """Why it cannot be loaded as a checkpoint; empty where its backbone fits."""
    backbone: Parameters
    """Whole, by our names; empty where it does not fit."""
    sizes: dict[str, int]
    """`dim`, `blocks`, `feedforward`, `max_length` and `items` of that backbone."""
    left: list[Left]


def is_foreign(path: Path) -> bool:
    """Whether a file is there that fedmem did not write."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return METADATA_KEY not in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return True


def refuse_foreign(path: Path) -> None:
    """Name a foreign file that stands where a checkpoint should.

    Raises:
        FedmemError: it is one; the message says of what, and the way out.
    """
    if not is_foreign(path):
        return
    found = diagnose(read_foreign(path))
    why = f": {found.why_not}" if found.why_not else ""
    fits = f"its backbone fits: python -m fedmem.checkpoint import {path} --to DIR"
    raise FedmemError(
        f"{path} is {found.kind}, and no checkpoint of fedmem{why}.\n"
        + (f"Stage 1 need not run again, {fits}" if found.backbone else WAY_OUT)
    )


def read_foreign(path: Path) -> Parameters:
    """All tensors of a file, by name; what wraps the model's own names is taken off.

    Raises:
        FedmemError: it cannot be read safely, is damaged, or holds no tensor.
    """
    if not path.is_file():
        raise FedmemError(f"There is no file {path}.")
    try:
        content = read_torch_file(path) if is_torch_file(path) else load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FedmemError(
            f"{path} cannot be read as safetensors: it is cut short, damaged or of another kind."
        ) from error
    all_tensors = {name: plain(value, f"{path}, {name}") for name, value in _flatten(content)}
    tensors = {name: value for name, value in all_tensors.items() if value.numel()}
    if not tensors:
        raise FedmemError(f"{path} holds no tensor that has a name: it is no model.")
    return tensors


def diagnose(tensors: Parameters) -> Diagnosis:
    """Find out what the tensors are, and which of them our backbone can take."""
    prefix, sizes = _backbone_sizes(tensors)
    expected = _backbone_shapes(prefix, sizes) if sizes else {}
    fitting = {
        name: value.float()
        for name, value in tensors.items()
        if expected.get(name) == value.shape and value.is_floating_point()
    }
    lacking = sorted(name.removeprefix(prefix) for name in expected.keys() - fitting.keys())
    taken = {} if lacking else fitting
    left = [
        Left(name, tuple(value.shape), _reason(name, value, sizes, expected))
        for name, value in tensors.items()
        if name not in taken
    ]
    wide = [item for item in left if _is_wide_norm(item)]
    kind, why_not = "a model that fedmem does not know", ""
    if wide:
        kind = "of the earlier architecture"
        own = rf"{PORT}|item_emb|pos_emb|{re.escape(prefix)}(blocks|norm)\."
        others = sum(value.numel() for n, value in tensors.items() if not re.search(own, n))
        listed = ", ".join(f"{item.name} {list(item.shape)}" for item in wide[:4])
        why_not = f"{listed} keep their features' width ({others:,} parameters beside the backbone)"
    elif any(re.search(PORT, name) for name in tensors):
        kind = "a SASRec of the PyTorch port"
        why_not = "it treats padding and positions otherwise, so its hidden states would differ"
    elif taken:
        kind = "a model whose backbone has our names and shapes"
    elif lacking:
        why_not = f"its backbone lacks {', '.join(lacking[:3])}{' …' if lacking[3:] else ''}"
    backbone = {f"sasrec.{name.removeprefix(prefix)}": taken[name] for name in expected if taken}
    return Diagnosis(kind, why_not, backbone, sizes, left)


def _backbone_shapes(prefix: str, sizes: Mapping[str, int]) -> dict[str, torch.Size]:
    """Shapes of our backbone's tensors of these sizes, by name with the prefix before it."""
    fitting = {k: v for k, v in sizes.items() if k != "items"}
    rest = {
        "heads": 1,
        "dropout": 0.0,
        "gating_hidden": 1,
        "semantic_heads": 1,
        "router_hidden": 1,
    } | EARLIER
    settings = ModelSettings(experts=["identity"], **fitting, **rest)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        backbone = SASRec(settings, sizes["items"])
    return {prefix + name: value.shape for name, value in backbone.state_dict().items()}


def _flatten(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all tensors in nested dictionaries, but for those of an optimizer."""
    if isinstance(content, Tensor) and name:
        yield name, content
    if isinstance(content, Mapping):
        for key, value in content.items():
            if "optim" in str(key):
                continue
            inner = name if key in WRAPPERS else f"{name}.{key}" if name else str(key)
            yield from _flatten(value, re.sub(r"^(module|model)\.", "", inner))


def _backbone_sizes(tensors: Parameters) -> tuple[str, dict[str, int]]:
    """The prefix of a backbone's names, and its sizes; none where there is no backbone of ours."""
    for name, table in tensors.items():
        prefix = name.removesuffix("item_emb.weight")
        positions = tensors.get(f"{prefix}pos_emb.weight")
        expand = tensors.get(f"{prefix}blocks.0.expand.weight")
        if prefix == name or positions is None or expand is None:
            continue
        if not table.dim() == positions.dim() == expand.dim() == 2 or len(table) < 2:
            continue
        block = re.compile(rf"{re.escape(prefix)}blocks\.(\d+)\.")
        return prefix, {
            "dim": table.shape[1],
            "blocks": max(int(found[1]) for found in map(block.match, tensors) if found) + 1,
            "feedforward": len(expand),
            "max_length": len(positions),
            "items": len(table) - 1,
        }
    return "", {}


def _is_wide_norm(item: Left) -> bool:
    """Whether it is the gain or bias of a LayerNorm over features as wide as they came."""
    named = "expert" in item.name and re.search(r"norm|\bln\b|_ln", item.name) is not None
    return named and len(item.shape) == 1 and item.shape[0] in FEATURE_WIDTHS


def _reason(
    name: str, value: Tensor, sizes: Mapping[str, int], expected: Mapping[str, torch.Size]
) -> str:
    """Why a tensor is not taken."""
    wide = [width for width in value.shape if width in FEATURE_WIDTHS]
    if "expert" in name and wide:
        dim = f" of {sizes['dim']}" if sizes else ""
        return f"keeps the {wide[0]} of its features; experts here work in the model's width{dim}"
    ours = expected.get(name)
    if ours is not None and ours != value.shape:
        return f"the shape would have to be {list(ours)}"
    return next((why for pattern, why in REASONS if re.search(pattern, name)), "no part of it fits")
