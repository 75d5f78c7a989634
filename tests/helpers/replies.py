"""Replies of nodes, made without a node."""

from __future__ import annotations

from flwr.app import Message, RecordDict

from tests.helpers.in_process_grid import InProcessGrid


def reply(node: int, content: RecordDict) -> Message:
    InProcessGrid(1)  # without a grid there are no messages
    task = Message(content=RecordDict(), dst_node_id=node, message_type="train")
    task.metadata.__dict__["_message_id"] = f"task of {node}"
    return Message(content, reply_to=task)
