"""Private parts of Flower's simulation: how it finds workers and messages, in this one file.

They are changed for as long as a simulation of ours starts and runs, and restored. What costs time
to import is imported where it is called.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from flwr.common.constant import PARTITION_ID_KEY, ErrorCode

from fedmem.core.machine.workers import CallError, Workers
from fedmem.messaging.exchange import ARRIVED, SENT

RAY_BACKEND = "flwr.server.superlink.fleet.vce.backend.raybackend"
SHORTEST_WAIT = 0.005
SHORTEST_TURN = 0.001
"""Seconds after which a thread of Python's that computes lets others have their turn, in place of
0.005."""
LOOK_SHARE = 0.02
"""Seconds that a simulation waits between two looks for messages: as long as makes looking this
share of its time, and at least so many. Flower's own are 0.1."""


class SoonerAwake:
    """An event as a loop waits for it that looks for messages in between: it waits less long.

    Args:
        event: that ends the loop.
    """

    def __init__(self, event: threading.Event) -> None:
        self.is_set = event.is_set
        self._woke = time.perf_counter()

    def wait(self, timeout: float) -> bool:
        """Whether the event was set; after `timeout`, see `SHORTEST_WAIT`, or what was sent."""
        looked = time.perf_counter() - self._woke
        SENT.wait(min(timeout, max(looked / LOOK_SHARE, SHORTEST_WAIT)))
        SENT.clear()
        self._woke = time.perf_counter()
        return self.is_set()


class SayingWhatArrives:
    """A state of Flower's that replies are stored in: whoever waits for one looks at once.

    Args:
        state: of the simulation.
    """

    def __init__(self, state: Any) -> None:
        self._state = state

    def store_message_res(self, message: Any) -> Any:
        """What the state answers."""
        stored = self._state.store_message_res(message)
        ARRIVED.set()
        return stored


@contextlib.contextmanager
def quick_messages() -> Iterator[None]:
    """Let a simulation that starts here find messages to its nodes, and replies, when they come.

    Flower looks for the ones every so often, and has no setting for it; for the others we do.
    Where another version of Flower does so in another way, both look as often as they do.
    """
    from flwr.server.superlink.fleet.vce import vce_api

    def sooner(found: Callable[..., None]) -> Callable[..., None]:
        def look(*given: Any) -> None:
            found(*(SoonerAwake(x) if isinstance(x, threading.Event) else x for x in given))

        return look

    def saying(found: Callable[..., None]) -> Callable[..., None]:
        def store(state: Any, *given: Any) -> None:
            found(SayingWhatArrives(state), *given)

        return store

    changes = {"add_messages_to_queue": sooner, "put_message_into_state": saying}
    found = {name: vars(vce_api)[name] for name in changes if name in vars(vce_api)}
    vars(vce_api).update({name: changes[name](each) for name, each in found.items()})
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SHORTEST_TURN)  # a message passes through four threads
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        vars(vce_api).update(found)


@contextlib.contextmanager
def light_workers() -> Iterator[None]:
    """Send a Ray cluster the code of a simulation's worker, in place of the name of its module.

    To find it by the name, workers would import all of Flower's simulation, its database and its
    server over HTTP, and begin a second or more later.
    """
    from flwr.simulation.ray_transport import ray_actor
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(ray_actor)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(ray_actor)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def answered_by(workers: Workers) -> Iterator[None]:
    """Let workers of ours answer the messages of a simulation that starts here, in place of Ray's.

    Flower has Ray and nothing else, by the name of a module that it imports when it starts. Where
    another version finds it in another way, it starts a Ray.

    Args:
        workers: of a function that takes a message and its node's context, and returns the reply
            and the context as it is then. Each node goes to the same worker where that is idle.
    """
    from flwr.app import Context, Error, Message
    from flwr.server.superlink.fleet.vce.backend.backend import Backend

    class Answering(Backend):
        """What Flower asks of a backend."""

        num_workers = len(workers)

        def build(self, app_fn: Callable[[], Any]) -> None:
            """Nothing: the workers have the app."""

        def is_worker_idle(self) -> bool:
            """Flower asks from as many threads as there are workers."""
            return True

        def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
            """The reply, or the error that came instead."""
            node = int(context.node_config[PARTITION_ID_KEY])
            try:
                reply, context = workers.call(node % self.num_workers, message, context)
            except CallError as error:
                reason = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error))
                return Message(reason, reply_to=message), context
            return reply, context

        def terminate(self) -> None:
            """Nothing: whoever made the workers ends them."""

    found = sys.modules.get(RAY_BACKEND)
    sys.modules[RAY_BACKEND] = ModuleType(RAY_BACKEND)
    vars(sys.modules[RAY_BACKEND])["RayBackend"] = Answering
    try:
        yield
    finally:
        del sys.modules[RAY_BACKEND]
        if found is not None:
            sys.modules[RAY_BACKEND] = found
