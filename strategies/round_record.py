"""What a round of a stage came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SELECTED_BY = "sampled/HR@10"
"""The validation metric that is shown of a round."""


def worth(validation: Mapping[str, float]) -> float:
    """What the best round has most of: the mean of HR@10 over the rankings of its validation."""
    found = [value for name, value in validation.items() if name.endswith("/HR@10")]
    return sum(found) / len(found)


@dataclass(frozen=True)
class RoundRecord:
    """What one round did; a line of `metrics.jsonl`.

    Attributes:
        stage: name of the stage.
        round: from 1; 0 is the validation of what the stage starts from.
        last: the stage's last round, as it stands; an earlier one once patience has run out.
        loss: mean loss a target; None in round 0, and where no reply was usable.
        users: users trained.
        left_out: users whose updates their nodes left out, since they could not be meant.
        targets: targets trained on.
        messages: replies to the training messages.
        bytes_down: bytes of all training messages to the nodes.
        bytes_frozen: the part of them that brought the frozen rest to nodes that lacked it.
        bytes_up: bytes of all their replies.
        seconds: wall time, validation included.
        evaluation_seconds: the part of it that the validation took.
        evaluation_bytes: bytes of the validation's messages and replies; at a node's first contact
            they bring the frozen rest.
        validation: metrics, in the rounds that have them.
        memory: figures of the memories, where they are on and a validation looked at them.
        refused: replies that were left out, and why.
        nodes: what became of nodes since the round before: which joined, went, came back, failed
            or did not answer in time.
    """

    stage: str
    round: int
    last: int = 0
    loss: float | None = None
    users: int = 0
    left_out: int = 0
    targets: int = 0
    messages: int = 0
    bytes_down: int = 0
    bytes_frozen: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    evaluation_bytes: int = 0
    validation: dict[str, float] | None = None
    memory: dict[str, float] | None = None
    refused: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
