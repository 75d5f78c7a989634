"""A node's side of one secure sum: what it offers, seals, masks and reveals, and what it refuses.

A member answers each of the four steps once, in their order, and forgets its secrets with the last.
So it can be asked for the shares of the lost and of the remaining by one list only, and never for
both kinds of the same node. What it refuses changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum import FEWEST
from fedmem.core.secure_sum.keys import (
    SECRET_BYTES,
    Integers,
    PublicKeys,
    SumName,
    own_mask,
    pair_mask,
    public_key,
    stream,
)
from fedmem.core.secure_sum.shares import Sealed, Share, seal, split, unseal

OFFERED, SHARED, MASKED, REVEALED = range(4)
STEPS = ("offered its keys", "shared its secrets", "sent its masked numbers", "revealed shares")


@dataclass
class Member:
    """One node in one sum.

    Attributes:
        node: its number.
        name: of the sum.
        fewest: its own minimum of nodes whose sum may be opened.
        step: the last that it has done.
        needed: nodes that have to remain, as the server said.
        sealing, pairs, own: secrets: of the key that others seal for, of that from which the masks
            with others follow, and of its own mask.
        keys: what all nodes of the sum offered, by node.
        held: the shares that it holds of others' secrets, by their owner.
    """

    node: int
    name: SumName
    fewest: int
    step: int = OFFERED
    needed: int = 0
    sealing: bytes = field(repr=False, default_factory=lambda: os.urandom(SECRET_BYTES))
    pairs: bytes = field(repr=False, default_factory=lambda: os.urandom(SECRET_BYTES))
    own: bytes = field(repr=False, default_factory=lambda: os.urandom(SECRET_BYTES))
    keys: dict[int, PublicKeys] = field(repr=False, default_factory=dict)
    held: dict[int, Share] = field(repr=False, default_factory=dict)

    def offer(self) -> PublicKeys:
        """Step 1: the node's public keys."""
        return PublicKeys(public_key(self.sealing), public_key(self.pairs))

    def share(self, keys: Mapping[int, PublicKeys], needed: int) -> dict[int, Sealed]:
        """Step 2: shares of both secrets for each node of the sum, itself too, sealed.

        Args:
            keys: of all nodes of the sum, this one among them.
            needed: nodes that have to remain to open the sum.

        Raises:
            FedmemError: the nodes are too few, are not as they should be, or were given before.
        """
        self._require_next(SHARED)
        if len(keys) < FEWEST:
            raise self._refusal(f"{len(keys)} nodes take part, and at least {FEWEST} have to")
        if needed < self.fewest:
            raise self._refusal(
                f"the sum of {needed} nodes could be opened, and this node's own minimum is "
                f"{self.fewest} (min-members)"
            )
        if not len(keys) // 2 < needed <= len(keys):
            raise self._refusal(f"{needed} of {len(keys)} nodes are no majority of them")
        if keys.get(self.node) != self.offer():
            raise self._refusal("the keys that this node offered are not among those of the list")
        if len({key for each in keys.values() for key in vars(each).values()}) < 2 * len(keys):
            raise self._refusal("a public key stands twice in the list")
        self.keys, self.needed, self.step = dict(keys), needed, SHARED
        pairs, own = (split(secret, needed, list(keys)) for secret in (self.pairs, self.own))
        return {
            holder: seal(
                Share(pairs[holder], own[holder]),
                self.sealing,
                each.sealing,
                self.name,
                self.node,
                holder,
            )
            for holder, each in keys.items()
        }

    def accept(self, shares: Mapping[int, Sealed]) -> None:
        """Step 3, before there are numbers: the shares sealed for this node, by their owners.

        Those whose shares these are, this node among them, are the ones whose masks cancel.

        Raises:
            FedmemError: they are too few, or a share is not what its owner sealed.
        """
        self._require_next(MASKED)
        if not {self.node} <= shares.keys() <= self.keys.keys():
            raise self._refusal("those that shared their secrets are not this sum's nodes")
        if len(shares) < self.needed:
            raise self._refusal(f"{len(shares)} nodes shared, and {self.needed} are needed")
        held: dict[int, Share] = {}
        for owner, sealed in sorted(shares.items()):
            key = self.keys[owner].sealing
            share = unseal(sealed, self.sealing, key, self.name, owner, self.node)
            if share is None:
                raise self._refusal(f"the share that node {owner} sealed for it was tampered with")
            held[owner] = share
        self.held, self.step = held, MASKED

    def mask(self, integers: Integers) -> Integers:
        """Step 3: the integers [N] under this node's own mask and those that it has with others."""
        total = integers + stream(own_mask(self.own, self.name, self.node), integers)
        for other in self.held.keys() - {self.node}:
            key = pair_mask(self.pairs, self.keys[other].masking, self.name, (self.node, other))
            if self.node < other:
                total += stream(key, integers)
            else:
                total -= stream(key, integers)
        return total

    def reveal(self, remaining: Collection[int]) -> dict[int, bytes]:
        """Step 4: for each node of the sum the one share by which its masks are taken off.

        Args:
            remaining: the nodes whose masked numbers arrived.

        Returns:
            By owner: of the secret of its own mask where it remains, else of those with others.

        Raises:
            FedmemError: they are too few, this node is not among them, or it has answered before.
        """
        self._require_next(REVEALED)
        chosen = set(remaining)
        if not chosen <= self.held.keys() or self.node not in chosen:
            raise self._refusal("the list of those that remain is not one of this sum's nodes")
        if len(chosen) < self.needed:
            raise self._refusal(f"{len(chosen)} nodes remain, and {self.needed} are needed")
        revealed = {o: s.own if o in chosen else s.pairs for o, s in self.held.items()}
        self.forget()
        return revealed

    def forget(self) -> None:
        """Drop all secrets: the sum is over for this node."""
        self.step, self.sealing, self.pairs, self.own = REVEALED, b"", b"", b""
        self.keys, self.held = {}, {}

    def to_bytes(self) -> bytes:
        """The member as it stands, secrets included: for memory, never for a file."""
        about = {k: v.hex() if isinstance(v, bytes) else v for k, v in vars(self).items()}
        about |= {"name": vars(self.name)}
        about["keys"] = {n: [key.hex() for key in vars(k).values()] for n, k in self.keys.items()}
        about["held"] = {n: [part.hex() for part in share] for n, share in self.held.items()}
        return json.dumps(about).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`."""
        about: dict[str, Any] = json.loads(data)
        parts = {
            part: {int(node): list(map(bytes.fromhex, each)) for node, each in about[part].items()}
            for part in ("keys", "held")
        }
        about |= {secret: bytes.fromhex(about[secret]) for secret in ("sealing", "pairs", "own")}
        about["name"] = SumName(**about["name"])
        about["keys"] = {node: PublicKeys(*each) for node, each in parts["keys"].items()}
        about["held"] = {node: Share(*each) for node, each in parts["held"].items()}
        return cls(**about)

    def _require_next(self, step: int) -> None:
        if step != self.step + 1:
            raise self._refusal(f"it {STEPS[self.step]}, and answers each step once, in order")

    def _refusal(self, reason: str) -> FedmemError:
        return FedmemError(f"Node {self.node} refuses {self.name} of the secure sum: {reason}.")
