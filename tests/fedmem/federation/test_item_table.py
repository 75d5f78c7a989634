"""A start from content: whose files it comes from, how long its rows are, and runs with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.model import Content
from fedmem.core.model.item_start import usual_length
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.federation import item_table
from fedmem.federation.item_table import starting_rows
from fedmem.messaging.roster import Roster
from tests.helpers.in_process_grid import InProcessGrid, run_in_process

MakeSettings = Callable[..., Settings]
FROM_CONTENT = ("stage=pretrain_sasrec", "model.item_start=content")


def met(settings: Settings) -> Roster:
    roster = Roster(settings, InProcessGrid(2), False, True, threading.Event())
    roster.meet()
    return roster


def mean_length(rows: Tensor) -> float:
    """Of the rows of items that have content."""
    return float(rows[rows.any(1)].norm(dim=1).mean())


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(*FROM_CONTENT, "federation.nodes=2")


def no_content(*_: object) -> None:
    """A server that has no files."""


def test_rows_from_the_server_and_from_a_node_are_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = starting_rows(settings, met(settings))
    monkeypatch.setattr(item_table, "content_here", no_content)
    assert torch.equal(starting_rows(settings, met(settings)), own)
    node = Node(settings)
    torch.testing.assert_close(own, node.starting_rows())
    seen = node.interactions.training_lengths.sum() / node.interactions.num_items
    assert mean_length(own) == pytest.approx(usual_length(seen), rel=1e-5)


def test_a_length_that_is_set_is_taken(make_settings: MakeSettings) -> None:
    settings = make_settings(*FROM_CONTENT, "federation.nodes=2", "model.item_length=0.25")
    rows = starting_rows(settings, met(settings))
    assert mean_length(rows) == pytest.approx(0.25, rel=1e-5)


def test_a_server_whose_features_are_not_those_of_a_node_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Node(settings).content
    other = Content(content.visual, content.text + 1)
    monkeypatch.setattr(item_table, "content_here", lambda *_: other)
    with pytest.raises(FedmemError, match="node 100 has other item features than the server"):
        starting_rows(settings, met(settings))


def test_features_that_nobody_has_are_asked_for(settings: Settings) -> None:
    bare = replace(settings, data=replace(settings.data, visual_file=None, text_file=None))
    with pytest.raises(FedmemError, match="needs the items' pictures or texts") as refused:
        starting_rows(bare, met(bare))
    assert "model.item_start=random" in str(refused.value)


def test_a_run_starts_from_content_and_ranks_new_items_from_stage_1_on(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings(
        "stage=all",
        "model.item_start=content",
        "federation.nodes=2",
        "federation.rounds=1",
        "evaluation.cold_items=0.3",
        "evaluation.negatives=5",
        "strategy.learning_rate=1e-9",
    )
    results, _, _ = run_in_process(settings)
    assert all(0 <= result.test["cold_sampled/HR@10"] <= 1 for result in results)
    first = Checkpoint.load(Path(results[0].checkpoint))
    rows = Node(settings).starting_rows()
    found = first.parameters["sasrec.item_emb.weight"]
    known = rows.any(1)
    torch.testing.assert_close(found[known][:, : rows.shape[1]], rows[known], atol=1e-6, rtol=0)
