"""Folders that libraries keep things in, where a user's home cannot be written or there is none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

USUAL = {
    "NUMBA_CACHE_DIR": (".cache", "numba"),
    "MPLCONFIGDIR": (".config", "matplotlib"),
    "FLWR_HOME": (".flwr",),
}
"""Variables that point a library elsewhere, and where below the home it would go by itself."""


def provide_caches() -> None:
    """Point libraries to a temporary folder where their own cannot be written.

    A container, or a service, runs as a user that may have no home, over code that it may not
    change; Numba, Flower and Matplotlib end there, or complain, when they are imported.
    """
    home = _home()
    for variable, names in USUAL.items():
        given = os.environ.get(variable)
        usual = Path(given) if given else home and home.joinpath(*names)
        if usual is None or not _can_be_written(usual):
            os.environ[variable] = str(_temporary() / variable.lower())


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user that the system does not know
        return None


def _can_be_written(folder: Path) -> bool:
    """Whether a folder is there, or could be made, and takes files."""
    found = next((each for each in (folder, *folder.parents) if os.path.exists(each)), Path("/"))  # noqa: PTH110 - False where one may not look
    return found.is_dir() and os.access(found, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """A folder of this user's own: what is kept there is run, so nobody else may have made it."""
    import tempfile  # which few need

    own = Path(tempfile.gettempdir()) / f"fedmem-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    about = own.lstat()
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
        return own
    return Path(tempfile.mkdtemp(prefix="fedmem-"))
