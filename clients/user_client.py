"""One user as a Flower client: the definition of what a user does in a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from flwr.client import NumPyClient
from flwr.common import Config, NDArrays, Scalar

from fedmem.core.arrays import UserIndices
from fedmem.core.data.interactions import Split
from fedmem.core.evaluation.outcomes import Outcomes, sums_of
from fedmem.core.evaluation.protocol import COLD, COLD_USERS, USERS
from fedmem.core.node import Node
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_each_user
from fedmem.core.updates.filter import UpdateFilter
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import Update


class UserClient(NumPyClient):
    """Trains and evaluates the one user of a node.

    `train` and `rank` are what is done; `fit` and `evaluate` are the same in the form of Flower's
    `NumPyClient`, with the parameters of the scope as a list.

    Args:
        node: the user's data, model and memory; `node.load` has put the parameters there.
        stage: the stage of the round.
        users: the users that take part in this call; None: all that live at the node.
    """

    def __init__(self, node: Node, stage: Stage, users: UserIndices | None = None) -> None:
        self.node = node
        self.stage = stage
        self.users = node.users if users is None else users
        self.scope = stage.split(node.model(stage).state_dict())[0]

    def train(self, server_round: int, filters: Sequence[UpdateFilter] = ()) -> Update:
        """The users' update from the parameters that the model holds, through the filters.

        Args:
            server_round: from 1.
            filters: made for this round.
        """
        return train_each_user(
            self.node.trainer(self.stage), self.users, self._key(server_round), filters
        )

    def rank(self, split: Split, rankings: Sequence[str]) -> Outcomes:
        """The users' held-out items ranked by the model; `cold` stands for all of cold items."""
        warm = tuple(ranking for ranking in rankings if ranking != COLD)
        outcomes = {USERS: self.node.rank(self.stage, self.users, split, warm)}
        if COLD in rankings:
            outcomes[COLD_USERS] = self.node.rank_cold(self.stage, self.users)
        return outcomes

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
            config: `round`, from 1.

        Returns:
            The change of each parameter (it keeps digits that the new parameter would round away),
            the number of targets trained on, and `loss`, `users` and `left-out`.
        """
        self._take(parameters)
        filters = make_filters(self.node.settings)
        update = self.train(int(cast(int, config["round"])), filters)
        change = [update.change[name].cpu().numpy() for name in self.scope]
        metrics: dict[str, Scalar] = {
            "loss": update.loss,
            "users": update.users,
            "left-out": update.left_out,
        }
        return change, update.weight, metrics

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Rank the users' held-out items.

        Args:
            parameters: the round's parameters of the scope.
            config: `split`, and `rankings` joined by commas.

        Returns:
            1 − HR@10 of the first ranking as the loss, the number of users, and the sums of
            `Ranks.sums`.
        """
        self._take(parameters)
        rankings = str(config["rankings"]).split(",")
        sums = sums_of(self.rank(cast(Split, config["split"]), rankings))
        missed = 1.0 - sums[f"{rankings[0]}/HR@10"] / max(sums[USERS], 1.0)
        return missed, int(sums[USERS]), dict(sums)

    def _key(self, server_round: int) -> RoundKey:
        return RoundKey(self.node.settings.seed, self.stage.name, server_round)

    @torch.no_grad()
    def _take(self, parameters: NDArrays) -> None:
        own = self.node.model(self.stage).state_dict()
        for name, value in zip(self.scope, parameters, strict=True):
            own[name].copy_(torch.from_numpy(np.asarray(value)))
