"""What is compared with what, and that slices are parts of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import write_id_files
from fedmem.core.data.id_files import read_users
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import Ranks
from fedmem.core.evaluation.slices import LENGTHS
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.report.contrasts import _compare
from fedmem.report.runs import find_runs, read_run
from fedmem.report.study import Study
from fedmem.report.tables import SLICE_HEADINGS, differences_frame, tables_of
from fedmem.report.text import markdown_tables
from tests.helpers.in_process_grid import InProcessGrid
from tests.helpers.recorded_runs import MakeRun, result
from tests.helpers.small_world import NUM_USERS, only

MakeSettings = Callable[..., Settings]


def ranks_of(*ranks: int, first: int = 0) -> Ranks:
    """Both rankings alike, of users from `first` on."""
    users = np.arange(first, first + len(ranks), dtype=np.int32)
    return Ranks(users, dict.fromkeys(("sampled", "full"), np.array(ranks, np.int32)))


def test_arms_are_compared_at_their_last_stage_over_the_seeds_that_both_have(
    make_run: MakeRun,
) -> None:
    two = [result("align_projectors", 0.5), result("finetune_moe", 0.5)]
    runs = [
        make_run("seed=0", folder="x/control/seed-0", ranks={"pretrain_sasrec": ranks_of(0, 50)}),
        make_run("seed=1", folder="x/control/seed-1", ranks={"pretrain_sasrec": ranks_of(50, 50)}),
        make_run(
            "seed=1",
            folder="x/full/seed-1",
            results=two,
            ranks={"align_projectors": ranks_of(50, 50), "finetune_moe": ranks_of(0, 50)},
        ),
    ]
    (contrast,) = Study.of(runs, "control").contrasts
    assert (contrast.name, contrast.against) == ("full", "control")
    hits = contrast.differences[0]
    assert (hits.metric, hits.users, hits.by_seed) == ("sampled/HR@10", 2, [0.5])
    (other,) = Study.of(runs, "full").contrasts
    assert other.differences[0].by_seed == [-0.5]


def test_arms_of_fewer_clients_are_compared_on_their_users(make_run: MakeRun) -> None:
    runs = [
        make_run(
            f"federation.num_clients={len(ranks)}", ranks={"pretrain_sasrec": ranks_of(*ranks)}
        )
        for ranks in ((0, 50), (50, 50, 0))
    ]
    (block,) = tables_of(Study.of(runs))["differences"].blocks
    assert block.rows[0][:3] == ["sampled HR@10", "2", "−.5000"]


def test_arms_of_other_users_are_told_of_and_their_stages_compared_instead(
    make_run: MakeRun,
) -> None:
    two = [result("pretrain_sasrec", 0.5), result("finetune_moe", 0.5)]
    runs = [
        make_run(
            f"federation.num_clients={clients}",
            results=two,
            ranks={
                "pretrain_sasrec": ranks_of(50, 50, first=clients),
                "finetune_moe": ranks_of(0, 50, first=clients),
            },
        )
        for clients in (10, 20)
    ]
    study = Study.of(runs)
    assert study.notes == [
        "num_clients=20 less num_clients=10: "
        "Two arms of different users cannot be compared in pairs"
    ]
    assert [(c.name, c.against) for c in study.contrasts] == [
        (f"finetune_moe, num_clients={clients}", "pretrain_sasrec") for clients in (10, 20)
    ]
    assert study.contrasts[0].differences[0].by_seed == [0.5]


def test_without_ranks_there_is_nothing_to_compare(make_run: MakeRun) -> None:
    study = Study.of([make_run(folder=f"x/{arm}/seed-0") for arm in "ab"])
    assert study.contrasts == []
    assert "simulation.keep_ranks" in study.notes[0]
    assert differences_frame(study).empty


def test_cells_show_sign_and_interval(make_run: MakeRun) -> None:
    ranks = {"a": ranks_of(50, 50), "b": ranks_of(0, 0)}
    run = make_run(results=[result("a", 0.5), result("b", 0.5)], ranks=ranks)
    (block,) = tables_of(Study.of([run]))["differences"].blocks
    assert block.rows[0] == [
        "sampled HR@10",
        "2",
        "+1.0000",
        "+1.0000 … +1.0000",
        "one seed",
    ]


def test_slices_are_parts_of_all_users(make_run: MakeRun, settings: Settings) -> None:
    generator = np.random.default_rng(0)
    drawn = {stage: ranks_of(*generator.integers(0, 20, 24)) for stage in ("a", "b")}
    run = make_run(results=[result("a", 0.5), result("b", 0.5)], ranks=drawn)
    run.settings.update(asdict(settings))
    study = Study.of([run])
    (contrast,) = study.contrasts
    whole = contrast.differences[0].over_users.mean
    for parts in ("item: ", "history: ", "item with"):
        found = [d[0] for name, d in contrast.slices.items() if name.startswith(parts)]
        assert sum(each.users for each in found) == 24
        total = sum(each.users * each.over_users.mean for each in found)
        assert total / 24 == pytest.approx(whole)
    frame = differences_frame(study)
    assert set(frame["slice"]) == {"all users", *contrast.slices}
    first = contrast.slices["item: head"]
    row = dict(zip(SLICE_HEADINGS[:3], tables_of(study)["slices"].blocks[0].rows[0], strict=False))
    assert row["slice"] == "item: head"
    assert row["users"] == str(first[0].users)
    assert float(row["sampled HR@10"].replace("−", "-")) == pytest.approx(
        first[0].over_users.mean, abs=5e-5
    )
    table = markdown_tables(study)["slices"]
    assert table.count("\n") == 2 + len(contrast.slices)


def test_each_seed_has_slices_of_its_own_cold_items(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    for seed in (0, 1):
        settings = make_settings(f"seed={seed}", "evaluation.cold_items=0.2", "federation.rounds=1")
        folder = tmp_path / f"seed-{seed}"
        where = replace(settings.checkpoint, dir=str(folder / "checkpoints"))
        settings = replace(settings, output_dir=str(folder), checkpoint=where)
        Run(settings, [], keep_ranks=True)(InProcessGrid(settings.federation.nodes))
        write_id_files(folder, settings)
    runs = [read_run(folder) for folder in find_runs([str(tmp_path)])]
    second, third = Study.of(runs).contrasts  # stages less the first, which has no content
    assert (second.cold, third.cold) == ([], [])
    (arm,) = Study.of(runs).groups
    contrast = _compare("3", "2", (arm, "finetune_moe"), (arm, "align_projectors"))
    sampled, full = contrast.slices["cold item"]
    assert (sampled.metric, full.metric) == ("cold_sampled/HR@10", "cold_full/HR@10")
    cold = [r.people.ids[r.cold_ranks["finetune_moe"].users] for r in runs if r.people]
    assert not np.array_equal(*cold)
    assert sampled.users == len(np.union1d(*cold))
    histories = [contrast.slices[f"history: {length}"][0] for length in LENGTHS]
    assert sum(each.users for each in histories) >= max(len(r.users) for r in contrast.pairs.ours)


def test_slices_need_the_data(make_run: MakeRun) -> None:
    ranks = {"a": ranks_of(50, 50), "b": ranks_of(0, 0)}
    run = make_run("data.dir=gone", results=[result("a", 0.5), result("b", 0.5)], ranks=ranks)
    (contrast,) = Study.of([run]).contrasts
    with pytest.raises(FedmemError, match="gone"):
        _ = contrast.slices
    assert "slices" not in markdown_tables(Study.of([run]))


def test_slices_of_data_that_are_others_now_are_refused(
    make_run: MakeRun, settings: Settings, tmp_path: Path
) -> None:
    ranks = {"a": ranks_of(*[50] * 24), "b": ranks_of(*[0] * 24)}
    two = [result("a", 0.5), result("b", 0.5)]
    write_id_files(tmp_path, settings)
    people = read_users(tmp_path)
    assert people is not None
    others = replace(people, data="of another file")
    earlier = replace(people, data=None)
    for who, right in ((people, True), (others, False), (earlier, True), (None, True)):
        run = make_run(results=two, ranks=ranks, people=who)
        run.settings.update(asdict(settings))
        (contrast,) = Study.of([run]).contrasts
        if right:
            assert contrast.slices
        else:
            with pytest.raises(FedmemError, match=r"are others than .* was trained on"):
                _ = contrast.slices
    for who, users in ((replace(earlier, ids=earlier.ids + 1), 24), (None, 25)):
        beyond = {stage: ranks_of(*[0] * users) for stage in ranks}
        run = make_run(results=two, ranks=beyond, people=who)
        run.settings.update(asdict(settings))
        with pytest.raises(FedmemError, match="are others"):
            _ = Study.of([run]).contrasts[0].slices


def test_data_that_have_moved_are_looked_for_where_they_are_now(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    settings = only(replace(settings, output_dir=str(folder)), "pretrain_sasrec")
    Run(settings, [], keep_ranks=True)(InProcessGrid(settings.federation.nodes))
    (run,) = [read_run(each, tmp_path / "elsewhere") for each in find_runs([str(folder)])]
    assert run.settings["data"]["dir"] == str(tmp_path / "elsewhere")
    assert run.users == NUM_USERS
