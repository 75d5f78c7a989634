"""Tensors in a safetensors file that is whole or not there, written from where they lie.

The library's own writer makes a copy of all of them, or leaves a file of another name behind where
it is killed, and one that nobody else may read. The format: 8 bytes of length, a header in JSON,
the tensors end to end (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmem.core.files.atomic import replacing

KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
ALIGNED = 8
"""Bytes that the header's length is a multiple of."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, and texts by theirs.

    Raises:
        OSError: the file could not be written; what was there before stays.
    """
    # The widest first: so each of them lies at a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {} if about is None else {"__metadata__": dict(about)}
    end = 0
    for name in names:
        value, start = tensors[name], end
        end += value.numel() * value.element_size()
        kind, shape = KINDS[value.dtype], list(value.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            value = tensors[name].detach().cpu().contiguous()
            if value.numel():
                file.write(value.reshape(-1).view(torch.uint8).numpy().data)
