"""What a round collects where the server may see no node's update: their sum, or nothing.

The four steps of `fedmem.core.secure_sum`, as messages of the round. The third is the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum import FEWEST
from fedmem.core.secure_sum.coded_update import decode_update, length
from fedmem.core.secure_sum.codes import most_members
from fedmem.core.secure_sum.coordinator import Coordinator, GivenUp
from fedmem.core.secure_sum.keys import Integers, SumName
from fedmem.core.secure_sum.scale import CommonScale
from fedmem.core.settings import SecureSumSettings, Settings
from fedmem.core.stages import Stage
from fedmem.core.updates.filter import Refusal, Reply
from fedmem.core.updates.filters import FilterStates
from fedmem.core.updates.update import Update
from fedmem.messaging.exchange import nothing
from fedmem.messaging.roster import Roster
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    SHARE_SECRETS,
    KeysOfAll,
    KeysOffered,
    MaskRequest,
    SealedShares,
    masked_from_record,
    name_of,
    named,
    remaining_to_record,
    revealed_from_record,
)
from fedmem.strategies.collection import Ask, Collected, Meanwhile, Round, payload
from fedmem.strategies.reply_checks import ReplyChecks

STATE = "secure-sum"
"""Under which what is public of the rounds before is kept, beside the states of filters."""
SUM = 0
"""Stands for the number of the node, where an update is the sum of many."""
Read = TypeVar("Read")


def needed_of(settings: SecureSumSettings, nodes: int) -> int:
    """Of so many nodes that a round asks, those that must remain; always more than a half."""
    return max(settings.min_members, math.ceil(settings.threshold * nodes), nodes // 2 + 1)


class SecureCollection:
    """The sum of the nodes' updates in the place of each of them.

    Args:
        settings: of the run.
        stage: whose scope is asked for.
        roster: the nodes.
        ask: how messages are sent.
        checks: of what an update may claim.
        filters: of the server; what they can see is the mean of all.
        states: what was carried from the rounds before.

    Raises:
        FedmemError: there are too few nodes, or too many for the modulus.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        roster: Roster,
        ask: Ask,
        checks: ReplyChecks,
        filters: Sequence[UpdateFilter],
        states: FilterStates,
    ) -> None:
        self._settings = settings.privacy.secure_sum
        self._stage = stage
        self._roster = roster
        self._ask = ask
        self._checks = checks
        self._filters = filters
        known = states.get(STATE) or [[checks.most_targets]]
        self._scale = CommonScale(*known[0])
        nodes, bits = len(roster.homes), self._settings.modulus_bits
        fewest, most = max(FEWEST, self._settings.min_members), most_members(bits)
        if not fewest <= nodes <= most:
            raise FedmemError(
                f"A secure sum modulo 2^{bits} is over {fewest} to {most} nodes, and there are "
                f"{nodes}: see privacy.secure_sum, or set privacy.secure_sum.enabled=false."
            )

    def collect(self, asked: Round) -> Collected:
        """Ask the nodes in four steps, and open the sum.

        Raises:
            FedmemError: the round was given up, since too few nodes remained.
        """
        nodes = sorted(asked.users)
        name = SumName(_number_of_run(), self._stage.name, asked.number)
        needed = needed_of(self._settings, len(nodes))
        steps = _Steps(self._ask, Coordinator(name, needed, self._settings.modulus_bits))
        try:
            steps.offer_keys(nodes)
            steps.share_secrets()
            update, cut = self._masked(asked, steps)
        except GivenUp as error:
            said = [*self._roster.news(), *steps.refused]
            raise FedmemError("; ".join([str(error).rstrip("."), *said])) from None
        return self._collected(asked, steps, update, cut)

    @property
    def state(self) -> FilterStates:
        """What is carried to the next round: what the sums have shown."""
        return {STATE: [[self._scale.targets, self._scale.change]]}

    def _masked(self, asked: Round, steps: _Steps) -> tuple[Update, int]:
        """Steps 3 and 4: (the mean update, how many numbers were cut)."""
        members, bits = steps.coordinator.members, self._settings.modulus_bits
        most = max(asked.users[node] for node in members)
        levels = self._scale.levels(bits, len(members), most, self._settings.range)
        shapes = {name: tuple(array.shape) for name, array in asked.scope.items()}
        tasks = []
        for task in asked.tasks(members):
            node = task.metadata.dst_node_id
            shares = SealedShares(steps.coordinator.sealed_for(node))
            content = MaskRequest(shares, bits, levels).added_to(
                task.content, steps.coordinator.name
            )
            tasks.append(Message(content, dst_node_id=node, message_type="train"))
        steps.take_masked(tasks, length(shapes, bits), asked.meanwhile)
        return decode_update(steps.reveal_shares(), levels, shapes)

    def _collected(self, asked: Round, steps: _Steps, update: Update, cut: int) -> Collected:
        remaining, refused = steps.coordinator.remaining, steps.refused
        fault = self._checks.fault_of_counts(update, sum(asked.users[node] for node in remaining))
        if fault:
            refused.append(f"the sum of the nodes {fault}")
        elif update.weight:
            largest = max(float(change.abs().max()) for change in update.change.values())
            trained = max(update.users, 1)
            self._scale = CommonScale(update.weight / trained, largest or self._scale.change)
        if cut:
            refused.append(f"{cut} numbers were cut to privacy.secure_sum.range")
        return Collected(
            [] if fault else [Reply(SUM, update)],
            refused,
            nodes=0 if fault else len(remaining),
            messages=len(remaining),
            bytes_down=steps.bytes_down,
            bytes_frozen=steps.bytes_frozen,
            bytes_up=steps.bytes_up,
        )


