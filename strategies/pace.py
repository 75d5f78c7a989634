"""How fast the server learns in a round: at a stage's own pace, and slower towards its end.

A constant learning rate with a linear cooldown: A. Hägele et al., "Scaling Laws and Compute-Optimal
Training Beyond Fixed Training Durations", NeurIPS 2024.
"""

from __future__ import annotations

COOLED = 0.05
"""Share of the learning rate that is left in a stage's last round."""


def pace_of(server_round: int, rounds: int, own: float, cooldown: float) -> float:
    """What multiplies the server's learning rate in a round.

    Args:
        server_round: from 1 to `rounds`.
        rounds: of the stage.
        own: the stage's pace.
        cooldown: share of the rounds, the last ones, over which the rate falls linearly to `COOLED`
            of itself; 0: it does not.
    """
    begins = (1.0 - cooldown) * rounds
    if server_round <= begins:
        return own
    return own * (1.0 - (1.0 - COOLED) * (server_round - begins) / (rounds - begins))
