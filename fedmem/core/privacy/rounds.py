"""What a private stage does otherwise: who trains, the noise, and figures that are noised too."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
        series = NoiseSeries(self._streams, stage, self._blocks if banded else 1, scope)
        ordered = settings.privacy.schedule == "every_k"
        share = 1 / self._blocks if ordered else settings.federation.fraction
        self.mechanism = GaussianMechanism(ledger.noise, share * users, series)

    def sample(self, users: UserIndices, server_round: int) -> UserIndices:
        """The users that train in a round, ascending."""
        federation = self._settings.federation
        if self._settings.privacy.schedule == "poisson":
            return poisson(users, federation.fraction, self._streams, self._stage, server_round)
        return every_kth(users, self._blocks, self._settings.seed, server_round)

    def figures(self, sums: Mapping[str, float], server_round: int, split: str) -> dict[str, float]:
        """Sums of metrics, each in [0, 1] for every user, with noise where figures are noised.

        A user adds a vector of length at most √m to m sums.
        """
        privacy = self._settings.privacy
        names = sorted(set(sums) - {USERS})
        if privacy.figures == "exact" or not names:
            return dict(sums)
        noise = self._streams.normal(f"figures/{self._stage}/{split}/{server_round}", len(names))
        deviation = privacy.figures_noise * math.sqrt(len(names))
        users = sums[USERS]
        noised = {
            name: min(max(sums[name] + deviation * own, 0.0), users)
            for name, own in zip(names, noise.tolist(), strict=True)
        }
        return {USERS: users, **noised}
