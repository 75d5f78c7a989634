"""Many users of one node as a Flower client: the same numbers as one `UserClient` for each."""

from __future__ import annotations

from collections.abc import Sequence

from fedmem.clients.user_client import UserClient
from fedmem.core.updates.cohort import train_cohort
from fedmem.core.updates.filter import UpdateFilter
from fedmem.core.updates.update import Update


class CohortClient(UserClient):
    """Answers with the mean of its users' changes, weighted by their targets.

    The average over cohorts, weighted by the cohorts' targets, is then the average over users.
    """

    def train(self, server_round: int, filters: Sequence[UpdateFilter] = ()) -> Update:
        """As of `UserClient`, with the users trained together where that is faster."""
        return train_cohort(
            self.node.trainer(self.stage), self.users, self._key(server_round), filters
        )
