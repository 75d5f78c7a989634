"""A backbone is taken exactly, or not at all, and only if it knows the data's items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedmem import checkpoint as command
from fedmem.core.checkpoint import Checkpoint
from fedmem.core.checkpoint.importing import import_backbone, training_loss
from fedmem.core.data import load_interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from tests.helpers.foreign_models import Parameters, earlier_architecture
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.shared_runs import TrainOnce
from tests.helpers.small_world import swap_held_out

MakeSettings = Callable[..., Settings]


@pytest.fixture
def trained(make_settings: MakeSettings, train_once: TrainOnce) -> tuple[Settings, Path]:
    """Settings, and a checkpoint of stage 3."""
    settings = make_settings("strategy.learning_rate=0.02", "federation.rounds=3")
    train_once(settings)
    return settings, Path(settings.checkpoint.dir) / "finetune_moe.safetensors"


def backbone_of(path: Path) -> Parameters:
    parameters = Checkpoint.load(path).parameters
    return {name: value for name, value in parameters.items() if name.startswith("sasrec.")}


def same(one: Parameters, other: Parameters) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_stage_2_starts_from_the_backbone_of_another_stage(
    trained: tuple[Settings, Path], make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings, path = trained
    made = import_backbone(path, tmp_path / "new", settings)
    assert made.loss < made.guess
    assert same(backbone_of(made.path), backbone_of(path))
    assert Checkpoint.load(made.path).parents == {"finetune_moe": Checkpoint.load(path).hash}
    assert {item.name.split(".")[0] for item in made.left} == {
        "visual_proj",
        "text_proj",
        "align_gating",
        "gating_weight",
        "visual_expert",
        "semantic_expert",
        "identity_expert",
        "router",
    }
    results, _, _ = run_in_process(
        make_settings("stage=align_projectors", f"checkpoint.dir={tmp_path / 'new'}")
    )
    assert results[0].stage == "align_projectors"


def test_a_file_of_torch_gives_the_same(trained: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, path = trained
    backbone = backbone_of(path)
    torch.save({"state_dict": backbone}, tmp_path / "model.pt")
    made = import_backbone(tmp_path / "model.pt", tmp_path / "new", settings)
    assert same(backbone_of(made.path), backbone)
    assert made.left == []


def test_rows_of_other_items_are_found_by_trying(
    trained: tuple[Settings, Path], tmp_path: Path
) -> None:
    settings, path = trained
    backbone = backbone_of(path)
    rows = backbone["sasrec.item_emb.weight"]
    rows[1:] = rows[1:].flip(0) * 4
    torch.save(backbone, tmp_path / "model.pt")
    with pytest.raises(FedmemError, match="no better than a guess"):
        import_backbone(tmp_path / "model.pt", tmp_path / "new", settings)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("size", r"model\.max_length=8 \(here 9\)"),
        ("items", r"39 items \(the data have 40\)"),
        ("padding", "Row 0"),
        ("numbers", r"not finite, first in sasrec\.norm\.bias"),
        ("missing", "No such file"),
        ("earlier", "earlier architecture"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    fault: str, words: str, trained: tuple[Settings, Path], tmp_path: Path
) -> None:
    settings, path = trained
    backbone = backbone_of(path)
    if fault == "size":
        settings = replace(settings, model=replace(settings.model, max_length=9))
    elif fault == "items":
        backbone["sasrec.item_emb.weight"] = backbone["sasrec.item_emb.weight"][:-1]
    elif fault == "padding":
        backbone["sasrec.item_emb.weight"][0] = 1.0
    elif fault == "numbers":
        backbone["sasrec.norm.bias"][0] = torch.inf
    elif fault == "earlier":
        backbone = earlier_architecture()
    if fault != "missing":
        torch.save(backbone, tmp_path / "model.pt")
    with pytest.raises(FedmemError, match=words) as caught:
        import_backbone(tmp_path / "model.pt", tmp_path / "new", settings)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_other_data_is_refused(
    trained: tuple[Settings, Path], data_dir: Path, tmp_path: Path
) -> None:
    settings, path = trained
    lines = (data_dir / "ratings.dat").read_text().replace(" 40 ", " 39 ")
    (data_dir / "other.dat").write_text(lines)
    other = replace(settings, data=replace(settings.data, path="other.dat"))
    with pytest.raises(FedmemError, match="trained on other data"):
        import_backbone(path, tmp_path / "new", other)


def test_nothing_is_written_over(trained: tuple[Settings, Path]) -> None:
    settings, path = trained
    before = (path.parent / "pretrain_sasrec.safetensors").read_bytes()
    with pytest.raises(FedmemError, match="exists already"):
        import_backbone(path, path.parent, settings)
    assert (path.parent / "pretrain_sasrec.safetensors").read_bytes() == before


def test_the_loss_on_training_items_looks_at_nothing_held_out(
    trained: tuple[Settings, Path], data_dir: Path
) -> None:
    settings, path = trained
    swapped = swap_held_out(data_dir, data_dir.parent / "swapped")
    other = replace(settings, data=replace(settings.data, dir=str(swapped)))
    losses = [
        training_loss(backbone_of(path), settings.model, load_interactions(each.data))
        for each in (settings, other)
    ]
    assert losses[0] == losses[1]


def test_the_command_inspects_and_imports(
    trained: tuple[Settings, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, path = trained
    monkeypatch.setattr("sys.argv", ["checkpoint", "inspect", str(path)])
    command.main()
    shown = capsys.readouterr().out
    made = Checkpoint.load(path)
    for word in ("finetune_moe, round", made.catalogue, "40 items", made.hash, "visual_expert"):
        assert word in shown
    table = made.parameters["sasrec.item_emb.weight"]
    row = next(line for line in shown.splitlines() if line.startswith("sasrec.item_emb"))
    expected = [f"{table.numel():,}", f"{table.mean():.5f}", f"{table.std():.5f}"]
    assert row.split()[1:] == expected
    monkeypatch.setattr(command, "compose_settings", lambda _: settings)
    to = ["--to", str(tmp_path / "new")]
    monkeypatch.setattr("sys.argv", ["checkpoint", "import", str(path), *to, "data=ml-1m"])
    command.main()
    shown = capsys.readouterr().out
    assert "left: stage 3 trains it" in shown
    assert (tmp_path / "new" / "pretrain_sasrec.safetensors").is_file()
