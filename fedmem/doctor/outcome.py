"""The results of a finished run, and what to try where they are poor."""

from __future__ import annotations

import math
from typing import Any

import torch

from fedmem.core.data.id_files import require_same_data
from fedmem.core.model.parameters import router_weights
from fedmem.core.stages import ALIGN_PROJECTORS, FINETUNE_MOE, PRETRAIN_SASREC
from fedmem.doctor.case import Case
from fedmem.doctor.finding import MEMORY, Finding, check, ok, problem, warn_if


def _hit_rate(result: dict[str, Any]) -> float:
    return float(result["test"]["sampled/HR@10"])


@check("data of the run", after=True)
def data_of_the_run(case: Case) -> Finding:
    """Users and histories are those that the run was begun with.

    Problem: others are where its data were, so that what is looked at below is not its own.
    """
    if case.folder is not None:
        require_same_data(case.folder, case.settings)
    return ok(f"{len(case.users):,} users in {case.settings.data.dir}")


@check("figures", after=True)
def figures(case: Case) -> Finding:
    """HR@10 of every stage on the test items, `sampled`.

    Problem: a figure is not finite.
    """
    parts = {name: _hit_rate(result) for name, result in case.results.items()}
    figure = ", ".join(f"{name} {rate:.4f}" for name, rate in parts.items())
    if not all(map(math.isfinite, parts.values())):
        return problem(figure, "lower client.learning_rate and strategy.learning_rate.")
    return ok(figure)


@check("best round", after=True)
def best_round(case: Case) -> Finding:
    """The round that each stage kept, of those that it ran.

    Warning: round 0, so the stage kept what it started from; or one of the first tenth.
    """
    kept = {n: (int(r["best_round"]), int(r["rounds"])) for n, r in case.results.items()}
    early = [name for name, (best, rounds) in kept.items() if best == 0 or best < 0.1 * rounds]
    figure = ", ".join(f"{name} {best} of {rounds}" for name, (best, rounds) in kept.items())
    figure += f": early in {', '.join(early)}" if early else ""
    advice = "lower strategy.learning_rate; look at the features' quality; try another seed."
    return warn_if(bool(early), figure, advice)


@check("stage 2", (ALIGN_PROJECTORS.name,), after=True)
def stage_2(case: Case) -> Finding:
    """HR@10 of stage 2 against stage 1.

    Warning: lower by more than 0.05, where content disturbs the ranking.
    """
    advice = "look at the features' quality; lower strategy.learning_rate; raise loss.alignment."
    return _against(case, ALIGN_PROJECTORS.name, 0.05, advice)


@check("stage 3", (FINETUNE_MOE.name,), after=True)
def stage_3(case: Case) -> Finding:
    """HR@10 of stage 3 against stage 1.

    Warning: lower.
    """
    advice = "run more rounds with loss.identity=1, lower strategy.learning_rate; see alignment."
    return _against(case, FINETUNE_MOE.name, 0.0, advice)


def _against(case: Case, name: str, allowed: float, advice: str) -> Finding:
    first, later = case.results.get(PRETRAIN_SASREC.name), case.results.get(name)
    if later is None:
        return ok(f"{name} is not of this run")
    if first is None:
        return ok(f"{_hit_rate(later):.4f}; {PRETRAIN_SASREC.name} is not of this run")
    before, after = _hit_rate(first), _hit_rate(later)
    # The standard error of the difference of two such rates, of users drawn anew each time.
    chance = math.sqrt(max(2 * before * (1 - before), 0.0) / max(len(case.users), 1))
    figure = f"HR@10 {after:.4f} after {before:.4f} (chance ± {chance:.4f})"
    return warn_if(after < before - allowed, figure, advice)


@check("memory filled", MEMORY, after=True)
def memory_filled(case: Case) -> Finding:
    """st_size, lt_size and write ratio of the users' memories at the test.

    Warning: with `memory.threshold=auto`, a write ratio off its target by more than a half; or
    more than half of the long-term writes were evictions.
    Problem: a tier is empty.
    """
    found = case.results.get(FINETUNE_MOE.name, {}).get("memory")
    memory = case.settings.memory
    if not found:
        return problem("no figures of a memory", "run stage=finetune_moe to its end.")
    users = max(found["st_capacity"] / memory.short_term_capacity, 1.0)
    writes = found["promotions"] + found["merges"]
    ratio = writes / max(found["ingested"], 1.0)
    figure = (
        f"a user: st_size {found['st_size'] / users:.1f} of {memory.short_term_capacity}, "
        f"lt_size {found['lt_size'] / users:.1f} of {memory.long_term_capacity}; "
        f"write ratio {ratio:.1%} (target {memory.write_ratio:.0%})"
    )
    if not found["st_size"] or not found["lt_size"]:
        return problem(f"{figure}: empty", "set memory.threshold=auto; look at the features.")
    off = memory.threshold == "auto" and not 0.5 <= ratio / memory.write_ratio <= 1.5
    full = not off and found["evictions"] > 0.5 * writes
    figure += f"; {found['evictions']:,.0f} evictions" if full else ""
    advice = "lower memory.write_ratio or raise memory.long_term_capacity."
    if off:
        advice = "look at the features' duplicates: novelty has few values."
    return warn_if(off or full, figure, advice)


@check("router", MEMORY, after=True)
def router(case: Case) -> Finding:
    """The router's weights over the items: mean of each expert, and s.d. between items.

    Warning: the s.d. is below 0.01 for every expert: all items get the same weights.
    """
    weights, names = _router_weights(case)
    if len(names) == 1:
        return ok(f"one expert: {names[0]}")
    means, spreads = weights.mean(0).tolist(), weights.std(0).tolist()
    figure = ", ".join(
        f"{name} {mean:.3f} ± {spread:.3f}"
        for name, mean, spread in zip(names, means, spreads, strict=True)
    )
    alike = max(spreads) < 0.01
    figure += ": alike for all items" if alike else ""
    advice = "run more rounds; lower loss.load_balance; see whether memory counts, below."
    return warn_if(alike, figure, advice)


@check("load balance", MEMORY, after=True)
def load_balance(case: Case) -> Finding:
    """Mean weight of each expert, and Σ(usage − 1/E)².

    Warning: an expert has less than 5%.
    """
    weights, names = _router_weights(case)
    usage = weights.mean(0)
    loss = float((usage - 1 / len(names)).square().sum())
    least, share = min(zip(names, usage.tolist(), strict=True), key=lambda each: each[1])
    figure = f"Σ(usage − 1/{len(names)})² {loss:.4f}; {least} has least, {share:.2f}"
    advice = "raise loss.load_balance, or take it out of model.experts."
    return warn_if(share < 0.05, figure, advice)


@check("memory counts", MEMORY, after=True)
def memory_counts(case: Case) -> Finding:
    """γ: the weights of content and of memory in the score.

    Warning: memory's is below 0.01, so the experts add nothing.
    """
    parameters = case.made(FINETUNE_MOE.name).parameters
    content, memory = (float(parameters[f"gating_weight.{name}"]) for name in ("content", "memory"))
    figure = f"γ of content {content:.3f}, of memory {memory:.3f}"
    advice = "run more rounds of finetune_moe; raise loss.score."
    return warn_if(abs(memory) < 0.01, figure, advice)


def _router_weights(case: Case) -> tuple[torch.Tensor, list[str]]:
    """([I, E] weights of the experts for every item, their names)."""
    made = case.made(FINETUNE_MOE.name)
    return router_weights(made.model, made.parameters), list(made.model.experts)
