"""What the command says of options that it cannot start with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedmem.certificates import make_certificates
from fedmem.supernode import Reachability, main

CA = ("--root-certificates", "keys/ca.crt")


def test_why_the_superlink_does_not_answer_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    caplog.set_level(logging.INFO, logger="flwr")  # whatever a run in this process made of it
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    answer = Reachability("hub:8001", "http")
    refused = ConnectionError("[Errno 111] Connection refused")
    for error in (refused, refused, TimeoutError("timed out"), None, refused):
        answer(error)
    monkeypatch.setenv("http_proxy", "http://10.0.0.9:3128")
    answer(TimeoutError("timed out"))
    said = [record.getMessage() for record in caplog.records]
    reasons = ["Connection refused", "timed out", "Connection refused", "timed out"]
    assert [line.partition(".")[0] for line in said] == [
        f"hub:8001 does not answer: {reason}" for reason in reasons
    ]
    assert [
        line.endswith("proxy http://10.0.0.9:3128: no_proxy=hub does without.") for line in said
    ] == [
        False,
        False,
        False,
        True,
    ]


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
