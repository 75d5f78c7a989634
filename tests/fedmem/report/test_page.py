"""The page of real runs, looked at in a real browser; and the command that makes it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fedmem.core.data import write_id_files
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.report import __main__ as command
from fedmem.report import routing
from fedmem.report.canvas import NothingToDraw
from fedmem.report.page import PLOTS, make_page
from fedmem.report.runs import read_run
from fedmem.report.study import Study
from tests.helpers.browser import browser as browser
from tests.helpers.in_process_grid import InProcessGrid
from tests.helpers.recorded_runs import MakeRun, result, rounds
from tests.helpers.shared_runs import WholeRun
from tests.helpers.small_world import NUM_ITEMS

MakeSettings = Callable[..., Settings]

LOOK = """() => [...document.querySelectorAll('figure')].map(figure => {
    const svg = figure.querySelector('svg'), size = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
    return {
        name: figure.id, width: size.width, height: size.height,
        drawn: [...svg.querySelectorAll('path, use')].filter(mark => {
            const box = mark.getBoundingClientRect();
            return box.width > 0 || box.height > 0;
        }).length,
        ink: getComputedStyle(svg.querySelector('text')).fill,
        outside: texts.filter(box => box.left < size.left - 1 || box.right > size.right + 1
            || box.top < size.top - 1 || box.bottom > size.bottom + 1).length,
    };
})"""
"""What the browser made of each plot."""


MakeSweep = Callable[..., Path]


@pytest.fixture
def make_sweep(make_settings: MakeSettings, data_dir: Path, tmp_path: Path) -> MakeSweep:
    """Makes runs of the tiny federation with these clients and seeds."""
    genres = ["Drama|War", "Comedy", "Drama"]
    lines = [f"{item}::Title {item}::{genres[item % 3]}" for item in range(1, NUM_ITEMS + 1)]
    (data_dir / "movies.dat").write_text("\n".join(lines) + "\n")

    def make(*jobs: tuple[int, int]) -> Path:
        for job, (clients, seed) in enumerate(jobs):
            settings = make_settings(f"federation.num_clients={clients}", f"seed={seed}")
            run = tmp_path / "sweep" / str(job)
            checkpoints = replace(settings.checkpoint, dir=str(run / "checkpoints"))
            settings = replace(settings, output_dir=str(run), checkpoint=checkpoints)
            Run(settings, [], keep_ranks=True)(InProcessGrid(settings.federation.nodes))
            write_id_files(run, settings)
        return tmp_path / "sweep"

    return make


def report(*arguments: str) -> str:
    console = Console(file=io.StringIO(), width=80)
    command.report(arguments, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_a_browser_shows_every_plot_and_nothing_is_logged(
    make_sweep: MakeSweep, tmp_path: Path, browser: Any
) -> None:
    sweep = make_sweep((12, 0), (12, 1), (24, 0), (24, 1))
    said = report(str(sweep), "--out", str(tmp_path / "out"))
    assert "num_clients=12" in said
    asked: list[str] = []
    logged: list[str] = []
    inks = set()
    for width, scheme in ((390, "light"), (1200, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.goto((tmp_path / "out" / "report.html").as_uri())
        plots = page.evaluate(LOOK)
        drawn = [plot.name for plot in PLOTS if plot.name != "privacy"]  # of private runs
        assert [plot["name"] for plot in plots] == drawn
        for plot in plots:
            assert 300 < plot["width"] <= width, plot
            assert plot["height"] > 100, plot
            assert plot["drawn"] > 10, plot
            assert plot["outside"] == 0, plot
            inks.add(plot["ink"])
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
    assert logged == []
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == set()
    assert len(inks) == 2  # one for the light and one for the dark


def test_a_plot_whose_data_no_run_has_is_left_out_with_the_reason(make_run: MakeRun) -> None:
    html, left_out = make_page(Study.of([make_run(novelty=None)]), "the command")
    shown = re.findall(r'<figure id="(\w+)"', html)
    assert shown == ["learning", "bytes"]
    assert len(left_out) == len(PLOTS) - len(shown)
    for line in left_out:
        assert line.replace("'", "&#39;") in html


def test_what_the_genres_leave_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "read_item_ids", lambda _: range(10))
    run: Any = SimpleNamespace(
        folder=tmp_path, settings={"data": {"dir": str(tmp_path), "encoding": "utf-8"}}
    )
    table, said = tmp_path / "items.csv", list[str]()
    rows = "".join(f"{item},Drama\n" for item in [*range(7), 3])
    table.write_text(f"item_id,genres\n{rows}")
    assert routing._genres(run, said.append) == [("Drama", [1, 2, 3, 4, 5, 6, 7])]
    assert said == ["left out: 1 row with an id that an earlier row has, first 3 in line 9"]
    table.write_text("code,genres\n7,Drama\n")
    with pytest.raises(NothingToDraw, match="has no column of item ids"):
        routing._genres(run, said.append)


def test_seeds_that_are_not_so_far_yet_do_not_keep_the_others_from_the_page(
    make_run: MakeRun,
) -> None:
    stages = ("pretrain_sasrec", "align_projectors")
    runs = [
        make_run(
            f"seed={seed}",
            f"federation.num_clients={clients}",
            results=[result("pretrain_sasrec", 0.5)] if seed else [],
            rounds=[each for stage in stages[: 2 * seed] for each in rounds(stage, [0.1, 0.2])],
            standing="stands somewhere",
        )
        for seed in (0, 1)
        for clients in (10, 20)
    ]
    html, _ = make_page(Study.of(runs), "the command")
    assert re.findall(r'<figure id="(\w+)"', html) == ["learning", "clients", "bytes"]
    assert "The next stage starts at a dotted line." in html


def test_files_are_written_and_a_router_is_only_read_from_the_checkpoint_of_its_run(
    make_sweep: MakeSweep,
) -> None:
    sweep = make_sweep((12, 0), (12, 1))
    taken = sweep / "1" / "checkpoints" / "finetune_moe.safetensors"
    shutil.copy(taken, sweep / "0" / "checkpoints" / "finetune_moe.safetensors")
    said = report(str(sweep / "0"), "--out", str(sweep / "out"))
    assert re.search(r"Router: .*finetune_moe.safetensors is of another run since", said)
    written = sorted(path.name for path in (sweep / "out").iterdir())
    assert written == ["differences.csv", "report.html", "report.md", "runs.csv"]
    assert all(name in said for name in written)
    made_with = f"Made with {Study.of([read_run(sweep / '0')]).made_with[0]}."
    items = pq.read_table(sweep / "1" / "items.parquet")
    pq.write_table(items.slice(1), sweep / "1" / "items.parquet")
    shutil.rmtree(sweep / "1" / "state")  # with the hashes of its checkpoints
    assert "is of another run since" in report(str(sweep / "1"), "--out", str(sweep / "other"))
    files = [(sweep / "out" / name).read_text() for name in ("report.html", "report.md")]
    assert all(text.count(made_with) == 1 for text in [said, *files])


def test_a_run_that_cannot_be_read_is_left_out_by_name(whole_run: WholeRun, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        shutil.copytree(whole_run.settings.output_dir, tmp_path / name)
    (tmp_path / "bad" / "results.json").write_text("{")
    said = report(str(tmp_path / "good"), str(tmp_path / "bad"), "--out", str(tmp_path / "out"))
    assert re.search(r"A run is left out: \S*bad/results\.json is\s+damaged", said)
    with pytest.raises(FedmemError, match=r"bad/results\.json is damaged"):
        report(str(tmp_path / "bad"))


def test_what_a_user_named_is_escaped(make_run: MakeRun) -> None:
    runs = [make_run(folder=f"x/<b>{arm}/seed-0", hr=arm) for arm in (0.1, 0.2)]
    runs[1].settings["seed"] = 1
    runs[1].settings["federation"]["fraction"] = 0.7
    html, _ = make_page(Study.of(runs), "python -m fedmem.report <x>")
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "<x>" not in html


def mistake(patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *asked: str) -> str:
    """What the command says before it ends with 2."""
    patch.setattr("sys.argv", ["report", *asked])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("asked", [["nowhere"], []])
def test_mistakes_end_with_2(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere" in mistake(monkeypatch, capsys, *asked) or not asked


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_place_that_can_be_no_folder_is_named(
    below: str,
    whole_run: WholeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").touch()
    out = tmp_path / "taken" / below
    said = mistake(monkeypatch, capsys, whole_run.settings.output_dir, "--out", str(out))
    assert said.startswith(f"fedmem: --out={out} can be no folder: ")
    assert said.count("\n") == 1


def test_a_file_that_cannot_be_replaced_is_named(
    whole_run: WholeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "out" / "report.md").mkdir(parents=True)
    said = mistake(
        monkeypatch, capsys, whole_run.settings.output_dir, "--out", str(tmp_path / "out")
    )
    assert said == f"fedmem: {tmp_path / 'out' / 'report.md'}: Is a directory.\n"
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["report.html", "report.md"]
