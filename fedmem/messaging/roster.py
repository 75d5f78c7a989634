"""The nodes of a federation: who is connected, who lives there, and who cannot take part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedmem.core.arrays import UserIndices
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.messaging.exchange import Interrupted, exchange, failure, nothing
from fedmem.messaging.flower_internals import parts_of_replies_until
from fedmem.messaging.messages import DESCRIBE, NOVELTY, Description

QUERY_SECONDS = 600.0


class Roster:
    """Knows the nodes by what they say of themselves.

    A node is known by the id that the SuperLink gives to its key, so one that was away is met
    again as itself. One that is new is asked to describe itself, and takes part once it has.

    A real node may fail, which is news. A simulated one has no reason of its own to: it ends the
    run, which can go on as if nothing had been.

    Args:
        settings: of the run.
        grid: the nodes.
        content: whether the run needs the items' content.
        simulated: whether the nodes are.
        stop: set from outside to end the run.

    Attributes:
        homes: the users that live at each node, by node id; all that were ever met.
        num_items: items without the padding.
        catalogue: fingerprint of the items.
        widths: of visual and text vectors; 0 where the run needs none.
        content: hash of these vectors; empty where the run needs none.
    """

    def __init__(
        self,
        settings: Settings,
        grid: Grid,
        content: bool,
        simulated: bool,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._grid = grid
        self._content = content
        self._simulated = simulated
        self._stop = stop
        self.homes: dict[int, UserIndices] = {}
        self.num_items = 0
        self.catalogue = ""
        self.widths = (0, 0)
        self.content = ""
        self._asked: dict[str, int] = {}
        self._refused: dict[int, str] = {}
        self._absent: set[int] = set()
        self._news: list[str] = []

    @property
    def users(self) -> UserIndices:
        """All users that are known, ascending, whether their node is here or not."""
        return np.sort(np.concatenate(list(self.homes.values())))

    def meet(self) -> None:
        """Wait for the nodes that the run starts with.

        Nodes register over time: to start with those that are there already would train on a part
        of the users.

        Raises:
            FedmemError: as many are there, and some of them cannot take part.
            Interrupted: `stop` was set.
        """
        settings, end = self._settings, time.monotonic() + QUERY_SECONDS
        fewest = max(settings.strategy.min_nodes, settings.privacy.fewest_nodes)
        wanted = fewest if settings.federation.nodes == "auto" else settings.federation.nodes
        while len(self.look()) < wanted:
            met = len(self.homes) + len(self._refused)
            if self._refused and met >= wanted and not self._asked:
                first, *others = (f"node {node}: {why}" for node, why in self._refused.items())
                more = f" (and {len(others)} more)" if others else ""
                raise FedmemError(first + more)
            if self._asked and time.monotonic() > end:
                silent = ", ".join(map(str, self._asked.values()))
                raise FedmemError(f"No answer in {QUERY_SECONDS:.0f} s from node {silent}.")
            if self._stop.wait(0.1):
                raise Interrupted
        self._news.clear()

    def look(self) -> list[int]:
        """The known nodes that are connected now, ascending.

        Those that are new are asked to describe themselves, and join at a later look.
        """
        connected = set(self._grid.get_node_ids())
        fresh = connected - set(self.homes) - set(self._refused) - set(self._asked.values())
        if fresh:
            messages = self._query(sorted(fresh), DESCRIBE)
            taken = set(self._grid.push_messages(messages))
            nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
            self._asked |= {key: node for key, node in nodes.items() if key in taken}
        if self._asked:
            with parts_of_replies_until(time.monotonic() + QUERY_SECONDS):
                replies = self._grid.pull_messages(set(self._asked))
            for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id):
                self._take(self._asked.pop(reply.metadata.reply_to_message_id), reply, connected)
        present = set(self.homes) & connected
        self._compare(set(self.homes) - present)
        return sorted(present)

    def ask(
        self,
        messages: Sequence[Message],
        timeout: float,
        meanwhile: Callable[[], None] = nothing,
    ) -> list[Message]:
        """Send messages to nodes, and wait for their replies at most so many seconds.

        Raises:
            FedmemError: a simulated node failed.
            Interrupted: `stop` was set.
        """
        replies, failed = exchange(self._grid, messages, timeout, self._stop, meanwhile)
        lines = [f"node {node}: {reason}" for node, reason in sorted(failed.items())]
        if lines and self._simulated:
            raise FedmemError("; ".join(lines))
        self._news += lines
        return replies

    def news(self) -> list[str]:
        """A line for each node that joined, went, came back or was refused since the last time."""
        news, self._news = self._news, []
        return news

    def novelty_histogram(self) -> np.ndarray:
        """The novelty histogram of all users, summed over the nodes.

        Raises:
            FedmemError: no node answered.
        """
        replies = self.query(self.look(), NOVELTY)
        if not replies:
            raise FedmemError("No node sent its novelty: " + "; ".join(self.news()))
        records = [reply.array_records["histogram"] for reply in replies.values()]
        total: np.ndarray = np.sum([record["counts"].numpy() for record in records], axis=0)
        return total

    def query(self, nodes: Iterable[int], query: str) -> dict[int, RecordDict]:
        """The nodes' answers to a query, by node, ascending; without those who gave none."""
        replies = self.ask(self._query(nodes, query), QUERY_SECONDS)
        return dict(sorted((r.metadata.src_node_id, r.content) for r in replies))

    def _query(self, nodes: Iterable[int], query: str) -> list[Message]:
        about = ConfigRecord({"settings": self._settings.to_json(), "content": self._content})
        return [
            Message(content=RecordDict({"about": about}), dst_node_id=node, message_type=query)
            for node in nodes
        ]

    def _take(self, node: int, reply: Message, connected: set[int]) -> None:
        """Enter a node by its description, or refuse it."""
        if reply.has_error():
            return self._refuse(node, failure(reply))
        described = Description.from_record(reply.content)
        if not self.homes:
            self.num_items, self.catalogue = described.num_items, described.catalogue
            self.widths, self.content = described.widths, described.content
        if (described.catalogue, described.widths) != (self.catalogue, self.widths):
            return self._refuse(node, "does not share the catalogue of items and their content")
        if described.content != self.content:
            return self._refuse(
                node, "has other item features than the first node: give all the same files"
            )
        for other, users in list(self.homes.items()):
            shared = np.intersect1d(users, described.users)
            if len(shared) and other in connected:
                return self._refuse(
                    node,
                    f"hosts user {shared[0]}, as node {other} does: give nodes that have data of "
                    "their own a first-index each",
                )
            self.homes[other] = np.setdiff1d(users, shared)  # they have moved
        self.homes = dict(sorted({**self.homes, node: described.users}.items()))
        self._news.append(f"node {node}: joined with {len(described.users)} users")
        return None

    def _refuse(self, node: int, reason: str) -> None:
        self._refused[node] = reason
        self._news.append(f"node {node}: {reason}")

    def _compare(self, absent: set[int]) -> None:
        """Note who went and who came back since the last look."""
        self._news += [f"node {node}: is gone" for node in sorted(absent - self._absent)]
        self._news += [f"node {node}: is back" for node in sorted(self._absent - absent)]
        self._absent = absent