@dataclass
class _Steps:
    """The messages of one sum, and what came of them."""

    ask: Ask
    coordinator: Coordinator
    refused: list[str] = field(default_factory=list)
    bytes_down: int = 0
    bytes_frozen: int = 0
    bytes_up: int = 0

    def offer_keys(self, nodes: Iterable[int]) -> None:
        content = named(self.coordinator.name)
        replies = self._query(OFFER_KEYS, dict.fromkeys(nodes, content))
        offered = self._read(replies, lambda reply: KeysOffered.from_record(reply.content).keys)
        self._refuse(self.coordinator.take_keys(offered))

    def share_secrets(self) -> None:
        keys = self.coordinator.keys
        content = KeysOfAll(keys, self.coordinator.needed).to_record(self.coordinator.name)
        replies = self._query(SHARE_SECRETS, dict.fromkeys(keys, content))
        sent = self._read(replies, lambda reply: SealedShares.from_record(reply.content).shares)
        self._refuse(self.coordinator.take_shares(sent))

    def take_masked(self, tasks: list[Message], size: int, meanwhile: Meanwhile) -> None:
        replies = self._send(tasks, meanwhile)
        sent = self._read(
            replies, lambda reply: (name_of(reply), masked_from_record(reply.content))
        )
        self._refuse(self.coordinator.take_masked(sent, size))

    def reveal_shares(self) -> Integers:
        remaining = self.coordinator.remaining
        content = remaining_to_record(self.coordinator.name, remaining)
        replies = self._query(REVEAL_SHARES, dict.fromkeys(remaining, content))
        revealed = self._read(replies, lambda reply: revealed_from_record(reply.content))
        total, faults = self.coordinator.open(revealed)
        self._refuse(faults)
        return total

    def _query(self, kind: str, contents: Mapping[int, RecordDict]) -> list[Message]:
        return self._send(
            [
                Message(content, dst_node_id=node, message_type=kind)
                for node, content in contents.items()
            ]
        )

    def _send(self, messages: list[Message], meanwhile: Meanwhile = nothing) -> list[Message]:
        replies, sent, frozen = self.ask(messages, meanwhile)
        self.bytes_down += sent
        self.bytes_frozen += frozen
        self.bytes_up += payload(replies)
        return replies

    def _read(self, replies: Iterable[Message], read: Callable[[Message], Read]) -> dict[int, Read]:
        """What each node answered; a reply that is of another form is refused."""
        found: dict[int, Read] = {}
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                found[node] = read(reply)
            except (KeyError, TypeError, ValueError) as error:
                reason = f"is no step of a secure sum: {type(error).__name__} {error}"
                self.refused.append(str(Refusal(node, reason)))
        return found

    def _refuse(self, faults: Mapping[int, str]) -> None:
        self.refused += [str(Refusal(node, reason)) for node, reason in faults.items()]


def _number_of_run() -> int:
    """As Flower puts it into every message of this run."""
    return int(Message(RecordDict(), dst_node_id=0, message_type="query").metadata.run_id)
