"""BlazeFL with a pool of threads, the mode that it recommends, in the form of its own FedAvg.

The server's step is Adam along the mean change, where the example takes the mean itself.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from blazefl.core import (
    BaseServerHandler,
    ThreadPoolClientTrainer,
    deserialize_model,
    serialize_model,
)
from sasrec import mean_loss
from torch import Tensor
from work import Clock, Work


@dataclass
class Uplink:
    """What a client answers."""

    cid: int
    model_parameters: Tensor
    data_size: int
    loss: float


@dataclass
class Downlink:
    """What a client is sent."""

    model_parameters: Tensor


class Server(BaseServerHandler[Uplink, Downlink]):
    """The global model."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model = work.model()
        self.optimizer = work.adam(self.model)
        self.cache: list[Uplink] = []
        self.round = 0
        self.loss = 0.0

    def sample_clients(self) -> list[int]:
        """The round's users."""
        return self.work.rounds[self.round]

    def if_stop(self) -> bool:
        """Whether all rounds are over."""
        return self.round >= len(self.work.rounds)

    def load(self, payload: Uplink) -> bool:
        """Take an answer; the last of a round updates the model."""
        self.cache.append(payload)
        if len(self.cache) < len(self.sample_clients()):
            return False
        self.global_update(self.cache)
        self.round += 1
        self.cache = []
        return True

    @torch.no_grad()
    def global_update(self, buffer: list[Uplink]) -> None:
        """A step of Adam along the mean change, weighted by targets."""
        total = sum(each.data_size for each in buffer)
        mean = torch.zeros_like(buffer[0].model_parameters)
        for each in buffer:
            mean.add_(each.model_parameters, alpha=each.data_size / total)
        self.loss = sum(each.loss * each.data_size for each in buffer) / total
        parameters = list(self.model.parameters())
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, new in zip(parameters, mean.split(sizes), strict=True):
            parameter.grad = parameter - new.view_as(parameter)
        self.optimizer.step()

    def downlink_package(self) -> Downlink:
        """The global model."""
        return Downlink(serialize_model(self.model))


class Clients(ThreadPoolClientTrainer[Uplink, Downlink]):
    """The users, a few at a time."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.num_parallels = work.settings["processes"]
        self.device, self.device_count = "cpu", 0
        self.cache: list[Uplink] = []
        self.stop_event = threading.Event()

    def worker(
        self, cid: int, device: str, payload: Downlink, stop_event: threading.Event
    ) -> Uplink:
        """One full-batch step of one user on a model of its own."""
        model = self.work.model()
        with torch.no_grad():
            deserialize_model(model, payload.model_parameters)
        optimizer = torch.optim.SGD(model.parameters(), self.work.settings["learning_rate"])
        loss, count = mean_loss(model, *self.work.windows[cid])
        loss.backward()
        optimizer.step()
        return Uplink(cid, serialize_model(model), count, float(loss.detach()))

    def uplink_package(self) -> list[Uplink]:
        """The answers of all."""
        package, self.cache = self.cache, []
        return package


def main() -> None:
    """Train."""
    work = Work.read(Path(sys.argv[1]))
    torch.set_num_threads(1)
    server, clients, clock = Server(work), Clients(work), Clock()
    while not server.if_stop():
        clients.local_process(server.downlink_package(), server.sample_clients())
        for package in clients.uplink_package():
            server.load(package)
        clock.round(server.loss)


if __name__ == "__main__":
    main()
