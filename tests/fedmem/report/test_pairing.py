"""Users are compared by who they are, and only where they are tested on the same item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import write_id_files
from fedmem.core.data.id_files import COLD, TEST, RecordedUsers, read_users
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import Ranks
from fedmem.report.pairing import Ranked, pair, same_data
from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study
from fedmem.report.tables import tables_of
from fedmem.runs.configuration import compose_settings
from tests.helpers.recorded_runs import MakeRun, result

STAGE = "pretrain_sasrec"


def people(
    ids: Sequence[object], tested_on: Sequence[int], data: str | None = "d"
) -> RecordedUsers:
    kind = np.int64 if all(isinstance(own, int) for own in ids) else object
    items = np.array(tested_on, np.int64)
    return RecordedUsers(np.array(ids, dtype=kind), data, {TEST: items, COLD: items})


def ranks_of(ranks: Sequence[int], users: Sequence[int] | None = None) -> Ranks:
    indices = np.arange(len(ranks)) if users is None else np.array(users)
    both = dict.fromkeys(("sampled", "full"), np.array(ranks, np.int32))
    return Ranks(indices.astype(np.int32), both)


def ranked(run: RecordedRun, ranks: Sequence[int], users: Sequence[int] | None = None) -> Ranked:
    return Ranked(run, ranks_of(ranks, users))


def test_pairs_are_of_the_same_people_whatever_their_indices(make_run: MakeRun) -> None:
    all_users = make_run(people=people([1, 2, 5, 9], [11, 12, 15, 19]))
    active = make_run(people=people(["5", "b", "9"], [15, 13, 19], "other"), folder="b/0")
    found = pair({0: ranked(active, [7, 8, 9])}, {0: ranked(all_users, [1, 2, 5, 6])})
    assert found.ours[0].ranks["sampled"].tolist() == [7, 9]
    assert found.theirs[0].ranks["sampled"].tolist() == [5, 6]
    assert np.array_equal(found.ours[0].users, found.theirs[0].users)
    assert found.rows[0].tolist() == [0, 2]
    assert found.people == 2
    assert found.left_out == {"of one of the two alone": 3}  # 1, 2 and b


def test_seeds_are_paired_by_their_number_and_people_are_one_over_them(make_run: MakeRun) -> None:
    one, other = (make_run(people=people(ids, [*ids])) for ids in ([1, 2], [2, 3]))
    ours = {2: ranked(other, [4, 5]), 0: ranked(one, [0, 1]), 7: ranked(one, [9, 9])}
    theirs = {0: ranked(one, [2, 3]), 2: ranked(other, [6, 7]), 5: ranked(one, [8, 8])}
    found = pair(ours, theirs)
    assert [ranks.ranks["full"].tolist() for ranks in found.ours] == [[0, 1], [4, 5]]
    assert [ranks.ranks["full"].tolist() for ranks in found.theirs] == [[2, 3], [6, 7]]
    assert found.ours[0].users[1] == found.ours[1].users[0]  # person 2
    assert (found.people, found.left_out) == (3, {})
    with pytest.raises(FedmemError, match="no seed in common"):
        pair({0: ours[0]}, {1: ours[0]})


def test_who_has_another_test_item_is_in_no_pair(make_run: MakeRun) -> None:
    one = make_run(people=people([1, 2, 3], [11, 12, 13]))
    other = make_run(people=people([1, 2, 3], [11, 99, 13], "grown"))
    found = pair({0: ranked(one, [0, 0, 0])}, {0: ranked(other, [5, 6, 7])})
    assert found.theirs[0].ranks["full"].tolist() == [5, 7]
    assert found.left_out == {"with another test item": 1}


def test_other_histories_under_the_same_ids_are_refused(make_run: MakeRun) -> None:
    one = make_run(people=people([1, 2, 3], [11, 12, 13]))
    other = make_run(people=people([1, 2, 3], [11, 22, 23], "other"))
    with pytest.raises(FedmemError, match="Of 3 users with the same id 2 have another test item"):
        pair({0: ranked(one, [0, 0, 0])}, {0: ranked(other, [5, 6, 7])})
    with pytest.raises(FedmemError, match="different users"):
        pair({0: ranked(one, [0], [0])}, {0: ranked(one, [0], [2])})


def test_a_run_that_did_not_write_who_its_users_are_is_compared_on_the_same_data_only(
    make_run: MakeRun,
) -> None:
    one, twin = make_run(folder="a"), make_run("strategy=fedavg", folder="b")
    found = pair({0: ranked(one, [0, 1], [4, 6])}, {0: ranked(twin, [2, 3], [6, 7])})
    assert found.theirs[0].ranks["full"].tolist() == [2]
    known = make_run(people=people([1, 2], [3, 4]))
    others = make_run("data.min_interactions=12"), make_run("data.dir=elsewhere"), known
    for other in (*others[:2], replace(known, place="elsewhere")):
        with pytest.raises(FedmemError, match=r"a has no users\.parquet"):
            pair({0: ranked(one, [0, 1])}, {0: ranked(other, [0, 1])})
    assert pair({0: ranked(one, [0, 1])}, {0: ranked(known, [0, 1])}).people == 2
    cold = make_run("evaluation.cold_items=0.2", folder="a")
    later = replace(cold, settings=cold.settings | {"seed": 1})
    both = {0: ranked(cold, [0, 1]), 1: ranked(later, [0, 1])}
    assert pair({0: both[0]}, {0: both[0]}).people == 2
    with pytest.raises(FedmemError, match=r"a has no users\.parquet"):
        pair(both, both)  # each seed has other users behind its indices


def test_a_run_that_did_not_write_what_its_users_are_tested_on(make_run: MakeRun) -> None:
    ids = replace(people([1, 2], [0, 0], None), tested_on={})
    one, same = make_run(people=ids), make_run("strategy=fedavg", people=ids)
    assert pair({0: ranked(one, [0, 1])}, {0: ranked(same, [0, 1])}).people == 2
    other = make_run("data.min_interactions=12", people=ids)
    with pytest.raises(FedmemError, match="an earlier version"):
        pair({0: ranked(one, [0, 1])}, {0: ranked(other, [0, 1])})


def test_data_are_the_same_by_their_hash_wherever_they_lie(make_run: MakeRun) -> None:
    one, moved, other = (
        make_run(f"data.dir={place}", people=people([1], [2], hash_))
        for place, hash_ in (("a", "h1"), ("b", "h1"), ("a", "h2"))
    )
    assert same_data(one, moved)
    assert not same_data(one, other)
    colder = make_run("data.dir=a", "evaluation.cold_items=0.1", people=one.people)
    assert not same_data(one, colder)


def test_runs_of_other_data_are_no_seeds_of_one_arm(make_run: MakeRun) -> None:
    runs = [
        make_run(f"seed={seed}", f"data.dir={place}", folder=f"s/{seed}{place}", people=who)
        for place, who in (("a", people([1, 2], [1, 2], "h1")), ("b", people([1, 2], [3, 4], "h2")))
        for seed in (0, 1)
    ]
    groups = Study.of(runs).groups
    assert [(group.name, len(group.runs)) for group in groups] == [
        ("ml-100k (a)", 2),
        ("ml-100k (b)", 2),
    ]
    moved = replace(runs[3], people=runs[0].people)  # the same data at another place
    assert [len(group.runs) for group in Study.of([runs[0], moved]).groups] == [2]
    before = replace(runs[1], people=None)  # of an earlier version, from the place of the others
    assert [len(group.runs) for group in Study.of([runs[0], before]).groups] == [2]


def test_the_report_says_who_is_paired_and_who_is_left_out(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Of six users, three have 12 interactions and more: in either run they have other indices."""
    lines = ["user_id,item_id,timestamp"]
    for user in range(6):
        length = 6 + 8 * (user % 2)
        lines += [f"u{user},{(user + 3 * k) % 20},{k}" for k in range(length)]
    (tmp_path / "some.csv").write_text("\n".join(lines))
    runs = []
    for place, ranks in ((5, [0, 0, 50, 50, 0, 0]), (12, [0, 0, 0])):
        asked = [f"data.min_interactions={place}", "data=custom", "data.path=some.csv"]
        settings = compose_settings([*asked, f"data.dir={tmp_path}", "evaluation.negatives=4"])
        folder = tmp_path / str(place)
        folder.mkdir()
        write_id_files(folder, settings)
        who = read_users(folder)
        about = {"settings": asdict(settings), "people": who, "folder": folder}
        runs.append(make_run(**about, results=[result(STAGE, 0.5)], ranks={STAGE: ranks_of(ranks)}))
    study = Study.of(runs)
    (block,) = tables_of(study)["differences"].blocks
    assert block.rows[0][:3] == ["sampled HR@10", "3", "+.3333"]  # u1, u3 and u5: 0, 1 and 0
    name = "min_interactions=12 less min_interactions=5"
    assert study.notes[0] == (
        f"{name}: 3 users are paired by their ids; left out: 3 of one of the two alone"
    )
    assert "`sampled` ranks among other items drawn" in study.notes[1]
