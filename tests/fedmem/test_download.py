"""Fetching MovieLens-1M: from a server of the test's own, on this machine."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.download import ML_1M_FILES, download_ml_1m


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("ml-1m/users.dat", "1::F\n")
        for name in ML_1M_FILES:
            file.writestr(f"ml-1m/{name}", f"{name}\n")
    return content.getvalue()


@contextmanager
def serving(content: bytes, announced: int) -> Iterator[str]:
    """The address of a server that gives this content, and says that it has so many bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/ml-1m.zip"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_files_are_taken_out_of_the_publisher_s_archive(tmp_path: Path) -> None:
    content = archive()
    with serving(content, len(content)) as url:
        download_ml_1m(tmp_path / "new", url, hashlib.md5(content).hexdigest())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(ML_1M_FILES)
    assert (tmp_path / "new" / "ratings.dat").read_text() == "ratings.dat\n"


def test_another_file_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    content = archive()
    with serving(content, len(content)) as url, pytest.raises(FedmemError, match="its md5 is"):
        download_ml_1m(tmp_path, url, "0" * 32)
    assert not list(tmp_path.iterdir())


def test_a_connection_that_breaks_off_is_reported_and_nothing_is_written(tmp_path: Path) -> None:
    content = archive()
    right = hashlib.md5(content).hexdigest()
    with serving(content[:100], len(content)) as url, pytest.raises(FedmemError, match=url):
        download_ml_1m(tmp_path, url, right)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with serving(b"", 0) as url:
        pass
    with pytest.raises(FedmemError, match=r"could not be fetched(.|\n)*by hand"):
        download_ml_1m(tmp_path, url)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FedmemError, match=str(tmp_path / "file")):
        download_ml_1m(tmp_path / "file" / "folder")
