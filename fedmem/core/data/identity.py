"""Which data a run is of, wherever they lie."""

from __future__ import annotations

import hashlib

from fedmem.core.data.cold import load_histories
from fedmem.core.data.content import load_content
from fedmem.core.data.ids import fingerprint
from fedmem.core.settings import Settings


def identity(settings: Settings) -> str:
    """Hash of the histories of a run, with the ids in them, and of the content that it reads.

    Raises:
        FedmemError: the data are not there, or cannot be read.
    """
    histories = load_histories(settings)
    digest = hashlib.sha256()
    for each in (histories.warm, histories.cold):
        digest.update(f"{fingerprint(each.user_ids)} {fingerprint(each.item_ids)}".encode())
        digest.update(each.offsets.astype("<i8").tobytes())
        digest.update(each.items.astype("<i8").tobytes())
    if settings.reads_content:
        content = load_content(settings.data, histories.warm)
        for vectors in (content.visual, content.text):
            digest.update(vectors.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
