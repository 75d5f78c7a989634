"""What server and nodes say to each other: typed payloads, and their form as Flower records.

Arrays travel by parameter name, and only those of the stage's scope. A node gets the frozen rest
once, under its content hash; a node that does not have it (any more) answers `NeedsFrozen`. So too
with the scope where it is coded, and `NeedsScope`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedmem.core.evaluation.outcomes import Outcomes, from_arrays, to_arrays
from fedmem.core.model.parameters import Parameters
from fedmem.core.transport.codec import Codec, values_of
from fedmem.core.transport.payload import PayloadError, Shapes
from fedmem.core.updates.update import Update
from fedmem.messaging.arrays import held

DESCRIBE = "query.describe"
NOVELTY = "query.novelty"
CODED = "coded"
ITEMS, ITEMS_WITH_ROWS = "query.items", "query.items_with_rows"


def to_array_record(parameters: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Parameters as a record, by name. They must not change until it is sent."""
    return held({name: value.detach().cpu().numpy() for name, value in parameters.items()})


def from_array_record(record: ArrayRecord) -> Parameters:
    """The inverse of `to_array_record`."""
    # `numpy` gives each array memory of its own.
    arrays = {name: np.asarray(array.numpy(), order="C") for name, array in record.items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def to_coded_record(payloads: Sequence[bytes]) -> ArrayRecord:
    """Payloads of `fedmem.core.transport.codec`, in order, as a record."""
    octets = (np.frombuffer(payload, np.uint8) for payload in payloads)
    return ArrayRecord({str(place): Array(each) for place, each in enumerate(octets)})


def from_coded_record(record: ArrayRecord) -> list[bytes]:
    """The inverse of `to_coded_record`."""
    return [record[str(place)].numpy().tobytes() for place in range(len(record))]


def to_metric_record(values: Mapping[str, float]) -> MetricRecord:
    """Numbers by name, as a record."""
    return MetricRecord({name: value for name, value in values.items()})  # noqa: C416 - widens


@dataclass(frozen=True)
class Task:
    """Server to node: train or evaluate with these parameters.

    Attributes:
        settings: the run's settings as JSON.
        stage: name of the stage.
        scope: parameters that the stage trains.
        frozen_hash: of the frozen rest.
        frozen: the rest itself, on first contact.
        threshold: novelty threshold of the memory; None where it is off.
        round: the server's round, from 1.
        users: indices of the users that train, or whose items are ranked; None: all that live
            there.
        split: for evaluation.
        rankings: for evaluation, joined by commas.
        hints: for training: what the server's filters send to those at the node, by their names.
        ranks: for evaluation: whether to answer with each user's ranks too.
        path: where the scope is coded: hashes of what each of the `steps` goes from, and of the
            scope, which is empty unless it travels in full.
        paces: of the steps.
        steps: of the server: the changes that they are made along, as payloads.
    """

    settings: str
    stage: str
    scope: ArrayRecord
    frozen_hash: str
    frozen: ArrayRecord | None
    threshold: float | None
    round: int
    users: npt.NDArray[np.integer] | None = None
    split: str = ""
    rankings: str = ""
    hints: Mapping[str, float] = field(default_factory=dict)
    ranks: bool = False
    path: Sequence[str] = ()
    paces: Sequence[float] = ()
    steps: ArrayRecord = field(default_factory=ArrayRecord)

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        about = {name: vars(self)[name] for name in ABOUT if vars(self)[name] is not None}
        record = RecordDict(
            {
                "about": ConfigRecord(about),
                "scope": self.scope,
                "hints": to_metric_record(self.hints),
            }
        )
        if self.users is not None:
            record["users"] = ArrayRecord({"users": Array(self.users.astype(np.int32))})
        if self.frozen is not None:
            record["frozen"] = self.frozen
        if self.path:
            path = {"path": list(self.path), "paces": list(self.paces)}
            record["path"] = ConfigRecord(cast(dict[str, Any], path))
            record["steps"] = self.steps
        return record

    @classmethod
    def from_record(cls, record: RecordDict) -> Task:
        """As a node reads it."""
        about: dict[str, Any] = {"threshold": None, **record.config_records["about"]}
        users, path = record.array_records.get("users"), record.config_records.get("path")
        return cls(
            scope=record.array_records["scope"],
            frozen=record.array_records.get("frozen"),
            users=None if users is None else users["users"].numpy(),
            hints={name: cast(float, x) for name, x in record.metric_records["hints"].items()},
            path=cast(list[str], path["path"]) if path is not None else (),
            paces=cast(list[float], path["paces"]) if path is not None else (),
            steps=record.array_records.get("steps", ArrayRecord()),
            **about,
        )


ABOUT = ("settings", "stage", "frozen_hash", "threshold", "round", "split", "rankings", "ranks")
"""What of a task is plain words and numbers."""


def update_to_record(update: Update, coded: bytes | None = None) -> RecordDict:
    """A node's update as Flower sends it, its change as it is or as `coded` has it."""
    metrics = {
        "num-examples": update.weight,
        "loss": update.loss,
        "users": update.users,
        "left-out": update.left_out,
    }
    change = to_array_record(update.change) if coded is None else to_coded_record([coded])
    name = "change" if coded is None else CODED
    return RecordDict({name: change, "metrics": to_metric_record(metrics)})


def update_from_record(
    record: RecordDict, codec: Codec | None = None, shapes: Shapes | None = None
) -> Update:
    """The inverse of `update_to_record`; where a codec rounds, of a change of these shapes.

    Raises:
        PayloadError: the change is coded in another way.
        KeyError, TypeError, ValueError: the record is of another kind.
    """
    metrics = record.metric_records["metrics"]
    if (CODED in record) == (codec is None or codec.exact):
        raise PayloadError("is of another codec than transport.bits asks for")
    if codec is None or codec.exact:
        change = from_array_record(record.array_records["change"])
    else:
        (data,) = from_coded_record(record.array_records[CODED])
        change = values_of(codec.from_bytes(data, shapes or {}))
    return Update(
        change=change,
        weight=cast(int, metrics["num-examples"]),
        loss=cast(float, metrics["loss"]),
        users=cast(int, metrics["users"]),
        left_out=cast(int, metrics["left-out"]),
    )


@dataclass(frozen=True)
class EvaluateResult:
    """Node to server: sums over users, of metrics and, where the memory is on, of its figures.

    Attributes:
        sums: of metrics, and the number of users.
        memory: of the memories' figures.
        outcomes: each user's ranks, where the task asked for them.
    """

    sums: dict[str, float]
    memory: dict[str, float]
    outcomes: Outcomes = field(default_factory=dict)

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        record = RecordDict(
            {"sums": to_metric_record(self.sums), "memory": to_metric_record(self.memory)}
        )
        if self.outcomes:
            arrays = to_arrays(self.outcomes)
            record["ranks"] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        return record

    @classmethod
    def from_record(cls, record: RecordDict) -> EvaluateResult:
        """As the server reads it."""
        sums, memory = (
            {k: float(cast(float, v)) for k, v in record.metric_records[part].items()}
            for part in ("sums", "memory")
        )
        ranks = record.array_records.get("ranks", ArrayRecord())
        return cls(sums, memory, from_arrays({n: array.numpy() for n, array in ranks.items()}))


@dataclass(frozen=True)
class NeedsFrozen:
    """Node to server, in place of a result: send the task again with the frozen rest."""

    frozen_hash: str

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        return RecordDict({"needs-frozen": ConfigRecord({"hash": self.frozen_hash})})

    @staticmethod
    def is_in(record: RecordDict) -> bool:
        """Whether a reply is one."""
        return "needs-frozen" in record


@dataclass(frozen=True)
class NeedsScope:
    """Node to server, in place of a result: send the task again with the scope in full."""

    scope_hash: str

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        return RecordDict({"needs-scope": ConfigRecord({"hash": self.scope_hash})})

    @staticmethod
    def is_in(record: RecordDict) -> bool:
        """Whether a reply is one."""
        return "needs-scope" in record


@dataclass(frozen=True)
class Description:
    """Node to server: who lives there, by opaque index, and what they choose from.

    Attributes:
        users: indices.
        num_items: items without the padding.
        catalogue: fingerprint of the items; nodes of one federation share it.
        widths: of visual and text vectors; 0 where the run needs none.
        content: hash of these vectors as the files hold them; empty where the run needs none.
    """

    users: npt.NDArray[np.int32]
    num_items: int
    catalogue: str
    widths: tuple[int, int]
    content: str = ""

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        about = ConfigRecord(
            {
                "items": self.num_items,
                "catalogue": self.catalogue,
                "widths": list(self.widths),
                "content": self.content,
            }
        )
        users = ArrayRecord({"users": Array(self.users)})
        return RecordDict({"about": about, "users": users})

    @classmethod
    def from_record(cls, record: RecordDict) -> Description:
        """As the server reads it."""
        about: dict[str, Any] = dict(record.config_records["about"])
        visual, text = about["widths"]
        users = record.array_records["users"]["users"].numpy().astype(np.int32)
        return cls(users, about["items"], about["catalogue"], (visual, text), about["content"])


@dataclass(frozen=True)
class ItemsHere:
    """Node to server: what a start of the item table asks of it.

    Attributes:
        interactions: training interactions of the users who live there.
        content: hash of the items' content; empty where the node has none.
        rows: [I + 1, K] rows of mean length 1 made of it, where they were asked for.
    """

    interactions: int
    content: str
    rows: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def to_record(self) -> RecordDict:
        """As Flower sends it."""
        about = ConfigRecord({"interactions": self.interactions, "content": self.content})
        return RecordDict({"about": about, "rows": to_array_record({"rows": self.rows})})

    @classmethod
    def from_record(cls, record: RecordDict) -> ItemsHere:
        """As the server reads it."""
        about: dict[str, Any] = dict(record.config_records["about"])
        return cls(**about, rows=from_array_record(record.array_records["rows"])["rows"])
