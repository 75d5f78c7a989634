"""What the command says of options that it cannot start with."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedmem.certificates import make_certificates
from fedmem.supernode import main

CA = ("--root-certificates", "keys/ca.crt")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Give --root-certificates FILE, or --insecure"),
        (["--insecure", *CA], "--insecure to go without TLS"),
        (["--root-certificates", "gone.crt"], "gone.crt cannot be read: No such file"),
        (
            [*CA, "--auth-supernode-private-key", "gone.key"],
            "gone.key cannot be read",
        ),
        ([*CA, "--auth-supernode-private-key", "keys/ca.key"], "no private key in OpenSSH's form"),
        ([*CA, "--auth-supernode-private-key", "other.key"], "no elliptic-curve key"),
        ([*CA, "--node-config", "gone.toml"], "gone.toml cannot be read: No such file"),
        ([*CA, "--node-config", "bad.toml"], "bad.toml is neither a TOML file nor settings"),
        ([*CA, "--node-config", "data=/srv/shop threads=2"], "nor settings such as"),
        (CA, "node-config: data is missing"),
        ([*CA, "--node-config", "partition-id=0 num-partitions=3"], "data is missing"),
        ([*CA, "--node-config", 'data="/srv/shop"'], "state-dir is missing"),
        ([*CA, "--node-config", 'data="/srv/shop" stat-dir="/x"'], "stat-dir is unknown"),
    ],
)
def test_a_mistake_is_reported_in_a_line(
    options: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_certificates(tmp_path / "keys", ["127.0.0.1"], [])
    (tmp_path / "bad.toml").write_text("data = /srv/shop\n")
    other = Ed25519PrivateKey.generate()
    (tmp_path / "other.key").write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    with pytest.raises(SystemExit) as ended:
        main(["--superlink", "127.0.0.1:1", *options])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.splitlines()) <= 3
