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
from fedmem.core.updates.update import UserUpdates


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
            change[name] = torch.nan_to_num(each, 0.0, 0.0, 0.0) * by_user
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
