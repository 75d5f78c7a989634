"""The server's side of one secure sum: it passes on what it cannot read, and opens the sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum import FEWEST
from fedmem.core.secure_sum.codes import integer_type
from fedmem.core.secure_sum.keys import (
    KEY_BYTES,
    Integers,
    PublicKeys,
    SumName,
    own_mask,
    pair_mask,
    public_key,
    stream,
)
from fedmem.core.secure_sum.shares import Sealed, digest, joined


class GivenUp(FedmemError):
    """A sum that was given up, and of no node anything was opened: too many nodes were lost."""


@dataclass
class Coordinator:
    """One secure sum, step by step; each takes what nodes answered, and names those at fault.

    Nodes that did not answer a step, or whose answer is at fault, are lost for those that follow.

    Args:
        name: of the sum.
        needed: nodes that have to remain at every step.
        bits: of the modulus.
    """

    name: SumName
    needed: int
    bits: int

    def __post_init__(self) -> None:
        self.keys: dict[int, PublicKeys] = {}
        self._sealed: dict[int, dict[int, Sealed]] = {}
        self._masked: dict[int, Integers] = {}

    @property
    def members(self) -> list[int]:
        """The nodes whose secrets are shared, ascending."""
        return sorted(self._sealed)

    @property
    def remaining(self) -> list[int]:
        """The nodes whose masked numbers arrived, ascending."""
        return sorted(self._masked)

    def take_keys(self, offered: Mapping[int, PublicKeys]) -> dict[int, str]:
        """Step 1: what each node offered; the faults by node.

        Raises:
            GivenUp: so few offered keys.
        """
        faults: dict[int, str] = {}
        for node, keys in sorted(offered.items()):
            if any(len(key) != KEY_BYTES for key in vars(keys).values()):
                faults[node] = "offers keys that are none"
            else:
                self.keys[node] = keys
        self._require(len(self.keys), "offered their keys", fewest=FEWEST)
        return faults

    def take_shares(self, sent: Mapping[int, Mapping[int, Sealed]]) -> dict[int, str]:
        """Step 2: what each node sealed for which other; the faults by node.

        Raises:
            GivenUp: so few shared their secrets.
        """
        faults: dict[int, str] = {}
        for node, sealed in sorted(sent.items()):
            if sealed.keys() != self.keys.keys():
                faults[node] = "did not share its secrets with every node"
            else:
                self._sealed[node] = dict(sealed)
        self._require(len(self._sealed), "shared their secrets")
        return faults

    def sealed_for(self, node: int) -> dict[int, Sealed]:
        """What was sealed for a node, by owner."""
        return {owner: own[node] for owner, own in self._sealed.items()}

    def take_masked(
        self, sent: Mapping[int, tuple[SumName, Integers]], size: int
    ) -> dict[int, str]:
        """Step 3: each node's masked numbers, of this size, and which sum they are of.

        Raises:
            GivenUp: so few sent what was asked for.
        """
        faults: dict[int, str] = {}
        wanted = integer_type(self.bits)
        for node, (name, integers) in sorted(sent.items()):
            if node not in self._sealed:
                faults[node] = "is not a node of this sum"
            elif name != self.name:
                faults[node] = f"sent masked numbers of {name}, not of {self.name}"
            elif integers.dtype != wanted:
                faults[node] = f"sent numbers of type {integers.dtype}, not modulo 2^{self.bits}"
            elif integers.shape != (size,):
                faults[node] = f"sent numbers of shape {integers.shape}, not {(size,)}"
            else:
                self._masked[node] = integers
        self._require(len(self._masked), "sent their masked numbers")
        return faults

    def open(self, revealed: Mapping[int, Mapping[int, bytes]]) -> tuple[Integers, dict[int, str]]:
        """Step 4: the sum modulo 2^bits over those that remain, and the faults by node.

        Args:
            revealed: by the node that holds them, the shares of every node's secret, by owner.

        Raises:
            GivenUp: so few revealed shares as their owners made them.
        """
        faults, sound = {}, {}
        for holder, shares in sorted(revealed.items()):
            fault = self._fault_of_shares(holder, shares)
            if fault:
                faults[holder] = fault
            else:
                sound[holder] = shares
        self._require(len(sound), "revealed their shares", faults)
        total = np.sum(list(self._masked.values()), axis=0, dtype=integer_type(self.bits))
        for owner in self.members:
            theirs = {holder: shares[owner] for holder, shares in sound.items()}
            secret = joined(theirs, self.needed, list(self.keys))
            if owner in self._masked:
                total -= stream(own_mask(secret, self.name, owner), total)
            else:
                self._cancel(total, owner, secret)
        return total, faults

    def _cancel(self, total: Integers, lost: int, secret: bytes) -> None:
        """Take off the masks that those that remain have with a node that was lost."""
        if public_key(secret) != self.keys[lost].masking:
            raise GivenUp(
                f"{self.name} was given up: node {lost} shared another secret than it offered."
            )
        for node, keys in self.keys.items():
            if node in self._masked:
                key = pair_mask(secret, keys.masking, self.name, (node, lost))
                if node < lost:
                    total -= stream(key, total)
                else:
                    total += stream(key, total)

    def _fault_of_shares(self, holder: int, shares: Mapping[int, bytes]) -> str | None:
        if holder not in self._masked:
            return "is not a node that remains"
        if shares.keys() != self._sealed.keys():
            return "did not reveal a share of every node"
        for owner, part in shares.items():
            kind = "own" if owner in self._masked else "pairs"
            known = getattr(self._sealed[owner][holder].digests, kind)
            if digest(part, self.name, kind, owner, holder) != known:
                return f"the share of node {owner} that it revealed was tampered with"
        return None

    def _require(
        self, nodes: int, did: str, faults: Mapping[int, str] | None = None, fewest: int = 0
    ) -> None:
        needed = max(self.needed, fewest)
        if nodes < needed:
            why = "".join(f"; node {node} {fault}" for node, fault in (faults or {}).items())
            raise GivenUp(
                f"{self.name} was given up: {nodes} nodes {did}, and {needed} are needed "
                f"(privacy.secure_sum){why}."
            )
