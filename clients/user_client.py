"""One user as a Flower client: the definition of what a user does in a round."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from flwr.client import NumPyClient
from flwr.common import Config, NDArrays, Scalar

from fedmem.core.data.sampling import UserIndices
from fedmem.core.evaluation.outcomes import Outcomes
from fedmem.core.evaluation.protocol import COLD, COLD_USERS, USERS, Split
from fedmem.core.node import Node
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer, Update

Names = list[str]


class UserClient(NumPyClient):
    """Trains and evaluates the one user of a node.

    Args:
        node: the user's data, model and memory; `node.load` has put the model's parameters there,
            and `fit` and `evaluate` put those of the scope in their place.
        stage: the stage of the round.
        users: the users that take part in this call; None: all that live at the node.
    """

    def __init__(self, node: Node, stage: Stage, users: UserIndices | None = None) -> None:
        self.node = node
        self.stage = stage
        self.users = node.users if users is None else users
        parameters = node.model(stage).state_dict()
        self.scope: Names = stage.split(parameters)[0]
        self.outcomes: Outcomes = {}

    def get_parameters(self, config: Config) -> NDArrays:
        """The scope's parameters, in the order of `scope`."""
        parameters = self.node.model(self.stage).state_dict()
        return [parameters[name].cpu().numpy().copy() for name in self.scope]

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Train from parameters, in the order of `scope`.

        Args:
            parameters: the round's parameters of the scope.
            config: `round`, from 1; `norm-limit`, see `LocalTrainer.train_cohort`.

        Returns:
            The change of each parameter (it keeps digits that the new parameter would round away),
            the number of targets trained on, and `loss`, `users` and `left-out`.
        """
        self._take(parameters)
        key = RoundKey(self.node.settings.seed, self.stage.name, int(cast(int, config["round"])))
        limit = float(cast(float, config.get("norm-limit", math.inf)))
        update = self._train(self.node.trainer(self.stage), key, limit)
        change = [update.change[name].cpu().numpy() for name in self.scope]
        told: dict[str, Scalar] = {
            "loss": update.loss,
            "users": update.users,
            "left-out": update.left_out,
        }
        return change, update.weight, told

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Rank the users' held-out items.

        Args:
            parameters: the round's parameters of the scope.
            config: `split`, and `rankings` joined by commas; `cold` stands for all of cold items.

        Returns:
            1 − HR@10 of the first ranking as the loss, the number of users, and the sums of
            `Ranks.sums`. The ranks themselves are in `outcomes`.
        """
        self._take(parameters)
        split = cast(Split, config["split"])
        rankings = tuple(str(config["rankings"]).split(","))
        warm = tuple(ranking for ranking in rankings if ranking != COLD)
        self.outcomes = {USERS: self.node.rank(self.stage, self.users, split, warm)}
        if COLD in rankings:
            self.outcomes[COLD_USERS] = self.node.rank_cold(self.stage, self.users)
        sums: dict[str, float] = {}
        for count, ranks in self.outcomes.items():
            sums |= ranks.sums(count)
        missed = 1.0 - sums[f"{rankings[0]}/HR@10"] / max(sums["users"], 1.0)
        return missed, int(sums["users"]), dict(sums)

    def _train(self, trainer: LocalTrainer, key: RoundKey, limit: float) -> Update:
        (user,) = self.users
        return trainer.train_user(int(user), key)

    @torch.no_grad()
    def _take(self, parameters: NDArrays) -> None:
        own = self.node.model(self.stage).state_dict()
        for name, value in zip(self.scope, parameters, strict=True):
            own[name].copy_(torch.from_numpy(np.asarray(value)))
