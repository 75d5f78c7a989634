"""`ranks.npz`: whole, stage by stage, and never in a federation that did not ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmem.errors import FedmemError
from fedmem.evaluation import Ranks, means
from fedmem.outcomes import FILE, load_ranks, save_ranks
from fedmem.server_app import Run
from fedmem.settings import Settings
from fedmem.stages import STAGES
from tests.in_process_grid import InProcessGrid, run_in_process


def ranks_of(users: list[int], *ranks: int) -> Ranks:
    found = np.array(ranks, np.int32)
    return Ranks(np.array(users, np.int32), {"sampled": found, "full": found * 7})


def test_stages_are_kept_side_by_side_and_replaced_by_name(tmp_path: Path) -> None:
    assert load_ranks(tmp_path) == {}
    save_ranks(tmp_path, "one", ranks_of([0, 4], 3, 1))
    save_ranks(tmp_path, "two", ranks_of([2], 9))
    save_ranks(tmp_path, "one", ranks_of([0, 5], 0, 2))
    loaded = load_ranks(tmp_path)
    assert list(loaded) == ["one", "two"]
    assert loaded["one"].users.tolist() == [0, 5]
    assert loaded["one"].ranks["full"].tolist() == [0, 14]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PK no zip")
    with pytest.raises(FedmemError, match=r"ranks\.npz cannot be read"):
        load_ranks(tmp_path)


def test_the_ranks_of_nodes_are_joined_by_user() -> None:
    joined = Ranks.joined([ranks_of([1, 7], 5, 6), ranks_of([0, 3], 1, 2)])
    assert joined is not None
    assert joined.users.tolist() == [0, 1, 3, 7]
    assert joined.ranks["sampled"].tolist() == [1, 5, 2, 6]
    assert Ranks.joined([]) is None


def test_a_run_that_keeps_ranks_keeps_those_behind_its_metrics(settings: Settings) -> None:
    grid = InProcessGrid(settings.federation.nodes)
    Path(settings.output_dir).mkdir()
    results = Run(settings, [], keep_ranks=True)(grid)
    kept = load_ranks(Path(settings.output_dir))
    assert list(kept) == list(STAGES)
    for result in results:
        assert kept[result.stage].users.tolist() == list(range(24))
        assert means(kept[result.stage].sums()) == pytest.approx(result.test)
    told = [reply.content for _, reply in grid.log if "ranks" in reply.content]
    assert len(told) == len(STAGES) * settings.federation.nodes  # of the test, never of a round
    assert {array.numpy().dtype for reply in told for array in reply["ranks"].values()} == {  # type: ignore[union-attr]
        np.dtype(np.int32)
    }


def test_a_run_that_does_not_ask_gets_no_ranks(settings: Settings) -> None:
    _, _, grid = run_in_process(settings)  # as a server of real nodes runs it
    assert not any("ranks" in reply.content for _, reply in grid.log)
    assert not (Path(settings.output_dir) / FILE).exists()
