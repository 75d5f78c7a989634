"""The parameters that a task is about: sent in full, or made from those that a node holds."""

from __future__ import annotations

from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import Parameters
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.down import take_step
from fedmem.core.transport.payload import PayloadError
from fedmem.federation.parameter_store import ParameterStore
from fedmem.messaging.messages import Task, from_array_record, from_coded_record


def scope_of(task: Task, store: ParameterStore, codec: Codec) -> Parameters | None:
    """The scope's parameters; None where the node holds nothing that the task's steps go from.

    Args:
        task: of the server.
        store: what the node holds; it keeps what comes of the task.
        codec: of the run.

    Raises:
        FedmemError: a step, or a full copy, is damaged.
    """
    if not task.path:
        return from_array_record(task.scope)
    wanted = task.path[-1]
    if task.scope:
        parameters = from_array_record(task.scope)
        if store.put(parameters) != wanted:
            raise FedmemError("The server's parameters do not have the hash that it names.")
        return parameters
    for place, known in reversed(list(enumerate(task.path))):
        held = store.get(known)
        if held is not None:
            return _after(held, task, place, store, codec)
    return None


def _after(
    held: Parameters, task: Task, place: int, store: ParameterStore, codec: Codec
) -> Parameters | None:
    """What the steps from this place on lead to; None where it is not what the server has."""
    parameters = held
    for payload in from_coded_record(task.steps)[place:]:
        try:
            parameters = take_step(parameters, payload, codec)
        except PayloadError as error:
            raise FedmemError(f"The server's step {error}.") from error
    if parameters is held or store.put(parameters) == task.path[-1]:
        return parameters
    return None
