"""Secret random numbers: from a key that nobody else has, by a cipher, and the same again.

Noise from a generator whose state can be found out hides nothing, and a sample that can be foreseen
amplifies nothing. The key is kept in the run's state, so a round that is repeated after a break
releases the same numbers once more, and spends nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
KEY_BYTES = 32


def new_key() -> str:
    """A key from the system's generator, in hexadecimal digits."""
    return secrets.token_hex(KEY_BYTES)


@dataclass(frozen=True)
class SecretStreams:
    """Streams of random numbers, each under a name of its own; the same name gives the same.

    Attributes:
        key: of `new_key`.
    """

    key: str = field(repr=False)

    def words(self, name: str, count: int) -> Words:
        """Integers [count] of 64 bits."""
        kdf = HKDF(SHA256(), KEY_BYTES, salt=None, info=name.encode())
        cipher = Cipher(ChaCha20(kdf.derive(bytes.fromhex(self.key)), bytes(16)), mode=None)
        return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), "<u8")

    def uniform(self, name: str, count: int) -> Floats:
        """Numbers [count] in (0, 1), of 53 bits."""
        words = self.words(name, count)
        return np.asarray(((words >> np.uint64(11)) + 0.5) * 2.0**-53)

    def normal(self, name: str, count: int) -> Floats:
        """Standard normal numbers [count]: G. Box, M. Muller, 1958."""
        half = (count + 1) // 2
        radius, angle = np.split(self.uniform(name, 2 * half), 2)
        radius, angle = np.sqrt(-2.0 * np.log(radius)), 2.0 * np.pi * angle
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
