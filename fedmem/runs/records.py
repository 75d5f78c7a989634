"""The record of a round and of a stage, as a run keeps it, and its observers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedmem.core.stages import Stage

SELECTED_BY = "sampled/HR@10"  # the validation metric that is shown of a round


def worth(validation: Mapping[str, float]) -> float:
    """What the best round has most of: the mean of HR@10 over the rankings of its validation."""
    found = [value for name, value in validation.items() if name.endswith("/HR@10")]
    return sum(found) / len(found)


@dataclass(frozen=True)
class RoundRecord:
    """What one round did; a line of `metrics.jsonl`.

    Attributes:
        round: from 1; 0 is the validation of what the stage starts from.
        last: the stage's last round, as it stands; an earlier one once patience has run out.
        loss: mean loss a target; None in round 0, and where no reply was usable.
        users: users trained.
        left_out: users whose updates their nodes left out as implausible.
        targets: that they trained on.
        messages: replies to the training messages.
        bytes_down: bytes of all training messages to the nodes.
        bytes_frozen: the part of them that brought the frozen rest to nodes that lacked it.
        bytes_up: bytes of all their replies.
        seconds: wall time since the round before ended, validation included.
        evaluation_seconds: the part of it that the validation took.
        evaluation_bytes: bytes of the validation's messages and replies; at a node's first contact
            they bring the frozen rest.
        traffic: all of these bytes by direction, `train_down` to `evaluate_up`, and by the part of
            the messages that they are, see `fedmem.messaging.messages`: `scope` are full copies.
        validation: metrics, in the rounds that have them.
        memory: figures of the memories, where they are on and a validation looked at them.
        refused: replies that were left out, and why.
        nodes: what became of nodes since the round before: which joined, went, came back, failed
            or did not answer in time.
        epsilon: what the run has spent of its privacy budget so far; None: it has none.
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
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    validation: dict[str, float] | None = None
    memory: dict[str, float] | None = None
    refused: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    epsilon: float | None = None


@dataclass(frozen=True)
class StageResult:
    """What a stage came to; a part of `results.json`.

    Attributes:
        rounds: that were run.
        best_round: the round whose parameters were kept.
        trained_parameters: numbers in the scope.
        bytes_down: mean bytes of a training message to a node, without the frozen rest.
        bytes_up: mean bytes of its reply.
        seconds: wall time, evaluations included.
        test_seconds: the part of it that the evaluation on the test items took.
        test_bytes: bytes of that evaluation's messages and replies; 0: of an earlier version.
        validation: metrics of the best round.
        test: metrics of the best round, both rankings, and those of cold items where there are any.
        threshold: novelty threshold of the memory; None where it is off.
        memory: figures of the memories at the test; None where they are off.
        checkpoint: where the parameters are.
        stopped: why the stage had to stop before its end; None: it had not.
        epsilon: what the run had spent of its privacy budget after it; None: it has none.
        ranked_users: users that the figures of the test are over, and those of validations where
            no node went or came; 0: of an earlier version.
        drawn_from: users that these are a sample of; None: all were to be ranked.
    """

    stage: str
    rounds: int
    best_round: int
    trained_parameters: int
    bytes_down: float
    bytes_up: float
    seconds: float
    test_seconds: float
    validation: dict[str, float]
    test: dict[str, float]
    threshold: float | None
    memory: dict[str, float] | None
    checkpoint: str
    stopped: str | None
    epsilon: float | None = None
    test_bytes: int = 0
    ranked_users: int = 0
    drawn_from: int | None = None


def sample_note(result: StageResult | Mapping[str, Any]) -> str:
    """Whom the figures of a stage are over, where a sample was drawn; empty: all were ranked.

    It is also given as in `results.json`, where an earlier version said nothing of it.
    """
    said = result if isinstance(result, Mapping) else vars(result)
    drawn_from = said.get("drawn_from")
    if drawn_from is None:
        return ""
    return f"of {said['ranked_users']:,} users drawn from {drawn_from:,} (evaluation.users)"


class Observer:
    """What watches a run while it is entered: displays, trackers. This one does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def on_stage(self, stage: Stage, rounds: int, trained_parameters: int, done: int) -> None:
        """A stage starts, for at most so many rounds, or goes on after those that are done."""

    def on_round(self, record: RoundRecord) -> None:
        """A round has ended, and is written."""

    def on_result(self, result: StageResult) -> None:
        """A stage has ended, and its checkpoint is written."""
