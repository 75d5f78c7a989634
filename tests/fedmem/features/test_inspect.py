"""The inspection shows what a run would find, and draws it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.feature_quality import ContentStart, NeighbourSimilarity
from fedmem.core.memory import auto_threshold
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from tests.helpers.small_world import NUM_ITEMS, SMALL, TEXT_WIDTH, VISUAL_WIDTH

pytest.importorskip("matplotlib", reason="no fedmem[features]")
pytest.importorskip("PIL", reason="no fedmem[features]")
from PIL import Image

from fedmem.features import inspect
from fedmem.features.inspection import Inspection
from fedmem.features.inspection import inspect as measure
from fedmem.features.options import inspect_options

TITLES = {str(item): f"Title of {item}" for item in range(NUM_ITEMS)}


@pytest.fixture
def found(settings: Settings) -> Inspection:
    return measure(settings, TITLES)


def test_coverage_counts_items_and_their_interactions(
    found: Inspection, settings: Settings
) -> None:
    text, visual, both = found.kinds
    assert [(k.name, k.width) for k in found.kinds] == [
        ("text", TEXT_WIDTH),
        ("visual", VISUAL_WIDTH),
        ("both", TEXT_WIDTH + VISUAL_WIDTH),
    ]
    interactions = Node(settings).interactions
    assert found.items == interactions.num_items == NUM_ITEMS
    # Item 3 has no content, item 5 no picture, item 7 no text.
    shares = [38 / 40, 38 / 40, 39 / 40]
    assert [k.items for k in found.kinds] == pytest.approx(shares)
    own = interactions.item_ids[interactions.items]
    for kind, missing in ((text, [3, 7]), (visual, [3, 5]), (both, [3])):
        assert kind.interactions == pytest.approx(1 - np.isin(own, missing).mean())


def test_lengths_are_those_of_the_vectors_that_are_there(
    found: Inspection, settings: Settings
) -> None:
    lengths = Node(settings).content.text.norm(dim=1).numpy()
    there = lengths[lengths > 0]
    assert found.kinds[0].norms == pytest.approx(np.quantile(there, [0.05, 0.5, 0.95]))
    assert found.kinds[2].norms == pytest.approx([1.0] * 3)


def test_the_threshold_is_the_one_that_a_run_takes(found: Inspection, settings: Settings) -> None:
    node = Node(settings)
    histogram = node.novelty_histogram()
    assert np.array_equal(found.novelty, histogram)
    assert found.threshold == auto_threshold(histogram, settings.memory.write_ratio)
    assert 0 < found.written <= settings.memory.write_ratio


def test_the_nearest_items_are_nearest_by_cosine(found: Inspection, settings: Settings) -> None:
    node = Node(settings)
    names = [TITLES.get(str(item), f"item {item}") for item in node.interactions.item_ids]
    for example in found.examples:
        row = names.index(example.title)
        for kind, rows in (("text", node.content.text), ("visual", node.content.visual)):
            unit = (rows / rows.norm(dim=1, keepdim=True)).nan_to_num(0).numpy()
            cosines = unit @ unit[row]
            cosines[[0, row]] = -2
            best = np.argsort(-cosines)[:3]
            assert [title for title, _ in example.nearest[kind]] == [names[i] for i in best]
            values = [cosine for _, cosine in example.nearest[kind]]
            assert values == pytest.approx(cosines[best].tolist(), abs=1e-5)
    drawn = {example.title for example in found.examples}
    assert len(drawn) == 5
    assert drawn.isdisjoint({"Title of 3", "Title of 5", "Title of 7"})


def test_the_command_prints_the_figures_and_draws_a_page(
    settings: Settings, found: Inspection, tmp_path: Path
) -> None:
    table = tmp_path / "movies.dat"
    table.write_text("".join(f"{item}::{title}::Drama\n" for item, title in TITLES.items()))
    page, console = tmp_path / "pages" / "page.png", Console(file=io.StringIO(), width=80)
    overrides = [*SMALL, f"data.dir={settings.data.dir}"]
    asked = [*overrides[:3], "--items", str(table), "--page", str(page), *overrides[3:]]
    inspect.make(inspect_options().parse_intermixed_args(asked), console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"memory.threshold=auto takes {found.threshold:g}" in told
    assert f"{found.written:.1%} of the training" in told
    assert f"Item embeddings: {found.start}" in told.replace("\n", " ")
    for kind in found.kinds:
        assert f"{kind.similarity.neighbours:.3f}" in told
    for example in found.examples:
        assert f"Nearest to {example.title}" in told
    assert max(map(len, told.splitlines()[:-1])) <= 80
    with Image.open(page) as picture:
        assert picture.width < picture.height  # for a phone
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
    assert [path.name for path in page.parent.iterdir()] == ["page.png"]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.02, "know something"), (-0.1, 0.1, "no sign"), (-0.2, -0.1, "the right items")],
)
def test_the_interval_is_put_into_words(low: float, high: float, words: str) -> None:
    assert words in inspect.verdict(low, high)
    assert "no sign" in inspect.verdict(float("nan"), float("nan"))


def test_histories_that_tell_nothing_still_make_a_page(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """Two users with three items each have no neighbours in training."""
    settings = make_settings("data.min_interactions=3")
    rows = [f"{user} {item} 1 {item}" for user in (1, 2) for item in (10, 11, 12)]
    (Path(settings.data.dir) / "ratings.dat").write_text("\n".join(rows) + "\n")
    found = measure(settings, {})
    assert np.isnan(found.kinds[0].similarity.difference)
    inspect.draw_page(found, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_data_without_features_are_refused(settings: Settings, data_dir: Path) -> None:
    (data_dir / "text_features.pt").unlink()
    with pytest.raises(FedmemError, match=r"text_features\.pt"):
        measure(settings, {})


def test_a_start_from_content_pays_where_content_is_there_and_goes_with_what_users_do() -> None:
    alike = NeighbourSimilarity(0.3, 0.2, 0.1, 0.05, 0.15)
    noise = NeighbourSimilarity(0.2, 0.2, 0.0, -0.05, 0.05)
    rare, often = ContentStart(alike, 0.9, 10.8), ContentStart(alike, 0.9, 289)
    assert rare.pays
    assert "in the end too: 10.8 training interactions an item" in str(rare)
    assert "takes 1.36" in str(rare)
    assert "in the first rounds above all" in str(often)
    for similarity, covered, why in (
        (noise, 0.9, "no sign"),
        (alike, 0.3, "only 30%"),
        (NeighbourSimilarity(*[float("nan")] * 5), 0.9, "no sign"),
    ):
        found = ContentStart(similarity, covered, 10.8)
        assert not found.pays
        assert why in str(found)
