"""Many users of one node as a Flower client: the same numbers as one `UserClient` for each."""

from __future__ import annotations

from clients.user_client import UserClient
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer, Update


class CohortClient(UserClient):
    """Answers with the mean of its users' changes, weighted by their targets.

    The average over cohorts, weighted by the cohorts' targets, is then the average over users.
    """

    def _train(self, trainer: LocalTrainer, key: RoundKey, limit: float) -> Update:
        return trainer.train_cohort(self.users, key, limit)
