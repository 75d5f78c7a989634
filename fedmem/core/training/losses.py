"""Losses as pure functions of samples, so that any grouping of samples adds up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from fedmem.core.machine.precision import factor, is_reduced, product, rows_as_factor
from fedmem.core.model.kernels.compiled import Folding, in_full_precision
from fedmem.core.model.kernels.function import Function
from fedmem.core.model.linear import linear

ALIGNMENT_SOFTNESS = 1e-2
"""Added to |z|² in the cosine: projectors start at zero, where the cosine has no gradient."""

SCORES_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Scores over all items that are held at a time: what fits the cache of a CPU, or fills a GPU."""

SAMPLES_AT_LEAST = 256
"""With fewer at a time, adding to the gradient of a long item table would take longer than making
it."""


def cross_entropy_over_items(hidden: Tensor, item_emb: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy [N] over all items but the padding; no gradient.

    Of states [N, D], embeddings [I + 1, D], row 0 = padding, and target items [N], at least 1.
    """
    with torch.no_grad():
        return F.cross_entropy(hidden @ item_emb[1:].T, targets - 1, reduction="none")


def summed_cross_entropy_over_items(
    hidden: Tensor, item_emb: Tensor, targets: Tensor, places: Tensor | None = None
) -> Tensor:
    """`cross_entropy_over_items` of states [..., D] and targets [...], summed, with gradients.

    A target of 0 is none. The gradients are made on the way forward, a chunk of samples at a time,
    so that the scores of all samples are never held at once. `places` [N] are those of the targets
    in their flat order; a GPU that has to look for them is waited for.
    """
    asked = (hidden, item_emb, targets, places)
    total: Tensor = _SummedCrossEntropy.apply(*asked)[0]  # type: ignore[no-untyped-call]
    return total


def summed_cross_entropy_over_drawn(
    hidden: Tensor, item_emb: Tensor, targets: Tensor, candidates: Tensor, num_items: int
) -> Tensor:
    """An estimate of `summed_cross_entropy_over_items`, from candidates [C] drawn from all items.

    Those that are not the target stand for all others, each for as many, so that the estimate of
    the softmax's denominator is unbiased (Y. Bengio, J.-S. Senécal, "Adaptive Importance Sampling
    to Accelerate Training of a Neural Probabilistic Language Model", 2008). Where all items are
    drawn it is the loss itself.
    """
    samples, wanted = hidden.flatten(0, -2), targets.flatten()  # [N, D], [N]
    positive = (samples * item_emb[wanted]).sum(1, keepdim=True)  # [N, 1]
    own = candidates == wanted[:, None]  # [N, C]
    others = (candidates.shape[0] - own.sum(1, keepdim=True)).clamp(min=1)  # [N, 1]
    scores = linear(samples, item_emb[candidates]) + ((num_items - 1) / others).log()
    scores = scores.masked_fill(own, -torch.inf)
    evidence = torch.cat([positive, scores], 1).logsumexp(1)
    return ((evidence - positive[:, 0]) * (wanted > 0)).sum()


def _scores(samples: Tensor, items: Tensor, room: Tensor) -> Tensor:
    """Scores [n, I] of samples [n, D], where the last ones were: megabytes of new memory cost time.

    In reduced precision they are cast to get there; the items are a `factor` already.
    """
    room = room[: len(samples)]
    if is_reduced(samples.device):
        return room.copy_((rows_as_factor(samples) @ items.T)[: len(samples)])
    return torch.mm(samples, items.T, out=room)


def _add_product(total: Tensor, one: Tensor, other: Tensor, first: bool) -> None:
    """Add a product to a total, or put it there if it is the first: without new memory too.

    `one` is a `factor` already.
    """
    if is_reduced(total.device):
        made = one @ rows_as_factor(other)
        total.copy_(made) if first else total.add_(made)
    else:
        torch.addmm(total, one, other, beta=0 if first else 1, out=total)


class _SummedCrossEntropy(Function):
    """(loss, its gradient by `hidden`, its gradient by `item_emb`)."""

    @staticmethod
    def forward(
        hidden: Tensor, item_emb: Tensor, targets: Tensor, places: Tensor | None
    ) -> tuple[Tensor, ...]:
        places = targets.flatten().nonzero().squeeze(1) if places is None else places  # [N]
        samples = hidden.flatten(0, -2)[places]  # [N, D]
        wanted, items = targets.flatten()[places] - 1, item_emb[1:]  # [N], [I, D]
        factors = factor(items)
        by_sample = torch.empty_like(samples)
        items_train = item_emb.requires_grad
        by_item_emb = torch.empty_like(item_emb) if items_train else item_emb.new_empty(0)
        by_item_emb[: 1 if len(samples) else None] = 0  # the first chunk is put below the padding
        total = item_emb.new_zeros(())
        chunk = max(SAMPLES_AT_LEAST, SCORES_AT_ONCE[hidden.device.type] // len(items))
        room = items.new_empty(min(chunk, len(samples)), len(items))
        for start in range(0, len(samples), chunk):
            part = slice(start, start + chunk)
            scores = _scores(samples[part], factors, room)  # [n, I]
            largest = scores.amax(1, keepdim=True)
            at_target = scores.gather(1, wanted[part, None])
            odds = scores.sub_(largest).exp_()
            evidence = odds.sum(1, keepdim=True)
            total += (evidence.log() + largest - at_target).sum()
            # d loss / d scores = softmax − one-hot; the division by the evidence is left for later.
            odds = rows_as_factor(odds)
            by_sample[part] = (
                product(odds, factors)[: len(evidence)] / evidence - items[wanted[part]]
            )
            if items_train:
                _add_product(by_item_emb[1:], odds.T, samples[part] / evidence, first=not start)
                by_item_emb[1:].index_add_(0, wanted[part], samples[part], alpha=-1)
        by_hidden = hidden.new_zeros(hidden.shape)  # contiguous, where `hidden` need not be
        by_hidden.flatten(0, -2)[places] = by_sample
        return total, by_hidden, by_item_emb

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: Any, output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_item_emb = ctx.saved_tensors
        if slope.device.type != "cpu" or slope != 1:  # a GPU would be waited for
            by_hidden, by_item_emb = by_hidden * slope, by_item_emb * slope
        return by_hidden, by_item_emb if len(by_item_emb) else None, None, None

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        hidden, item_emb, targets = (
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs[:3], dims[:3], strict=True)  # their places are all
        )
        return _SideBySide.apply(hidden, item_emb, targets), (0, 0, 0)  # type: ignore[no-untyped-call]


class _SideBySide(Function):
    """`_SummedCrossEntropy` of S users, each with a table of its own: [S, ..., D], [S, I + 1, D].

    All positions are computed, and those without a target count for nothing.
    """

    @staticmethod
    def forward(hidden: Tensor, item_emb: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        size = max(1, SCORES_AT_ONCE[hidden.device.type] // (targets[0].numel() * len(item_emb[0])))
        samples, wanted = hidden.flatten(1, -2), targets.flatten(1)  # [S, N, D], [S, N]
        totals, by_sample = item_emb.new_empty(len(hidden)), torch.empty_like(samples)
        items_train = item_emb.requires_grad
        by_item_emb = (
            torch.zeros_like(item_emb) if items_train else item_emb.new_empty(len(hidden), 0)
        )
        for start in range(0, len(hidden), size):
            users = slice(start, start + size)
            own, items, there = samples[users], item_emb[users, 1:], (wanted[users, :, None] > 0)
            rows = wanted[users, :, None].expand(own.shape)
            scores = product(own, items.mT)  # [s, N, I]
            largest = scores.amax(2, keepdim=True)
            at_target = scores.gather(2, (wanted[users] - 1).clamp(min=0).unsqueeze(2))
            odds = scores.sub_(largest).exp_()
            evidence = odds.sum(2, keepdim=True)
            totals[users] = ((evidence.log() + largest - at_target) * there).sum((1, 2))
            by_sample[users] = (
                product(odds, items) / evidence - item_emb[users].gather(1, rows)
            ) * there
            if items_train:
                by_item_emb[users, 1:] = product(odds.mT, own / evidence * there)
                by_item_emb[users].scatter_add_(1, rows, -own * there)
        return totals, by_sample.view(hidden.shape), by_item_emb

    setup_context = _SummedCrossEntropy.setup_context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, None]:
        by_hidden, by_item_emb = ctx.saved_tensors
        by_user = slopes.view(-1, *[1] * (by_hidden.dim() - 1))
        items = by_item_emb * slopes[:, None, None] if by_item_emb.numel() else None
        return by_hidden * by_user, items, None


def cross_entropy_over_candidates(positive: Tensor, negatives: Tensor) -> Tensor:
    """Softmax cross-entropy of the positive [..., 1] beside sampled negatives [..., C]: [...]."""
    evidence: Tensor = _LogSumExp.apply(*in_full_precision(negatives))[0]  # type: ignore[no-untyped-call]
    return F.softplus(evidence - positive[..., 0])


class _LogSumExp(Folding):
    """`torch.logsumexp` over the last axis, whose way back multiplies what is there already."""

    @staticmethod
    def forward(scores: Tensor) -> tuple[Tensor, ...]:
        largest = scores.amax(-1, keepdim=True)
        odds = (scores - largest).exp_()
        total = odds.sum(-1, keepdim=True)
        return (total.log() + largest).squeeze(-1), odds, total

    setup_context = _SummedCrossEntropy.setup_context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> Tensor:
        odds, total = ctx.saved_tensors
        by_scores: Tensor = odds * (slope.unsqueeze(-1) / total)
        return by_scores


def misalignment(content_square: Tensor, product: Tensor, item_square: Tensor) -> Tensor:
    """1 − cos(z, e) of content and ID embeddings, from |z|², z·e and |e|² [...]."""
    square = (content_square + ALIGNMENT_SOFTNESS) * item_square
    return 1.0 - product / square.clamp(min=1e-16).sqrt()  # where e = 0 a root has no gradient


def imbalance(usage: Tensor) -> Tensor:
    """Σ_k (usage_k − 1/E)² of mean router weights [..., E]."""
    return (usage - 1.0 / usage.shape[-1]).square().sum(-1)
