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
ABOUT, MASKED = "sum", "masked"
"""A message's records: all that is said in words and bytes is in one, since a SuperLink takes a
call for each."""
OFFER, KEYS, SHARES, MASK, REMAINING, REVEALED = (
    "offer", "keys", "shares", "mask", "remaining", "revealed"
)  # fmt: skip


def named(name: SumName) -> RecordDict:
    """A message that says which sum it belongs to, and to which its payload is added."""
    return RecordDict({ABOUT: ConfigRecord({"stage": name.stage, "round": name.number})})


def name_of(message: Message) -> SumName:
    """The sum that a message belongs to.

    Raises:
        KeyError: it belongs to none.
    """
    about: dict[str, Any] = dict(message.content.config_records[ABOUT])
    return SumName(message.metadata.run_id, about["stage"], about["round"])


def has(record: RecordDict, part: str) -> bool:
    """Whether a message has this part."""
    return any(name.startswith(f"{part} ") for name in record.config_records.get(ABOUT) or ())


def _add(record: RecordDict, part: str, **content: Any) -> RecordDict:
    record.config_records[ABOUT].update({f"{part} {name}": x for name, x in content.items()})
    return record


def _read(record: RecordDict, part: str) -> dict[str, Any]:
    """The content of a part, by name; empty where the message has none."""
    about = record.config_records[ABOUT].items()
    return {k.removeprefix(f"{part} "): x for k, x in about if k.startswith(f"{part} ")}


def add_offer(record: RecordDict, keys: PublicKeys) -> RecordDict:
    """The message with a node's public keys."""
    return _add(record, OFFER, **vars(keys))


def read_offer(record: RecordDict) -> PublicKeys:
    """The public keys in a message."""
    return PublicKeys(**_read(record, OFFER))


@dataclass(frozen=True)
class KeysOfAll:
    """Server to node: the public keys of all nodes of the sum, and how many have to remain."""

    keys: Mapping[int, PublicKeys]
    needed: int

    def added_to(self, record: RecordDict) -> RecordDict:
        """The message with them."""
        return _add(
            record,
            KEYS,
            node=list(self.keys),
            sealing=[each.sealing for each in self.keys.values()],
            masking=[each.masking for each in self.keys.values()],
            needed=self.needed,
        )

    @classmethod
    def in_record(cls, record: RecordDict) -> KeysOfAll | None:
        """Those in a message; None: it has none."""
        if not has(record, KEYS):
            return None
        found = _read(record, KEYS)
        rows = zip(found["node"], found["sealing"], found["masking"], strict=True)
        keys = {node: PublicKeys(sealing, masking) for node, sealing, masking in rows}
        return cls(keys, found["needed"])


def add_shares(record: RecordDict, shares: Mapping[int, Sealed]) -> RecordDict:
    """The message with sealed shares: at the node by their holders, for a node by their owners."""
    return _add(
        record,
        SHARES,
        node=list(shares),
        box=[each.box for each in shares.values()],
        pairs=[each.digests.pairs for each in shares.values()],
        own=[each.digests.own for each in shares.values()],
    )


def read_shares(record: RecordDict) -> dict[int, Sealed]:
    """The sealed shares in a message."""
    found = _read(record, SHARES)
    rows = zip(found["node"], found["box"], found["pairs"], found["own"], strict=True)
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
        return _add(record, MASK, bits=self.bits, levels=self.levels)

    @classmethod
    def beside(cls, task: RecordDict) -> MaskRequest | None:
        """What stands beside a task; None: it is to be answered as it is."""
        return cls(read_shares(task), **_read(task, MASK)) if has(task, MASK) else None


def add_masked(record: RecordDict, integers: Integers) -> RecordDict:
    """The message with a node's masked integers."""
    record[MASKED] = ArrayRecord({MASKED: Array(integers)})
    return record


def read_masked(record: RecordDict) -> Integers:
    """The masked integers in a message."""
    return cast(Integers, record.array_records[MASKED][MASKED].numpy())


def add_remaining(record: RecordDict, nodes: Sequence[int]) -> RecordDict:
    """The message with the nodes whose masked integers arrived."""
    return _add(record, REMAINING, node=list(nodes))


def read_remaining(record: RecordDict) -> list[int]:
    """The nodes in a message whose masked integers arrived."""
    return list(_read(record, REMAINING)["node"])


def add_revealed(record: RecordDict, shares: Mapping[int, bytes]) -> RecordDict:
    """The message with the shares that a node reveals, by their owners."""
    return _add(record, REVEALED, node=list(shares), share=list(shares.values()))


def read_revealed(record: RecordDict) -> dict[int, bytes]:
    """The shares in a message that a node reveals."""
    found = _read(record, REVEALED)
    return dict(zip(found["node"], found["share"], strict=True))
