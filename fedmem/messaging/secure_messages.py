"""The messages of a secure sum: typed payloads, and their form as Flower records.

Three queries and the training itself carry the four steps of `fedmem.core.secure_sum`. Each names
the sum that it belongs to by stage and round; Flower's number of the run comes with every message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedmem.core.secure_sum.keys import Integers, PublicKeys, SumName
from fedmem.core.secure_sum.shares import Sealed, Share

OFFER_KEYS = "query.offer_keys"
SHARE_SECRETS = "query.share_secrets"
REVEAL_SHARES = "query.reveal_shares"
ABOUT, NODES, MASKED = "sum", "nodes", "masked"


def named(name: SumName, **more: Any) -> RecordDict:
    """A record that says which sum it belongs to."""
    return RecordDict({ABOUT: ConfigRecord({"stage": name.stage, "round": name.number, **more})})


def name_of(message: Message) -> SumName:
    """The sum that a message belongs to.

    Raises:
        KeyError: it belongs to none.
    """
    about: dict[str, Any] = dict(message.content.config_records[ABOUT])
    return SumName(message.metadata.run_id, about["stage"], about["round"])


@dataclass(frozen=True)
class KeysOffered:
    """Node to server: its public keys."""

    keys: PublicKeys

    def to_record(self, name: SumName) -> RecordDict:
        """As Flower sends it."""
        return named(name, **vars(self.keys))

    @classmethod
    def from_record(cls, record: RecordDict) -> KeysOffered:
        """As the server reads it."""
        about: dict[str, Any] = dict(record.config_records[ABOUT])
        return cls(PublicKeys(about["sealing"], about["masking"]))


@dataclass(frozen=True)
class KeysOfAll:
    """Server to node: the public keys of all nodes of the sum, and how many have to remain."""

    keys: Mapping[int, PublicKeys]
    needed: int

    def to_record(self, name: SumName) -> RecordDict:
        """As Flower sends it."""
        record = named(name, needed=self.needed)
        record[NODES] = ConfigRecord(
            {
                "node": list(self.keys),
                "sealing": [each.sealing for each in self.keys.values()],
                "masking": [each.masking for each in self.keys.values()],
            }
        )
        return record

    @classmethod
    def from_record(cls, record: RecordDict) -> KeysOfAll:
        """As a node reads it."""
        columns = _columns(record)
        rows = zip(columns["node"], columns["sealing"], columns["masking"], strict=True)
        keys = {node: PublicKeys(sealing, masking) for node, sealing, masking in rows}
        return cls(keys, cast(int, record.config_records[ABOUT]["needed"]))


@dataclass(frozen=True)
class SealedShares:
    """Node to server: what it sealed for each node. Server to node: what each sealed for it."""

    shares: Mapping[int, Sealed]

    def added_to(self, record: RecordDict) -> RecordDict:
        """A message with the shares beside what else it says."""
        columns: dict[str, Any] = {
            "node": list(self.shares),
            "box": [each.box for each in self.shares.values()],
            "pairs": [each.digests.pairs for each in self.shares.values()],
            "own": [each.digests.own for each in self.shares.values()],
        }
        return RecordDict({**record, NODES: ConfigRecord(columns)})

    @classmethod
    def from_record(cls, record: RecordDict) -> SealedShares:
        """As it is read in a message."""
        columns = _columns(record)
        rows = zip(*(columns[name] for name in ("node", "box", "pairs", "own")), strict=True)
        return cls({node: Sealed(box, Share(pairs, own)) for node, box, pairs, own in rows})


@dataclass(frozen=True)
class MaskRequest:
    """Server to node, beside the task of a round: answer it under masks.

    Attributes:
        shares: that the others sealed for the node.
        bits: of the modulus.
        levels: integers per unit of (change · targets).
    """

    shares: SealedShares
    bits: int
    levels: float

    def added_to(self, task: RecordDict, name: SumName) -> RecordDict:
        """The task as Flower sends it, to be answered under masks."""
        asked = named(name, bits=self.bits, levels=self.levels)
        return self.shares.added_to(RecordDict({**task, **asked}))

    @classmethod
    def beside(cls, task: RecordDict) -> MaskRequest | None:
        """What stands beside a task; None: it is to be answered as it is."""
        if ABOUT not in task:
            return None
        about: dict[str, Any] = dict(task.config_records[ABOUT])
        return cls(SealedShares.from_record(task), about["bits"], about["levels"])


def masked_to_record(name: SumName, integers: Integers) -> RecordDict:
    """A node's masked integers as Flower sends them."""
    record = named(name)
    record[MASKED] = ArrayRecord({MASKED: Array(integers)})
    return record


def masked_from_record(record: RecordDict) -> Integers:
    """The inverse of `masked_to_record`."""
    return cast(Integers, record.array_records[MASKED][MASKED].numpy())


def remaining_to_record(name: SumName, nodes: Sequence[int]) -> RecordDict:
    """The nodes whose masked integers arrived, as Flower sends them."""
    record = named(name)
    record[NODES] = ConfigRecord({"node": list(nodes)})
    return record


def remaining_from_record(record: RecordDict) -> list[int]:
    """The inverse of `remaining_to_record`."""
    return cast(list[int], _columns(record)["node"])


def revealed_to_record(name: SumName, shares: Mapping[int, bytes]) -> RecordDict:
    """The shares that a node reveals, by their owners, as Flower sends them."""
    record = named(name)
    record[NODES] = ConfigRecord({"node": list(shares), "share": list(shares.values())})
    return record


def revealed_from_record(record: RecordDict) -> dict[int, bytes]:
    """The inverse of `revealed_to_record`."""
    columns = _columns(record)
    return dict(zip(columns["node"], columns["share"], strict=True))


def _columns(record: RecordDict) -> dict[str, list[Any]]:
    """What is said of nodes, by name, one entry each."""
    return {name: list(cast(Any, each)) for name, each in record.config_records[NODES].items()}
