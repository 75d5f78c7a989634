"""Files of `torch.save`, read without running anything that they say."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedmem.core.errors import FedmemError


def is_torch_file(path: Path) -> bool:
    """Whether the file begins like one of `torch.save`: a zip archive, or an old pickle."""
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"PK\x03\x04" or start[:1] == b"\x80"


def read_torch_file(path: Path, mapped: bool = False) -> Any:
    """What `torch.save` wrote: tensors, numbers, texts and containers of them, nothing else.

    A pickle may name any function and have it called when it is read. Torch's own reader of weights
    refuses all but the few that build tensors. It does not compare checksums, so that is done here.
    Where `mapped`, the numbers of a zip archive stay on the disk until they are looked at.

    Raises:
        FedmemError: the file cannot be read, is damaged, or refers to more than tensors need.
    """
    try:
        archived = zipfile.is_zipfile(path)
        if archived:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise FedmemError(f"{path} is damaged: {damaged} does not match its checksum.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles, which are refused or read
            return torch.load(path, "cpu", weights_only=True, mmap=mapped and archived)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = (
            f"refers to {named[1]}, which is not a tensor" if named else "is not a file of tensors"
        )
        raise FedmemError(
            f"{path} {what}; reading it could run code, so nothing of it was read.\n"
            "Save tensors alone: torch.save(model.state_dict(), FILE)."
        ) from error
    except FedmemError:
        raise
    except Exception as error:
        # Torch raises exceptions of many kinds for a damaged file.
        raise FedmemError(
            f"{path} cannot be read as a file of torch.save: it is cut short, damaged or of "
            f"another kind ({type(error).__name__})."
        ) from error


def plain(tensor: Tensor, what: str) -> Tensor:
    """The tensor as nothing but numbers in memory: apart from the model and its gradients.

    Raises:
        FedmemError: it is more than that; the message calls it `what`.
    """
    if tensor.is_nested:
        kind, instead = "nested", "tensor.to_padded_tensor(0.0)"
    elif tensor.layout != torch.strided:
        kind, instead = "sparse", "tensor.to_dense()"
    elif tensor.is_quantized:
        kind, instead = "quantised", "tensor.dequantize()"
    elif tensor.is_meta:
        kind, instead = "meta", "one that has its numbers"
    else:
        return tensor.detach()
    raise FedmemError(f"{what} is a {kind} tensor: save {instead} instead.")
