"""Vectors are made once: after a kill, a change of an item, and for items that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.errors import FedmemError

pytest.importorskip("PIL", reason="no fedmem[features]")
from fedmem.core.arrays import Floats
from fedmem.features.encode import KEY_SIZE, Encoded, VectorStore, encode_items
from fedmem.features.sources import Texts
from fedmem.features.table import Item

ITEMS = [Item(str(number), f"title {number}") for number in range(1, 11)]


class Counting:
    """A text's vector is its length and its last digit; stops when it has made enough."""

    width = 2
    identity = "counting"

    def __init__(self, stop_after: int = 1000) -> None:
        self.seen: list[str] = []
        self.stop_after = stop_after

    def encode(self, batch: Sequence[str]) -> Floats:
        if len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += batch
        return np.array([[len(text), int(text[-1])] for text in batch], dtype=np.float32)


def run(folder: Path, encoder: Counting, items: Sequence[Item] = ITEMS) -> Encoded:
    store = VectorStore(folder, encoder.identity, encoder.width)
    return encode_items(items, Texts("{title}"), encoder, store, 3, lambda _: None)


def vectors(folder: Path, found: Encoded) -> list[list[float]]:
    store = VectorStore(folder, Counting.identity, Counting.width)
    return store.take(list(found.keys.values())).tolist()


def test_every_item_gets_the_vector_of_its_own_text(tmp_path: Path) -> None:
    found = run(tmp_path, Counting())
    assert list(found.keys) == [item.id for item in ITEMS]
    assert vectors(tmp_path, found) == [[7, n % 10] if n < 10 else [8, 0] for n in range(1, 11)]


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = vectors(tmp_path / "whole", run(tmp_path / "whole", Counting()))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counting(stop_after=6))
    again = Counting()
    found = run(tmp_path, again)
    assert again.seen == ["title 7", "title 8", "title 9", "title 10"]
    assert found.made == 4
    assert vectors(tmp_path, found) == whole


@pytest.mark.parametrize("torn", [1, KEY_SIZE, KEY_SIZE + 5])
def test_a_torn_record_is_made_again(torn: int, tmp_path: Path) -> None:
    whole = vectors(tmp_path, run(tmp_path, Counting()))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-torn])
    again = Counting()
    assert vectors(tmp_path, run(tmp_path, again)) == whole
    assert again.seen == ["title 10"]


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    changed = [replace(ITEMS[0], title="another 5"), *ITEMS[2:], Item("77", "new 7")]
    again = Counting()
    found = run(tmp_path, again, changed)
    assert again.seen == ["another 5", "new 7"]
    assert vectors(tmp_path, found)[0] == [9, 5]


def test_another_model_makes_all_anew_and_keeps_the_old(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    other, old = Counting(), Counting()
    other.identity = "other"
    assert run(tmp_path, other).made == 10
    assert run(tmp_path, old).made == 0


def test_items_of_the_same_text_share_a_vector(tmp_path: Path) -> None:
    encoder = Counting()
    found = run(tmp_path, encoder, [Item(str(n), "title 1") for n in range(5)])
    assert (encoder.seen, found.made, len(found.keys)) == (["title 1"], 1, 5)


def test_items_without_text_are_reported(tmp_path: Path) -> None:
    found = run(tmp_path, Counting(), [ITEMS[0], Item("x"), ITEMS[1]])
    assert (list(found.keys), found.absent) == (["1", "2"], ["x"])


def test_all_items_are_reported_to_the_progress(tmp_path: Path) -> None:
    advanced: list[int] = []
    store = VectorStore(tmp_path, "counting", 2)
    items = [*ITEMS, Item("without")]
    encode_items(items, Texts("{title}"), Counting(), store, 3, advanced.append)
    assert sum(advanced) == 11


def test_values_that_are_not_finite_are_refused_and_not_kept(tmp_path: Path) -> None:
    class Broken(Counting):
        def encode(self, batch: Sequence[str]) -> Floats:
            return np.full((len(batch), 2), np.inf, dtype=np.float32)

    with pytest.raises(FedmemError, match="not finite"):
        run(tmp_path, Broken())
    assert run(tmp_path, Counting()).made == 10
