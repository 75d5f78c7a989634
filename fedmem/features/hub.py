"""Models of sentence-transformers, from a folder, this machine's cache, or the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from fedmem.core.errors import FedmemError, first_line


def load(model: str, device: str) -> SentenceTransformer:
    """A model by its folder or name; the hub is asked only for what this machine has not got.

    Raises:
        FedmemError: it is nowhere to be had, or is no model of sentence-transformers.
    """
    logging.disable_progress_bar()  # of weights read from disk; a download still shows its own
    logging.set_verbosity_error()
    try:
        return SentenceTransformer(model, device=device, local_files_only=True)
    except Exception as error:
        if Path(model).is_dir():
            raise FedmemError(
                f"{model} holds no model that sentence-transformers can read: {first_line(error)}"
            ) from error
    _ask_hub(model)
    try:
        return SentenceTransformer(model, device=device)
    except Exception as error:
        raise FedmemError(f"{model} cannot be loaded from the hub: {first_line(error)}") from error


def _ask_hub(model: str) -> None:
    """Fail at once where a download would only after a minute of trying."""
    try:
        HfApi().model_info(model, timeout=10)  # seconds
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise FedmemError(
            f"{model} is no local folder and no model on the Hugging Face hub: give either."
        ) from error
    except Exception as error:
        raise FedmemError(
            f"{model} is no local folder, and the Hugging Face hub cannot be asked for it: "
            f"{first_line(error)}.\nWithout a network give the path of a folder that holds the "
            "model."
        ) from error
