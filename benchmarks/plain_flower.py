"""The same training on plain Flower, as its tutorials do it: one node a user, one `NumPyClient`
a message, and the whole model in every message, both ways. `cpus` is what a client asks of Ray: by
Flower's default `FLOWERS_CPUS`; on few cores one is the best that can be set.

The arithmetic of a user is fedmem's (`LocalTrainer.train_user`), so are the users of a round; the
server is Flower's own FedAdam. Data are loaded, and memories filled, once a process. Which node
answers for which user is no matter to the clock: nodes in the order of their ids stand for users in
the order of theirs, and the server names the user in its message.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import NDArrays, Scalar
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam
from flwr.simulation import run_simulation
from systems import Rounds, Start, fill_memories

from fedmem.core.arrays import UserIndices
from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.messaging.messages import to_array_record
from fedmem.simulate import quiet_libraries

FLOWERS_CPUS = 2

app = ClientApp()


@functools.lru_cache(maxsize=1)
def node_of_this_process(settings_json: str, stage_name: str, threshold: float, cpus: int) -> Node:
    """All users' data, loaded once in a process, which has so many cores to itself."""
    torch.set_num_threads(cpus)
    node = Node(Settings.from_json(settings_json))
    fill_memories(node, find_stage(stage_name), threshold)
    return node


class PlainClient(NumPyClient):
    """One user: takes the whole model, trains it for a step, gives the whole model back."""

    def __init__(self, node: Node, stage: Stage, user: int) -> None:
        self.node = node
        self.stage = stage
        self.user = user
        self.names = list(node.model(stage).state_dict())

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """One round of the user."""
        tensors = [torch.from_numpy(array.copy()) for array in parameters]
        self.node.load(self.stage, dict(zip(self.names, tensors, strict=True)), "frozen")
        key = RoundKey(self.node.settings.seed, self.stage.name, int(cast(int, config["round"])))
        update = self.node.trainer(self.stage).train_user(self.user, key)
        trained = [
            np.asarray(array + update.change[name].numpy()) if name in update.change else array
            for name, array in zip(self.names, parameters, strict=True)
        ]
        return trained, update.weight, {"loss": update.loss}


@app.train()
def train(message: Message, _: Context) -> Message:
    """Let the message's user train."""
    config = message.content.config_records["config"]
    stage = find_stage(str(config["stage"]))
    threshold, cpus = cast(float, config["threshold"]), cast(int, config["cpus"])
    node = node_of_this_process(str(config["settings"]), stage.name, threshold, cpus)
    client = PlainClient(node, stage, cast(int, config["user"]))
    arrays = message.content.array_records["arrays"]
    server_round = cast(int, config["round"])
    trained, examples, metrics = client.fit(arrays.to_numpy_ndarrays(), {"round": server_round})
    reply = RecordDict(
        {
            "arrays": ArrayRecord(
                {name: Array(array) for name, array in zip(client.names, trained, strict=True)}
            ),
            "metrics": MetricRecord(
                {"num-examples": examples, "loss": float(cast(float, metrics["loss"]))}
            ),
        }
    )
    return Message(reply, reply_to=message)


class TimedFedAdam(FedAdam):
    """Flower's FedAdam on the users that fedmem samples; keeps seconds and loss of every round."""

    def __init__(self, settings: Settings, users: UserIndices) -> None:
        server = settings.strategy
        super().__init__(
            fraction_train=settings.federation.fraction,
            fraction_evaluate=0.0,
            min_available_nodes=len(users),
            eta=server.learning_rate,
            beta_1=server.beta_1,
            beta_2=server.beta_2,
            tau=server.epsilon,
        )
        self.settings = settings
        self.users = users
        self.began = 0.0
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._started = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message for each sampled user."""
        self.began = self.began or time.time()
        self._started = time.monotonic()
        super().configure_train(server_round, arrays, config, grid)  # remembers the arrays
        nodes = sorted(grid.get_node_ids())
        federation, seed = self.settings.federation, self.settings.seed
        sampled = sample_round(
            self.users, federation.fraction, seed, str(config["stage"]), server_round
        )
        messages = []
        for user in sampled:
            named = ConfigRecord({**config, "user": int(user), "round": server_round})
            content = RecordDict({"arrays": arrays, "config": named})
            node = nodes[int(np.searchsorted(self.users, user))]
            messages.append(Message(content, dst_node_id=node, message_type="train"))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's own average and step."""
        replies = list(replies)
        failed = [reply.error.reason for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} users failed, the first for: {failed[0]}")
        # Flower's correction for the moments' start takes the first round for the second.
        aggregated = super().aggregate_train(server_round - 1, replies)
        self.seconds.append(time.monotonic() - self._started)
        assert aggregated[1] is not None
        self.losses.append(cast(float, aggregated[1]["loss"]))
        return aggregated


def plain_rounds(settings: Settings, stage: Stage, rounds: int, cpus: int) -> Rounds:
    """One round, and as many after it as are asked for."""
    quiet_libraries()
    node = Node(settings)
    start = Start.of(settings, stage, node)
    users = participants(settings)
    strategy = TimedFedAdam(settings, users)
    server = ServerApp()

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        about = ConfigRecord()
        about["settings"] = settings.to_json()
        about["stage"] = stage.name
        about["threshold"] = start.threshold
        about["cpus"] = cpus
        initial = to_array_record(start.parameters)
        strategy.start(grid, initial, rounds + 1, train_config=about)

    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=len(users),
        backend_config={
            "init_args": {
                "num_cpus": len(os.sched_getaffinity(0)),
                "log_to_driver": False,
                "logging_level": logging.ERROR,
            },
            "client_resources": {"num_cpus": cpus, "num_gpus": 0.0},
        },
    )
    return Rounds(strategy.began, strategy.seconds, strategy.losses)
