"""Whether a run keeps what its ledger promises, as far as an attack can say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from scipy.linalg import toeplitz

from fedmem.core.console import make_table, say
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.privacy.accounting import Floats
from fedmem.core.privacy.audit import Audit, judge, likelihood_ratios
from fedmem.core.privacy.noise import bands
from fedmem.core.privacy.plan import blocks, open_ledger, rounds_of
from fedmem.core.privacy.rounds import PrivateRounds
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage
from fedmem.privacy.canaries import Canaries, CanaryNode, CanaryRoster, WatchedFedAvg, Witness
from fedmem.runs.stage_progress import StageRules


def print_audit(settings: Settings, canaries: int, rounds: int | None, seeds: int) -> bool:
    """Audit runs of these settings, print what was found, and return whether the ledger stands.

    Args:
        settings: of the runs; the first stage is trained, from its start.
        canaries: users that are in or not by a coin each.
        rounds: of a run, which spend all of its budget; None: those of the settings.
        seeds: runs, of the seed of the settings and those after it.

    Raises:
        FedmemError: there is nothing to audit, or the data are not there.
    """
    for each in (canaries, seeds, 1 if rounds is None else rounds):
        if each < 1:
            raise FedmemError(f"{each} is too few: --canaries, --rounds and --seeds are from 1.")
    table = make_table(
        f"{settings.data.name}\nseed", "ε of the\nledger", "\nε̂", "at least\n(95%)", "\nAUC", gap=3
    )
    console, found = Console(), []
    for seed in range(settings.seed, settings.seed + seeds):
        audit = audited(_alone(replace(settings, seed=seed), rounds), canaries)
        figures = (audit.claimed, audit.estimate, audit.bound)
        table.add_row(str(seed), *(f"{x:.2f}" for x in figures), f"{audit.auc:.3f}")
        found.append(audit)
    console.print(table)
    say(_explained(found), console)
    return not any(audit.refutes for audit in found)


def audited(settings: Settings, count: int) -> Audit:
    """Run the only stage of the settings with so many canaries, and judge what it releases.

    Raises:
        FedmemError: the data are not there, or the budget allows no round.
    """
    (stage,) = map(find_stage, settings.stage)
    node = CanaryNode(settings, participants(settings))
    rows = node.starting_rows() if settings.starts_from_content else None
    items, seed = node.interactions.num_items, settings.seed
    parameters = initial_parameters(settings.model, stage, items, (0, 0), seed, {}, rows)
    first = node.interactions.num_users
    node.canaries = canaries = Canaries.draw(settings, parameters, first, count)
    roster = CanaryRoster(settings, node, stage)
    rules = StageRules(settings, stage)
    ledger = open_ledger(settings, len(roster.users), {})
    progress = rules.begin(parameters, None, ledger)
    public = PrivateRounds(settings, stage.name, len(roster.users), ledger, parameters)
    roster.witness = Witness(canaries, public.mechanism.expected)
    strategy = WatchedFedAvg(roster.witness, settings, stage, roster, {}, progress)
    while not progress.over:
        progress = rules.charged(replace(progress, round=progress.round + 1))
        progress, record = strategy.train(progress)
        progress = rules.trained(progress, record)
    assert progress.ledger is not None
    seen, taken = (
        np.array(roster.witness.rounds),
        _turns(settings, public, canaries, progress.round),
    )
    whitened = _independent(settings, progress.round)
    release = rounds_of(settings, stage.name, ledger.noise)
    scores = likelihood_ratios(whitened @ seen, whitened @ taken, release.noise, release.rate)
    return judge(scores, canaries.present, progress.ledger.releases, ledger.delta)


def _turns(settings: Settings, public: PrivateRounds, canaries: Canaries, rounds: int) -> Floats:
    """[T, C] whether a canary that is in takes part in a round, or may, where nobody knows."""
    if settings.privacy.schedule == "poisson":
        return np.ones((rounds, len(canaries.users)))
    own = [np.isin(canaries.users, public.sample(canaries.users, t + 1)) for t in range(rounds)]
    return np.array(own, dtype=float)


def _independent(settings: Settings, rounds: int) -> Floats:
    """[T, T] what makes the noise of a round independent of that of the rounds before."""
    column = bands(blocks(settings)) if settings.privacy.mechanism == "banded" else np.ones(1)
    padded = np.zeros(max(rounds, len(column)))
    padded[: len(column)] = column
    return np.tril(toeplitz(padded[:rounds]))


def _alone(settings: Settings, rounds: int | None) -> Settings:
    """Settings of a run whose first stage spends all of the budget, on one node.

    Raises:
        FedmemError: it is not private, or of a kind that is not audited.
    """
    privacy, name = settings.privacy, next(iter(settings.stage))
    if not privacy.on:
        raise FedmemError("These settings ask for no privacy: add privacy=central.")
    if privacy.mode != "central":
        raise FedmemError(
            f"privacy.mode={privacy.mode} is not audited, its noise is the nodes' own: audit "
            "privacy=central."
        )
    if privacy.secure_sum.enabled:
        raise FedmemError(
            "One node has nobody to hide among: set privacy.secure_sum.enabled=false. "
            "A sum is the same with it and without."
        )
    stage = find_stage(name)
    if stage.requires:
        raise FedmemError(f"{name} starts from a checkpoint: audit stage=pretrain_sasrec.")
    federation: dict[str, Any] = {"nodes": 1, "rounds": rounds or settings.of_stage(name).rounds}
    return replace(
        settings,
        stage={name: settings.stage[name]},
        federation=replace(settings.federation, **federation),
        privacy=replace(privacy, figures="exact"),
        strategy=replace(settings.strategy, min_nodes=1),
    )


def _explained(found: list[Audit]) -> str:
    lines = [
        f"\n{found[0].canaries} canaries, each in or out by a coin; the attacker knows all other "
        "users' updates\nand sees every round."
    ]
    if not all(audit.telling for audit in found):
        lines.append("So few could not refute the ledger in any case: take more --canaries.")
    refuted = sum(audit.refutes for audit in found)
    if refuted:
        lines.append(f"REFUTED in {refuted} of {len(found)} runs: more leaks than the ledger says.")
    else:
        lines.append("Nothing here speaks against the ledger.")
    return "\n".join(lines)
