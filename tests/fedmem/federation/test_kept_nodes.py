"""What a process keeps of the nodes that it serves."""

from __future__ import annotations

from fedmem.core.data.forgotten import Forgotten, read_forgotten
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.federation.kept_nodes import NODES_KEPT, cached_node


def node(settings: Settings, partition: int, forgotten: Forgotten) -> Node:
    config = (("num-partitions", NODES_KEPT), ("partition-id", partition))
    return cached_node(settings.to_json(), config, forgotten)


def test_nodes_of_a_process_stay_and_share_what_their_items_are(settings: Settings) -> None:
    forgotten = read_forgotten(settings.data)
    nodes = [node(settings, partition, forgotten) for partition in range(NODES_KEPT)]
    assert len({id(each.corpus) for each in nodes}) == 1
    assert nodes[0].content is nodes[1].content
    assert sorted(user for each in nodes for user in each.users) == list(
        range(nodes[0].interactions.num_users)
    )
    assert node(settings, 0, forgotten) is nodes[0]
