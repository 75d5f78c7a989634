"""`ranks.npz`: whole, stage by stage, and never in a federation that did not ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import write_id_files
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import (
    FILE,
    from_arrays,
    joined,
    load_outcomes,
    save_outcomes,
    to_arrays,
)
from fedmem.core.evaluation.protocol import COLD_USERS, USERS, Ranks, means
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.federation.server_app import Run
from fedmem.runs.folder import RunFolder
from tests.helpers.in_process_grid import InProcessGrid, run_in_process

MakeSettings = Callable[..., Settings]


def ranks_of(users: list[int], *ranks: int, cold: str = "") -> Ranks:
    found = np.array(ranks, np.int32)
    rankings = {f"{cold}sampled": found, f"{cold}full": found * 7}
    return Ranks(np.array(users, np.int32), rankings)


def test_stages_are_kept_side_by_side_and_replaced_by_name(tmp_path: Path) -> None:
    assert load_outcomes(tmp_path) == {}
    save_outcomes(tmp_path, "one", {USERS: ranks_of([0, 4], 3, 1)})
    save_outcomes(tmp_path, "two", {USERS: ranks_of([2], 9)})
    save_outcomes(tmp_path, "one", {USERS: ranks_of([0, 5], 0, 2)})
    loaded = load_outcomes(tmp_path)
    assert set(loaded) == {"one", "two"}
    assert loaded["one"][USERS].users.tolist() == [0, 5]
    assert loaded["one"][USERS].ranks["full"].tolist() == [0, 14]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_file_has_the_arrays_that_its_description_names(tmp_path: Path) -> None:
    outcomes = {
        USERS: ranks_of([0, 4], 3, 1),
        COLD_USERS: ranks_of([4], 8, cold="cold_"),
    }
    save_outcomes(tmp_path, "one", outcomes)
    with np.load(tmp_path / FILE) as file:
        found = {name: array.tolist() for name, array in file.items()}
        assert {array.dtype for array in file.values()} == {np.dtype(np.int32)}
    assert found == {
        "one/users": [0, 4],
        "one/sampled": [3, 1],
        "one/full": [21, 7],
        "one/cold_users": [4],
        "one/cold_sampled": [8],
        "one/cold_full": [56],
    }
    loaded = load_outcomes(tmp_path)["one"]
    assert {count: list(own.ranks) for count, own in loaded.items()} == {
        USERS: ["sampled", "full"],
        COLD_USERS: ["cold_sampled", "cold_full"],
    }
    assert to_arrays(from_arrays(to_arrays(outcomes))).keys() == to_arrays(outcomes).keys()


@pytest.mark.parametrize("content", [b"PK no zip", b"", b"\x93NUMPY"])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(FedmemError, match=r"ranks\.npz cannot be read"):
        load_outcomes(tmp_path)


def test_the_ranks_of_nodes_are_joined_by_user() -> None:
    found = joined([{USERS: ranks_of([1, 7], 5, 6)}, {USERS: ranks_of([0, 3], 1, 2)}])
    assert found[USERS].users.tolist() == [0, 1, 3, 7]
    assert found[USERS].ranks["sampled"].tolist() == [1, 5, 2, 6]
    assert joined([]) == {}


def run_keeping(settings: Settings) -> InProcessGrid:
    grid = InProcessGrid(settings.federation.nodes)
    Run(settings, [], keep_ranks=True)(grid)
    return grid


def test_a_run_that_keeps_ranks_keeps_those_behind_its_metrics(make_settings: MakeSettings) -> None:
    settings = make_settings("evaluation.cold_items=0.3")
    grid = run_keeping(settings)
    kept, folder = load_outcomes(Path(settings.output_dir)), Path(settings.output_dir)
    assert list(kept) == list(STAGES)
    with RunFolder.go_on(folder) as run:
        results = run.state.results
    for result in results:
        sums: dict[str, float] = {}
        for count, ranks in kept[result["stage"]].items():
            sums |= ranks.sums(count)
            assert (np.diff(ranks.users) > 0).all()
        assert means(sums) == pytest.approx(result["test"])
        assert 0 < len(kept[result["stage"]][COLD_USERS].users) <= 24
    replies = [reply.content for _, reply in grid.log if "ranks" in reply.content]
    assert len(replies) == len(STAGES) * settings.federation.nodes  # of the test, never of a round


def test_no_rank_leaves_a_real_node_that_is_asked_for_it(
    make_settings: MakeSettings, data_dir: Path, tmp_path: Path
) -> None:
    settings = make_settings("stage=pretrain_sasrec", "federation.nodes=1")
    grid = InProcessGrid(1)
    real = {"data": str(data_dir), "state-dir": str(tmp_path / "state"), "first-index": 0}
    grid.contexts[100].node_config = real
    result = Run(settings, [], keep_ranks=True)(grid)[0]
    assert result.test["sampled/HR@10"] > 0
    assert not any("ranks" in reply.content for _, reply in grid.log)
    assert load_outcomes(Path(settings.output_dir)) == {}


def test_nothing_is_left_of_the_run_that_was_there(make_settings: MakeSettings) -> None:
    run_keeping(make_settings())
    settings = make_settings("stage=pretrain_sasrec")
    folder = Path(settings.output_dir)
    write_id_files(folder, settings)
    run_keeping(settings)
    assert not list(folder.glob("*.parquet"))
    assert list(load_outcomes(Path(settings.output_dir))) == ["pretrain_sasrec"]


def test_a_run_that_does_not_ask_gets_no_ranks(settings: Settings) -> None:
    _, _, grid = run_in_process(settings)  # as a server of real nodes runs it
    assert not any("ranks" in reply.content for _, reply in grid.log)
    assert not (Path(settings.output_dir) / FILE).exists()
