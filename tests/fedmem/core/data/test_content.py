"""Reading features: rows by the data's own item id, and files that are refused by their path."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmem.core.data import Interactions, load_content, load_histories, load_interactions
from fedmem.core.data.content import content_here
from fedmem.core.errors import FedmemError
from fedmem.core.model import Content
from fedmem.core.settings import DataSettings, Settings
from fedmem.core.stages import STAGES
from fedmem.runs.configuration import compose_settings
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.small_world import TEXT_WIDTH, VISUAL_WIDTH


def load(settings: Settings) -> Content:
    return load_content(settings.data, load_interactions(settings.data))


def error_of(settings: Settings) -> str:
    with pytest.raises(FedmemError) as caught:
        load(settings)
    return str(caught.value)


def one_user(item_ids: list[int]) -> Interactions:
    return Interactions(
        offsets=np.array([0, len(item_ids)]),
        items=np.arange(1, len(item_ids) + 1, dtype=np.int32),
        item_ids=np.array([0, *item_ids]),
        user_ids=np.array([1]),
    )


def with_rows(settings: DataSettings, rows: torch.Tensor) -> DataSettings:
    for file in (settings.visual_file, settings.text_file):
        torch.save(rows, Path(settings.dir) / file)
    return settings


class Executes:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_data_without_features_are_refused_in_one_line_by_their_name(settings: Settings) -> None:
    bare = replace(settings, data=replace(settings.data, visual_file=None, text_file=None))
    message = error_of(bare)
    assert "data.text_file=null" in message
    assert "stage=pretrain_sasrec" in message
    assert len(message.splitlines()) == 1


def test_rows_are_ordered_by_dense_item_id(settings: Settings) -> None:
    rows = torch.arange(10).float()[:, None] * torch.ones(3)
    found = load_content(with_rows(settings.data, rows), one_user([2, 5, 9]))
    assert found.visual[:, 0].tolist() == [0, 2, 5, 9]
    assert found.text[:, 0].tolist() == [0, 2, 5, 9]


def test_the_padding_row_is_zero_whatever_the_file_holds(settings: Settings) -> None:
    found = load_content(with_rows(settings.data, torch.ones(4, 3)), one_user([1, 3]))
    assert found.visual.tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]


def test_features_of_half_precision_are_read_as_floats(settings: Settings) -> None:
    found = load(settings)
    assert (found.visual.dtype, found.text.dtype) == (torch.float32, torch.float32)


def test_a_row_of_zeros_is_a_missing_modality(settings: Settings) -> None:
    found = load(settings)
    items = load_interactions(settings.data).item_ids.tolist()
    present = {item: found.present[items.index(item)].tolist() for item in (0, 3, 4, 5, 7)}
    assert present == {
        0: [False, False],
        3: [False, False],
        4: [True, True],
        5: [False, True],
        7: [True, False],
    }


@pytest.mark.parametrize("file", ["visual_features.pt", "text_features.pt"])
def test_a_missing_file_is_refused_by_its_path(
    settings: Settings, data_dir: Path, file: str
) -> None:
    (data_dir / file).unlink()
    message = error_of(settings)
    assert str(data_dir / file) in message
    assert "data.dir" in message


@pytest.mark.parametrize("data", [b"", b"no tensor at all", b"\x80\x02}q\x00."])
def test_a_garbage_file_is_refused_by_its_path(
    settings: Settings, data_dir: Path, data: bytes
) -> None:
    (data_dir / "text_features.pt").write_bytes(data)
    assert str(data_dir / "text_features.pt") in error_of(settings)


@pytest.mark.parametrize("value", [torch.ones(50), torch.ones(50, 2, 2), [torch.ones(50, 2)]])
def test_anything_but_a_matrix_is_refused(settings: Settings, data_dir: Path, value: Any) -> None:
    torch.save(value, data_dir / "visual_features.pt")
    assert str(data_dir / "visual_features.pt") in error_of(settings)


def test_a_file_with_too_few_rows_is_refused_with_the_rows_needed(
    settings: Settings, data_dir: Path
) -> None:
    torch.save(torch.ones(40, 8), data_dir / "text_features.pt")
    message = error_of(settings)
    assert str(data_dir / "text_features.pt") in message
    assert "40 rows" in message
    assert "41" in message


@pytest.mark.parametrize(
    ("value", "what"),
    [(float("nan"), "not finite"), (float("inf"), "not finite"), (1e30, "too large")],
)
def test_a_vector_without_a_length_is_refused_with_its_item(
    settings: Settings, data_dir: Path, value: float, what: str
) -> None:
    rows = torch.ones(41, 8)
    rows[17, 3] = value
    torch.save(rows, data_dir / "text_features.pt")
    message = error_of(settings)
    assert f"values that are {what}" in message
    assert str(data_dir / "text_features.pt") in message
    assert "item 17" in message


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_pickled_object_is_refused_and_not_executed(
    settings: Settings, data_dir: Path, tmp_path: Path, form: str
) -> None:
    harm, path = tmp_path / "harm", data_dir / "visual_features.pt"
    if form == "torch":
        torch.save(Executes(harm), path)
    else:
        path.write_bytes(pickle.dumps(Executes(harm), protocol=2))
    assert str(path) in error_of(settings)
    assert not harm.exists()


def test_item_0_of_the_data_has_row_0(settings: Settings, data_dir: Path) -> None:
    with (data_dir / "ratings.dat").open("a") as file:
        file.write("1 0 1 99\n")
    torch.save(torch.arange(1.0, 42.0)[:, None], data_dir / "text_features.pt")
    assert load(settings).text[:3, 0].tolist() == [0, 1, 2]  # padding, item 0, item 1


def test_a_negative_item_id_does_not_read_a_row_that_is_not_its_own(
    settings: Settings, data_dir: Path
) -> None:
    with (data_dir / "ratings.dat").open("a") as file:
        file.write("1 -1 1 99\n")
    message = error_of(settings)
    assert "an id of these data is -1" in message
    assert ".parquet or .npz" in message


def test_ids_that_are_text_have_no_rows_in_a_matrix(settings: Settings, data_dir: Path) -> None:
    with (data_dir / "ratings.dat").open("a") as file:
        file.write("1 B00X 1 99\n")
    message = error_of(settings)
    assert "41 rows" in message
    assert "'B00X'" in message
    assert ".parquet or .npz" in message


def test_a_folder_where_a_file_is_meant_is_refused(settings: Settings, data_dir: Path) -> None:
    (data_dir / "text_features.pt").unlink()
    (data_dir / "text_features.pt").mkdir()
    assert f"{data_dir / 'text_features.pt'} is a folder" in error_of(settings)


def keyed(folder: Path, ids: list[Any], rows: list[list[float]]) -> DataSettings:
    np.savez(folder / "text.npz", ids=np.array(ids), vectors=np.array(rows, np.float32))
    return replace(compose_settings(["data=custom"]).data, dir=str(folder), text_file="text.npz")


def test_a_keyed_file_is_matched_by_id_and_what_it_lacks_is_missing(tmp_path: Path) -> None:
    settings = keyed(tmp_path, [9, 77, 2], [[9, 1], [7, 7], [2, 1]])
    found = load_content(settings, one_user([2, 5, 9]))
    assert found.text.tolist() == [[0, 0], [2, 1], [0, 0], [9, 1]]
    assert found.present.tolist() == [[False, False], [False, True], [False, False], [False, True]]


def test_ids_match_where_only_one_side_has_text(tmp_path: Path) -> None:
    settings = keyed(tmp_path, ["9", "B00X"], [[9], [1]])
    assert load_content(settings, one_user([2, 9])).text[:, 0].tolist() == [0, 0, 9]


def test_a_keyed_file_of_other_items_is_refused_with_its_ids(tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match=r"3 rows for data\.text_file, of none of the 2 items"):
        load_content(keyed(tmp_path, [7, 8, 9], [[1], [1], [1]]), one_user([2, 5]))


def test_an_item_that_is_keyed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match="3 rows for 2 items: 5 is there twice"):
        load_content(keyed(tmp_path, [2, 5, 5], [[1], [2], [3]]), one_user([2, 5]))


@pytest.mark.parametrize("absent", ["visual", "text"])
def test_the_three_stages_run_where_one_kind_of_content_is_absent(
    make_settings: Callable[..., Settings], absent: str
) -> None:
    settings = make_settings(f"data.{absent}_file=null")
    present = load(settings).present[:, 0 if absent == "visual" else 1]
    assert not present.any()
    results, watcher, _ = run_in_process(settings)
    assert [result.stage for result in results] == list(STAGES)
    trained = [r.loss for r in watcher.records if r.stage == "align_projectors" and r.round > 0]
    assert np.isfinite(trained).all()
    width = {"visual": TEXT_WIDTH, "text": VISUAL_WIDTH}[absent]
    other = results[1].trained_parameters
    dim, hidden = settings.model.dim, settings.model.gating_hidden
    assert other == (1 + width + 2) * dim + 3 * dim * hidden + hidden + 2 * hidden + 2


@pytest.mark.parametrize("cold", [0.0, 0.3])
def test_a_machine_without_interactions_knows_by_the_catalogue_whose_the_rows_are(
    cold: float, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(f"evaluation.cold_items={cold}")
    items = load_histories(settings).warm
    hub = tmp_path / "hub"
    hub.mkdir()
    for file in ("visual_features.pt", "text_features.pt"):
        shutil.copy(Path(settings.data.dir) / file, hub)
    everything = load_interactions(settings.data).item_ids[1:]
    (hub / "items.txt").write_text("".join(f"{item}\n" for item in everything))
    bare = replace(settings.data, dir=str(hub))
    assert content_here(replace(settings, data=bare), items.fingerprint) is None
    there = replace(settings, data=replace(bare, catalogue_file="items.txt"))
    found = content_here(there, items.fingerprint)
    expected = load_content(settings.data, items)
    assert found is not None
    assert torch.equal(found.visual, expected.visual)
    assert torch.equal(found.text, expected.text)
    assert content_here(there, "another catalogue") is None
