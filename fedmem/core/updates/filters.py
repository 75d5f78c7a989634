"""Which filters a run has, in the order in which updates pass them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.noise import GaussianMechanism
from fedmem.core.settings import Settings
from fedmem.core.updates.direction import DirectionFilter
from fedmem.core.updates.filter import Refusal, Reply, UpdateFilter
from fedmem.core.updates.norm import NormFilter
from fedmem.core.updates.private import PrivateUpdates, SummedUpdates

FilterStates = dict[str, list[list[float]]]
"""The state of the server's filters, by their names."""


def make_filters(
    settings: Settings,
    hints: Mapping[str, float] | None = None,
    states: Mapping[str, Sequence[Sequence[float]]] | None = None,
    mechanism: GaussianMechanism | None = None,
) -> list[UpdateFilter]:
    """The filters that the settings ask for.

    At a node they take the `hints` that the server's filters sent, at the server the `states` that
    its filters carried in an earlier process, both by their names, and the `mechanism` of a private
    stage. A private run has no others: their medians would be releases of their own.
    """
    if settings.privacy.on:
        kind = SummedUpdates if settings.privacy.of_nodes else PrivateUpdates
        return [kind(settings.privacy, mechanism)]
    hints, states, strategy = hints or {}, states or {}, settings.strategy
    filters: list[UpdateFilter] = []
    if strategy.guard_ratio is not None:
        name = NormFilter.name
        limit, usual = hints.get(name, math.inf), states.get(name, ())
        filters.append(NormFilter(strategy.guard_ratio, limit, usual))
    if strategy.guard_direction:
        filters.append(DirectionFilter())
    return filters


def hints_for(filters: Sequence[UpdateFilter], users: int) -> dict[str, float]:
    """What the server's filters send to a node that trains so many users, by their names."""
    hints = {each.name: each.hint(users) for each in filters}
    return {name: hint for name, hint in hints.items() if hint is not None}


def states_of(filters: Sequence[UpdateFilter]) -> FilterStates:
    """What the server's filters carry to the next round, by their names."""
    return {each.name: each.state for each in filters}


def filter_replies(
    filters: Sequence[UpdateFilter], replies: Sequence[Reply]
) -> tuple[list[Reply], list[Refusal]]:
    """Replies through every filter's hook at the server: what is left, and what was refused."""
    kept, refused = list(replies), []
    for each in filters:
        kept, found = each.at_server(kept)
        refused += found
    return kept, refused


def filter_average(
    filters: Sequence[UpdateFilter], change: Parameters, weight: int, server_round: int
) -> Parameters:
    """The mean change of a round through every filter's last hook."""
    return reduce(lambda mean, each: each.at_average(mean, weight, server_round), filters, change)
