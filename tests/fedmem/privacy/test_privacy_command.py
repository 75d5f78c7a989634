"""The command: a plan before training, a run's ledger, and the attack, with and without privacy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.privacy import leak
from fedmem.privacy.leak import print_leak
from fedmem.privacy.plan import print_plan
from fedmem.privacy.spent import print_spent
from tests.helpers.interruptions import run_anew
from tests.helpers.shared_runs import WholeRun

MakeSettings = Callable[..., Settings]
PRIVATE = (
    "privacy=central",
    "privacy.delta=1e-3",
    "privacy.schedule=every_k",
    "stage=pretrain_sasrec",
)


def rows(text: str) -> dict[str, list[float]]:
    """The figures of every row that has some, by its first words."""
    found = {}
    for line in text.splitlines():
        cells = [cell for cell in re.split(r"\s{2,}", line.strip()) if cell]
        if len(cells) > 2 and all(re.fullmatch(r"-?[\d.]+", cell) for cell in cells[1:]):
            found[cells[0]] = [float(cell) for cell in cells[1:]]
    return found


def test_a_plan_has_less_noise_for_more_epsilon(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(make_settings(*PRIVATE, "privacy.epsilon=3"))
    text = capsys.readouterr().out
    found = rows(text)
    assert list(found) == ["1", "2", "3", "4", "8", "16"]
    sigma = [row[0] for row in found.values()]
    assert sigma == sorted(sigma, reverse=True)
    assert "24 users, about 12 of them in a round" in text
    with pytest.raises(FedmemError, match="ask for no privacy"):
        print_plan(make_settings())


def test_the_ledger_of_a_run_is_read_back(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(*PRIVATE)
    run_anew(settings)
    print_spent(Path(settings.output_dir))
    text = capsys.readouterr().out
    assert re.search(r"pretrain_sasrec +2 +[\d.]+ +1 in 2 +[\d.]+", text)
    assert re.search(r"ε 7\.9\d+ of 8 at δ 0\.001, after pretrain_sasrec", text)


def test_what_is_no_private_run_is_said(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match="holds no run"):
        print_spent(tmp_path)
    settings = make_settings("stage=pretrain_sasrec")
    run_anew(settings)
    with pytest.raises(FedmemError, match="run without privacy"):
        print_spent(Path(settings.output_dir))


def test_the_attack_finds_histories_in_uploads_and_not_behind_noise(
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leak, "KNOWN", 4)
    stage_1 = "stage=pretrain_sasrec"
    print_leak(make_settings(stage_1, "client.windows=9", "model.dropout=0"), 20)
    plain = rows(capsys.readouterr().out)
    print_leak(make_settings(*PRIVATE, "client.windows=9", "privacy.epsilon=0.5"), 20)
    private = rows(capsys.readouterr().out)
    assert plain["start: one upload"][0] > 0.95
    assert plain["start: sum of 10 users"][0] < plain["start: one upload"][0]
    (noised,) = (row for name, row in private.items() if "all" in name)
    assert 0.4 < noised[0] < 0.6
    monkeypatch.setattr(leak, "KNOWN", 24)
    with pytest.raises(FedmemError, match="24 users are too few"):
        print_leak(make_settings(stage_1), 20)


def test_every_stage_is_attacked_and_those_without_parents_are_left_out(
    whole_run: WholeRun,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leak, "KNOWN", 4)
    few = replace(whole_run.settings.federation, num_clients=14)
    print_leak(replace(whole_run.settings, federation=few), 10)
    text = capsys.readouterr().out
    for stage in whole_run.settings.stage:
        found = rows(text[text.index(stage) :])
        assert found["trained: one upload"][0] > found["trained: sum of 10 users"][0], stage
        assert found["start: one upload"][0] > 0.6, stage
    print_leak(make_settings(), 3)
    assert "Left out: align_projectors starts from pretrain_sasrec" in capsys.readouterr().out
    with pytest.raises(FedmemError, match="finetune_moe starts from align_projectors, of which"):
        print_leak(make_settings("stage=finetune_moe"), 3)
