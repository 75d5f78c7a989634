"""What a round collects where the server may see no node's update: their sum, or nothing.

The four steps of `fedmem.core.secure_sum`, as messages of the round. The third is the training; the
first two are done beside the last two of the round before, where the same nodes take part.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, MessageType, RecordDict

from fedmem.core.errors import FedmemError
from fedmem.core.privacy.discrete import NoiseShare, honest_of
from fedmem.core.secure_sum.coded_update import decode_update, length
from fedmem.core.secure_sum.codes import most_members
from fedmem.core.secure_sum.coordinator import Coordinator, GivenUp
from fedmem.core.secure_sum.keys import Integers, SumName
from fedmem.core.secure_sum.scale import CommonScale
from fedmem.core.settings import SecureSumSettings, Settings
from fedmem.core.stages import Stage
from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.filters import FilterStates, filter_replies, states_of
from fedmem.core.updates.update import Update
from fedmem.messaging.exchange import nothing
from fedmem.messaging.roster import Roster
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    SHARE_SECRETS,
    SHARES,
    KeysOfAll,
    MaskRequest,
    add_remaining,
    has,
    name_of,
    named,
    read_masked,
    read_offer,
    read_revealed,
    read_shares,
)
from fedmem.strategies.collection import Ask, Collected, Meanwhile, Round
from fedmem.strategies.reply_checks import ReplyChecks

STATE = "secure-sum"
"""Under which what is public of the rounds before is kept, beside the states of filters."""
SUM = 0
"""Stands for the number of the node, where an update is the sum of many."""
Read = TypeVar("Read")


class SecureCollection:
    """The sum of the nodes' updates in the place of each of them.

    Args:
        settings: of the run.
        stage: whose scope is asked for.
        roster: the nodes.
        checks: of what an update may claim.
        filters: of the server; what they can see is the mean of all.
        states: what was carried from the rounds before.
        size: numbers that a node sends, but for counts.
        noise: noise multiplier that the nodes keep to together; None: they add no noise.

    Raises:
        FedmemError: there are too many nodes for the modulus, or it is too coarse for their noise.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        roster: Roster,
        checks: ReplyChecks,
        filters: Sequence[UpdateFilter],
        states: FilterStates,
        size: int,
        noise: float | None = None,
    ) -> None:
        self._settings = settings.privacy.secure_sum
        self._stage = stage
        self._roster = roster
        self._checks = checks
        self._filters = filters
        # Of private updates, which have a length of 1 at most, nothing is learnt for the scale.
        self._private = settings.privacy.on
        known = states.get(STATE) or [[checks.most_targets]]
        self._scale = CommonScale(1.0) if self._private else CommonScale(*known[0])
        self._ahead: Coordinator | None = None
        nodes, bits = len(roster.homes), self._settings.modulus_bits
        if nodes > most_members(bits):
            raise FedmemError(
                f"A secure sum modulo 2^{bits} is over at most {most_members(bits)} nodes, and "
                f"there are {nodes}: set privacy.secure_sum.modulus_bits=32, or enabled=false."
            )
        self._size, self._noise = size, noise
        if nodes:
            most = max(map(len, roster.homes.values()))
            self._levels(self._settings.needed(nodes), nodes, most)  # or refuse

    def collect(self, asked: Round) -> Collected:
        """Ask the nodes in four steps, and open the sum.

        Raises:
            FedmemError: the round was given up, since too few nodes remained.
        """
        nodes = sorted(asked.users)
        if not nodes:
            return Collected()
        name = SumName(_number_of_run(), self._stage.name, asked.number)
        needed = self._settings.needed(len(nodes))
        ahead, self._ahead = self._ahead, None
        ready = ahead and (ahead.name, ahead.needed, ahead.members) == (name, needed, nodes)
        begun = ahead if ahead and ready else Coordinator(name, needed, self._settings.modulus_bits)
        steps = _Steps(asked.ask, self._settings, begun)
        try:
            if not ready:
                steps.offer_keys(nodes)
                steps.share_secrets()
            update, cut = self._masked(asked, steps)
        except GivenUp as error:
            said = [*self._roster.news(), *steps.refused]
            raise FedmemError("; ".join([str(error).rstrip("."), *said])) from None
        self._ahead = steps.ahead
        return self._collected(asked, steps, update, cut)

    @property
    def state(self) -> FilterStates:
        """What is carried to the next round: what the sums have shown."""
        known = [self._scale.targets, self._scale.change]
        return {**states_of(self._filters), STATE: [known]}

    def _masked(self, asked: Round, steps: _Steps) -> tuple[Update, int]:
        """Steps 3 and 4: (the mean update, how many numbers were cut)."""
        members, bits = steps.coordinator.members, self._settings.modulus_bits
        most = max(asked.users[node] for node in members)
        levels = self._levels(steps.coordinator.needed, len(members), most)
        shapes = {name: tuple(value.shape) for name, value in asked.parameters.items()}
        tasks = []
        for task in asked.tasks(members):
            node = task.metadata.dst_node_id
            request = MaskRequest(steps.coordinator.sealed_for(node), bits, levels)
            content = request.added_to(task.content, steps.coordinator.name)
            tasks.append(Message(content, dst_node_id=node, message_type=MessageType.TRAIN))
        steps.take_masked(tasks, length(shapes, bits), asked.meanwhile)
        return decode_update(steps.reveal_shares(), levels, shapes)

    def _levels(self, needed: int, members: int, users: int) -> float:
        """Integers per unit, of so many nodes of at most so many users."""
        bits, limit = self._settings.modulus_bits, self._settings.range
        if self._noise is not None:
            honest = honest_of(needed)
            return NoiseShare.finest(self._noise, self._size, honest, bits, members, users).scale
        if limit == "auto" and self._private:
            limit = 1.0
        return self._scale.levels(bits, members, users, limit)

    def _collected(self, asked: Round, steps: _Steps, update: Update, cut: int) -> Collected:
        remaining, refused = steps.coordinator.remaining, steps.refused
        fault = self._checks.fault_of_counts(update, sum(asked.users[node] for node in remaining))
        if fault:
            refused.append(f"the sum of the nodes {fault}")
        elif update.weight and not self._private:
            largest = max(float(change.abs().max()) for change in update.change.values())
            trained = max(update.users, 1)
            self._scale = CommonScale(update.weight / trained, largest or self._scale.change)
        if cut and not self._private:
            refused.append(f"{cut} numbers were cut to privacy.secure_sum.range")
        kept, implausible = filter_replies(self._filters, [] if fault else [Reply(SUM, update)])
        refused += [f"the sum of the nodes: {refusal.reason}" for refusal in implausible]
        return Collected(
            kept,
            refused,
            nodes=len(remaining) if kept else 0,
            messages=len(remaining),
            down=dict(steps.down),
            up=dict(steps.up),
        )


