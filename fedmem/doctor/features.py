"""The items' vectors: how many there are, and whether they say anything."""

from __future__ import annotations

import numpy as np

from fedmem.core.arrays import Floats
from fedmem.core.data.content import kinds_of
from fedmem.core.evaluation.feature_quality import content_start, neighbour_similarity
from fedmem.core.memory import (
    Novelties,
    auto_threshold,
    item_vectors,
    novelty_histogram,
    written_share,
)
from fedmem.doctor.case import Case
from fedmem.doctor.finding import CONTENT, MEMORY, Finding, check, ok, problem, warn_if

SAMPLE_USERS = 200
WRITE_RATIOS = (0.01, 0.5)
"""Outside of this share of interactions written, a tier of 200 stays empty or forgets at once."""


PLURALS = {"visual": "pictures", "text": "texts"}


def _modalities(case: Case) -> dict[str, Floats]:
    """Vectors [I, W] by modality, the padding left out; none of one that the run goes without."""
    content = case.content
    kinds = kinds_of(case.settings)
    return {PLURALS[kind]: getattr(content, kind).numpy()[1:] for kind in kinds}


@check("features", CONTENT, quick=True)
def features(case: Case) -> Finding:
    """The feature files are there, readable, finite, and have a row for every item.

    Problem: one is not, or the data have none (then only stage 1 can run).
    """
    modalities = _modalities(case)
    widths = (f"{name} {vectors.shape[1]} wide" for name, vectors in modalities.items())
    lacking = (f"no {name}" for name in PLURALS.values() if name not in modalities)
    return ok(", ".join([*widths, *lacking]))


@check("coverage", CONTENT, quick=True)
def coverage(case: Case) -> Finding:
    """Share of the interactions whose item has a vector; rows of zeros have none.

    Warning: below one half in pictures or texts.
    Problem: no item has either.
    """
    items = case.interactions.items - 1
    shares = {n: float(np.asarray(v.any(1))[items].mean()) for n, v in _modalities(case).items()}
    listed = " and ".join(f"{share:.0%} have {name}" for name, share in shares.items())
    figure = f"of the interactions {listed or 'none have content'}"
    if not any(shares.values()):
        return problem(figure, "make the features again: a row of the file is an item id.")
    advice = "make features for more items; those without are ranked by ID only."
    return warn_if(min(shares.values()) < 0.5, figure, advice)


@check("duplicates", CONTENT, quick=True)
def duplicates(case: Case) -> Finding:
    """Items whose vector is exactly that of another item, such as a placeholder's.

    Warning: more than a fifth of those that have one.
    Problem: all of them, in pictures and in texts.
    """
    shares = {}
    for name, vectors in _modalities(case).items():
        rows = np.ascontiguousarray(vectors[np.asarray(vectors.any(axis=1))])
        keys = rows.view([("row", f"V{rows.itemsize * rows.shape[1]}")]).ravel()
        counts = np.unique(keys, return_counts=True)[1] if len(rows) else np.zeros(0, np.int64)
        shares[name] = float(counts[counts > 1].sum() / max(len(rows), 1))
    listed = ", ".join(f"{share:.0%} of the {name}" for name, share in shares.items())
    figure = f"{listed} are another item's too"
    if min(shares.values(), default=0.0) == 1.0:
        return problem(figure, "make the features again: they are the same for all items.")
    advice = "leave placeholders out: a row of zeros marks a missing vector."
    return warn_if(max(shares.values(), default=0.0) > 0.2, figure, advice)


@check("norms", CONTENT, quick=True)
def norms(case: Case) -> Finding:
    """Lengths of the vectors, on which the projectors' step depends.

    Warning: the longest is more than 20 times the median.
    """
    parts, worst = [], 0.0
    for name, vectors in _modalities(case).items():
        lengths = np.linalg.norm(vectors[vectors.any(axis=1)], axis=1)
        if len(lengths):
            parts.append(f"{name} {np.median(lengths):.3g}, longest {lengths.max():.3g}")
            worst = max(worst, float(lengths.max() / np.median(lengths)))
    figure = "median length of " + "; ".join(parts)
    advice = "scale every row to unit length, or look for broken files."
    return warn_if(worst > 20, figure, advice)


@check("quality", CONTENT, quick=True)
def quality(case: Case) -> Finding:
    """Mean cosine of items that follow each other in a history, less that of random pairs.

    Warning: in pictures or in texts the 95% interval of the difference is not above 0. They are
    noise, or their rows are in another order than the items.
    """
    parts, noise = [], []
    for name, vectors in _modalities(case).items():
        padded = np.concatenate([np.zeros_like(vectors[:1]), vectors])
        found = neighbour_similarity(padded, case.interactions, case.settings.seed)
        if np.isnan(found.difference):
            parts.append(f"{name} (too few neighbours have them)")
            continue
        parts.append(f"{name} {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        if not found.low > 0:
            noise.append(name)
    figure = "neighbours are more alike than random pairs by " + ", ".join(parts)
    advice = f"the {' and '.join(noise)} look like noise: is row = item id, and the model right?"
    return warn_if(bool(noise), figure, advice)


@check("start", CONTENT, quick=True)
def start(case: Case) -> Finding:
    """Whether item embeddings start as is likely to pay: at random, or from content.

    Warning: they start from content, and it is not likely to pay: fewer than half of the
    interactions are with items that have any, or content goes with nothing that users do.
    """
    vectors = item_vectors(case.content.visual.numpy(), case.content.text.numpy())
    found = content_start(vectors, case.interactions, case.settings.seed)
    from_content = case.settings.model.item_start == "content"
    advice = "set model.item_start=random, or look at coverage and quality."
    return warn_if(from_content and not found.pays, str(found), advice)


@check("threshold", MEMORY, quick=True)
def threshold(case: Case) -> Finding:
    """Share of the interactions novel enough for long-term memory, from 200 users.

    Warning: with a `memory.threshold` that is a number, below 1% or above 50%.
    Problem: nothing would be written.
    """
    memory, found = case.settings.memory, case.interactions
    vectors = item_vectors(case.content.visual.numpy(), case.content.text.numpy())
    users = np.random.default_rng(case.settings.seed).permutation(case.users)[:SAMPLE_USERS]
    novelties = Novelties(found, vectors, memory.short_term_capacity)
    novelty = novelties.at(found.training_places(users))
    histogram = novelty_histogram(novelty)
    auto = auto_threshold(histogram, memory.write_ratio)
    limit, share = auto, written_share(histogram, auto)
    if memory.threshold != "auto":
        limit, known = float(memory.threshold), novelty[~np.isnan(novelty)]
        share = float((known >= limit).mean()) if len(known) else 0.0
    figure = f"memory.threshold={memory.threshold} ({limit:.3g}) lets {share:.1%} in"
    advice = f"set memory.threshold=auto (about {auto:.3g} here, for {memory.write_ratio:.0%})."
    if memory.threshold == "auto":
        if share == 0.0:
            return problem(f"{figure}: no interaction is novel", "look at duplicates and coverage.")
        return ok(figure)
    if share == 0.0:
        return problem(f"{figure}: long-term memory stays empty", advice)
    return warn_if(not WRITE_RATIOS[0] <= share <= WRITE_RATIOS[1], figure, advice)
