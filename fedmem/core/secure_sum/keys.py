"""Keys of a round, what two nodes agree on by them, and masks: streams of integers from a key."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmem.core.errors import FedmemError

Integers = npt.NDArray[np.unsignedinteger]
"""Numbers of a vector modulo 2^16 or 2^32, by the type of the array."""
SECRET_BYTES = 16
"""Bytes of a secret from which keys are derived, and which is shared."""
KEY_BYTES = 32


@dataclass(frozen=True)
class SumName:
    """Which sum a message belongs to: what is sealed, masked or revealed for one fits no other.

    Attributes:
        run: Flower's number of the run, which a node knows by itself.
        stage: name of the stage.
        number: of the round, from 1.
    """

    run: int
    stage: str
    number: int

    def __str__(self) -> str:
        return f"round {self.number} of {self.stage}"

    @property
    def next(self) -> SumName:
        """The sum of the round after."""
        return replace(self, number=self.number + 1)

    def about(self, *parts: object) -> bytes:
        """The name and what else a key or a seal is bound to, without ambiguity."""
        words = ["fedmem secure sum", self.run, self.stage, self.number, *parts]
        return b"".join(len(w).to_bytes(4, "big") + w for w in (str(x).encode() for x in words))


@dataclass(frozen=True)
class PublicKeys:
    """What a node offers of itself for one round.

    Attributes:
        sealing: X25519 key, 32 bytes, by which others seal what only this node may read.
        masking: the same, by which others agree with it on the mask that they have in common.
    """

    sealing: bytes
    masking: bytes


def derived(secret: bytes, about: bytes) -> bytes:
    """A key of 32 bytes from a secret, for one purpose: HKDF with SHA-256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=about).derive(secret)


def private_key(secret: bytes) -> X25519PrivateKey:
    """The key pair of a secret."""
    return X25519PrivateKey.from_private_bytes(derived(secret, b"fedmem X25519"))


def public_key(secret: bytes) -> bytes:
    """The public key of a secret, 32 bytes."""
    return private_key(secret).public_key().public_bytes_raw()


def agreed(secret: bytes, other: bytes, about: bytes) -> bytes:
    """The key of 32 bytes that two parties find, each by its secret and the other's public key.

    Raises:
        FedmemError: the other's is no key.
    """
    try:
        common = private_key(secret).exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise FedmemError(f"A public key of a node is none: {error}.") from error
    return derived(common, about)


def pair_mask(secret: bytes, other: bytes, name: SumName, pair: tuple[int, int]) -> bytes:
    """The key of the mask that two nodes have in common, whichever of them asks."""
    return agreed(secret, other, name.about("pair", *sorted(pair)))


def own_mask(secret: bytes, name: SumName, node: int) -> bytes:
    """The key of a node's mask of its own."""
    return derived(secret, name.about("own", node))


def stream(key: bytes, like: Integers) -> Integers:
    """Integers that look random to whoever lacks the key, of the type and number of `like`.

    ChaCha20's key stream (RFC 8439) from its start: a key makes one stream.
    """
    content = bytearray(like.nbytes)
    Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update_into(content, content)
    return np.frombuffer(content, like.dtype)
