"""Nodes that are lost, before they answer a certain message."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import Message


def losing(lost: Mapping[tuple[str, int], int]) -> Callable[[Message], bool]:
    """Whether a node is lost: before it answers this kind of message for the n-th time, and on."""
    seen: dict[tuple[str, int], int] = {}
    gone: set[int] = set()

    def is_lost(message: Message) -> bool:
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        seen[kind, node] = seen.get((kind, node), 0) + 1
        if seen[kind, node] == lost.get((kind, node)):
            gone.add(node)
        return node in gone

    return is_lost
