"""What a node's reply to a training message must be, before any filter looks at it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from flwr.app import Message
from torch import Tensor

from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.transport.codec import Codec, shapes_of
from fedmem.core.transport.payload import PayloadError
from fedmem.core.updates.filter import Refusal, Reply
from fedmem.core.updates.update import Update
from fedmem.messaging.messages import update_from_record


class ReplyChecks:
    """Sorts replies into those of the right form and those that are refused, with the reason.

    Args:
        settings: of the run.
        stage: whose scope is asked for.

    Attributes:
        most_targets: that a user can train on.
    """

    def __init__(self, settings: Settings, stage: Stage) -> None:
        self._stage = stage
        self.most_targets = settings.client.windows * settings.model.max_length
        self._codec = Codec(settings.transport)

    def sort_out(
        self, messages: Iterable[Message], asked: Mapping[int, int], scope: Mapping[str, Tensor]
    ) -> tuple[list[Reply], list[Refusal]]:
        """The replies of the right form, in an order of their own, and the others.

        Args:
            messages: replies without an error.
            asked: users that each node was to train, by node id.
            scope: the parameters that were sent.
        """
        shapes = shapes_of(scope)
        replies: list[Reply] = []
        refused: list[Refusal] = []
        for message in messages:
            node = message.metadata.src_node_id
            try:
                update = update_from_record(message.content, self._codec, shapes)
            except PayloadError as error:
                refused.append(Refusal(node, f"its payload {error}"))
                continue
            except (KeyError, TypeError, ValueError) as error:
                reason = f"is no result of training: {type(error).__name__} {error}"
                refused.append(Refusal(node, reason))
                continue
            fault = self._fault_of_arrays(update, scope) or self.fault_of_counts(
                update, asked.get(node, 0)
            )
            if fault:
                refused.append(Refusal(node, fault))
            else:
                replies.append(Reply(node, update))
        # Replies come in any order: sum in a fixed one, so that a run can be repeated bit for bit.
        replies.sort(key=_by_content)
        return replies, refused

    def _fault_of_arrays(self, update: Update, scope: Mapping[str, Tensor]) -> str | None:
        outside = ", ".join(sorted(set(update.change) - set(scope)))
        missing = ", ".join(sorted(set(scope) - set(update.change)))
        if outside:
            return f"offers parameters outside the scope of {self._stage.name}: {outside}"
        if missing:
            return f"lacks parameters of the scope of {self._stage.name}: {missing}"
        for name, value in update.change.items():
            shape, wanted = tuple(value.shape), tuple(scope[name].shape)
            if shape != wanted:
                return f"{name} has shape {shape}, not {wanted}"
            if value.dtype != scope[name].dtype:
                kinds = (str(x.dtype).removeprefix("torch.") for x in (value, scope[name]))
                return "{} is of type {}, not {}".format(name, *kinds)
        return None

    def fault_of_counts(self, update: Update, most: int) -> str | None:
        """What is wrong with the counts of an update, of which so many users were asked."""
        counts = (update.users, update.left_out, update.weight)
        if min(counts) < 0 or update.users + update.left_out > most:
            return f"reports {update.users} users, and was asked for {most}"
        at_most = update.users * self.most_targets
        if update.weight > at_most:
            return f"claims {update.weight} targets; {update.users} users have at most {at_most}"
        return None


def _by_content(reply: Reply) -> tuple[int, bool, float]:
    update = reply.update
    return update.weight, math.isnan(update.loss), update.loss
