"""Private parts of Flower's simulation: what is changed of them has its effect, and is restored."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from queue import Queue

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend.backend import Backend
from flwr.serverapp import Grid
from flwr.simulation import run_simulation
from flwr.simulation.ray_transport import ray_actor
from ray import cloudpickle

from fedmem.core.machine.workers import CallError
from fedmem.federation.server_app import make_server_app
from fedmem.messaging.exchange import ARRIVED, SENT, exchange
from fedmem.messaging.simulation_internals import (
    RAY_BACKEND,
    SoonerAwake,
    answered_by,
    light_workers,
    quick_messages,
)


class Waits(threading.Event):
    """Keeps what it is asked to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


class NoMessages:
    """A SuperLink's state without messages; at the third look it is the last."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._looks = stop, 0

    def get_message_ins(self, node_id: int, limit: int) -> list[Message]:
        self._looks += 1
        if self._looks == 3:
            self._stop.set()
        return []


def test_a_simulation_looks_for_messages_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = vce_api.add_messages_to_queue
    assert found.__name__ in vce_api.run_api.__code__.co_names  # where the simulation finds it
    stop, ours = Waits(), Waits()
    found(NoMessages(stop), Queue(), {1: 0}, stop)  # type: ignore[arg-type]
    assert stop.asked == [0.1] * 3
    with monkeypatch.context() as patched, quick_messages():
        patched.setattr(SENT, "wait", ours.wait)
        vars(vce_api)[found.__name__](NoMessages(stop := Waits()), Queue(), {1: 0}, stop)
    assert stop.asked == []
    assert len(ours.asked) == 3
    assert max(ours.asked) < 0.1
    assert vce_api.add_messages_to_queue is found


@pytest.mark.parametrize("name", ["add_messages_to_queue", "put_message_into_state"])
def test_where_flower_does_so_in_another_way_it_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(vce_api, name)
    with quick_messages():
        assert not hasattr(vce_api, name)


def test_whoever_waits_for_messages_or_replies_wakes_when_they_come() -> None:
    woken = SoonerAwake(threading.Event())
    SENT.set()
    assert not woken.wait(60.0)
    assert not SENT.is_set()
    found = vce_api.put_message_into_state
    assert found.__name__ in vce_api.run_api.__code__.co_names
    interval, stop, stored = sys.getswitchinterval(), threading.Event(), []

    class Stores:
        def store_message_res(self, message: str) -> None:
            assert not ARRIVED.is_set()
            stored.append(message)
            stop.set()

    replies: Queue[str] = Queue()
    replies.put("a reply")
    ARRIVED.clear()
    with quick_messages():
        assert sys.getswitchinterval() < interval
        vars(vce_api)["put_message_into_state"](Stores(), replies, stop)
    assert stored == ["a reply"]
    assert ARRIVED.is_set()
    assert vce_api.put_message_into_state is found
    assert sys.getswitchinterval() == interval


class Answers:
    """In the place of workers."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 2

    def call(self, preferred: int, message: Message, context: Context) -> tuple[Message, Context]:
        self.asked.append(preferred)
        if "mistake" in message.content:
            raise CallError("Mend it so.")
        context.state["seen"] = ConfigRecord({"times": len(self.asked)})
        return Message(RecordDict(), reply_to=message), context


def test_messages_of_a_simulation_are_answered_by_workers_of_ours() -> None:
    workers, replies, states = Answers(), [], []

    def serve(grid: Grid) -> None:
        while len(nodes := list(grid.get_node_ids())) < 3:
            time.sleep(0.01)
        for content in ({}, {"mistake": ConfigRecord()}, {}):
            tasks = [
                Message(RecordDict({**content}), dst_node_id=node, message_type="query")
                for node in nodes
            ]
            replies.append(exchange(grid, tasks, 30.0, threading.Event()))
        states.extend(vars(sys.modules[RAY_BACKEND])["RayBackend"].__bases__)

    with answered_by(workers), quick_messages():  # type: ignore[arg-type]
        run_simulation(make_server_app(serve), ClientApp(), num_supernodes=3)
    assert RAY_BACKEND not in sys.modules
    assert states == [Backend]
    assert [len(answered) for answered, _ in replies] == [3, 0, 3]
    assert set(replies[1][1].values()) == {"failed: Mend it so."}
    assert sorted(workers.asked) == [0] * 6 + [1] * 3  # nodes 0 and 2, and node 1


def test_a_worker_begins_without_the_rest_of_flowers_simulation() -> None:
    exported = ray_actor.ClientAppActor.__ray_metadata__.modified_class  # type: ignore[attr-defined]
    program = """
import sys
from ray import cloudpickle
print(cloudpickle.loads(sys.stdin.buffer.read()).run.__name__, "flwr.simulation" in sys.modules)
"""
    with light_workers():
        data = cloudpickle.dumps(exported)
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    assert said.decode().split() == ["run", "False"]
    assert ray_actor.__name__ not in cloudpickle.list_registry_pickle_by_value()
