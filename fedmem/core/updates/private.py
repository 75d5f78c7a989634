"""Bounds what one user can change, and hides it in noise: user-level differential privacy.

H. B. McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, with
equal weights and a denominator that does not depend on who took part. Dividing every update by its
norm in place of clipping it leaves no threshold to choose: Z. Bu et al., "Automatic Clipping",
NeurIPS 2023, here for users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.noise import GaussianMechanism
from fedmem.core.settings import PrivacySettings
from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.update import Update, UserUpdates


class PrivateUpdates(UpdateFilter):
    """Gives every user the same weight and a bounded update; at the server, adds the noise.

    Args:
        settings: how updates are bounded.
        mechanism: at the server, of the stage.
    """

    name = "private"
    sees_each_user = True

    def __init__(
        self, settings: PrivacySettings, mechanism: GaussianMechanism | None = None
    ) -> None:
        self._settings = settings
        self._mechanism = mechanism

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """Updates of length at most 1, each of weight 1 and without its loss.

        One that is not finite counts as zero: to leave its user out would show in the counts.
        """
        norms = updates.norms
        finite = np.isfinite(norms)
        longest = np.ones_like(norms)
        if self._settings.bound == "normalise":
            longest = norms
        elif self._settings.clip is not None:
            longest = np.maximum(norms, self._settings.clip)
        scale = np.where(finite & (longest > 0), 1.0 / np.maximum(longest, 1e-30), 0.0)
        change = {}
        for name, each in updates.change.items():
            by_user = torch.from_numpy(scale).to(each).view(-1, *[1] * (each.dim() - 1))
            whole = each if finite.all() else torch.nan_to_num(each, 0.0, 0.0, 0.0)
            change[name] = whole * by_user
        ones = np.ones_like(updates.weights)
        return replace(updates, change=change, weights=ones, losses=np.zeros(len(ones)))

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        """The replies whose mean is no longer than a user's update can be."""
        kept, refused = [], []
        for reply in replies:
            norm = reply.update.norm
            if norm <= 1.0 + 1e-3:  # which NaN is not
                kept.append(reply)
            else:
                reason = f"its change has norm {norm:.3g}, and bounded updates have at most 1"
                refused.append(Refusal(reply.node, reason))
        return kept, refused

    def at_average(self, change: Parameters, weight: int, server_round: int) -> Parameters:
        """The private mean; at a node, which has no mechanism, what it was."""
        if self._mechanism is None:
            return change
        return self._mechanism.release(change, weight, server_round)


class SummedUpdates(PrivateUpdates):
    """The same for a server that is not trusted: it sees the sum over nodes, with their noise.

    The sum over a node's users is exact enough for integers to be made of it, and goes as if it
    were of one user: how many there were, whom the node has drawn in secret, is nobody's business.
    """

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """The bounded updates, in float64."""
        bounded = super().at_user(updates)
        return replace(bounded, change={name: x.double() for name, x in bounded.change.items()})

    def at_node(self, update: Update) -> Update:
        """The sum of the users' updates, as one update of weight 1."""
        change = {name: value.double() * update.weight for name, value in update.change.items()}
        return Update(change, weight=1, loss=0.0, users=1)

    def at_server(self, replies: Sequence[Reply]) -> tuple[list[Reply], list[Refusal]]:
        """The sum over nodes, of which noise is the most: nothing can be said of its length."""
        return list(replies), []

    def hint(self, users: int) -> float | None:
        """The noise multiplier that nodes are to keep to together."""
        return None if self._mechanism is None else self._mechanism.noise
