"""What was forgotten is in no history that is read, and nothing else moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import load_histories, load_interactions
from fedmem.core.data.forgotten import FILE, forget, forgotten_path, read_forgotten
from fedmem.core.data.identity import identity
from fedmem.core.data.interactions import load
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings

MakeSettings = Callable[..., Settings]
COLD = "evaluation.cold_items=0.3"


def test_only_that_item_of_that_user_is_gone(settings: Settings, data_dir: Path) -> None:
    before = load_interactions(settings.data)
    history = before.history(4)
    gone = int(history[2])
    forget(settings.data, str(before.user_ids[4]), str(before.item_ids[gone]))
    assert (data_dir / FILE).stat().st_mode & 0o077 == 0
    after = load_interactions(settings.data)
    assert after.history(4).tolist() == np.delete(history, 2).tolist()
    for user in range(before.num_users):
        if user != 4:
            assert after.history(user).tolist() == before.history(user).tolist()
    assert after.fingerprint == before.fingerprint
    assert after.user_ids.tolist() == before.user_ids.tolist()


def test_all_of_a_user_s_interactions_with_it_go(settings: Settings, data_dir: Path) -> None:
    with (data_dir / "ratings.dat").open("a") as file:
        file.write("1 7 1 900\n1 8 1 901\n1 7 1 902\n")
    assert np.count_nonzero(load_interactions(settings.data).history(0) == 7) >= 2
    forget(settings.data, "1", "7")
    assert 7 not in load_interactions(settings.data).history(0)
    assert load_interactions(settings.data).history(0)[-1] == 8


def test_cold_items_are_forgotten_too(make_settings: MakeSettings) -> None:
    settings = make_settings(COLD)
    before = load_histories(settings)
    user = int(np.argmax(before.cold.lengths))
    cold_item = int(before.cold.history(user)[-1])
    warm_item = int(before.warm.history(user)[0])
    own = str(before.warm.user_ids[user])
    forget(settings.data, own, str(before.cold.item_ids[cold_item]))
    forget(settings.data, own, str(before.warm.item_ids[warm_item]))
    after = load_histories(settings)
    assert after.cold.history(user).tolist() == before.cold.history(user)[:-1].tolist()
    assert after.warm.history(user).tolist() == before.warm.history(user)[1:].tolist()
    first, last = before.cold.offsets[[user, user + 1]]
    warm_before = before.before[first : last - 1]
    expected = warm_before - (warm_before > 0)  # the warm item that went stood before all others
    begin = after.cold.offsets[user]
    assert after.before[begin : begin + len(expected)].tolist() == expected.tolist()
    assert after.forgotten != before.forgotten == ""
    assert after.warm.fingerprint == before.warm.fingerprint


def test_whoever_has_too_little_left_takes_no_part(make_settings: MakeSettings) -> None:
    settings = make_settings()
    interactions = load_interactions(settings.data)
    user = int(np.argmin(interactions.lengths))
    everybody = participants(settings)
    own = str(interactions.user_ids[user])
    for item in interactions.history(user)[2:]:
        assert participants(settings).tolist() == everybody.tolist()
        forget(settings.data, own, str(interactions.item_ids[item]))
    assert participants(settings).tolist() == np.setdiff1d(everybody, [user]).tolist()
    assert len(load_interactions(settings.data).history(user)) == 2


def test_a_run_goes_on_when_something_was_forgotten(settings: Settings) -> None:
    before = identity(settings)
    interactions = load_interactions(settings.data)
    forget(settings.data, "1", str(interactions.item_ids[interactions.history(0)[0]]))
    assert identity(settings) == before
    assert load(settings.data).interactions is interactions


def test_the_list_may_lie_elsewhere_and_is_kept_in_order(
    settings: Settings, tmp_path: Path
) -> None:
    place = tmp_path / "state" / "list.json"
    data = replace(settings.data, forgotten_file=str(place))
    forget(data, "2", "5")
    forget(data, "1", "9")
    again = forget(data, "2", "5")
    assert forgotten_path(data) == place
    assert again.pairs == (("2", "5"), ("1", "9"))
    assert json.loads(place.read_text())[1] == {"user": "1", "item": "9"}
    assert read_forgotten(settings.data).pairs == ()


@pytest.mark.parametrize("text", ["", "{", '{"user": 1}', '[{"user": "1"}]', "[3]", "\xff"])
def test_a_damaged_list_is_never_passed_over(text: str, settings: Settings, data_dir: Path) -> None:
    (data_dir / FILE).write_bytes(text.encode("latin-1"))
    for read in (lambda: load_interactions(settings.data), lambda: load_histories(settings)):
        with pytest.raises(FedmemError, match=r"forgotten\.json is damaged"):
            read()
    with pytest.raises(FedmemError, match="is damaged"):
        forget(settings.data, "1", "2")
    assert (data_dir / FILE).read_bytes() == text.encode("latin-1")
