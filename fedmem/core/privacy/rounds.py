"""What a private stage does otherwise: who trains, the noise, and figures that are noised too."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from fedmem.core.arrays import UserIndices
from fedmem.core.evaluation.protocol import USERS
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.privacy.noise import GaussianMechanism, NoiseSeries
from fedmem.core.privacy.participation import every_kth, poisson
from fedmem.core.privacy.plan import blocks
from fedmem.core.privacy.secret import SecretStreams
from fedmem.core.settings import Settings


class PrivateRounds:
    """The private rounds of a stage.

    Args:
        settings: of the run.
        stage: name of the stage.
        users: how many take part in the run; the denominator hangs on it, so it stays as it is.
        ledger: of the run, with its noise multiplier and its key.
        scope: the parameters that train.
    """

    def __init__(
        self,
        settings: Settings,
        stage: str,
        users: int,
        ledger: Ledger,
        scope: Mapping[str, Tensor],
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._streams = SecretStreams(ledger.key)
        self._blocks = blocks(settings)
        banded = settings.privacy.mechanism == "banded"
        self._of_nodes = settings.privacy.of_nodes
        bands = self._blocks if banded else 1
        series = None if self._of_nodes else NoiseSeries(self._streams, stage, bands, scope)
        ordered = settings.privacy.schedule == "every_k"
        share = 1 / self._blocks if ordered else settings.federation.fraction
        self.mechanism = GaussianMechanism(ledger.noise, share * users, series)

    def sample(self, users: UserIndices, server_round: int) -> UserIndices:
        """The users that are asked to train in a round, ascending.

        Where nodes add the noise, each draws among its own, and the server asks all of them.
        """
        if self._of_nodes and self._settings.privacy.schedule == "poisson":
            return np.sort(users)
        return drawn(self._settings, users, self._streams, self._stage, server_round)

    def figures(self, sums: Mapping[str, float], server_round: int, split: str) -> dict[str, float]:
        """Sums of metrics with noise, where figures are noised and nodes have not done it."""
        if self._settings.privacy.figures == "exact" or self._of_nodes:
            return dict(sums)
        name = f"figures/{self._stage}/{split}/{server_round}"
        return noised_figures(sums, self._settings.privacy.figures_noise, self._streams, name)


def drawn(
    settings: Settings, users: UserIndices, streams: SecretStreams, stage: str, server_round: int
) -> UserIndices:
    """Those of the users who take part in a round, ascending, as `privacy.schedule` has it."""
    if settings.privacy.schedule == "poisson":
        return poisson(users, settings.federation.fraction, streams, stage, server_round)
    return every_kth(users, blocks(settings), settings.seed, server_round)


def noised_figures(
    sums: Mapping[str, float], multiplier: float, streams: SecretStreams, name: str
) -> dict[str, float]:
    """Sums of metrics, each in [0, 1] for every user, with noise.

    A user adds a vector of length at most √m to m sums.

    Args:
        sums: by metric, and how many users they are of.
        multiplier: of the noise.
        streams: that the noise is from.
        name: of the noise.
    """
    names = sorted(set(sums) - {USERS})
    if not names:
        return dict(sums)
    noise = streams.normal(name, len(names))
    deviation, users = multiplier * math.sqrt(len(names)), sums[USERS]
    noised = {
        name: min(max(sums[name] + deviation * own, 0.0), users)
        for name, own in zip(names, noise.tolist(), strict=True)
    }
    return {USERS: users, **noised}
