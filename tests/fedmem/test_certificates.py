"""Certificates that a TLS library takes, keys that only their owner can read, and nothing twice."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from fedmem.certificates import main, make_certificates
from fedmem.core.errors import FedmemError


def handshake(authority: Path, server: Path, host: str) -> None:
    """A client that trusts an authority meets a server under a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server / "server.crt", server / "server.key")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            context.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(authority / "ca.crt"))
    try:
        client.wrap_socket(ours, server_hostname=host).close()
    finally:
        ours.close()
        thread.join()


def test_clients_trust_the_server_under_its_names_alone(tmp_path: Path) -> None:
    make_certificates(tmp_path / "own", ["link.example", "10.1.2.3"], [])
    make_certificates(tmp_path / "other", ["link.example"], [])
    for host in ("link.example", "10.1.2.3"):
        handshake(tmp_path / "own", tmp_path / "own", host)
    for authority, host in (("own", "10.1.2.4"), ("other", "link.example")):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(tmp_path / authority, tmp_path / "own", host)


def test_secrets_are_their_owners(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, ["localhost"], ["shop"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "ca.key",
        "server.key",
        "shop.key",
    }
    private = load_ssh_private_key((tmp_path / "shop.key").read_bytes(), None)
    public = load_ssh_public_key((tmp_path / "shop.pub").read_bytes())
    assert private.public_key() == public


def test_a_further_node_changes_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_certificates(tmp_path, ["localhost"], ["shop"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    main([str(tmp_path), "--node", "shop", "--node", "depot"])
    assert capsys.readouterr().out.split() == [f"{tmp_path}/depot.pub", f"{tmp_path}/depot.key"]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    main([str(tmp_path), "--node", "shop"])
    assert "had everything already" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match="Give --host"):
        make_certificates(tmp_path, [], [])
    (tmp_path / "ca.key").unlink()
    with pytest.raises(FedmemError, match=r"only one of ca\.crt and ca\.key"):
        make_certificates(tmp_path, ["localhost"], [])
    (tmp_path / "file").write_text("")
    with pytest.raises(FedmemError, match="cannot be written"):
        make_certificates(tmp_path / "file", ["localhost"], [])
