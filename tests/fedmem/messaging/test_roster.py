"""Who takes part in a federation: nodes that join, go, come back, fail, or do not fit in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.messaging.exchange import Interrupted, exchange
from fedmem.messaging.messages import Description
from fedmem.messaging.roster import Roster
from tests.helpers.in_process_grid import InProcessGrid

MakeSettings = Callable[..., Settings]


class Network(InProcessGrid):
    """Nodes 100, 101, …, of which some are connected, and some keep silent."""

    def __init__(self, nodes: int, connected: Iterable[int]) -> None:
        super().__init__(nodes)
        self.connected = set(connected)
        self.silent: set[int] = set()

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.connected)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = list(super().push_messages(messages))
        for message, reply in self.log[-len(ids) :]:
            if message.metadata.dst_node_id in self.silent:
                del self._replies[reply.metadata.reply_to_message_id]
        return ids


def roster_of(settings: Settings, grid: Network, simulated: bool = False) -> Roster:
    return Roster(settings, grid, content=False, simulated=simulated, stop=threading.Event())


def looked_twice(roster: Roster) -> list[int]:
    """Who is asked to describe itself at one look has joined at the next."""
    roster.look()
    return roster.look()


def test_nodes_join_go_and_come_back(make_settings: MakeSettings) -> None:
    grid = Network(3, [100, 101])
    roster = roster_of(make_settings("federation.nodes=2"), grid)
    roster.meet()
    assert list(roster.homes) == [100, 101]
    assert roster.news() == []
    grid.connected.add(102)
    assert looked_twice(roster) == [100, 101, 102]
    assert roster.news() == ["node 102: joined with 8 users"]
    assert len(roster.users) == 24
    grid.connected.remove(100)
    assert roster.look() == [101, 102]
    assert roster.news() == ["node 100: is gone"]
    assert len(roster.users) == 24  # who is sampled depends on no node
    grid.connected.add(100)
    assert roster.look() == [100, 101, 102]
    assert roster.news() == ["node 100: is back"]


def test_users_move_from_a_node_that_is_gone_and_from_no_other(
    make_settings: MakeSettings,
) -> None:
    grid = Network(2, [100])
    roster = roster_of(make_settings("federation.nodes=1"), grid)
    roster.meet()
    here = set(roster.homes[100])
    for node in (200, 300):
        grid.contexts[node] = grid.contexts[100]
    grid.connected = {100, 200}
    assert looked_twice(roster) == [100]
    (line,) = roster.news()
    assert line.startswith(f"node 200: hosts user {min(here)}, as node 100 does: give nodes")
    grid.connected = {300}
    assert looked_twice(roster) == [300]
    assert set(roster.homes[300]) == here
    assert len(roster.homes[100]) == 0


def test_a_node_with_another_catalogue_is_refused(make_settings: MakeSettings) -> None:
    grid = Network(2, [100, 101])

    def another(reply: Message) -> Message:
        if reply.metadata.src_node_id == 101:
            record = Description.from_record(reply.content)
            reply.content = Description(record.users, 9, "another", (0, 0)).to_record()
        return reply

    grid.tamper = another
    roster = roster_of(make_settings("federation.nodes=2"), grid)
    with pytest.raises(FedmemError, match="node 101: does not share the catalogue"):
        roster.meet()


def test_a_node_with_other_features_is_refused(make_settings: MakeSettings) -> None:
    grid = Network(2, [100, 101])

    def another(reply: Message) -> Message:
        if reply.metadata.src_node_id == 101:
            record = Description.from_record(reply.content)
            reply.content = replace(record, content="of other files").to_record()
        return reply

    grid.tamper = another
    roster = Roster(make_settings("federation.nodes=2"), grid, True, False, threading.Event())
    with pytest.raises(FedmemError, match="node 101: has other item features than the first"):
        roster.meet()
    assert roster.content != ""


def test_a_node_that_fails_is_news_and_ends_a_simulation(settings: Settings) -> None:
    def failing(_: Message) -> Message:
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no\nmemory"), reply_to=sent)

    grid = Network(2, [100, 101])
    for simulated in (False, True):
        roster = roster_of(settings, grid, simulated)
        roster.meet()
        (sent, _), _ = grid.log[-2:]
        grid.tamper = failing
        if simulated:
            with pytest.raises(FedmemError, match="node 100: failed: no memory"):
                roster.ask([sent], 1.0)
        else:
            assert roster.ask([sent], 1.0) == []
            assert roster.news() == ["node 100: failed: no memory"]
        grid.tamper = lambda reply: reply


def test_who_is_silent_is_waited_for_no_longer_than_was_said(settings: Settings) -> None:
    grid = Network(2, [100, 101])
    roster = roster_of(settings, grid)
    roster.meet()
    sent = [message for message, _ in grid.log[-2:]]
    grid.silent = {101}
    replies = roster.ask(sent, 0.2)
    assert [reply.metadata.src_node_id for reply in replies] == [100]
    assert roster.news() == ["node 101: did not answer in 0.2 s"]
    assert all(0.2 < message.metadata.ttl < 60 for message in sent)


def test_a_reply_that_never_arrives_in_full_keeps_back_no_other(settings: Settings) -> None:
    def missing(object_id: str) -> bytes:
        raise ObjectUnavailableError(object_id)

    class HalfWay(Network):
        """At one look it waits, as Flower does, for what is missing of the reply of node 101."""

        broken = False

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            if not self.broken:
                return super().pull_messages(message_ids)
            self.broken = False
            with pytest.raises(ObjectPullError) as error:
                http_grid.pull_objects(["missing"], missing)
            (half,) = (m for m, _ in self.log[-2:] if m.metadata.dst_node_id == 101)
            return [Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, str(error.value)), reply_to=half)]

    grid = HalfWay(2, [100, 101])
    roster = roster_of(settings, grid)
    roster.meet()
    sent = [message for message, _ in grid.log[-2:]]
    grid.broken = True
    replies = roster.ask(sent, 0.2)
    assert [reply.metadata.src_node_id for reply in replies] == [100]
    assert roster.news() == ["node 101: its reply did not arrive in full"]


def test_a_run_that_is_to_stop_waits_for_nobody(settings: Settings) -> None:
    grid, stop = Network(2, [100]), threading.Event()
    stop.set()
    with pytest.raises(Interrupted):  # of two nodes one is there
        Roster(settings, grid, content=False, simulated=False, stop=stop).meet()
    grid.silent = {100}
    sent = [message for message, _ in grid.log[-1:]]
    with pytest.raises(Interrupted):
        exchange(grid, sent, 600.0, stop)
