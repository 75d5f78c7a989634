"""Pictures of items, from a folder or a zip that the person points to.

Which there are is looked up once; a request names an item and never a file.
"""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from threading import Lock

from fedmem.core.errors import FedmemError
from fedmem.features.pictures import Unreadable, decoded
from fedmem.features.table import IMAGE_SUFFIXES

SIDE = 360
"""Pixels of the longer side of what is shown."""
MAX_BYTES = 32 << 20
"""Of a picture's file."""
KEPT = 512
"""Pictures that are kept as they are shown, some 20 KB each."""


class Pictures:
    """The items' pictures as small JPEGs.

    Args:
        place: folder of `<item id>.jpg`, `.jpeg`, `.png` or `.webp`, or a zip that holds such.

    Raises:
        FedmemError: there is neither.
    """

    def __init__(self, place: Path) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._lock = Lock()
        self._shown: OrderedDict[str, bytes | None] = OrderedDict()
        if place.is_dir():
            names = [str(each) for each in sorted(place.iterdir()) if each.is_file()]
        elif zipfile.is_zipfile(place):
            self._zip = zipfile.ZipFile(place)
            names = [each.filename for each in self._zip.infolist() if not each.is_dir()]
        else:
            raise FedmemError(
                f"data.pictures={place} is neither a folder nor a zip: give one that holds "
                "<item id>.jpg, .jpeg, .png or .webp."
            )
        paths = {name: PurePosixPath(name) for name in names}
        self._files = {
            path.stem: name for name, path in paths.items() if path.suffix.lower() in IMAGE_SUFFIXES
        }

    def __contains__(self, item: str) -> bool:
        return item in self._files

    def shown(self, item: str) -> bytes | None:
        """The item's picture as a JPEG of at most `SIDE` pixels a side; None: it has none that can
        be read.
        """
        with self._lock:
            if item in self._shown:
                self._shown.move_to_end(item)
                return self._shown[item]
            made = self._made(item)
            self._shown[item] = made
            if len(self._shown) > KEPT:
                self._shown.popitem(last=False)
            return made

    def _made(self, item: str) -> bytes | None:
        name = self._files.get(item)
        if name is None:
            return None
        try:
            image = decoded(self._read(name))
        except (Unreadable, OSError, zipfile.BadZipFile, RuntimeError):
            return None  # RuntimeError: a member of the zip is encrypted
        image.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    def _read(self, name: str) -> bytes:
        with self._zip.open(name) if self._zip else Path(name).open("rb") as file:
            raw: bytes = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise Unreadable("too large")
        return raw
