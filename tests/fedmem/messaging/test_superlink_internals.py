"""Small messages go whole between a ServerApp's grid and nodes that answer so; others in parts."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
)
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink import extensions
from flwr.superlink.grid.http_grid import HttpGrid

from fedmem.messaging import packing
from fedmem.messaging.exchange import exchange
from fedmem.messaging.flower_internals import work_alone
from fedmem.messaging.held_calls import HOLD, LONGEST_HOLD
from fedmem.messaging.packing import pack, pack_messages_of, unpack
from fedmem.messaging.superlink_internals import (
    PULLS,
    WHOLE,
    _Arrivals,
    _wanted,
    goes_whole,
    is_whole,
    replaced,
    short_way_of,
    stripped,
    superlink_that_holds_calls,
    tree_of_whole,
)
from tests.helpers.in_process_grid import InProcessGrid

SAID = RecordDict({"about": ConfigRecord({"hello": "there"})})


class Hub:
    """A SuperLink by its calls, whose nodes answer at once, whole or in parts.

    Attributes:
        whole: whether they answer whole.
        calls: the paths, without what they have in common; `holds` has the header of each look.
        sent: messages as they came to the nodes.
    """

    def __init__(self) -> None:
        self.whole = True
        self.calls: list[str] = []
        self.holds: list[str | None] = []
        self.sent: list[Message] = []
        self._objects: dict[str, bytes] = {}

    def grid(self) -> HttpGrid:
        """A grid that calls it."""
        work_alone()
        client = RuntimeHttpClient("http://hub")
        vars(client)["_client"] = httpx.Client(transport=httpx.MockTransport(self._answer))
        grid = HttpGrid(token="token")
        vars(grid).update(_client=client, _run=Run.create_empty(run_id=1))
        return grid

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v1/runtime/")
        self.calls.append(path)
        answer = getattr(self, path.replace("-", "_"))(request)
        return httpx.Response(200, content=answer.SerializeToString())

    def push_messages(self, request: httpx.Request) -> PushAppMessagesResponse:
        asked = PushAppMessagesRequest.FromString(request.content)
        self.sent += map(message_from_proto, asked.messages_list)
        return PushAppMessagesResponse(
            message_ids=[message.metadata.message_id for message in asked.messages_list],
            objects_to_push={
                part.object_id
                for tree in asked.message_object_trees
                for part in iterate_object_tree(tree)
            },
            session_id="session",
        )

    def push_object(self, request: httpx.Request) -> PushObjectResponse:
        asked = PushObjectRequest.FromString(request.content)
        self._objects[asked.object_id] = asked.object_content
        return PushObjectResponse(stored=True)

    def pull_messages(self, request: httpx.Request) -> PullAppMessagesResponse:
        self.holds.append(request.headers.get(HOLD))
        asked = PullAppMessagesRequest.FromString(request.content)
        answer = PullAppMessagesResponse()
        for message in self.sent:
            if message.metadata.message_id in asked.message_ids:
                reply = Message(pack(SAID), reply_to=message)
                vars(reply.metadata)["_src_node_id"] = message.metadata.dst_node_id
                vars(reply.metadata)["_message_id"] = reply.object_id
                if self.whole:
                    head, tree = stripped(reply), tree_of_whole(reply)
                else:
                    objects = get_all_nested_objects(reply)
                    self._objects |= {name: each.deflate() for name, each in objects.items()}
                    tree, head = get_object_tree(reply), reply
                    head.content = RecordDict()
                answer.messages_list.append(message_to_proto(head))
                answer.message_object_trees.append(tree)
        return answer

    def pull_object(self, request: httpx.Request) -> PullObjectResponse:
        content = self._objects[PullObjectRequest.FromString(request.content).object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def confirm_message_received(self, _: httpx.Request) -> ConfirmMessageReceivedResponse:
        return ConfirmMessageReceivedResponse()


def task(node: int = 7) -> Message:
    return Message(RecordDict(dict(SAID)), dst_node_id=node, message_type="train")


def ask(grid: Any, *messages: Message) -> None:
    replies, failed = exchange(grid, messages, 5.0, threading.Event())
    assert failed == {}
    for reply in replies:
        assert reply.content.config_records["about"] == SAID.config_records["about"]
    asked = sorted(message.metadata.message_id for message in messages)
    assert sorted(reply.metadata.reply_to_message_id for reply in replies) == asked


def test_who_answers_whole_is_sent_whole() -> None:
    hub = Hub()
    grid = hub.grid()
    pack_messages_of(grid)
    ask(grid, task(7), task(8))
    in_parts = ["push-messages", *["push-object"] * 4, "pull-messages"]
    assert hub.calls == in_parts  # nobody had answered yet; of the same content
    hub.calls.clear()
    ask(grid, task(7), task(8))
    assert hub.calls == ["push-messages", "pull-messages"]
    assert unpack(hub.sent[-1].content).config_records["about"] == SAID.config_records["about"]
    hub.calls.clear()
    ask(grid, task(7), task(9))
    assert hub.calls == ["push-messages", "push-messages", *["push-object"] * 3, "pull-messages"]


def test_who_does_not_is_sent_parts_from_then_on() -> None:
    hub = Hub()
    grid = hub.grid()
    pack_messages_of(grid)
    ask(grid, task())
    hub.whole = False
    for first in ("push-messages", "push-messages"):  # whole for the last time, then in parts
        hub.calls.clear()
        ask(grid, task())
        assert hub.calls[0] == first
        assert hub.calls[-5:] == ["pull-messages", *["pull-object"] * 3, "confirm-message-received"]
    assert hub.calls.count("push-object") == 3
    assert not is_whole(hub.sent[-1])


def test_no_more_goes_whole_at_a_time_than_is_read_at_each_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    grid = hub.grid()
    pack_messages_of(grid)
    ask(grid, task(7), task(8), task(9))
    monkeypatch.setattr(packing, "WHOLE_BYTES", 40)  # two messages
    hub.sent.clear()
    ask(grid, task(7), task(8), task(9))
    assert [is_whole(message) for message in hub.sent] == [True, True, False]


def test_looks_are_held_while_an_exchange_waits() -> None:
    hub = Hub()
    grid = hub.grid()
    pack_messages_of(grid)
    ask(grid, task())
    list(grid.pull_messages(["gone"]))
    during, outside = hub.holds
    assert during is not None
    assert 0 < float(during) <= LONGEST_HOLD
    assert outside is None
    hub.whole = False
    message = task()
    _, failed = exchange(grid, [message], -1.0, threading.Event())
    assert hub.holds[2] is None  # there is no time left to hold it
    assert failed == {}


def test_large_messages_and_errors_are_no_whole_ones() -> None:
    work_alone()
    message = task()
    message.metadata.group_id = WHOLE
    assert goes_whole(message)
    assert stripped(message) is message
    error = Message(Error(code=1, reason="broke"), reply_to=message)
    assert error.metadata.group_id == WHOLE  # a reply has the group of what it replies to
    assert not goes_whole(error)
    message.content["change"] = ArrayRecord({"w": Array(np.zeros(3))})
    assert not goes_whole(message)
    assert not is_whole(stripped(message))
    message = task()
    assert not goes_whole(message)  # nobody has asked for it


def test_other_grids_have_no_short_way() -> None:
    assert short_way_of(InProcessGrid(1)) is None


def test_what_is_replaced_is_put_back() -> None:
    before = extensions.get_middleware
    with superlink_that_holds_calls():
        assert len(extensions.get_middleware()) == len(before()) + 1
    assert extensions.get_middleware is before
    with pytest.raises(ValueError, match="broke"), replaced(time, sleep=None):
        raise ValueError("broke")
    assert callable(time.sleep)
    with pytest.raises(KeyError), replaced(time, no_such_name=None):
        pass
    assert not hasattr(time, "no_such_name")


def test_calls_are_known_by_whom_they_are_for() -> None:
    fleet, runtime = PULLS
    node = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()
    assert _wanted(fleet, node) == {"7"}
    looks = PullAppMessagesRequest(message_ids=["a", "b"]).SerializeToString()
    assert _wanted(runtime, looks) == {"a", "b"}
    assert _wanted("/v1/fleet/push-object", node) is None
    assert _wanted(fleet, b"\xff\xff") is None


def test_a_message_has_come_when_all_of_it_is_there() -> None:
    work_alone()
    whole, in_parts = task(7), task(8)
    for each in (whole, in_parts):
        each.metadata.group_id = WHOLE
        vars(each.metadata)["_message_id"] = each.object_id
    names = [whole.metadata.message_id, in_parts.metadata.message_id]
    head = message_to_proto(remove_content_from_message(in_parts))
    trees = [tree_of_whole(whole), get_object_tree(in_parts)]
    arrivals = _Arrivals()

    def bring(request: Any) -> dict[str, int]:
        return dict(arrivals({"type": "http", "state": {"protobuf_request": request}}))

    heads = [message_to_proto(whole), head]
    pushed = PushAppMessagesRequest(messages_list=heads, message_object_trees=trees)
    assert bring(pushed) == {"7": 1, names[0]: 0, names[1]: 0}
    *parts, last = (part.object_id for part in iterate_object_tree(trees[1]))
    assert [bring(PushObjectRequest(object_id=part)) for part in parts] == [{}, {}]
    assert bring(PushObjectRequest(object_id=last)) == {"8": 1}
    reply = Message(RecordDict(dict(SAID)), reply_to=whole)
    vars(reply.metadata)["_message_id"] = reply.object_id
    heads = [message_to_proto(reply)]
    replied = PushMessagesRequest(messages_list=heads, message_object_trees=[tree_of_whole(reply)])
    assert bring(replied) == {names[0]: 1}
    assert arrivals({"type": "http"}) == {}
