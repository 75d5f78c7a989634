"""A secure sum without Flower: members, a coordinator, and all that passed between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from fedmem.core.secure_sum.codes import integer_type
from fedmem.core.secure_sum.coordinator import Coordinator
from fedmem.core.secure_sum.keys import Integers, SumName
from fedmem.core.secure_sum.member import Member

NAME = SumName(1, "pretrain_sasrec", 3)


def integers(nodes: Collection[int], bits: int, size: int = 50) -> dict[int, Integers]:
    """What each node has to add, of any size modulo 2^bits."""
    generator = np.random.default_rng(7)
    drawn = {node: generator.integers(0, 1 << bits, size) for node in nodes}
    return {node: each.astype(integer_type(bits)) for node, each in drawn.items()}


@dataclass
class SecureSum:
    """One sum over nodes; each step can lose some, before they answer it.

    Attributes:
        values: what each node adds.
        needed: nodes that have to remain.
        members, coordinator: both sides.
        masked, revealed: what the server received of the last two steps.
        opened: the sum; None: not yet.
        faults: as the coordinator named them.
    """

    values: Mapping[int, Integers]
    needed: int
    bits: int = 32
    members: dict[int, Member] = field(init=False)
    coordinator: Coordinator = field(init=False)
    masked: dict[int, Integers] = field(init=False, default_factory=dict)
    revealed: dict[int, dict[int, bytes]] = field(init=False, default_factory=dict)
    opened: Integers | None = None
    faults: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.members = {node: Member(node, NAME, fewest=2) for node in self.values}
        self.coordinator = Coordinator(NAME, self.needed, self.bits)

    def run(self, lost: Mapping[int, Collection[int]] | None = None) -> Integers:
        """All four steps; the nodes that are lost at a step, from 1, do not answer it."""
        lost = lost or {}
        self.offer(lost.get(1, ()))
        self.share(lost.get(2, ()))
        self.mask(lost.get(3, ()))
        return self.reveal(lost.get(4, ()))

    def offer(self, lost: Collection[int] = ()) -> None:
        offered = {node: member.offer() for node, member in self.members.items()}
        self.coordinator.take_keys(without(offered, lost))

    def share(self, lost: Collection[int] = ()) -> None:
        keys = self.coordinator.keys
        sent = {n: self.again(n).share(keys, self.needed) for n in keys if n not in lost}
        self.faults |= self.coordinator.take_shares(sent)

    def mask(self, lost: Collection[int] = ()) -> None:
        for node in self.coordinator.members:
            if node not in lost:
                member = self.again(node)
                member.accept(self.coordinator.sealed_for(node))
                self.masked[node] = member.mask(self.values[node])
        named = {node: (NAME, each) for node, each in self.masked.items()}
        size = len(next(iter(self.values.values())))
        self.faults |= self.coordinator.take_masked(named, size)

    def reveal(self, lost: Collection[int] = ()) -> Integers:
        remaining = self.coordinator.remaining
        for node in remaining:
            if node not in lost:
                self.revealed[node] = self.again(node).reveal(remaining)
        self.opened, faults = self.coordinator.open(self.revealed)
        self.faults |= faults
        return self.opened

    def again(self, node: int) -> Member:
        """A member as another process would find it."""
        self.members[node] = Member.from_bytes(self.members[node].to_bytes())
        return self.members[node]


def without(found: Mapping[int, object], lost: Collection[int]) -> dict[int, object]:
    return {node: each for node, each in found.items() if node not in lost}
