"""A Flower grid whose nodes answer in this process: whole federations in a second, without Ray."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.federation.client_app import app
from fedmem.federation.server_app import Run as FederatedRun
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import RoundRecord, StageResult


class InProcessGrid(Grid):
    """Hands each message to the ClientApp when it is sent; `log` keeps all that was said.

    Args:
        nodes: how many.
        tamper: changes a reply before the server sees it.
    """

    def __init__(self, nodes: int, tamper: Callable[[Message], Message] = lambda m: m) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.contexts = {
            100 + i: Context(
                run_id=1,
                node_id=100 + i,
                node_config={"partition-id": i, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for i in range(nodes)
        }
        self.app: ClientApp = app
        self.tamper = tamper
        self.log: list[tuple[Message, Message]] = []
        self._replies: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            reply = self.app(message, self.contexts[message.metadata.dst_node_id])
            reply = self.tamper(reply)
            self.log.append((message, reply))
            self._replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError


class Watcher:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.records: list[RoundRecord] = []
        self.results: list[StageResult] = []

    def on_stage(self, *_: object) -> None: ...

    def on_round(self, record: RoundRecord) -> None:
        self.records.append(record)

    def on_result(self, result: StageResult) -> None:
        self.results.append(result)


def run_in_process(
    settings: Settings, grid: InProcessGrid | None = None
) -> tuple[list[StageResult], Watcher, InProcessGrid]:
    """Run all stages of the settings; results, what was observed, and the grid with its log."""
    grid = grid or InProcessGrid(settings.federation.nodes)
    watcher = Watcher()
    return FederatedRun(settings, [watcher])(grid), watcher, grid


class RealNodes(InProcessGrid):
    """Nodes that may fail, as those of a simulation may not: what their app raises is their answer.

    Args:
        nodes: how many.
        lost: whether a node is gone before it answers a message.
        tamper: changes a reply before the server sees it.
    """

    def __init__(
        self,
        nodes: int,
        lost: Callable[[Message], bool] = lambda _: False,
        tamper: Callable[[Message], Message] = lambda m: m,
    ) -> None:
        super().__init__(nodes, tamper)
        served = self.app

        def answer(message: Message, context: Context) -> Message:
            if lost(message):
                error = Error(ErrorCode.NODE_UNAVAILABLE, "gone")
                return Message(error, reply_to=message)
            try:
                return served(message, context)
            except FedmemError as error:
                code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
                return Message(Error(code, str(error)), reply_to=message)

        self.app = answer  # type: ignore[assignment]


def run_on(grid: InProcessGrid, settings: Settings) -> Watcher:
    """A run on nodes that may fail."""
    watcher = Watcher()
    with RunFolder.start(settings) as folder:
        FederatedRun(settings, [watcher], folder=folder)(grid)
    return watcher
