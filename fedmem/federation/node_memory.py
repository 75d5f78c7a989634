"""The memories of a node's users from message to message: in Flower's context, and on the disk."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context

from fedmem.clients import UserClient
from fedmem.core.data.forgotten import read_forgotten
from fedmem.core.data.interactions import Split
from fedmem.core.memory import MemoryBank
from fedmem.core.memory.memory_store import NodeStore, memory_key
from fedmem.federation.kept_nodes import own_folder
from fedmem.messaging.arrays import held
from fedmem.messaging.messages import Task

MEMORY = "memory"
MEMORY_ABOUT = "memory-about"


def bring_memory(client: UserClient, split: Split, task: Task, context: Context) -> MemoryBank:
    """Bring the users' memories up to the split's held-out item; keep them in context and on disk.

    Another process may have served this node last, so what the context holds comes first; where the
    context is new, as after a restart, what the disk holds.
    """
    node = client.node
    assert task.threshold is not None
    bank = node.open_bank(task.threshold)
    store = NodeStore(own_folder(node.settings, context))
    key = memory_key(node.settings, task.frozen_hash, bank.rules)
    forgotten = node.histories.forgotten
    kept = context.state.config_records.get(MEMORY_ABOUT)
    if kept is not None and kept.get("forgotten", "") != forgotten:
        kept = None  # what it held is of histories that are no longer so
    if kept is None:
        node.restore(store.get(key, forgotten) or bank.empty())
    elif kept["rules"] == bank.rules and kept["stamp"] != bank.stamp:
        arrays = context.state.array_records[MEMORY]
        node.restore({name: array.numpy() for name, array in arrays.items()})
    if node.ingest(client.stage, split) or kept is None:
        packed = bank.pack()
        store.put(key, packed, forgotten)
        if read_forgotten(node.settings.data).digest != forgotten:
            # It was asked for meanwhile; the next message fills the memories anew.
            store.put(key, bank.empty(), forgotten)
        context.state[MEMORY] = held({name: value.copy() for name, value in packed.items()})
        context.state[MEMORY_ABOUT] = ConfigRecord(
            {"rules": bank.rules, "stamp": bank.stamp, "forgotten": forgotten}
        )
    return bank
