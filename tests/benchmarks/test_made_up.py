"""Made-up interactions: as many as were asked for, of everybody and everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import FEWEST, FILE, make_up

from fedmem.core.data import load_interactions
from fedmem.core.errors import FedmemError
from fedmem.runs.configuration import compose_settings


def test_all_users_and_items_are_there_and_a_few_items_are_met_most(tmp_path: Path) -> None:
    make_up(tmp_path, users=400, items=300, interactions=6000)
    found = load_interactions(
        compose_settings(["data=custom", f"data.dir={tmp_path}", f"data.path={FILE}"]).data
    )
    assert (found.num_users, found.num_items, len(found.items)) == (400, 300, 6000)
    assert found.lengths.min() >= FEWEST
    counts = np.sort(np.bincount(found.items)[1:])[::-1]
    assert counts[:30].sum() > 3 * counts[-30:].sum()
    assert counts.min() >= 1


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        make_up(tmp_path / name, 40, 30, 600, seed)
        made.append((tmp_path / name / FILE).read_bytes())
    assert made[0] == made[1] != made[2]


def test_too_few_interactions_are_refused(tmp_path: Path) -> None:
    for users, items in ((21, 10), (10, 101)):
        with pytest.raises(FedmemError, match="too few"):
            make_up(tmp_path, users, items, 100)
