"""The parameters that a task is about: sent in full, or made from those that a node holds."""

from __future__ import annotations

from collections.abc import Callable

from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage
from fedmem.core.transport.codec import Codec, shapes_of, values_of
from fedmem.core.transport.down import joined, parted, starts_by_itself
from fedmem.core.transport.payload import PayloadError
from fedmem.federation.parameter_store import ParameterStore
from fedmem.messaging.messages import Task, from_array_record, from_coded_record
from fedmem.strategies.server_optimizer import ServerOptimizer


def scope_of(
    task: Task, store: ParameterStore, settings: Settings, draw: Callable[[], Parameters]
) -> Parameters | None:
    """The scope's parameters; None where the node holds nothing that the task's steps go from.

    Args:
        task: of the server.
        store: what the node holds; it keeps what comes of the task.
        settings: of the run.
        draw: makes what the stage starts from where nothing is inherited: the seed says it all.

    Raises:
        FedmemError: a step, or a full copy, is damaged.
    """
    if not task.path:
        return from_array_record(task.scope)
    if task.scope:
        sent = from_array_record(task.scope)
        if store.put(sent) != task.path[-1]:
            raise FedmemError("The server's parameters do not have the hash that it names.")
        return parted(sent)[0]
    for place, known in reversed(list(enumerate(task.path))):
        find = store.take if place < len(task.path) - 1 else store.get
        held = find(known)
        if held is None and place == 0 and starts_by_itself(settings, find_stage(task.stage)):
            # Another machine's may differ.
            held = find(known) if store.put(draw()) == known else None
        if held is not None:
            reached = _after(held, task, place, settings)
            if reached is not held and store.put(reached) != task.path[-1]:
                return None  # another processor may round otherwise
            return parted(reached)[0]
    return None


def _after(held: Parameters, task: Task, place: int, settings: Settings) -> Parameters:
    """What the task's steps from this place on lead to, as the server's optimizer takes them. Where
    there are any, they are made in place.
    """
    payloads = from_coded_record(task.steps)[place:]
    if not payloads:
        return held
    parameters, state = parted(held)
    codec = Codec(settings.transport)
    optimizer = ServerOptimizer(settings.strategy, state, in_place=True)
    for payload, pace in zip(payloads, task.paces[place:], strict=True):
        try:
            change = values_of(codec.from_bytes(payload, shapes_of(parameters)))
        except PayloadError as error:
            raise FedmemError(f"The server's step {error}.") from error
        parameters = optimizer.step(parameters, change, pace)
    return joined(parameters, optimizer.state)