@dataclass
class _Steps:
    """The messages of one sum, and what came of them.

    Attributes:
        ask: how messages are sent.
        settings: of secure sums.
        coordinator: of the sum.
        ahead: of the next one, whose first two steps are done beside the last two of this; None:
            they could not be.
        refused: what was left out of this sum, and why.
        down: bytes of all messages to the nodes, by kind.
        up: of all replies.
    """

    ask: Ask
    settings: SecureSumSettings
    coordinator: Coordinator
    ahead: Coordinator | None = None
    refused: list[str] = field(default_factory=list)
    down: Counter[str] = field(default_factory=Counter)
    up: Counter[str] = field(default_factory=Counter)

    def offer_keys(self, nodes: Iterable[int]) -> None:
        replies = self._query(OFFER_KEYS, nodes, named(self.coordinator.name))
        offered = self._read(replies, lambda reply: read_offer(reply.content))
        self._refuse(self.coordinator.take_keys(offered))

    def share_secrets(self) -> None:
        keys = KeysOfAll(self.coordinator.keys, self.coordinator.needed)
        content = keys.added_to(named(self.coordinator.name))
        replies = self._query(SHARE_SECRETS, keys.keys, content)
        sent = self._read(replies, lambda reply: read_shares(reply.content))
        self._refuse(self.coordinator.take_shares(sent))

    def take_masked(self, tasks: list[Message], size: int, meanwhile: Meanwhile) -> None:
        replies = self._send(tasks, meanwhile)
        sent = self._read(replies, lambda reply: (name_of(reply), read_masked(reply.content)))
        self._refuse(self.coordinator.take_masked(sent, size))
        remaining = self.coordinator.remaining
        kept = [reply for reply in replies if reply.metadata.src_node_id in remaining]
        offered = self._read(kept, lambda reply: read_offer(reply.content))
        needed = self.settings.needed(len(remaining))
        self.ahead = Coordinator(self.coordinator.name.next, needed, self.coordinator.bits)
        with self._ahead_or_not():
            self._refuse(self.ahead.take_keys(offered))

    def reveal_shares(self) -> Integers:
        remaining = self.coordinator.remaining
        content = add_remaining(named(self.coordinator.name), remaining)
        if self.ahead is not None:
            KeysOfAll(self.ahead.keys, self.ahead.needed).added_to(content)
        replies = self._query(REVEAL_SHARES, remaining, content)
        revealed = self._read(replies, lambda reply: read_revealed(reply.content))
        total, faults = self.coordinator.open(revealed)
        self._refuse(faults)
        if self.ahead is not None:
            sealing = [reply for reply in replies if has(reply.content, SHARES)]
            with self._ahead_or_not():
                sent = self._read(sealing, lambda reply: read_shares(reply.content))
                self._refuse(self.ahead.take_shares(sent))
        return total

    @contextlib.contextmanager
    def _ahead_or_not(self) -> Iterator[None]:
        """What of the next sum cannot be done ahead is done when its round comes."""
        try:
            yield
        except GivenUp:
            self.ahead = None

    def _query(self, kind: str, nodes: Iterable[int], content: RecordDict) -> list[Message]:
        return self._send([Message(content, dst_node_id=node, message_type=kind) for node in nodes])

    def _send(self, messages: list[Message], meanwhile: Meanwhile = nothing) -> list[Message]:
        replies, down, up = self.ask(messages, meanwhile)
        self.down.update(down)
        self.up.update(up)
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
