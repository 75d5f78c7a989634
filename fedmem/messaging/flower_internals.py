"""Flower's private parts: what is used of it beside its public packages, but for its simulation.

That is `simulation_internals.py`. They may change with any release of Flower, so `pyproject.toml`
admits one minor version, and a test sees that no other file imports them. What costs time to import
is imported where it is called: a simulation's workers need none of it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import RecordDict
from flwr.app.message import make_message
from flwr.clientapp.client_app import LoadClientAppError
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    pull_and_inflate_object_from_tree,
    pull_objects,
    push_objects,
)
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

from fedmem.messaging.superlink_internals import (
    HeldLooks,
    replaced,
    stripped,
    superlink_that_holds_calls,
)

__all__ = [
    "ClientAppCallable",
    "ErrorCode",
    "Fab",
    "ObjectTree",
    "Run",
    "RunNotRunningException",
    "connect_supernode",
    "get_all_nested_objects",
    "get_object_tree",
    "install_bundle",
    "load_client_app",
    "make_message",
    "no_object_id_recompute",
    "parse_node_config",
    "parts_of_replies_until",
    "pull_and_inflate_object_from_tree",
    "push_objects",
    "records_from_bytes",
    "records_to_bytes",
    "run_config_of",
    "start_superlink",
    "work_alone",
]

FIRST_LOOK, LONGEST_LOOK = 0.05, 0.2
"""Seconds between two looks for the parts of a reply that its node is just uploading, at first and
at most. Flower's own are 1 and 10."""


@contextlib.contextmanager
def parts_of_replies_until(end: float) -> Iterator[None]:
    """Let a grid wait until `end`, and no longer, for the rest of a reply, and look for it often.

    A reply is known to the SuperLink before its arrays are there. Where a link breaks in between,
    Flower waits for minutes, the other nodes' replies behind it, and has no setting for it.

    Args:
        end: by `time.monotonic`.
    """
    from flwr.superlink.grid import http_grid

    def bounded(object_ids: list[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        return pull_objects(
            object_ids,
            pull_object_fn,
            max_time=max(end - time.monotonic(), 0.0),
            initial_backoff=FIRST_LOOK,
            backoff_cap=LONGEST_LOOK,
        )

    with replaced(http_grid, pull_objects=bounded):
        yield


def records_to_bytes(content: RecordDict) -> bytes:
    """What a message says, names and all, as bytes."""
    data: bytes = recorddict_to_proto(content).SerializeToString(deterministic=True)
    return data


def records_from_bytes(data: bytes) -> RecordDict:
    """The inverse of `records_to_bytes`.

    Raises:
        ValueError: the bytes are no records.
    """
    proto = RecordDictProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return recorddict_from_proto(proto)


def load_client_app(folder: Path) -> Any:
    """The ClientApp of the bundle that was unpacked into a folder."""
    from flwr.common.config import get_project_config

    components = get_project_config(folder)["tool"]["flwr"]["app"]["components"]
    return load_app(components["clientapp"], LoadClientAppError, folder)


def install_bundle(fab: Fab) -> Path:
    """Unpack a run's bundle; the folder that it lies in."""
    from flwr.cli.install import install_from_fab

    return install_from_fab(fab.content, skip_prompt=True)


def run_config_of(fab: Fab, run: Run) -> Any:
    """The configuration of a run: its bundle's, with what `flwr run` was given."""
    from flwr.common.config import get_fused_config_from_fab

    return get_fused_config_from_fab(fab.content, run)


def parse_node_config(given: list[str] | None) -> Any:
    """What `--node-config` says: a TOML file, or settings as key=value."""
    from flwr.common.config import parse_config_args

    return parse_config_args(given)


PARTS_AT_ONCE = 8
"""Calls of a SuperNode that are under way at once: to wait for an answer takes no core."""


@contextlib.contextmanager
def connect_supernode(
    superlink: str,
    insecure: bool,
    certificates: bytes | None,
    keys: tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey] | None,
    on_answer: Callable[[Exception | None], None],
    looks: HeldLooks,
) -> Iterator[Any]:
    """A SuperNode's connection to its SuperLink: its id, and the calls that Flower's own makes.

    They are made again and again until they are answered. Flower says so each time and not why;
    here `on_answer` gets the reason of each that failed, and None where one did not.

    Flower fetches and sends no more parts of a message at once than there are cores, two at most;
    here they are `PARTS_AT_ONCE`. Messages that go whole take their content with them, and `looks`
    sees the looks for messages.
    """
    from flwr.supercore.inflatable import inflatable_utils
    from flwr.supernode import fleet_http_connection

    found = vars(fleet_http_connection)["make_simple_http_retry_invoker"]

    def reporting() -> Any:
        invoker = found()
        backed_off, succeeded = invoker.on_backoff, invoker.on_success

        def on_backoff(state: Any) -> None:
            backed_off(state)
            on_answer(state.exception)

        def on_success(state: Any) -> None:
            succeeded(state)
            on_answer(None)

        invoker.on_backoff, invoker.on_success = on_backoff, on_success
        return invoker

    client: Any = vars(fleet_http_connection)["FleetHttpClient"]

    class Looking(client):  # type: ignore[misc]  # as it is found
        def __init__(self, *of: Any, interceptors: Sequence[Any], **more: Any) -> None:
            super().__init__(*of, interceptors=[looks, *interceptors], **more)

    logging.getLogger("flwr").addFilter(lambda record: "retrying in" not in str(record.msg))
    with (
        replaced(inflatable_utils, get_num_workers=lambda _: PARTS_AT_ONCE),
        replaced(
            fleet_http_connection,
            make_simple_http_retry_invoker=reporting,
            FleetHttpClient=Looking,
            remove_content_from_message=stripped,
        ),
        fleet_http_connection.http_request_response(
            superlink, insecure, certificates, keys
        ) as connection,
    ):
        yield connection


def start_superlink() -> None:
    """Flower's command `flower-superlink`, which here holds calls for messages."""
    from flwr.superlink.cli.flower_superlink import flower_superlink

    with superlink_that_holds_calls():
        flower_superlink()


def work_alone() -> None:
    """Let this process make messages, though it is no part of a run of Flower's."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
