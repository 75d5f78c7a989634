"""Shares of secrets: split, sealed to their holders, recognised again, and put together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedmem.core.secure_sum.field import value_at_zero
from fedmem.core.secure_sum.keys import SECRET_BYTES, SumName, agreed

NONCE = bytes(12)
"""A sealing key is derived for one message, so its nonce need not differ from another's."""


class Share(NamedTuple):
    """What one node holds of the two secrets of another; each 16 bytes.

    Attributes:
        pairs: of the secret from which the masks follow that its owner has with others.
        own: of the secret of the owner's own mask.
    """

    pairs: bytes
    own: bytes


@dataclass(frozen=True)
class Sealed:
    """A share on its way from its owner, through the server, to the node that will hold it.

    Attributes:
        box: the share, encrypted and authenticated.
        digests: of both of its parts, by which whoever sees one later can recognise it. A share is
            as random as a key, so its digest gives nothing of it away.
    """

    box: bytes
    digests: Share


def split(secret: bytes, needed: int, members: Sequence[int]) -> dict[int, bytes]:
    """A share of a secret of 16 bytes for each member, of which `needed` give it back.

    A. Shamir, "How to share a secret" (1979), in GF(2^128).
    """
    shares = Shamir.split(needed, len(members), secret, ssss=False)
    return {member: share for member, (_, share) in zip(sorted(members), shares, strict=True)}


def joined(shares: Mapping[int, bytes], needed: int, members: Sequence[int]) -> bytes:
    """The inverse of `split`, from at least `needed` shares by their holders."""
    places = {member: place for place, member in enumerate(sorted(members), 1)}
    chosen = sorted(shares)[:needed]
    values = [int.from_bytes(shares[holder]) for holder in chosen]
    return value_at_zero([places[holder] for holder in chosen], values).to_bytes(SECRET_BYTES)


def digest(part: bytes, name: SumName, kind: str, owner: int, holder: int) -> bytes:
    """By which a part of a share is recognised: 16 bytes of SHA-256."""
    about = name.about("share", kind, owner, holder)
    return hashlib.sha256(about + part).digest()[:SECRET_BYTES]


def digests(share: Share, name: SumName, owner: int, holder: int) -> Share:
    """The digests of both parts."""
    parts = share._asdict().items()
    return Share(**{kind: digest(part, name, kind, owner, holder) for kind, part in parts})


def seal(
    share: Share, secret: bytes, receiver_key: bytes, name: SumName, owner: int, holder: int
) -> Sealed:
    """A share of `owner`, whose secret for sealing is given, for `holder` and nobody else."""
    about = name.about("seal", owner, holder)
    box = ChaCha20Poly1305(agreed(secret, receiver_key, about)).encrypt(
        NONCE, share.pairs + share.own, about
    )
    return Sealed(box, digests(share, name, owner, holder))


def unseal(
    sealed: Sealed, secret: bytes, owner_key: bytes, name: SumName, owner: int, holder: int
) -> Share | None:
    """The inverse of `seal`, at the holder; None where it is not what the owner sealed for it."""
    about = name.about("seal", owner, holder)
    try:
        content = ChaCha20Poly1305(agreed(secret, owner_key, about)).decrypt(
            NONCE, sealed.box, about
        )
    except InvalidTag:
        return None
    share = Share(content[:SECRET_BYTES], content[SECRET_BYTES:])
    return share if digests(share, name, owner, holder) == sealed.digests else None
