"""What the SuperLink says of a mistake, before it serves anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fedmem.certificates import make_certificates
from tests.helpers.commands import free_port


def test_a_key_of_another_certificate_is_named_in_a_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    make_certificates(keys, ["127.0.0.1"], ["node"])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fedmem.superlink", "--host", "127.0.0.1"),
            *("--port", str(free_port())),
            *("--ssl-ca-certfile", f"{keys}/ca.crt", "--ssl-certfile", f"{keys}/server.crt"),
            *("--ssl-keyfile", f"{keys}/ca.key", "--disable-runtime-dependency-installation"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    printed = [line for line in done.stderr.splitlines() if line.startswith("fedmem: ")]
    assert len(printed) == 1
    assert "certificate and key cannot be used: KEY_VALUES_MISMATCH" in printed[0]
