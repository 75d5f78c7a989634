"""pfl-research (F. Granqvist et al., NeurIPS 2024), as its PyTorch tutorials have it.

Under `torchrun` with as many processes as there are cores; users are shared out by their targets.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.ops import get_ops
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from sasrec import SASRec, mean_loss
from torch import Tensor
from work import Clock, Work


class Trained(SASRec):
    """A SASRec with the two methods that pfl calls; it sums up its loss for the report.

    That is the loss at each user's last of so many local steps.
    """

    def __init__(self, local_steps: int, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.total = torch.zeros(2)  # loss, targets
        self._steps = itertools.cycle(range(local_steps))
        self._last = local_steps - 1

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over the user's targets."""
        loss, count = mean_loss(self, inputs, targets)
        if next(self._steps) == self._last:
            self.total += torch.tensor([float(loss.detach()) * count, count])
        return loss

    @torch.no_grad()
    def metrics(self, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """What pfl asks for when it evaluates, which it does before the first round."""
        loss, count = mean_loss(self, inputs, targets)
        return {"loss": Weighted(float(loss) * count, count)}


class UserWindows(PyTorchTensorDataset):
    """A user's windows, a target being a datapoint."""

    def __len__(self) -> int:
        return int(torch.count_nonzero(self.raw_data[1]))


class Report(TrainingProcessCallback):
    """Reports every round from the first process."""

    def __init__(self) -> None:
        self._first = get_ops().distributed.global_rank == 0

    def on_train_begin(self, *, model: Any) -> Metrics:
        """The first round begins."""
        if self._first:
            self._clock = Clock()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Any, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """A round has ended."""
        own = model.pytorch_model.total
        (total,) = get_ops().distributed.all_reduce([own.clone()])
        own.zero_()
        if self._first:
            self._clock.round(float(total[0] / total[1]))
        return False, Metrics()


def main() -> None:
    """Train."""
    work = Work.read(Path(sys.argv[1]))
    torch.set_num_threads(1)
    network = Trained(work.settings["local_steps"], **work.settings["model"])
    network.load_state_dict(work.start)
    model = PyTorchModel(network, torch.optim.SGD, work.adam(network))
    users = [user for users in work.rounds for user in users]
    weights = {u: int(torch.count_nonzero(targets)) for u, (_, targets) in work.windows.items()}
    data = FederatedDataset(
        lambda user: UserWindows(work.windows[user], user_id=str(user)),
        MinimizeReuseUserSampler(users),
        weights,
    )
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=len(work.rounds),
            evaluation_frequency=10**9,
            train_cohort_size=len(work.rounds[0]),
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data, [WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_num_epochs=work.settings["local_steps"],
            local_learning_rate=work.settings["learning_rate"],
            local_batch_size=None,
        ),
        callbacks=[Report()],
    )


if __name__ == "__main__":
    main()
