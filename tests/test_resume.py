"""A run that was stopped goes on to the same bits as one that was not, wherever it was stopped."""

from __future__ import annotations

import errno
import gc
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from fedmem.core.checkpoint import Checkpoint, checkpoint_path
from fedmem.core.errors import FedmemError
from fedmem.core.files import atomic
from fedmem.core.settings import Settings
from fedmem.runs import folder as run_folder
from fedmem.runs.folder import STATE
from fedmem.runs.state import LAST
from tests.helpers.in_process_grid import InProcessGrid
from tests.helpers.interruptions import (
    AT_THE_EDGE,
    Camera,
    failing_at,
    let_go_on,
    outcome,
    photographed,
    run_anew,
)
from tests.helpers.settings import small_settings
from tests.helpers.small_world import write_small_data

MakeSettings = Callable[..., Settings]


class Undisturbed(NamedTuple):
    """A run of all stages, what it came to, and every state of the disk on its way."""

    settings: Settings
    expected: dict[str, Any]
    camera: Camera

    @classmethod
    def run(cls, settings: Settings, album: Path, writing_share: float = math.inf) -> Undisturbed:
        camera = photographed(settings, album, writing_share)
        return cls(settings, outcome(settings), camera)

    @property
    def output(self) -> Path:
        return Path(self.settings.output_dir)

    def go_on_from(self, every: int) -> None:
        """From every so many-th state of the disk; the first is before anything was there."""
        for moment, kept in self.camera.pictures[1::every]:
            self.camera.restore(kept)
            let_go_on(self.output)
            assert outcome(self.settings) == self.expected, moment
            left = [path for folder in self.camera.folders for path in folder.rglob("*.partial")]
            assert left == [], moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """At the place where the tests run too: its path is a part of messages."""
    place = tmp_path_factory.mktemp("undisturbed")
    write_small_data(place / "data")
    torch.set_num_threads(1)
    return Undisturbed.run(small_settings(place, *AT_THE_EDGE), place / "album")


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_message_or_write_it_ends_with_the_same_bits(
    every: int, undisturbed: Undisturbed
) -> None:
    assert len(undisturbed.camera.pictures) > 60
    undisturbed.go_on_from(every)


