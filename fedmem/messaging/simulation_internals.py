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

RAY_BACKEND = "flwr.server.superlink.fleet.vce.backend.raybackend"
SHORTEST_WAIT = 0.005
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
        self._event = event
        self._woke = time.perf_counter()

    def wait(self, timeout: float) -> bool:
        """Whether the event was set within `timeout` or less, see `SHORTEST_WAIT`."""
        looked = time.perf_counter() - self._woke
        found = self._event.wait(min(timeout, max(looked / LOOK_SHARE, SHORTEST_WAIT)))
        self._woke = time.perf_counter()
        return found


@contextlib.contextmanager
def often_looking() -> Iterator[None]:
    """Let a simulation that starts here look for new messages to its nodes more often.

    Flower has no setting for it. Where another version of Flower looks in another way, it looks as
    often as it does.
    """
    from flwr.server.superlink.fleet.vce import vce_api

    name = "add_messages_to_queue"
    found = vars(vce_api).get(name)
    if found is None:
        yield
        return

    def often(*given: Any) -> None:
        found(*(SoonerAwake(x) if isinstance(x, threading.Event) else x for x in given))

    vars(vce_api)[name] = often
    try:
        yield
    finally:
        vars(vce_api)[name] = found


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
