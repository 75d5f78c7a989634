"""The loss of a stage: a sum over windows of the terms that its weights name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model import Recommender
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.node import Node
from fedmem.core.settings import LossWeights, Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.core.training import losses
from fedmem.core.training.batches import Batch, BatchMaker, RoundKey
from fedmem.core.training.objective import Objective
from tests.helpers.small_world import ready_node

MakeSettings = Callable[..., Settings]
ALL_STAGES = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
WITH_CONTENT = pytest.mark.parametrize("name", ["align_projectors", "finetune_moe"])
WEIGHTS = tuple(LossWeights.hints())


def batch_of(node: Node, stage: Stage, rows: list[int]) -> Batch:
    """The windows of these places, in double precision, with memories made up."""
    windows = node.windows
    generator = np.random.default_rng(0)
    reads = generator.integers(0, 41, size=(int(windows.offsets[-1]), 5), dtype=np.int32)
    widths = node.model(stage).sasrec.dropout_widths
    maker = BatchMaker(node.settings, stage, windows, widths, reads, node.device)
    batch = maker.make(np.array(rows), RoundKey(0, stage.name, 1), 0)
    return batch.map(lambda x: x.double() if x.is_floating_point() else x)


def ready(settings: Settings, stage: Stage) -> tuple[Node, Objective]:
    node = ready_node(settings, stage)
    for name, parameter in node.model(stage).named_parameters():
        parameter.requires_grad_(stage.in_scope(name))
    return node, Objective(node.model(stage).double(), settings)


def loss_and_gradients(objective: Objective, batch: Batch) -> list[Tensor]:
    objective.zero_grad()
    loss = objective(batch)
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    return [loss.detach(), *(gradient.clone() for gradient in gradients)]


@ALL_STAGES
def test_the_loss_is_a_sum_over_rows(stage: Stage, settings: Settings) -> None:
    node, objective = ready(settings, stage)
    lengths = node.windows.lengths
    rows = [int(lengths.argmin()), int(lengths.argmax()), 4]
    assert lengths[rows[0]] < lengths[rows[1]]
    together = loss_and_gradients(objective, batch_of(node, stage, rows))
    alone = [loss_and_gradients(objective, batch_of(node, stage, [row])) for row in rows]
    for found, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(found, sum(parts), rtol=1e-9, atol=1e-9)


@ALL_STAGES
def test_the_loss_wants_gradients_of_the_whole_scope(stage: Stage, settings: Settings) -> None:
    node, objective = ready(settings, stage)
    loss_and_gradients(objective, batch_of(node, stage, list(range(8))))
    for name, parameter in objective.model.named_parameters():
        if stage.in_scope(name):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@WITH_CONTENT
def test_states_and_tables_that_are_given_are_those_that_are_made(
    name: str, make_settings: MakeSettings
) -> None:
    node, objective = ready(make_settings("model.dropout=0"), STAGES[name])
    batch, model = batch_of(node, STAGES[name], [0, 3, 5]), objective.model
    found = objective(batch, model.sasrec(batch.inputs, NO_DROPOUT), model.tables())
    assert torch.equal(found, objective(batch))


def test_stage_1_is_the_cross_entropy_over_all_items(make_settings: MakeSettings) -> None:
    stage = STAGES["pretrain_sasrec"]
    node, objective = ready(make_settings("model.dropout=0"), stage)
    batch, sasrec = batch_of(node, stage, [0, 3, 5]), objective.model.sasrec
    real = batch.targets > 0
    scores = sasrec(batch.inputs, NO_DROPOUT)[real] @ sasrec.item_emb.weight[1:].T
    expected = F.cross_entropy(scores, batch.targets[real] - 1, reduction="sum")
    torch.testing.assert_close(objective(batch), expected)


def only(settings: MakeSettings, **weights: float) -> Settings:
    given = {**dict.fromkeys(WEIGHTS, 0.0), **weights}
    return settings("model.dropout=0", *(f"loss.{name}={value}" for name, value in given.items()))


def positions_of(batch: Batch) -> list[tuple[int, int, int, float]]:
    """(row, place among the trained, position, share) of all that counts."""
    assert batch.scoring is not None
    share, chosen = batch.scoring.share, batch.scoring.positions
    return [
        (b, p, p if chosen is None else int(chosen[b, p]), float(share[b, p]))
        for b, p in share.nonzero().tolist()
    ]


def score_of(model: Recommender, batch: Batch, b: int, p: int, t: int, items: Tensor) -> Tensor:
    """Scores of items at one position."""
    assert batch.scoring is not None
    memories = batch.scoring.memories
    read = None if memories is None else memories[b, p][None, None]
    hidden = model.sasrec(batch.inputs, NO_DROPOUT)[b, t][None, None]
    return model.score(hidden, items, model.tables(), read).total[0, 0]


@WITH_CONTENT
@pytest.mark.parametrize("hardness", [0.0, 0.5])
def test_the_score_loss_is_the_targets_share_of_a_softmax_position_by_position(
    name: str, hardness: float, make_settings: MakeSettings
) -> None:
    stage = STAGES[name]
    node, objective = ready(only(make_settings, score=2.0, hardness=hardness), stage)
    batch, expected = batch_of(node, stage, [0, 3]), torch.zeros(()).double()
    assert batch.scoring is not None
    for b, p, t, share in positions_of(batch):
        items = torch.cat([batch.targets[b, t][None], batch.scoring.negatives[b]])
        scores = score_of(objective.model, batch, b, p, t, items)
        cross_entropy = torch.logsumexp(scores, 0) - scores[0]
        hard = 1 + hardness * torch.sigmoid(cross_entropy)
        expected = expected + share * hard * 2.0 * cross_entropy
    torch.testing.assert_close(objective(batch), expected)


@WITH_CONTENT
def test_the_content_loss_is_a_softmax_of_the_state_and_content_alone(
    name: str, make_settings: MakeSettings
) -> None:
    stage = STAGES[name]
    node, objective = ready(only(make_settings, content=3.0), stage)
    rows = np.flatnonzero((node.windows.targets(np.arange(len(node.windows))) == 3).any(1))
    batch, model = batch_of(node, stage, [*rows.tolist(), 0]), objective.model
    assert batch.scoring is not None
    expected = torch.zeros(()).double()
    states, content = model.sasrec(batch.inputs, NO_DROPOUT), model.content()
    for b, _, t, share in positions_of(batch):
        item = batch.targets[b, t]
        if item == 3:  # it has no content
            continue
        items = torch.cat([item[None], batch.scoring.negatives[b]])
        scores = content[items] @ states[b, t]
        expected = expected + share * 3.0 * (torch.logsumexp(scores, 0) - scores[0])
    torch.testing.assert_close(objective(batch), expected)


@WITH_CONTENT
def test_the_alignment_is_that_of_targets_with_content(
    name: str, make_settings: MakeSettings
) -> None:
    stage = STAGES[name]
    node, objective = ready(only(make_settings, alignment=3.0), stage)
    rows = np.flatnonzero((node.windows.targets(np.arange(len(node.windows))) == 3).any(1))
    batch, model = batch_of(node, stage, [*rows.tolist(), 0]), objective.model
    assert (batch.targets == 3).any()  # item 3 has no content
    tables, expected = model.tables(), torch.zeros(()).double()
    assert tables is not None
    states = model.sasrec(batch.inputs, NO_DROPOUT)
    for b, _, t, share in positions_of(batch):
        item = batch.targets[b, t]
        if item == 3:
            continue
        picture = model.score(states[b, t][None, None], item[None], tables).picture[0, 0]
        z = picture * tables.visual[item] + (1 - picture) * tables.text[item]
        e = model.sasrec.item_emb.weight[item]
        cosine = z @ e / ((z @ z + losses.ALIGNMENT_SOFTNESS).sqrt() * e.norm())
        expected = expected + share * 3.0 * (1 - cosine)
    torch.testing.assert_close(objective(batch), expected)


def test_the_load_balance_is_that_of_a_rows_targets(make_settings: MakeSettings) -> None:
    stage = STAGES["finetune_moe"]
    node, objective = ready(only(make_settings, load_balance=0.5), stage)
    batch, model = batch_of(node, stage, [0, 3]), objective.model
    assert batch.scoring is not None
    assert batch.scoring.positions is not None
    expected = torch.zeros(()).double()
    for b in range(2):
        targets = batch.targets[b, batch.scoring.positions[b]]
        usage = model.router(model.sasrec.item_emb.weight[targets]).mean(0)
        count = int((batch.targets[b] > 0).sum())
        expected = expected + 0.5 * count * (usage - 1 / 3).square().sum()
    torch.testing.assert_close(objective(batch), expected)


def test_terms_that_weigh_nothing_leave_a_loss_of_0(make_settings: MakeSettings) -> None:
    stage = STAGES["finetune_moe"]
    node, objective = ready(only(make_settings), stage)
    assert not objective(batch_of(node, stage, [0, 3])).any()


@pytest.mark.parametrize("name", ["pretrain_sasrec", "finetune_moe"])
def test_dropout_is_that_of_the_batch(name: str, make_settings: MakeSettings) -> None:
    stage = STAGES[name]
    node, objective = ready(make_settings("model.dropout=0.5"), stage)
    batch = batch_of(node, stage, [0, 3])
    assert batch.noise is not None
    kept = batch._replace(noise=[torch.full_like(noise, 255) for noise in batch.noise])
    first = objective(batch)
    assert torch.equal(first, objective(batch))
    assert not torch.isclose(first, objective(kept))
