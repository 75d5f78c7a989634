"""Parameters are kept under their hash, and found by other processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.federation.parameter_store import KEPT, ParameterStore

PARAMETERS = {"sasrec.item_emb.weight": torch.arange(12.0).reshape(4, 3), "γ": torch.tensor(0.5)}


def same(a: Parameters | None, b: Parameters) -> bool:
    return a is not None and a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in b)


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_was_put_is_found_under_its_content_hash(tmp_path: Path) -> None:
    store = ParameterStore(tmp_path / "frozen")
    key = store.put(PARAMETERS)
    assert key == content_hash(PARAMETERS)
    assert same(store.get(key), PARAMETERS)


def test_what_was_taken_may_be_written_to_and_is_found_anew_in_the_file(tmp_path: Path) -> None:
    store = ParameterStore(tmp_path)
    key = store.put({name: value.clone() for name, value in PARAMETERS.items()})
    for _ in range(2):  # from this process, from the file
        taken = store.take(key)
        assert same(taken, PARAMETERS)
        assert taken is not None
        taken["sasrec.item_emb.weight"].add_(1)
    assert same(store.get(key), PARAMETERS)


def test_another_instance_finds_it(tmp_path: Path) -> None:
    key = ParameterStore(tmp_path).put(PARAMETERS)
    assert same(ParameterStore(tmp_path).get(key), PARAMETERS)


def test_what_was_never_put_is_not_there(tmp_path: Path) -> None:
    store = ParameterStore(tmp_path / "frozen")
    assert store.get("0" * 32) is None
    store.put(PARAMETERS)
    assert store.get("0" * 32) is None


def test_two_stages_are_both_kept(tmp_path: Path) -> None:
    store = ParameterStore(tmp_path)
    other = {"γ": torch.tensor(0.25)}
    first, second = store.put(PARAMETERS), store.put(other)
    assert same(store.get(first), PARAMETERS)
    assert same(store.get(second), other)


def test_the_latest_few_are_kept(tmp_path: Path) -> None:
    store = ParameterStore(tmp_path)
    keys = []
    for number in range(KEPT + 2):
        keys.append(store.put({"γ": torch.tensor(float(number))}))
        os.utime(tmp_path / f"{keys[-1]}.safetensors", (number, number))
    found = [ParameterStore(tmp_path).get(key) is not None for key in keys]
    assert found == [False, False] + [True] * KEPT


def test_putting_twice_leaves_one_file_and_nothing_partial(tmp_path: Path) -> None:
    assert ParameterStore(tmp_path).put(PARAMETERS) == ParameterStore(tmp_path).put(PARAMETERS)
    assert only_file(tmp_path).suffix == ".safetensors"


def test_a_file_with_a_flipped_byte_is_ignored(tmp_path: Path) -> None:
    key = ParameterStore(tmp_path).put(PARAMETERS)
    file = only_file(tmp_path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert ParameterStore(tmp_path).get(key) is None


@pytest.mark.parametrize("size", [0, 4, 40, -1])
def test_a_truncated_file_is_ignored(tmp_path: Path, size: int) -> None:
    key = ParameterStore(tmp_path).put(PARAMETERS)
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    assert ParameterStore(tmp_path).get(key) is None


def test_putting_again_mends_a_damaged_file(tmp_path: Path) -> None:
    key = ParameterStore(tmp_path).put(PARAMETERS)
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    ParameterStore(tmp_path).put(PARAMETERS)
    assert same(ParameterStore(tmp_path).get(key), PARAMETERS)
