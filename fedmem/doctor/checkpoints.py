"""What a stage starts from: whole, of these data, trained, and of one lineage."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.checkpoint.importing import training_loss
from fedmem.core.stages import ALIGN_PROJECTORS, PRETRAIN_SASREC
from fedmem.doctor.case import Case
from fedmem.doctor.finding import LATER, MEMORY, Finding, check, ok, problem, warn_if

PROJECTORS = ("visual_proj", "text_proj")
START = 0.02
"""S.d. of an item embedding before any training."""
SURE = 4.0
"""Standard errors that a figure has to be away from chance."""


def untouched(table: Tensor) -> float:
    """Share of the rows of item embeddings [I, D] that are as long as rows are before training.

    Those of N(0, 0.02²) are 0.02·√D long, give or take 1/√(2D) of it.
    """
    dim = table.shape[1]
    lengths = table.double().norm(dim=1) / (START * math.sqrt(dim))
    return float(((lengths - 1).abs() < SURE / math.sqrt(2 * dim)).double().mean())


@check("checkpoints", LATER, quick=True)
def checkpoints(case: Case) -> Finding:
    """The checkpoints of earlier stages are there, whole by their own hash, of these data and this
    model size, and each was trained from the one before.

    Problem: one is not; stages run in order, and a run makes those that it runs itself.
    """
    parts = []
    for name, made in case.parents.items():
        best = made.metrics.get("sampled/HR@10")
        parts.append(f"{name} round {made.round}" + (f", HR@10 {best:.3f}" if best else ""))
    return ok("; ".join(parts) or "none needed: this run makes them")


@check("values", LATER, quick=True)
def values(case: Case) -> Finding:
    """All parameters of those checkpoints are numbers.

    Problem: one is not finite, as after a learning rate that was too high.
    """
    for name, made in case.parents.items():
        bad = [key for key, value in made.parameters.items() if not value.isfinite().all()]
        if bad:
            advice = f"run {name} again with a lower client.learning_rate or strategy.learning_rate"
            return problem(f"{name}: {len(bad)} tensors are not finite, first {bad[0]}", advice)
    return ok("finite")


@check("item embeddings", LATER, quick=True)
def item_embeddings(case: Case) -> Finding:
    """Mean, s.d. and share of rows as long as before training, in the checkpoint of stage 1; and
    its loss on 30 users' training items.

    Warning: more than half of the rows are as long as before, with 64 or more dimensions.
    Problem: the loss is no better than a guess's: a random table, or one of other items.
    """
    made = case.parents.get(PRETRAIN_SASREC.name)
    if made is None:
        return ok("made by this run")
    table = made.parameters["sasrec.item_emb.weight"][1:]
    share = untouched(table)
    loss = training_loss(made.parameters, made.model, case.interactions)
    guess = math.log(len(table))
    figure = (
        f"mean {float(table.mean()):+.4f}, s.d. {float(table.std()):.4f} ({START} before "
        f"training), {share:.0%} of the rows as long as before; "
        f"loss {loss:.3f}, that of a guess {guess:.3f}"
    )
    advice = f"run {PRETRAIN_SASREC.name}"
    if not loss < guess:
        return problem(figure, f"{advice} again: this table is random, or of other items.")
    # With fewer dimensions, lengths spread so widely before training that they say little.
    fresh = share > 0.5 and table.shape[1] >= 64
    return warn_if(fresh, figure, f"{advice} for more rounds.")


@check("trained parameters", LATER, quick=True)
def trained_parameters(case: Case) -> Finding:
    """Parameters that each stage trains: 139,714 in stage 2 with pictures 512 and texts 384 wide.

    Problem: the checkpoint of stage 2 was trained on features of other widths.
    """
    stage_2 = ALIGN_PROJECTORS.name
    if stage_2 in case.parents:
        made = case.parents[stage_2].parameters
        then = tuple(made[f"{name}.weight"].shape[1] for name in PROJECTORS)
        if then != case.widths:
            figure = f"{stage_2} has projectors {then} wide, the features {case.widths}"
            advice = f"run {stage_2} on these features, or point data.*_file to the old."
            return problem(figure, advice)
    return ok(", ".join(f"{stage.name} {case.counts(stage)[1]:,}" for stage in case.stages))


@check("alignment", MEMORY, quick=True)
def alignment(case: Case) -> Finding:
    """Mean cosine of content to its own item's ID embedding, against that to all items'.

    The content of an item is the sum of its projected picture and text.
    Warning: the first is not surely above the second (by 4 standard errors).
    Problem: the projectors are zero, as before stage 2.
    """
    made = case.parents.get(ALIGN_PROJECTORS.name)
    if made is None:
        return ok("made by this run")
    present, vectors = case.content.present, (case.content.visual, case.content.text)
    content = torch.zeros(())
    for place, name in enumerate(PROJECTORS):  # P_v v + P_t t; a missing modality adds nothing
        weight, bias = (made.parameters[f"{name}.{part}"] for part in ("weight", "bias"))
        content = content + F.linear(vectors[place], weight, bias) * present[:, place, None]
    item_emb, rows = made.parameters["sasrec.item_emb.weight"], present.any(1)
    content, item_emb = F.normalize(content[rows]), F.normalize(item_emb[rows])
    if not content.any():
        return problem("the projectors are zero", f"run {ALIGN_PROJECTORS.name}.")
    own = (content * item_emb).sum(1)
    others = item_emb @ content.mean(0)  # to the content of every item, on average
    gain = own - others
    unsure = not float(gain.mean()) > SURE * float(gain.std()) / math.sqrt(max(len(gain), 1))
    figure = f"cosine {float(own.mean()):+.3f}, to shuffled items {float(others.mean()):+.3f}"
    figure += ": no sure difference" if unsure else ""
    advice = f"run {ALIGN_PROJECTORS.name} for more rounds; look at the features' quality."
    return warn_if(unsure, figure, advice)
