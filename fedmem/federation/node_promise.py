"""What a node promises to its users where the server is not trusted (`privacy=distributed`).

The node draws who takes part, adds its share of the noise to what it sends, and its own noise to
its figures, all from a secret of its own. A real one makes a new secret for each message, and keeps
nothing of it: a message that is repeated, while other nodes are there, must not have the same
noise. Simulated ones keep theirs in the run's folder, so that a run that goes on comes to the same
bits.

A real node also counts what it has released, in its folder, and refuses what is beyond its limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flwr.app import Context

from fedmem.core.arrays import UserIndices
from fedmem.core.errors import FedmemError
from fedmem.core.files.atomic import replacing
from fedmem.core.privacy.accounting import Release
from fedmem.core.privacy.discrete import Noise, NoiseShare, honest_of
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.privacy.plan import figures_of, rounds_of
from fedmem.core.privacy.rounds import drawn, noised_figures
from fedmem.core.privacy.secret import SecretStreams, new_key
from fedmem.core.settings import Settings
from fedmem.core.updates.private import SummedUpdates
from fedmem.federation.node_config import MAX_DELTA, MAX_EPSILON, USUAL_DELTA, is_simulated
from fedmem.messaging.messages import Task

SECRET, RELEASED = "secret.json", "released.json"
"""In a node's folder: the secret of a simulated one, what a real one has released."""


class NodePromise:
    """A node's part in one private message.

    Args:
        settings: of the run.
        task: of the message.
        context: of the node.
        folder: of the node.

    Raises:
        FedmemError: the settings are beyond the node's limits.
    """

    def __init__(self, settings: Settings, task: Task, context: Context, folder: Path) -> None:
        self._settings = settings
        self._task = task
        self._simulated = is_simulated(context.node_config)
        self._node, self._run = context.node_id, context.run_id
        self._folder = folder
        self._streams = SecretStreams(_kept_key(folder) if self._simulated else new_key())
        self._most = context.node_config.get(MAX_EPSILON)
        delta, most = settings.privacy.delta, context.node_config.get(MAX_DELTA, USUAL_DELTA)
        if self._most is not None and delta > float(most):
            raise self._refusal(f"privacy.delta={delta:g} is above its own {MAX_DELTA}={most:g}")

    def drawn(self, users: UserIndices) -> UserIndices:
        """Those of the node's users who take part in the round."""
        return drawn(self._settings, users, self._streams, self._task.stage, self._task.round)

    def noise(self, levels: float, size: int, needed: int) -> Noise:
        """The node's share [size] of the noise, in integers; from now on the round counts.

        Args:
            levels: integers per unit.
            size: numbers of the update.
            needed: nodes that have to remain, or the sum is not opened.

        Raises:
            FedmemError: the server asks for no noise, or the node's limit is reached.
        """
        multiplier = self._task.hints.get(SummedUpdates.name, 0.0)
        if not (multiplier > 0 and levels > 0):
            raise self._refusal("the server names no noise for it")
        share = NoiseShare(multiplier, levels, size, honest_of(needed))
        self._count(rounds_of(self._settings, self._task.stage, multiplier))
        return share.draw(self._streams, f"noise/{self._task.stage}/{self._task.round}")

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums of metrics over the node's users, with noise where figures are noised.

        Raises:
            FedmemError: exact figures are asked for, or the node's limit is reached.
        """
        task, privacy = self._task, self._settings.privacy
        if privacy.figures == "exact":
            if self._most is not None:
                raise self._refusal("privacy.figures=exact is outside of any promise")
            return dict(sums)
        self._count(figures_of(self._settings, task.stage))
        name = f"figures/{task.stage}/{task.split}/{task.round}"
        return noised_figures(sums, privacy.figures_noise, self._streams, name)

    def _count(self, release: Release) -> None:
        """Write down what is to be released, before it is.

        Raises:
            FedmemError: with it the node would have released more than its limit.
        """
        if self._simulated:
            return
        # Those of two runs are never one entry: only within a run is anything known of an order.
        release = replace(release, of=f"{release.of}, run {self._run}")
        path = self._folder / RELEASED
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
            delta = self._settings.privacy.delta
            ledger = Ledger.from_dict({"delta": delta, "noise": 0.0, "key": "", "releases": known})
            ledger = ledger.charged(release)
            if self._most is not None and ledger.epsilon > float(self._most):
                raise self._refusal(
                    f"with it ε would be {ledger.epsilon:.3g}, and its own {MAX_EPSILON} is "
                    f"{self._most:g}"
                )
            with replacing(path) as partial:
                partial.write_text(json.dumps(ledger.entries), encoding="utf-8")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._refusal(f"{path} cannot count it: {error}") from error

    def _refusal(self, reason: str) -> FedmemError:
        what = f"round {self._task.round} of {self._task.stage}"
        return FedmemError(f"Node {self._node} sends nothing of {what}: {reason}.")


def promise_of(
    settings: Settings, task: Task, context: Context, folder: Path
) -> NodePromise | None:
    """What the node owes its users beside the task; None: the run has another privacy, or none.

    Raises:
        FedmemError: the node has a limit, which such a run does not keep to.
    """
    if settings.privacy.of_nodes:
        return NodePromise(settings, task, context, folder)
    if MAX_EPSILON in context.node_config:
        raise FedmemError(
            f"Node {context.node_id} sends nothing without noise of its own ({MAX_EPSILON} of its "
            "node-config): set privacy=distributed."
        )
    return None


def _kept_key(folder: Path) -> str:
    """The secret of a simulated node; made, where it has none yet."""
    path = folder / SECRET
    if not path.is_file():
        with replacing(path) as partial:
            partial.write_text(json.dumps({"key": new_key()}), encoding="utf-8")
    return str(json.loads(path.read_text(encoding="utf-8"))["key"])
