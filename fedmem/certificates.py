"""Make the certificates and keys of a federation.

    python -m fedmem.certificates keys --host 10.0.0.1 --node shop --node depot

An authority of the federation's own, the SuperLink's certificate signed by it, and a key for each
node. Files that are there already are kept, so that a further node can be added later.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fedmem.core.commands import command_parser
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.files.atomic import replacing

AUTHORITY_DAYS, SERVER_DAYS = 3650, 825
CURVE = ec.SECP256R1()
"""Every call of a node is signed: P-256 does it some twenty times faster than P-384."""


def make_certificates(folder: Path, hosts: Sequence[str], nodes: Sequence[str]) -> list[Path]:
    """Write what is not there yet; the files that were made.

    `ca.crt` goes to every machine, `server.crt` and `server.key` to the SuperLink's, and `NAME.key`
    to the node of that name; `NAME.pub` is registered at the SuperLink. `ca.key` stays where it is.

    `hosts` are the names and addresses by which nodes and users reach the SuperLink.

    Raises:
        FedmemError: the folder cannot be written, or an authority's key or certificate is missing.
    """
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        authority, authority_key = _authority(folder, made)
        if not (folder / "server.crt").exists():
            made += _make_server(folder, hosts, authority, authority_key)
        for node in nodes:
            if not (folder / f"{node}.key").exists():
                made += _make_node(folder, node)
    except OSError as error:
        raise FedmemError(f"{error.filename} cannot be written: {error.strerror}.") from error
    return made


def _authority(
    folder: Path, made: list[Path]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = folder / "ca.crt", folder / "ca.key"
    if certificate_path.exists() != key_path.exists():
        raise FedmemError(
            f"{folder} has only one of ca.crt and ca.key: bring the other back, or remove it."
        )
    if certificate_path.exists():
        key = load_pem_private_key(key_path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(certificate_path.read_bytes()), key
    key = ec.generate_private_key(CURVE)
    name = _name("fedmem authority")
    certificate = (
        _certificate(name, name, key.public_key(), AUTHORITY_DAYS, signs=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    made += _write_pair(folder, "ca", key, certificate)
    return certificate, key


def _make_server(
    folder: Path,
    hosts: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> list[Path]:
    if not hosts:
        raise FedmemError("Give --host NAME or --host ADDRESS: how nodes will reach the SuperLink.")
    key = ec.generate_private_key(CURVE)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _certificate(_name(hosts[0]), authority.subject, key.public_key(), SERVER_DAYS, signs=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _write_pair(folder, "server", key, certificate)


def _make_node(folder: Path, node: str) -> list[Path]:
    key = ec.generate_private_key(CURVE)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return [
        _write(folder / f"{node}.pub", public + b"\n"),
        _write_key(folder / f"{node}.key", key, PrivateFormat.OpenSSH),
    ]


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, signs: bool
) -> x509.CertificateBuilder:
    """Valid from now on, for an authority that signs others or for one that does not."""
    now = datetime.datetime.now(datetime.UTC)
    unused = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    unused += ["encipher_only", "decipher_only"]
    usage = dict.fromkeys(("key_cert_sign", "crl_sign"), signs) | dict.fromkeys(unused, False)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(signs, 0 if signs else None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not signs, **usage), critical=True)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_pair(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> list[Path]:
    content = certificate.public_bytes(Encoding.PEM)
    return [_write_key(folder / f"{name}.key", key), _write(folder / f"{name}.crt", content)]


def _write_key(
    path: Path, key: ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.PKCS8
) -> Path:
    return _write(path, key.private_bytes(Encoding.PEM, form, NoEncryption()), mode=0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> Path:
    with replacing(path) as partial:
        partial.touch(mode, exist_ok=False)  # before anything secret is in it
        partial.write_bytes(content)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser("certificates", __doc__)
    add = parser.add_argument
    add("folder", type=Path, help="where the files are kept; made if need be")
    add("--host", action="append", default=[], help="name or address of the SuperLink; repeatable")
    add("--node", action="append", default=[], help="name of a node; repeatable")
    arguments = parser.parse_args(argv)
    with readable_exit():
        made = make_certificates(arguments.folder, arguments.host, arguments.node)
        print("\n".join(map(str, made)) or f"{arguments.folder} had everything already.")


if __name__ == "__main__":
    main()
