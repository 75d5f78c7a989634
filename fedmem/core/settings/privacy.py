"""Settings of privacy: what is promised, and the sum that the server cannot take apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fedmem.core.secure_sum import FEWEST, MODULI
from fedmem.core.settings.ranges import Positive, Range, at_least, one_of, within
from fedmem.core.settings.schema import Auto, Section

Modulus = Range("16 or 32", lambda value: value in MODULI)


@dataclass(frozen=True)
class SecureSumSettings(Section, key="privacy.secure_sum"):
    """The nodes' changes as a sum that the server cannot take apart, docs/secure-aggregation.md."""

    enabled: bool
    """Whether nodes send their changes under masks that cancel in the sum."""
    threshold: Annotated[float, within("(0.5, 1]")]
    """Share of a round's nodes that must remain until its sum is opened; with fewer of them the
    round is given up, and the run stops."""
    min_members: Annotated[int, at_least(2)]
    """Nodes that must remain in any case, the fewest whose sum is ever opened. A round begins with
    three at least."""
    modulus_bits: Annotated[int, Modulus]
    """Bits of the integers that are summed, for each number."""
    range: Positive | Auto
    """Largest change of a number that a node sends whole; it cuts what is larger. `auto`: a
    multiple of the largest in the sum of the round before."""

    def needed(self, nodes: int) -> int:
        """Of so many nodes that a round asks, those that must remain; always more than a half."""
        return max(self.min_members, math.ceil(self.threshold * nodes), nodes // 2 + 1)


@dataclass(frozen=True)
class PrivacySettings(Section, key="privacy"):
    """User-level differential privacy, see docs/privacy.md."""

    mode: Annotated[str, one_of("none", "central", "distributed")]
    """Who adds the noise: nobody, or the server, which is trusted with each user's bounded update,
    or the nodes, to integers of which the server sees nothing but the sum."""
    epsilon: Positive | None
    """The ε that all releases of the run, and of the checkpoints that it starts from, may cost."""
    delta: Annotated[float, within("(0, 1)")]
    """The δ that it is stated at; below 1 / users."""
    bound: Annotated[str, one_of("normalise", "clip")]
    """What a user's update may weigh: `normalise` divides it by its norm, `clip` shortens it to
    `privacy.clip` where it is longer."""
    clip: Positive | None
    """Longest update, for `clip`."""
    schedule: Annotated[str, one_of("poisson", "every_k", "all")]
    """Who trains in a round: each user with probability `federation.fraction`, by a secret draw of
    who adds the noise; one of 1 / `federation.fraction` blocks of users in turn, by a public order;
    or all."""
    mechanism: Annotated[str, one_of("gaussian", "banded")]
    """Whether the noise of each round is independent, or takes back a part of the rounds before,
    which `every_k` allows."""
    noise: Positive | None
    """Noise multiplier: standard deviation of the noise on a round's sum, in units of the longest
    update; null: what `privacy.epsilon` leaves for the rounds of the run."""
    figures: Annotated[str, one_of("noised", "exact")]
    """Validation and test figures: `noised` once a stage, as a part of ε; `exact` as often as
    without privacy, outside of the guarantee, for research on public data."""
    figures_noise: Positive
    """Noise multiplier of the figures, where they are noised."""
    secure_sum: SecureSumSettings

    @property
    def on(self) -> bool:
        """Whether updates are private."""
        return self.mode != "none"

    @property
    def of_nodes(self) -> bool:
        """Whether nodes add the noise, and trust nobody with what is without it."""
        return self.mode == "distributed"

    @property
    def noises_figures(self) -> bool:
        """Whether figures are a part of the promise, so that no exact one is kept beside them."""
        return self.on and self.figures == "noised"

    @property
    def fewest_nodes(self) -> int:
        """Nodes that a run has to have at its start."""
        return max(FEWEST, self.secure_sum.min_members) if self.secure_sum.enabled else 1

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A bound without a number, noise without a budget, schedules that fit no mechanism."""
        if self.bound == "clip" and self.clip is None:
            yield "clip", "a number with privacy.bound=clip, the longest update"
        if self.on and self.epsilon is None:
            yield "epsilon", f"a number with privacy.mode={self.mode}, such as 8"
        if self.mechanism == "banded" and self.schedule != "every_k":
            yield "mechanism", f"gaussian with privacy.schedule={self.schedule}"
        if self.of_nodes and self.mechanism == "banded":  # who is lost cannot take noise back
            yield "mechanism", "gaussian with privacy.mode=distributed"
        if self.of_nodes and not self.secure_sum.enabled:
            yield "mode", "none or central with privacy.secure_sum.enabled=false"
