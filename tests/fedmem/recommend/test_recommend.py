"""The command on the tiny data: whom it finds, what it prints, and what it refuses."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data import load_histories
from fedmem.core.errors import FedmemError
from fedmem.core.memory import auto_threshold
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.hidden_states import last_hidden
from fedmem.recommend.__main__ import parser
from fedmem.recommend.listing import list_items
from fedmem.recommend.person import find_user, of_history
from fedmem.recommend.recommendation import PARTS, Recommended
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.shared_runs import TrainOnce
from tests.helpers.small_world import NUM_ITEMS, SMALL, TEXT_WIDTH

MakeSettings = Callable[..., Settings]
Recommend = Callable[..., tuple[list[Recommended], str]]
COLD = "evaluation.cold_items=0.3"


@pytest.fixture
def recommend(
    make_settings: MakeSettings, data_dir: Path, tmp_path: Path, train_once: TrainOnce
) -> Recommend:
    """The command on checkpoints of all stages, trained with some items kept from them."""
    train_once(make_settings(COLD))
    titles = "".join(f"{item}::Title {item}::Drama\n" for item in range(1, NUM_ITEMS + 1))
    (data_dir / "movies.dat").write_text(f"{titles}1::Another::War\n")

    def command(*arguments: str, overrides: tuple[str, ...] = (COLD,)) -> tuple[list, str]:
        console = Console(width=100, record=True, file=io.StringIO())
        own = [f"data.dir={data_dir}", f"checkpoint.dir={tmp_path / 'checkpoints'}"]
        asked = [*arguments, *SMALL, *own, *overrides]
        found = list_items(parser().parse_intermixed_args(asked), console)
        return found, console.export_text()

    return command


@pytest.mark.parametrize("stage", STAGES)
def test_it_prints_what_the_model_ranks_first(
    stage: str, recommend: Recommend, make_settings: MakeSettings, tmp_path: Path
) -> None:
    found, shown = recommend("--user", "5", "--stage", stage, "--top-k", "4")
    settings = make_settings(COLD)
    node = Node(settings)
    warm = load_histories(settings).warm
    user = warm.user_ids.tolist().index(5)
    checkpoint = Checkpoint.load(tmp_path / "checkpoints" / f"{stage}.safetensors")
    model = node.load(STAGES[stage], checkpoint.parameters, "x").cpu()
    if STAGES[stage].memory:
        bank = node.open_bank(auto_threshold(node.novelty_histogram(), settings.memory.write_ratio))
        bank.ingest(node.users, warm.lengths)
        reads = torch.from_numpy(bank.retrieve(np.array([user]))).long()[None]
    else:
        reads = None
    with torch.no_grad():
        hidden = last_hidden(model, settings, [warm.history(user)])[:, None]
        scores = model.score(
            hidden, torch.arange(1, warm.num_items + 1), model.tables(), reads
        ).total[0, 0]
    untouched = np.setdiff1d(np.arange(1, warm.num_items + 1), warm.history(user))
    best = untouched[np.argsort(-scores[untouched - 1].numpy(), kind="stable")][:4]
    assert [one.item for one in found] == best.tolist()
    for one in found:
        assert one.score == pytest.approx(float(scores[one.item - 1]), abs=1e-5)
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
        own = warm.item_ids[one.item]
        assert f" {own} " in shown
        assert f"Title {own} " in shown
    latest = warm.item_ids[warm.history(user)[-1]]
    assert f"user 5: {warm.lengths[user]} items, the latest Title {latest};" in shown
    assert "movies.dat: left out: 1 row with an id that an earlier row has" in shown
    assert f"{stage}.safetensors, {stage}, round {checkpoint.round}" in shown


def test_a_history_is_that_of_the_user_who_has_it(
    recommend: Recommend, make_settings: MakeSettings
) -> None:
    warm = load_histories(make_settings(COLD)).warm
    history = ",".join(str(item) for item in warm.item_ids[warm.history(3)])
    by_history, shown = recommend("--history", history)
    by_user, _ = recommend("--user", str(warm.user_ids[3]))
    assert "\nthis history" in shown
    assert [one.item for one in by_history if one in by_user]
    assert by_history[0].score == pytest.approx(by_user[0].score, abs=1e-5)


def with_item_ids(node: Node, ids: list[str]) -> Node:
    interactions = replace(node.interactions, item_ids=np.array(["", *ids], dtype=object))
    node.corpus.histories = replace(node.histories, warm=interactions)
    return node


def test_a_history_may_name_ids_that_hold_commas(settings: Settings) -> None:
    node = Node(settings)
    ids = [f"b{item}" for item in range(1, node.interactions.num_items + 1)]
    ids[4:7] = ["Paris, Texas", "1,2", "-3"]
    node = with_item_ids(node, ids)
    for given, places in (
        (["b1,b2"], [1, 2]),
        (["b1,b2", "b4"], [1, 2, 4]),
        (["Paris, Texas", "b1, -3", "1,2"], [5, 1, 7, 6]),
    ):
        assert of_history(node, given).history.tolist() == places
    with pytest.raises(FedmemError, match=r"no item Paris .*\n.* one at a time: --history ID"):
        of_history(node, ["b1,Paris, Texas"])


def test_users_of_other_nodes_cannot_be_named(make_settings: MakeSettings) -> None:
    """They stand before this node's own, with an id that is nobody's."""
    node = Node(make_settings("data.first_index=3"))
    assert find_user(node, "1").history.tolist() == node.interactions.history(3).tolist()
    with pytest.raises(FedmemError, match=r"no user 0 .* has 24: near it are 1, 2, 3"):
        find_user(node, "0")


@pytest.mark.parametrize("wanted", ["--1", "9" * 30, "٣", "1e5"])
def test_what_is_no_id_of_a_user_is_no_mishap(wanted: str, settings: Settings) -> None:
    with pytest.raises(FedmemError, match="There is no user"):
        find_user(Node(settings), wanted)


def test_new_items_are_ranked_beside_the_known(
    recommend: Recommend, make_settings: MakeSettings, data_dir: Path
) -> None:
    histories = load_histories(make_settings(COLD))
    cold = histories.cold
    user = int(np.argmax(cold.lengths))
    name = str(histories.warm.user_ids[user])
    table = str(data_dir / "movies.dat")
    found, shown = recommend("--user", name, "--top-k", "40", "--new-items", table)
    new = [one for one in found if one.is_new]
    assert shown.count("(new)") == len(new)
    # Item 3 has no content; of what the user touched nothing is recommended.
    touched = {*cold.item_ids[cold.history(user)].tolist(), 3}
    expected = sorted(set(cold.item_ids[1:].tolist()) - touched)
    names = [line.split()[1] for line in shown.splitlines() if "(new)" in line]
    assert sorted(map(int, names)) == expected
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert set(one.parts) == set(PARTS)
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-5)
        assert (one.parts["sequence"] == 0.0) == one.is_new
    known, _ = recommend("--user", name, "--top-k", "40")
    assert [one.item for one in known] == [one.item for one in found if not one.is_new]


def test_new_items_may_have_vectors_of_their_own(recommend: Recommend, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,title\n901,One more\n902,Another\n5,Known\n")
    vectors = np.random.default_rng(0).normal(size=(2, TEXT_WIDTH))
    np.savez(tmp_path / "text.npz", ids=np.array([902, 901]), vectors=vectors)
    arguments = ["--user", "5", "--top-k", "50", "--new-items", str(tmp_path / "new.csv")]
    found, shown = recommend(
        *arguments, "--new-text", str(tmp_path / "text.npz"), overrides=(COLD,)
    )
    assert sum(one.is_new for one in found) == 2
    assert "One more (new)" in shown
    assert "Another (new)" in shown
    assert all(one.parts["picture"] == 0.0 for one in found if one.is_new)
    np.savez(tmp_path / "text.npz", ids=np.array([902, 901]), vectors=vectors[:, :3])
    with pytest.raises(FedmemError, match=r"text vectors have width 3, and .* with 8"):
        recommend(*arguments, "--new-text", str(tmp_path / "text.npz"))


MISTAKES = [
    (["--user", "99"], ["no user 99", "has 23", "22, 23, 24"]),
    (["--user", "Ann"], ["no user Ann", "has 23"]),
    (["--history", "1,999"], ["no item 999"]),
    (["--history", ","], ["names no item"]),
    (["--user", "5", "--top-k", "0"], ["--top-k 0"]),
    (["--user", "5", "--stage", "last"], ["no stage 'last'"]),
    (["--user", "5", "--titles", "none.csv"], ["none.csv"]),
    (["--user", "5", "--new-items", "none.csv"], ["none.csv"]),
    (["--user", "5", "model.dim=32"], ["model.dim=16 (here 32)"]),
    (["--user", "5", "checkpoint.dir=nowhere"], ["no checkpoint", "nowhere", "simulate"]),
]


def test_a_mistake_is_told_in_a_line_or_two(recommend: Recommend) -> None:
    for arguments, words in MISTAKES:
        with pytest.raises(FedmemError) as caught:
            recommend(*arguments[:2], overrides=(COLD, *arguments[2:]))
        for word in words:
            assert word in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2


def test_new_items_that_cannot_be_ranked_are_refused(
    make_settings: MakeSettings, recommend: Recommend, tmp_path: Path, data_dir: Path
) -> None:
    """Item 3 has no content: data without it make it a new item."""
    lines = (data_dir / "ratings.dat").read_text().splitlines()
    others = [line for line in lines if line.split()[1] != "3"]
    other = tmp_path / "other"
    shutil.copytree(data_dir, other)
    (other / "ratings.dat").write_text("\n".join(others) + "\n")
    overrides = (f"data.dir={other}", f"checkpoint.dir={tmp_path / 'own'}")
    names = "stage=[pretrain_sasrec,align_projectors]"
    run_in_process(make_settings(*overrides, names, "federation.rounds=1"))
    for ids, stage, words in (
        ([3], "align_projectors", "None of the 1 new items, 3 …, has content"),
        ([1, 2], "pretrain_sasrec", "pretrain_sasrec knows no content"),
        ([1, 2], "align_projectors", "All 2 items of --new-items are known"),
        ([77], "align_projectors", "has 41 rows"),
    ):
        (tmp_path / "new.csv").write_text("id,title\n" + "".join(f"{i},x\n" for i in ids))
        arguments = ("--user", "5", "--stage", stage, "--new-items", str(tmp_path / "new.csv"))
        with pytest.raises(FedmemError, match=words):
            recommend(*arguments, overrides=overrides)
