"""The messages of a secure sum: typed payloads, and their form as Flower records.

Three queries and the training itself carry the four steps of `fedmem.core.secure_sum`. Each names
the sum that it belongs to by stage and round; Flower's number of the run comes with every message.

So that a round is two exchanges and not four, the last two steps of one carry the first two of the
next: a node offers new keys beside its masked integers, and seals new shares beside those that it
reveals. The queries for them are for a stage's first round, and for those before which nodes
joined or were lost.

| step | to the node | from the node |
|---|---|---|
| offer keys | | offer |
| share secrets | keys | shares |
| train | task, mask, shares | masked, offer of the next |
| reveal shares | remaining, keys of the next | revealed, shares of the next |
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
NAME, OFFER, KEYS, SHARES, MASK = "sum", "offer", "keys", "shares", "mask"
MASKED, REMAINING, REVEALED = "masked", "remaining", "revealed"


def named(name: SumName) -> RecordDict:
    """A message that says which sum it belongs to, and to which its payload is added."""
    return RecordDict({NAME: ConfigRecord({"stage": name.stage, "round": name.number})})


def name_of(message: Message) -> SumName:
    """The sum that a message belongs to.

    Raises:
        KeyError: it belongs to none.
    """
    about: dict[str, Any] = dict(message.content.config_records[NAME])
    return SumName(message.metadata.run_id, about["stage"], about["round"])


def add_offer(record: RecordDict, keys: PublicKeys) -> RecordDict:
    """The message with a node's public keys."""
    record[OFFER] = ConfigRecord(vars(keys))
    return record


def read_offer(record: RecordDict) -> PublicKeys:
    """The public keys in a message."""
    return PublicKeys(**cast(Any, dict(record.config_records[OFFER])))


@dataclass(frozen=True)
class KeysOfAll:
    """Server to node: the public keys of all nodes of the sum, and how many have to remain."""

    keys: Mapping[int, PublicKeys]
    needed: int

    def added_to(self, record: RecordDict) -> RecordDict:
        """The message with them."""
        columns: dict[str, Any] = {
            "node": list(self.keys),
            "sealing": [each.sealing for each in self.keys.values()],
            "masking": [each.masking for each in self.keys.values()],
        }
        record[KEYS] = ConfigRecord({**columns, "needed": self.needed})
        return record

    @classmethod
    def in_record(cls, record: RecordDict) -> KeysOfAll | None:
        """Those in a message; None: it has none."""
        if KEYS not in record:
            return None
        about: dict[str, Any] = dict(record.config_records[KEYS])
        rows = zip(about["node"], about["sealing"], about["masking"], strict=True)
        keys = {node: PublicKeys(sealing, masking) for node, sealing, masking in rows}
        return cls(keys, about["needed"])


def add_shares(record: RecordDict, shares: Mapping[int, Sealed]) -> RecordDict:
    """The message with sealed shares: at the node by their holders, for a node by their owners."""
    columns: dict[str, Any] = {
        "node": list(shares),
        "box": [each.box for each in shares.values()],
        "pairs": [each.digests.pairs for each in shares.values()],
        "own": [each.digests.own for each in shares.values()],
    }
    record[SHARES] = ConfigRecord(columns)
    return record


def read_shares(record: RecordDict) -> dict[int, Sealed]:
    """The sealed shares in a message."""
    about: dict[str, Any] = dict(record.config_records[SHARES])
    rows = zip(about["node"], about["box"], about["pairs"], about["own"], strict=True)
    return {node: Sealed(box, Share(pairs, own)) for node, box, pairs, own in rows}


@dataclass(frozen=True)
class MaskRequest:
    """Server to node, beside the task of a round: answer it under masks.

    Attributes:
        shares: that were sealed for the node, by their owners.
        bits: of the modulus.
        levels: integers per unit of (change · targets).
    """

    shares: Mapping[int, Sealed]
    bits: int
    levels: float

    def added_to(self, task: RecordDict, name: SumName) -> RecordDict:
        """The task, to be answered under masks."""
        record = add_shares(RecordDict({**task, **named(name)}), self.shares)
        record[MASK] = ConfigRecord({"bits": self.bits, "levels": self.levels})
        return record

    @classmethod
    def beside(cls, task: RecordDict) -> MaskRequest | None:
        """What stands beside a task; None: it is to be answered as it is."""
        if MASK not in task:
            return None
        about: dict[str, Any] = dict(task.config_records[MASK])
        return cls(read_shares(task), **about)


def add_masked(record: RecordDict, integers: Integers) -> RecordDict:
    """The message with a node's masked integers."""
    record[MASKED] = ArrayRecord({MASKED: Array(integers)})
    return record


def read_masked(record: RecordDict) -> Integers:
    """The masked integers in a message."""
    return cast(Integers, record.array_records[MASKED][MASKED].numpy())


def add_remaining(record: RecordDict, nodes: Sequence[int]) -> RecordDict:
    """The message with the nodes whose masked integers arrived."""
    record[REMAINING] = ConfigRecord({"node": list(nodes)})
    return record


def read_remaining(record: RecordDict) -> list[int]:
    """The nodes in a message whose masked integers arrived."""
    return cast(list[int], record.config_records[REMAINING]["node"])


def add_revealed(record: RecordDict, shares: Mapping[int, bytes]) -> RecordDict:
    """The message with the shares that a node reveals, by their owners."""
    record[REVEALED] = ConfigRecord({"node": list(shares), "share": list(shares.values())})
    return record


def read_revealed(record: RecordDict) -> dict[int, bytes]:
    """The shares in a message that a node reveals."""
    about: dict[str, Any] = dict(record.config_records[REVEALED])
    return dict(zip(about["node"], about["share"], strict=True))
