"""What a process keeps of the nodes that it serves: data, and parameters that were sent once."""

from __future__ import annotations

import functools
from pathlib import Path

from flwr.app import Context, Message

from fedmem.core.corpus import Corpus
from fedmem.core.data.forgotten import Forgotten, read_forgotten
from fedmem.core.files.home import at_home
from fedmem.core.machine.device import set_threads
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.federation.node_config import ConfigValue
from fedmem.federation.node_settings import settle_here, users_here
from fedmem.federation.parameter_store import ParameterStore
from fedmem.runs.folder import FROZEN, NODES

SCOPE = "scope"


NODES_KEPT = 64
"""By a process. Beside what its own users take, a node has a model of each stage."""


@functools.lru_cache(maxsize=NODES_KEPT)
def cached_node(
    settings_json: str,
    node_config: tuple[tuple[str, ConfigValue], ...],
    forgotten: Forgotten,
) -> Node:
    """A node's data, loaded once in a process, and anew where something more was forgotten."""
    here = dict(node_config)
    settings = _settled(settings_json, node_config)
    set_threads(settings.simulation.threads, settings.simulation.device)
    return Node(settings, users_here(settings, here), cached_corpus(settings.to_json(), forgotten))


@functools.lru_cache(maxsize=1)
def cached_corpus(settings_json: str, _forgotten: Forgotten) -> Corpus:
    """What nodes of the same settings share, read once in a process, and anew likewise."""
    return Corpus(Settings.from_json(settings_json))


@functools.lru_cache(maxsize=1)
def frozen_store(output_dir: str) -> ParameterStore:
    """The run's frozen parameters, read once in a process."""
    return ParameterStore(Path(output_dir) / FROZEN)


@functools.lru_cache(maxsize=1)
def scope_store(output_dir: str) -> ParameterStore:
    """The parameters that the server's steps go from, likewise."""
    return ParameterStore(Path(output_dir) / FROZEN / SCOPE)


def node_at(settings_json: str, context: Context) -> Node:
    """The node whose context this is."""
    here = tuple(sorted(context.node_config.items()))
    return cached_node(settings_json, here, read_forgotten(_settled(settings_json, here).data))


def node_of(query: Message, context: Context) -> Node:
    """The node that a query is about: the one that answers."""
    return node_at(str(query.content.config_records["about"]["settings"]), context)


def settings_at(settings_json: str, context: Context) -> Settings:
    """The settings of a run as they are true at the node."""
    return _settled(settings_json, tuple(sorted(context.node_config.items())))


@functools.lru_cache(maxsize=NODES_KEPT)
def _settled(settings_json: str, node_config: tuple[tuple[str, ConfigValue], ...]) -> Settings:
    return settle_here(Settings.from_json(settings_json), dict(node_config))


def own_folder(settings: Settings, context: Context) -> Path:
    """Where the node keeps what is its own: `state-dir` of its configuration, or under the run's.

    Simulated nodes have no configuration, and are distinguished by their partition.
    """
    given = context.node_config.get("state-dir")
    if given is not None:
        return Path(at_home(str(given)))
    return Path(settings.output_dir) / NODES / str(context.node_config["partition-id"])