@pytest.mark.parametrize(
    "other", ["strategy=momentum", "strategy=fedavg", "model.item_start=content"]
)
def test_so_does_a_run_with_another_server_optimizer_or_start(
    other: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(
        other,
        "stage=pretrain_sasrec",
        "federation.rounds=5",
        "federation.nodes=1",
        "federation.evaluate_every=2",
    )
    Undisturbed.run(settings, tmp_path / "album").go_on_from(every=6)


def test_so_does_a_run_whose_rounds_are_written_several_at_a_time(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(
        "stage=pretrain_sasrec", "federation.rounds=5", "federation.evaluate_every=2"
    )
    undisturbed = Undisturbed.run(settings, tmp_path / "album", writing_share=1e-9)
    metrics = [kept / "0" / "metrics.jsonl" for _, kept in undisturbed.camera.pictures]
    lines = {len(path.read_text().splitlines()) for path in metrics if path.is_file()}
    assert lines == {0, 1, 5}  # the first, and the others at the end
    undisturbed.go_on_from(every=4)


def test_so_does_a_stage_whose_patience_has_run_out(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings(
        "stage=pretrain_sasrec",
        "federation.rounds=9",
        "strategy.patience=2",
        "strategy.learning_rate=0.5",  # diverges
    )
    undisturbed = Undisturbed.run(settings, tmp_path / "album")
    assert undisturbed.expected["results"][0]["rounds"] < 9
    undisturbed.go_on_from(every=13)


def test_memories_that_were_lost_would_change_the_numbers(undisturbed: Undisturbed) -> None:
    """So the test above can fail: filled again by a later model they hold something else."""
    settings, expected, camera = undisturbed
    (kept,) = [p for moment, p in camera.pictures if moment == "after finetune_moe.safetensors"]
    camera.restore(kept)
    shutil.rmtree(undisturbed.output / "nodes")
    let_go_on(undisturbed.output)
    assert outcome(settings) != expected


def test_a_checkpoint_that_another_run_has_replaced_is_taken_from_the_runs_own(
    undisturbed: Undisturbed,
) -> None:
    settings, expected, camera = undisturbed
    path = checkpoint_path(settings.checkpoint, "pretrain_sasrec")
    (moment,) = [p for m, p in camera.pictures if m == "after align_projectors.safetensors"]
    for has_own in (True, False):
        camera.restore(moment)
        made = Checkpoint.load(path)
        other = {name: value + 1 for name, value in made.parameters.items()}
        replace(made, parameters=other).save(path)
        if has_own:
            let_go_on(undisturbed.output)
            assert not list((undisturbed.output / STATE).glob("kept-*"))
            made.save(path)
            assert outcome(settings) == expected
        else:
            for kept in (undisturbed.output / STATE).glob("kept-*"):
                kept.unlink()
            with pytest.raises(FedmemError, match=r"by another run since(.|\n)*checkpoint.dir of"):
                let_go_on(undisturbed.output)


def test_metrics_are_cut_back_to_the_rounds_that_ended(undisturbed: Undisturbed) -> None:
    settings, expected, camera = undisturbed
    output = undisturbed.output
    kept = next(p for moment, p in camera.pictures if moment == "before metrics.jsonl")
    camera.restore(kept)
    with (output / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"stage": "pretrain_sasrec", "round": 2, "lo')  # half a line
    let_go_on(output)
    assert outcome(settings) == expected


@pytest.mark.parametrize("message", [3, 12, 25])
def test_a_node_that_fails_ends_the_run_which_then_goes_on(
    message: int, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, expected, _ = undisturbed
    with monkeypatch.context() as patched:
        patched.setattr(InProcessGrid, "push_messages", failing_at(message))
        with pytest.raises(FedmemError, match="out of order"):
            run_anew(settings)
    let_go_on(Path(settings.output_dir))
    assert outcome(settings) == expected


def test_a_disk_that_is_full_at_any_write_loses_nothing(
    undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, expected, _ = undisturbed
    write = atomic.flush
    for full_at in range(2, 60, 19):
        count = 0

        def failing(path: Path, full_at: int = full_at) -> None:
            nonlocal count
            count += 1
            if count == full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path)

        with monkeypatch.context() as patched:
            patched.setattr(atomic, "flush", failing)
            patched.setattr(run_folder, "flush", failing)
            with pytest.raises((OSError, FedmemError), match=r"No space left on device.*run/|chec"):
                run_anew(settings)
        let_go_on(undisturbed.output)
        assert outcome(settings) == expected, full_at


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB, of which the tiny run needs about half."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs here")
    yield place
    gc.collect()  # the tensors of a state that was read are mapped from its file
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_small_disk_it_stops_and_goes_on_when_there_is_room(
    make_settings: MakeSettings, small_disk: Path
) -> None:
    settings = make_settings(*AT_THE_EDGE, f"checkpoint.dir={small_disk / 'checkpoints'}")
    settings = replace(settings, output_dir=str(small_disk / "run"))
    run_anew(settings)
    expected = outcome(settings)
    for made in small_disk.iterdir():
        shutil.rmtree(made)
    stops: list[str] = []
    filler = small_disk / "filler"
    for kilobytes in (1000, 940, 880, 820, 760, 700, 640, 580, 520, 0):
        filler.write_bytes(bytes(kilobytes << 10))
        try:
            if not (small_disk / "run" / STATE / LAST).is_file():
                run_anew(settings)
            else:
                let_go_on(small_disk / "run")
        except (OSError, FedmemError) as error:
            stops.append(str(error))
    assert len(stops) >= 3
    assert all("No space left on device" in stop and str(small_disk) in stop for stop in stops)
    assert outcome(settings) == expected


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bits(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    settings, expected, _ = undisturbed
    output = undisturbed.output
    asked = tmp_path / "settings.json"
    asked.write_text(settings.to_json())
    generator, kills = random.Random(0), 0
    while kills < 20:
        for folder in (output, Path(settings.checkpoint.dir)):
            shutil.rmtree(folder)
        code = None
        while code is None:
            code = run_for_a_while(asked, generator.uniform(0.0, 2.0) if kills < 20 else None)
            kills += code is None
        assert code == 0
        assert outcome(settings) == expected


def run_for_a_while(asked: Path, seconds: float | None) -> int | None:
    """Run, or go on, in a process that is killed after so many seconds; its exit code."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.interruptions", str(asked)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    try:
        return child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return None
