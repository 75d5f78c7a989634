"""Facts of the real data, where it lies: MovieLens-100K (`make data`), MovieLens-1M, Beauty."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.data import load_interactions
from fedmem.core.data.homes import expected_work, share_out
from fedmem.core.data.sampling import targets_in_windows
from fedmem.core.memory import auto_threshold
from fedmem.core.node import Node
from fedmem.core.stages import STAGES
from fedmem.download import SHA256, _is_known
from fedmem.runs.configuration import compose_settings
from tests.helpers.real_data import BEAUTY, ML_1M, ML_100K, needs_beauty, needs_ml_1m, needs_ml_100k

STAGE = STAGES["finetune_moe"]


@needs_ml_100k
def test_movielens_100k_is_whole_and_has_content() -> None:
    assert all(_is_known(ML_100K / name) for name in SHA256)
    node = Node(compose_settings([f"data.dir={ML_100K}"]))
    interactions = node.interactions
    assert (interactions.num_users, interactions.num_items) == (943, 1682)
    assert len(interactions.items) == 100_000
    with_picture, with_text = node.content.present.sum(0).tolist()
    assert (with_picture, with_text) == (1427, 1681)
    lengths = np.diff(interactions.offsets)
    assert (lengths.min(), lengths.max()) == (20, 737)


@needs_ml_100k
def test_the_auto_threshold_comes_near_its_write_ratio_on_real_histories() -> None:
    node = Node(compose_settings([f"data.dir={ML_100K}"]))
    memory = node.settings.memory
    bank = node.open_bank(auto_threshold(node.novelty_histogram(), memory.write_ratio))
    node.ingest(STAGE, "validation")
    statistics = bank.statistics()
    assert statistics.ingested == 100_000 - 2 * 943
    assert 0.08 < statistics.write_ratio <= memory.write_ratio + 1e-3
    packed = sum(array.nbytes for array in bank.pack().values())
    assert packed / 943 < 500  # bytes a user


@needs_ml_100k
def test_the_memories_of_movielens_100k_stay_what_they_are() -> None:
    """Figures of a run; processors may differ in an item or two that lie just at the threshold."""
    node = Node(compose_settings([f"data.dir={ML_100K}", "client.windows=2"]))
    bank = node.open_bank(0.81)
    node.ingest(STAGE, "validation")
    assert bank.pack()["counters"].sum(0) == pytest.approx([98114, 9322, 1, 0, 9], abs=3)
    reads = node.reads_at_targets()
    assert reads.shape == (83290, 32)
    assert np.count_nonzero(reads) == pytest.approx(2275178, rel=1e-4)
    assert reads.sum(dtype=np.int64) == pytest.approx(906719833, rel=1e-4)
    node.ingest(STAGE, "test")
    assert bank.pack()["counters"].sum(0) == pytest.approx([99057, 9373, 1, 0, 9], abs=3)


@needs_ml_1m
def test_movielens_1m_reads_the_same_in_the_publisher_s_form(tmp_path: Path) -> None:
    """With `::`, true ratings and times, and the items that the variant here has dropped."""
    rows = [line.split() for line in (ML_1M / "ratings.dat").read_text().splitlines()]
    lines = [f"{user}::{item}::3::{956_703_932 + int(time)}" for user, item, _, time in rows]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    colons = load_interactions(compose_settings(["data=ml-1m", f"data.dir={tmp_path}"]).data)
    spaces = load_interactions(compose_settings(["data=ml-1m", f"data.dir={ML_1M}"]).data)
    assert all(np.array_equal(vars(colons)[n], vars(spaces)[n]) for n in ("items", "offsets"))
    assert colons.fingerprint == spaces.fingerprint


@pytest.mark.parametrize(
    ("overrides", "fingerprint", "dense"),
    [
        pytest.param(
            [f"data.dir={ML_100K}"],
            "1397efa11fba4912",
            "30403736e5acf3ff",
            marks=needs_ml_100k,
            id="ml-100k",
        ),
        pytest.param(
            ["data=ml-1m", f"data.dir={ML_1M}"],
            "1fcd94e46f09e22a",
            "8357ebb672ffe6bb",
            marks=needs_ml_1m,
            id="ml-1m",
        ),
        pytest.param(
            ["data=amazon-beauty", f"data.dir={BEAUTY}"],
            "16eea1cf5b0050ef",
            "8dda022e6b0daa05",
            marks=needs_beauty,
            id="amazon-beauty",
        ),
    ],
)
def test_catalogue_and_dense_ids_stay_what_checkpoints_were_trained_on(
    overrides: list[str], fingerprint: str, dense: str
) -> None:
    found = load_interactions(compose_settings(overrides).data)
    assert found.fingerprint == fingerprint
    arrays = (found.items, found.offsets, found.item_ids, found.user_ids)
    assert hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16] == dense


@needs_ml_1m
def test_movielens_1m_is_whole_and_has_content() -> None:
    node = Node(compose_settings(["data=ml-1m", f"data.dir={ML_1M}"]))
    assert (node.interactions.num_users, node.interactions.num_items) == (6040, 3416)
    assert len(node.interactions.items) == 999_610
    assert node.content.visual.shape == (3417, 512)
    assert node.content.text.shape == (3417, 384)


@needs_beauty
def test_beauty_is_whole_and_its_work_can_be_shared_evenly() -> None:
    settings = compose_settings(["data=amazon-beauty", f"data.dir={BEAUTY}"])
    interactions = load_interactions(settings.data)
    assert (interactions.num_users, interactions.num_items) == (40_226, 54_542)
    lengths = np.diff(interactions.offsets)
    assert (len(interactions.items), lengths.min(), lengths.max()) == (353_962, 5, 293)
    users = np.arange(interactions.num_users)
    work = expected_work(settings, targets_in_windows(settings, interactions, users))
    loads = [work[home].sum() for home in share_out(users, work[:, None], 16)]
    assert max(loads) < 1.001 * min(loads)
