"""What a node's reply to a training message must be, to take part in the average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from flwr.app import ArrayRecord, Message

from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.guard import ENOUGH, LEANS, is_fit, leaning, norm_limit, reversed_among
from fedmem.messaging.messages import TrainResult

REMEMBERED = 10
"""Rounds whose medians tell what is usual, where a round has too few replies to tell itself."""


@dataclass(frozen=True)
class Reply:
    """A reply that can be read, with what it says and how long its change is."""

    message: Message
    result: TrainResult
    norm: float

    @property
    def node(self) -> int:
        """The node that it comes from."""
        return self.message.metadata.src_node_id


class ReplyChecks:
    """Sorts replies into those that can be averaged and those that are refused, with the reason.

    Args:
        settings: of the run.
        stage: whose scope is asked for.
        usual: (median norm, median users) of the replies of earlier rounds, the latest last.
    """

    def __init__(self, settings: Settings, stage: Stage, usual: Iterable[list[float]] = ()) -> None:
        self._stage = stage
        self._ratio = settings.strategy.guard_ratio
        self._directed = settings.strategy.guard_direction
        self._most_targets = settings.client.windows * settings.model.max_length
        self.usual = [list(pair) for pair in usual]

    def limit_of(self, users: int) -> float:
        """Norm up to which the mean change of so many users is in proportion to what is usual."""
        return self._limit(self.usual, users)

    def sort_out(
        self, messages: Iterable[Message], asked: Mapping[int, int], scope: ArrayRecord
    ) -> tuple[list[Reply], list[str]]:
        """The replies that can be averaged, in an order of their own, and a line for each other.

        Args:
            messages: replies without an error.
            asked: users that each node was to train, by node id.
            scope: the parameters that were sent.
        """
        fit: list[Reply] = []
        refused: list[str] = []
        for message in messages:
            reply, reason = self._read(message, asked, scope)
            if reply is None:
                refused.append(f"node {message.metadata.src_node_id}: {reason}")
            else:
                fit.append(reply)
        # Replies come in any order: sum in a fixed one, so that a run can be repeated bit for bit.
        fit.sort(key=lambda reply: (reply.result.weight, reply.result.loss))
        here = [[r.norm, float(r.result.users)] for r in fit if r.result.weight]
        pairs = here if len(here) >= ENOUGH else self.usual
        kept: list[Reply] = []
        for reply in fit:
            limit = self._limit(pairs, reply.result.users)
            if reply.norm > limit:
                refused.append(
                    f"node {reply.node}: its change is out of proportion, of norm {reply.norm:.3g} "
                    f"where at most {limit:.3g} is plausible (strategy.guard_ratio={self._ratio})"
                )
            else:
                kept.append(reply)
        kept, astray = self._directions_of(kept)
        refused += astray
        here = [[r.norm, float(r.result.users)] for r in kept if r.result.weight]
        if here and self._ratio is not None:
            self.usual = [*self.usual, _medians(here)][-REMEMBERED:]
        return kept, refused

    def _directions_of(self, replies: list[Reply]) -> tuple[list[Reply], list[str]]:
        """The replies whose change points where the others' do, and a line for each other."""
        trained = [reply for reply in replies if reply.result.weight]
        if not self._directed or not self._stage.in_scope(LEANS):
            return replies, []
        leanings = [leaning(torch.from_numpy(reply.result.change[LEANS])) for reply in trained]
        found = reversed_among(leanings)
        astray = [reply.node for reply, stray in zip(trained, found, strict=True) if stray]
        return [reply for reply in replies if reply.node not in astray], [
            f"node {node}: its change points the wrong way (strategy.guard_direction)"
            for node in astray
        ]

    def _read(
        self, message: Message, asked: Mapping[int, int], scope: ArrayRecord
    ) -> tuple[Reply | None, str]:
        """The reply, or why it is refused."""
        try:
            result = TrainResult.from_record(message.content)
        except (KeyError, TypeError, ValueError) as error:
            return None, f"is no result of training: {type(error).__name__} {error}"
        most = asked.get(message.metadata.src_node_id, 0)
        norm = _norm(result)
        reason = (
            self._fault_of_arrays(result, scope)
            or self._fault_of_counts(result, most)
            or self._fault_of_values(result, norm)
        )
        return (None, reason) if reason else (Reply(message, result, norm), "")

    def _fault_of_arrays(self, result: TrainResult, scope: ArrayRecord) -> str | None:
        outside = ", ".join(sorted(set(result.change) - set(scope)))
        missing = ", ".join(sorted(set(scope) - set(result.change)))
        if outside:
            return f"offers parameters outside the scope of {self._stage.name}: {outside}"
        if missing:
            return f"lacks parameters of the scope of {self._stage.name}: {missing}"
        for name, value in result.change.items():
            if value.shape != tuple(scope[name].shape):
                return f"{name} has shape {value.shape}, not {tuple(scope[name].shape)}"
            if str(value.dtype) != scope[name].dtype:
                return f"{name} is of type {value.dtype}, not {scope[name].dtype}"
        return None

    def _fault_of_counts(self, result: TrainResult, most: int) -> str | None:
        counts = (result.users, result.left_out, result.weight)
        if min(counts) < 0 or result.users + result.left_out > most:
            return f"tells of {result.users} users, and was asked for {most}"
        at_most = result.users * self._most_targets
        if result.weight > at_most:
            return f"claims {result.weight} targets; {result.users} users have at most {at_most}"
        return None

    def _fault_of_values(self, result: TrainResult, norm: float) -> str | None:
        if self._ratio is None or is_fit(norm, result.loss):
            return None
        return "its change or its loss is not finite"

    def _limit(self, pairs: list[list[float]], users: int) -> float:
        """See `norm_limit`; the mean of fewer users scatters more, so it may be longer."""
        limit = norm_limit([norm for norm, _ in pairs], self._ratio)
        if math.isinf(limit):
            return limit
        return limit * math.sqrt(max(1.0, _medians(pairs)[1] / max(users, 1)))


def _norm(result: TrainResult) -> float:
    squares = (np.square(x, dtype=np.float64).sum() for x in result.change.values())
    return math.sqrt(sum(squares))


def _medians(pairs: list[list[float]]) -> list[float]:
    return [median(values) for values in zip(*pairs, strict=True)]
