"""A node's part in a secure sum: what it keeps between the steps, and what it refuses.

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
from fedmem.core.secure_sum.member import Member
from fedmem.core.updates.update import Update
from fedmem.federation.node_config import MIN_MEMBERS
from fedmem.messaging.secure_messages import (
    KeysOfAll,
    KeysOffered,
    MaskRequest,
    SealedShares,
    masked_to_record,
    name_of,
    named,
    remaining_from_record,
    revealed_to_record,
)

SECRETS, BEGUN = "secure-sum", "secure-sums-begun"


def offer_keys(message: Message, context: Context) -> RecordDict:
    """Step 1: begin the sum that a message names; what was left of another is forgotten.

    Raises:
        FedmemError: the sum is not later than the last of its stage.
    """
    name = name_of(message)
    begun = cast(dict[str, int], dict(context.state.config_records.get(BEGUN) or {}))
    if begun.get(name.stage, 0) >= name.number:
        raise FedmemError(
            f"Node {context.node_id} refuses {name} of the secure sum: it has begun round "
            f"{begun[name.stage]}, and begins each once."
        )
    member = Member(context.node_id, name, int(context.node_config.get(MIN_MEMBERS, 2)))
    context.state[BEGUN] = ConfigRecord({**begun, name.stage: name.number})
    _keep(member, context)
    return KeysOffered(member.offer()).to_record(name)


def share_secrets(message: Message, context: Context) -> RecordDict:
    """Step 2: seal shares of the secrets for all nodes of the sum.

    Raises:
        FedmemError: as of `Member.share`.
    """
    member, found = _member(message, context), KeysOfAll.from_record(message.content)
    shares = member.share(found.keys, found.needed)
    _keep(member, context)
    return SealedShares(shares).added_to(named(member.name))


def reveal_shares(message: Message, context: Context) -> RecordDict:
    """Step 4: the shares by which the masks of the sum are taken off.

    Raises:
        FedmemError: as of `Member.reveal`.
    """
    member = _member(message, context)
    shares = member.reveal(remaining_from_record(message.content))
    _keep(member, context)
    return revealed_to_record(member.name, shares)


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
        self._member = _member(message, context)
        self._member.accept(request.shares.shares)
        self._request = request
        self._context = context

    def answer(self, update: Update, seed: int, user: int) -> RecordDict:
        """The update under masks.

        Args:
            update: of the node's users.
            seed: of the run. The rounding follows from it, so that a run can be repeated to the
                bit; masks do not, and cancel.
            user: of the node, by whom its rounding differs from that of others.

        Raises:
            FedmemError: the update is not finite.
        """
        name, request = self._member.name, self._request
        key = [seed, zlib.crc32(name.stage.encode()), name.number, user]
        parties, generator = len(self._member.held), np.random.default_rng(key)
        integers = encode_update(update, request.levels, request.bits, parties, generator)
        masked = self._member.mask(integers)
        _keep(self._member, self._context)
        return masked_to_record(name, masked)


def masking_of(message: Message, context: Context) -> Masking | None:
    """How a task is to be answered; None: as it is.

    Raises:
        FedmemError: this node answers under masks only, or refuses to answer this sum.
    """
    request = MaskRequest.beside(message.content)
    if request is not None:
        return Masking(message, context, request)
    if MIN_MEMBERS in context.node_config:
        raise FedmemError(
            f"Node {context.node_id} sends no change without masks ({MIN_MEMBERS} of its "
            "node-config): set privacy.secure_sum.enabled=true."
        )
    return None


def _member(message: Message, context: Context) -> Member:
    """The node's side of the sum that a message belongs to.

    Raises:
        FedmemError: it is in no such sum.
    """
    name, kept = name_of(message), context.state.config_records.get(SECRETS)
    member = Member.from_bytes(cast(bytes, kept["member"])) if kept else None
    if member is None or member.name != name:
        raise FedmemError(
            f"Node {context.node_id} refuses {name} of the secure sum: it offered no keys for it."
        )
    return member


def _keep(member: Member, context: Context) -> None:
    context.state[SECRETS] = ConfigRecord({"member": member.to_bytes()})
