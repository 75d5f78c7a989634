"""The seam for what happens to updates on their way from a user's training to the average.

A filter has a hook where each party stands: at the user, at the node, at the server. It overrides
those that it needs; training and the strategy know this interface and no filter. The form is that
of the postprocessors of pfl-research (F. Granqvist et al., NeurIPS 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmem.core.model.parameters import Parameters
from fedmem.core.updates.update import Update, UserUpdates


@dataclass(frozen=True)
class Reply:
    """A node's update, as the server received it."""

    node: int
    update: Update


@dataclass(frozen=True)
class Refusal:
    """A reply that takes no part in the average, and why."""

    node: int
    reason: str

    def __str__(self) -> str:
        return f"node {self.node}: {self.reason}"


class UpdateFilter:
    """What happens to updates on their way; this one lets them pass as they are.

    A node makes its filters anew for each message. The server keeps its own for a stage, with their
    state in the stage's progress, so that a resumed run goes on as it would have.
    """

    name: str
    """Under which the server's state and its hint to the nodes are kept and sent."""

    sees_each_user = False
    """Whether it needs every user's own update, so that no batch of users may train as one."""

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """Each user's update as it leaves training: change it, or drop users."""
        return updates

    def trusts(self, update: Update) -> bool:
        """Whether the mean of users that were trained as one batch may stand.

        Where it may not, the users are trained again one by one, through `at_user`.
        """
        return True

    def outliers(self) -> set[int]:
        """Users to leave out of the mean, of which that shows only beside all the others."""
        return set()

    def at_node(self, update: Update) -> Update:
        """The node's mean, before it is sent."""
        return update

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        """The nodes' replies before they are averaged: change them, or refuse some."""
        return list(replies), []

    def at_average(self, change: Parameters, weight: int, server_round: int) -> Parameters:
        """A round's mean change, of users of so much weight in all, before the server's step."""
        return change

    def hint(self, users: int) -> float | None:
        """A number that the server sends to the same filter at a node that trains so many users."""
        return None

    @property
    def state(self) -> list[list[float]]:
        """What the server's filter carries from round to round."""
        return []
