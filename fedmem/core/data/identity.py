"""Which data a run is of, wherever they lie."""

from __future__ import annotations

import hashlib

from fedmem.core.data.cold import load_histories
from fedmem.core.data.content import load_content
from fedmem.core.data.interactions import load
from fedmem.core.settings import Settings


def identity(settings: Settings) -> str:
    """Hash of the histories of a run's data, and of the content that it reads.

    The histories are those of the files: a run goes on when a user has had something forgotten.

    Raises:
        FedmemError: the data are not there, or cannot be read.
    """
    digest = hashlib.sha256(load(settings.data).interactions.histories_hash.encode())
    if settings.reads_content:
        content = load_content(settings.data, load_histories(settings).warm)
        for vectors in (content.visual, content.text):
            digest.update(vectors.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
