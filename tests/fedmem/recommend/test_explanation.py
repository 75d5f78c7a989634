"""Explanations add up to the parts that they explain."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.settings import Settings
from fedmem.core.stages import FINETUNE_MOE, PRETRAIN_SASREC, Stage
from fedmem.recommend.explanation import LATEST, explain
from fedmem.recommend.person import memory_of, person_at
from fedmem.recommend.recommendation import Ranker
from tests.helpers.small_world import ready_node


@pytest.mark.parametrize("stage", [PRETRAIN_SASREC, FINETUNE_MOE], ids=lambda s: s.name)
def test_they_add_up(stage: Stage, settings: Settings) -> None:
    node = ready_node(settings, stage)
    model = node.model(stage).cpu()  # as the command has it
    if stage.memory:
        model.gating_weight.memory.data.fill_(1.0)  # else a random number about 0
    ranker = Ranker(model, settings)
    user = int(np.argmax(node.interactions.lengths))
    person = person_at(node, user)
    memory = memory_of(node, model, person.history, 0.8).retrieve()[0] if stage.memory else None
    hidden = ranker.hidden([person.history])
    found = ranker.best([person], 6, hidden, None if memory is None else memory[None])[0]
    why = explain(ranker, person.history, memory, [one.item for one in found])
    assert len(why) == len(found) == 6
    embedded = model.sasrec.item_emb.weight.detach()
    for one, each in zip(found, why, strict=True):
        parts = sum(each.by_memory) + each.memory_rest
        assert parts == pytest.approx(one.parts["memory"], abs=1e-5)
        assert each.latest == person.history[::-1][:LATEST].tolist()
        without_last = ranker.hidden([person.history[:-1]])[0]
        lower = float((hidden[0] - without_last) @ embedded[one.item])
        assert each.by_latest[0] == pytest.approx(lower, abs=1e-5)
    if stage.memory:
        assert memory is not None
        assert why[0].memory == memory[memory > 0].tolist()
        assert max(abs(value) for each in why for value in each.by_memory) > 1e-4
    else:
        assert why[0].by_memory == []


def test_a_history_of_one_item_has_nothing_to_leave_out(settings: Settings) -> None:
    node = ready_node(settings, FINETUNE_MOE)
    ranker = Ranker(node.model(FINETUNE_MOE), settings)
    empty = np.zeros(settings.memory.top_k, dtype=np.int32)
    (why,) = explain(ranker, np.array([4], dtype=np.int32), empty, [9])
    assert why.latest == why.memory == []
    assert why.memory_rest == 0.0
