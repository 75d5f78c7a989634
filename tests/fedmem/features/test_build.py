"""The command from table to feature files, with real models; what it says and what it skips."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fedmem.core.data import Interactions, load_content
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.features.__main__ import main
from tests.helpers.encoders import minilm, save_clip

pytest.importorskip("PIL", reason="no fedmem[features]")
from PIL import Image

from fedmem.core.arrays import Floats
from fedmem.features import build
from fedmem.features.encoders import EfficientNetLite0
from fedmem.features.options import EFFICIENTNET, TEMPLATE

TABLE = """id,title,genres,plot
1,Heat (1995),Action|Crime,A thief and a detective.
2,Babe (1995),Comedy,A pig herds sheep.
4,,,
7,Gordy (1995),Comedy,A pig looks for its family.
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four items: 4 has no text, 2 a file that is no picture, 7 none at all."""
    (tmp_path / "items.csv").write_text(TABLE)
    posters = tmp_path / "posters"
    posters.mkdir()
    Image.new("RGB", (60, 90), (200, 30, 30)).save(posters / "1.jpg")
    Image.new("RGB", (60, 90), (30, 30, 200)).save(posters / "4.png")
    (posters / "2.jpg").write_text("<html>404</html>")
    return tmp_path / "items.csv"


def run(table: Path, *options: str) -> tuple[list[build.Coverage], str]:
    console = Console(file=io.StringIO(), width=80)
    out = str(table.parent / "out")
    made = build.main(["--items", str(table), "--out", out, *options], console)
    return made, console.file.getvalue()  # type: ignore[attr-defined]


def test_one_command_makes_both_files_and_names_what_it_could_not_use(
    table: Path, settings: Settings
) -> None:
    models = ["--text-model", minilm(), "--image-model", save_clip(table.parent / "clip")]
    (text, visual), told = run(table, "--images", str(table.parent / "posters"), *models)
    assert (text.items, text.covered, text.absent, text.unreadable) == (4, 3, 1, {})
    assert (visual.items, visual.covered, visual.absent) == (4, 2, 1)
    broken = table.parent / "posters" / "2.jpg"
    assert visual.unreadable == {"2": f"{broken}: no image"}
    assert f"unusable, counted as missing: item 2, {broken}: no image" in told
    out = table.parent / "out"
    written = json.loads((out / "features.json").read_text())
    assert written["visual"]["unreadable"] == visual.unreadable
    assert written["text"]["template"] == TEMPLATE

    # What it wrote is what a run reads.
    for name in ("text_features.pt", "visual_features.pt"):
        (Path(settings.data.dir) / name).write_bytes((out / name).read_bytes())
    items = Interactions(
        offsets=np.array([0, 4]),
        items=np.arange(1, 5, dtype=np.int32),
        item_ids=np.array([0, 1, 2, 4, 7]),
        user_ids=np.array([1]),
    )
    content = load_content(settings.data, items)
    lengths = [x.norm(dim=1).tolist() for x in (content.text, content.visual)]
    assert lengths[0] == pytest.approx([0, 1, 1, 0, 1], abs=1e-3)
    assert lengths[1] == pytest.approx([0, 1, 0, 1, 0], abs=1e-3)
    assert content.text[2] @ content.text[4] > content.text[2] @ content.text[1]  # the pigs


def test_the_same_command_again_makes_nothing_and_writes_the_same(table: Path) -> None:
    options = ["--only", "text", "--text-model", minilm()]
    (first,), _ = run(table, *options)
    before = torch.load(table.parent / "out" / "text_features.pt", weights_only=True)
    (again,), told = run(table, *options)
    assert (first.made, again.made) == (3, 0)
    assert torch.equal(
        torch.load(table.parent / "out" / "text_features.pt", weights_only=True), before
    )
    assert "text: 4 of 4 items" in told
    table.write_text(TABLE.replace("herds sheep", "flies"))
    (changed,), _ = run(table, *options)
    assert changed.made == 1


def test_principal_components_are_kept_as_asked(table: Path) -> None:
    options = ["--images", str(table.parent / "posters"), "--only", "images"]
    options += ["--image-model", save_clip(table.parent / "clip")]
    (made,), told = run(table, *options, "--image-width", "1")
    assert (made.width, "100.0% of the variance" in told) == (1, True)
    with pytest.raises(FedmemError, match="--image-width 3 is too many: 2 vectors"):
        run(table, *options, "--image-width", "3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "images"], "No item .* has a picture"),
        (["--template", "{year}"], "--template"),
        (["--title-column", "caption"], "no column caption"),
        (["--images", "nowhere"], "no folder of images nowhere"),
    ],
)
def test_what_cannot_be_made_is_refused_before_a_model_is_loaded(
    options: list[str], words: str, table: Path
) -> None:
    with pytest.raises(FedmemError, match=words):
        run(table, *options)


def test_pictures_that_are_all_unusable_are_no_success(table: Path) -> None:
    for path in (table.parent / "posters").iterdir():
        path.write_bytes(b"")
    options = ["--images", str(table.parent / "posters"), "--only", "images"]
    with pytest.raises(FedmemError, match=r"No picture .* item 1: .*1\.jpg: no image"):
        run(table, *options, "--image-model", save_clip(table.parent / "clip"))


@pytest.mark.parametrize("image", ["nowhere.jpg", "https://example.org/1.jpg"])
def test_pictures_that_are_not_there_are_found_out_before_a_model_is_loaded(
    image: str, table: Path
) -> None:
    table.write_text(f"id,title,image\n1,Heat,{image}\n")
    is_address = "://" in image
    options = ["--text-model", "nowhere", "--image-model", "nowhere"]
    options += ["--only", "images"] if is_address else []
    words = "No item .* has a picture" if is_address else r"item 1: .*nowhere\.jpg: No such file"
    with pytest.raises(FedmemError, match=words):
        run(table, *options)
    assert not (table.parent / "out").exists()


def test_pictures_that_are_addresses_do_not_keep_texts_from_being_made(table: Path) -> None:
    table.write_text("id,title,image\n1,Heat,https://example.org/1.jpg\n")
    (made,), told = run(table, "--text-model", minilm())
    assert (made.kind, made.covered) == ("text", 1)
    assert "left out: 1 pictures of column image that are no files" in told


def test_what_is_made_of_one_kind_is_noted_before_the_next_begins(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = table.parent / "out"
    out.mkdir()
    (out / "features.json").write_text("{ damaged")

    class Stops(EfficientNetLite0):
        def encode(self, batch: Sequence[Image.Image]) -> Floats:
            raise KeyboardInterrupt

    monkeypatch.setattr("fedmem.features.encoders.EfficientNetLite0", Stops)
    options = ["--images", str(table.parent / "posters"), "--image-model", EFFICIENTNET]
    with pytest.raises(KeyboardInterrupt):
        run(table, *options, "--text-model", minilm())
    assert json.loads((out / "features.json").read_text())["text"]["covered"] == 3


def test_another_encoding_is_named_by_its_option(table: Path) -> None:
    table.write_text("id,title\n1,Amélie\n", encoding="latin-1")
    with pytest.raises(FedmemError, match="for example --encoding latin-1"):
        run(table, "--text-model", "nowhere")
    (made,), _ = run(table, "--text-model", minilm(), "--encoding", "latin-1")
    assert made.covered == 1


def test_without_the_extra_the_command_says_how_to_get_it(table: Path) -> None:
    """In a process that has imported nothing yet."""
    hide = (
        "import sys; sys.modules['PIL'] = None; from fedmem.features.__main__ import main; main()"
    )
    asked = ["--items", str(table), "--out", str(table.parent / "out")]
    program = [sys.executable, "-c", hide, *asked]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("needs PIL: pip install 'fedmem[features]'")
    assert "Traceback" not in done.stderr


def test_a_mistake_ends_the_command_with_a_line_and_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--items", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["fedmem.features", *asked])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("fedmem: There is no item table")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
