"""A node's part in secure sums: what it keeps between the steps, and what it refuses.

Its secrets live in the context's state, since another process may serve the next step of the same
node. A simulation and a SuperNode keep that in memory; nothing here writes it to a file.
"""

from __future__ import annotations

import zlib
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.coded_update import encode_update
from fedmem.core.secure_sum.keys import SumName
from fedmem.core.secure_sum.member import Member
from fedmem.core.updates.update import Update
from fedmem.federation.node_config import MIN_MEMBERS
from fedmem.federation.node_promise import NodePromise
from fedmem.messaging.secure_messages import (
    KeysOfAll,
    MaskRequest,
    add_masked,
    add_offer,
    add_revealed,
    add_shares,
    name_of,
    named,
    read_remaining,
)

SECRETS, SENT = "secure-sums", "secure-sums-sent"
"""In the context: the node's sides of this round's sum and the next, and each stage's last round of
which it sent masked numbers."""


def offer_keys(message: Message, context: Context) -> RecordDict:
    """Step 1: begin the sum that a message names; what was kept of others is forgotten.

    Raises:
        FedmemError: masked numbers of this round, or of a later one, were sent already.
    """
    name, sent = name_of(message), _sent(context)
    if sent.get(name.stage, 0) >= name.number:
        raise _refusal(name, context, f"it has sent masked numbers of round {sent[name.stage]}")
    member = _begun(name, context)
    _keep(context, member)
    return add_offer(named(name), member.offer())


def share_secrets(message: Message, context: Context) -> RecordDict:
    """Step 2: seal shares of the secrets for all nodes of the sum.

    Raises:
        FedmemError: as of `Member.share`.
    """
    member, record = _member(name_of(message), context), named(name_of(message))
    _add_shares(record, member, message)
    _keep(context, member)
    return record


def reveal_shares(message: Message, context: Context) -> RecordDict:
    """Step 4, and step 2 of the next sum: the shares by which the masks of this are taken off.

    Raises:
        FedmemError: as of `Member.reveal` and `Member.share`.
    """
    name = name_of(message)
    member, later = _member(name, context), _member(name.next, context)
    record = named(name)
    _add_shares(record, later, message)
    add_revealed(record, member.reveal(read_remaining(message.content)))
    _keep(context, member, later)
    return record


class Masking:
    """Step 3, around the training: what is wrong is refused before it.

    Args:
        message: the task of a round, to be answered under masks.
        context: of the node.
        request: what stands beside the task.

    Raises:
        FedmemError: as of `Member.accept`.
    """

    def __init__(self, message: Message, context: Context, request: MaskRequest) -> None:
        self._member = _member(name_of(message), context)
        self._member.accept(request.shares)
        self._request = request
        self._context = context

    def answer(
        self, update: Update, seed: int, user: int, promise: NodePromise | None = None
    ) -> RecordDict:
        """The update under masks, and step 1 of the next sum.

        Args:
            update: of the node's users.
            seed: of the run. The rounding follows from it, so that a run can be repeated to the
                bit; masks do not, and cancel.
            user: of the node, by whom its rounding differs from that of others.
            promise: of the node to its users, where it adds noise.

        Raises:
            FedmemError: the update is not finite, or sending it would break the promise.
        """
        name, request, context = self._member.name, self._request, self._context
        key = [seed, zlib.crc32(name.stage.encode()), name.number, user]
        parties, generator = len(self._member.held), np.random.default_rng(key)
        noise = None
        if promise is not None:
            size = sum(value.numel() for value in update.change.values())
            noise = promise.noise(request.levels, size, self._member.needed)
        integers = encode_update(update, request.levels, request.bits, parties, generator, noise)
        later = _begun(name.next, context)
        record = add_masked(named(name), self._member.mask(integers))
        context.state[SENT] = ConfigRecord({**_sent(context), name.stage: name.number})
        _keep(context, self._member, later)
        return add_offer(record, later.offer())


def masking_of(
    message: Message, context: Context, promise: NodePromise | None = None
) -> Masking | None:
    """How a task is to be answered; None: as it is.

    Args:
        message: the task.
        context: of the node.
        promise: of the node to its users; one that adds noise is worth something in a sum only.

    Raises:
        FedmemError: this node answers under masks only, or refuses to answer this sum.
    """
    request = MaskRequest.beside(message.content)
    if request is not None:
        return Masking(message, context, request)
    if MIN_MEMBERS in context.node_config or promise is not None:
        why = f"{MIN_MEMBERS} of its node-config" if promise is None else "privacy=distributed"
        raise FedmemError(
            f"Node {context.node_id} sends no change without masks ({why}): "
            "set privacy.secure_sum.enabled=true."
        )
    return None


def _add_shares(record: RecordDict, member: Member, message: Message) -> None:
    """Add the shares of a member's secrets, where the message brings the keys to seal them."""
    found = KeysOfAll.in_record(message.content)
    if found is not None:
        add_shares(record, member.share(found.keys, found.needed))


def _begun(name: SumName, context: Context) -> Member:
    return Member(context.node_id, name, int(context.node_config.get(MIN_MEMBERS, 2)))


def _member(name: SumName, context: Context) -> Member:
    """The node's side of a sum.

    Raises:
        FedmemError: it is in no such sum.
    """
    kept = context.state.config_records.get(SECRETS)
    for data in cast(list[bytes], kept["members"] if kept else []):
        member = Member.from_bytes(data)
        if member.name == name:
            return member
    raise _refusal(name, context, "it offered no keys for it")


def _keep(context: Context, *members: Member) -> None:
    """Keep these, and no others."""
    context.state[SECRETS] = ConfigRecord({"members": [each.to_bytes() for each in members]})


def _sent(context: Context) -> dict[str, int]:
    return cast(dict[str, int], dict(context.state.config_records.get(SENT) or {}))


def _refusal(name: SumName, context: Context, reason: str) -> FedmemError:
    return FedmemError(f"Node {context.node_id} refuses {name} of the secure sum: {reason}.")
