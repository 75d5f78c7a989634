"""Batches: what is drawn belongs to the window, and training looks at nothing held out."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.data import Windows, load_interactions
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training.batches import Batch, BatchMaker, RoundKey, Scoring

MakeSettings = Callable[..., Settings]
KEY = RoundKey(0, "finetune_moe", 3)
WIDTHS = [4, 8]


def windows_of(settings: Settings) -> Windows:
    interactions = load_interactions(settings.data)
    users = np.arange(interactions.num_users)
    return Windows.cut(interactions, users, 2, settings.model.max_length)


def reads_of(windows: Windows) -> np.ndarray:
    """[N, 2] memories that show where they are read: the place, and 0 for no entry."""
    places = np.arange(windows.offsets[-1], dtype=np.int32)
    return np.stack([places + 1, np.zeros_like(places)], axis=1)


def make(
    settings: Settings,
    stage: str,
    rows: list[int] | None = None,
    step: int = 0,
    key: RoundKey = KEY,
) -> Batch:
    windows = windows_of(settings)
    maker = BatchMaker(settings, STAGES[stage], windows, WIDTHS, reads_of(windows))
    return maker.make(np.arange(len(windows)) if rows is None else np.array(rows), key, step)


def scoring_of(batch: Batch) -> Scoring:
    assert batch.scoring is not None
    return batch.scoring


def generator_of(user: int, window: int) -> np.random.Generator:
    """What the window's stream is, in the first step of the round of `KEY`."""
    stage = zlib.crc32(KEY.stage.encode())
    words = [KEY.seed, stage, KEY.round, user, window, 0]
    return np.random.Generator(np.random.SFC64(words))


def test_streams_differ_by_everything_that_names_a_window() -> None:
    def first(key: RoundKey, user: int, window: int, step: int) -> int:
        drawn = key.streams(np.array([user]), np.array([window]), step)
        return int(drawn.integers(np.array([1 << 31]), 1)[0, 0])

    key = RoundKey(0, "pretrain_sasrec", 1)
    others = [RoundKey(1, "pretrain_sasrec", 1), RoundKey(0, "finetune_moe", 1)]
    others.append(RoundKey(0, "pretrain_sasrec", 2))
    draws = [first(key, *names) for names in [(3, 0, 0), (4, 0, 0), (3, 1, 0), (3, 0, 1)]]
    draws += [first(other, 3, 0, 0) for other in others]
    assert len(set(draws)) == len(draws)
    assert first(key, 3, 0, 0) == draws[0]


def test_a_stage_draws_what_its_loss_needs_and_no_more(settings: Settings) -> None:
    first, second, third = (make(settings, stage) for stage in STAGES)
    assert first.noise is not None
    assert first.scoring is None
    assert second.noise is None  # its backbone does not train
    assert scoring_of(second).positions is None
    assert scoring_of(second).memories is None
    assert third.noise is not None
    rows, count = len(third.inputs), settings.client.positions
    real = int((third.targets > 0).sum())
    assert [list(noise.shape) for noise in third.noise] == [[real, width] for width in WIDTHS]
    expected = {
        "share": [rows, count],
        "negatives": [rows, settings.client.negatives],
        "gating_noise": [rows, count, settings.model.gating_hidden],
        "positions": [rows, count],
        "memories": [rows, count, 2],
    }
    found = {name: list(value.shape) for name, value in scoring_of(third)._asdict().items()}
    assert found == expected


def test_without_dropout_there_is_no_noise(make_settings: MakeSettings) -> None:
    assert make(make_settings("model.dropout=0"), "pretrain_sasrec").noise is None


def test_a_stage_that_reads_memories_refuses_to_do_without(settings: Settings) -> None:
    windows = windows_of(settings)
    with pytest.raises(ValueError, match="memories"):
        BatchMaker(settings, STAGES["finetune_moe"], windows, WIDTHS).make(np.arange(2), KEY, 0)


def test_inputs_and_targets_are_those_of_the_windows(settings: Settings) -> None:
    windows, rows = windows_of(settings), np.array([4, 1, 7])
    batch = make(settings, "pretrain_sasrec", rows.tolist())
    assert batch.inputs.tolist() == windows.inputs(rows).tolist()
    assert batch.targets.tolist() == windows.targets(rows).tolist()
    assert batch.places is not None
    assert batch.places.tolist() == np.flatnonzero(windows.targets(rows)).tolist()
    assert batch.packing is not None
    assert batch.packing.lengths == windows.lengths[rows].tolist()


def test_a_padded_batch_has_the_noise_where_the_targets_are(settings: Settings) -> None:
    batch = make(settings, "pretrain_sasrec")
    padded = batch.padded()
    assert padded.packing is None
    assert (batch.targets == 0).any()
    assert batch.noise is not None
    assert padded.noise is not None
    for packed, spread in zip(batch.noise, padded.noise, strict=True):
        assert torch.equal(spread[batch.targets > 0], packed)
        assert not spread[batch.targets == 0].any()


def first_of(batch: Batch) -> list[torch.Tensor]:
    """All that a batch says of its first row, without the padding."""
    length = int((batch.targets[0] > 0).sum())
    found = [batch.inputs[0, :length], batch.targets[0, :length]]
    found += [noise[:length] for noise in batch.noise or []]
    if batch.scoring is not None:
        count = length if batch.scoring.positions is None else batch.scoring.share.shape[1]
        found += [batch.scoring.share[0, :count], batch.scoring.gating_noise[0, :count]]
        others = (batch.scoring.negatives, batch.scoring.positions, batch.scoring.memories)
        found += [x[0] for x in others if x is not None]
    return found


@pytest.mark.parametrize("stage", list(STAGES))
def test_what_a_row_gets_does_not_depend_on_the_rows_beside_it(
    settings: Settings, stage: str
) -> None:
    lengths = windows_of(settings).lengths
    short, *longer = np.argsort(lengths, kind="stable")[[0, 5, -1]].tolist()
    assert lengths[short] < lengths[longer[-1]]
    alone, together = make(settings, stage, [short]), make(settings, stage, [short, *longer])
    for x, y in zip(first_of(alone), first_of(together), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
def test_steps_and_rounds_have_draws_of_their_own(settings: Settings, stage: str) -> None:
    later = RoundKey(KEY.seed, KEY.stage, KEY.round + 1)
    batches = [
        make(settings, stage),
        make(settings, stage, step=1),
        make(settings, stage, key=later),
    ]
    drawn = [scoring_of(batch).negatives for batch in batches]
    assert torch.equal(drawn[0], scoring_of(make(settings, stage)).negatives)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
def test_the_shares_of_a_row_add_up_to_its_targets(settings: Settings, stage: str) -> None:
    batch = make(settings, stage)
    targets = (batch.targets > 0).sum(1)
    torch.testing.assert_close(scoring_of(batch).share.sum(1), targets.float())


def test_positions_are_real_ones_and_meet_their_own_memories(settings: Settings) -> None:
    windows = windows_of(settings)
    scoring = scoring_of(make(settings, "finetune_moe"))
    assert scoring.positions is not None
    assert scoring.memories is not None
    assert (scoring.positions >= 0).all()
    assert (scoring.positions.numpy() < windows.lengths[:, None]).all()
    places = windows.offsets[:-1, None] + scoring.positions.numpy()
    assert np.array_equal(scoring.memories[..., 0].numpy(), places + 1)
    assert not scoring.memories[..., 1].any()


def test_all_real_positions_are_drawn_alike(make_settings: MakeSettings) -> None:
    settings = make_settings("client.positions=4000")
    row = int(windows_of(settings).lengths.argmax())
    positions = scoring_of(make(settings, "finetune_moe", [row])).positions
    assert positions is not None
    counts = np.bincount(positions[0].numpy())
    assert counts == pytest.approx(4000 / windows_of(settings).lengths[row], rel=0.25)


def test_negatives_leave_out_the_training_items_and_nothing_else(
    make_settings: MakeSettings,
) -> None:
    """Leaving out held-out items as well would reveal, in the long run, which they are."""
    settings = make_settings("client.negatives=20000")
    windows = windows_of(settings)
    interactions, row = windows.interactions, 1
    user = int(windows.user[row])
    drawn = scoring_of(make(settings, "align_projectors", [row])).negatives
    counts = np.bincount(drawn.flatten().numpy(), minlength=interactions.num_items + 1)
    training = interactions.training(user)
    open_items = np.setdiff1d(np.arange(1, interactions.num_items + 1), training)
    assert counts.nonzero()[0].tolist() == open_items.tolist()
    assert set(interactions.history(user)[-2:].tolist()) <= set(open_items.tolist())
    assert counts[open_items] == pytest.approx(drawn.numel() / len(open_items), rel=0.25)


def test_negatives_are_places_in_the_ascending_list_of_open_items(settings: Settings) -> None:
    """This is part of what a seed means; in stage 2 they are what is drawn first."""
    windows = windows_of(settings)
    interactions, count = windows.interactions, settings.client.negatives
    found = scoring_of(make(settings, "align_projectors")).negatives
    for row in range(len(windows)):
        user, number = int(windows.user[row]), int(windows.number[row])
        pool = np.setdiff1d(np.arange(1, interactions.num_items + 1), interactions.training(user))
        generator = generator_of(user, number)
        assert found[row].tolist() == pool[generator.integers(0, len(pool), size=count)].tolist()


def test_the_order_of_the_draws_is_noise_positions_negatives_noise(settings: Settings) -> None:
    windows, row = windows_of(settings), 2
    batch = make(settings, "finetune_moe", [row])
    scoring = scoring_of(batch)
    user, length = int(windows.user[row]), int(windows.lengths[row])
    generator = generator_of(user, int(windows.number[row]))
    assert batch.noise is not None
    assert scoring.positions is not None
    for noise in batch.noise:
        assert noise.numpy().tobytes() == generator.bytes(noise.numel())
    expected = generator.integers(0, length, size=settings.client.positions)
    assert scoring.positions[0].tolist() == expected.tolist()
    training = np.unique(windows.interactions.training(user))
    generator.integers(0, windows.interactions.num_items - len(training), size=6)
    noise = scoring.gating_noise
    assert noise.numpy().tobytes() == generator.bytes(noise.numel())


def test_a_function_can_be_mapped_over_all_tensors(settings: Settings) -> None:
    batch = make(settings, "finetune_moe", [0, 1])
    mapped = batch.map(lambda x: x[:1])
    assert mapped.inputs.shape[0] == 1
    assert mapped.noise is not None
    assert all(len(noise) == 1 for noise in mapped.noise)
    assert all(len(x) == 1 for x in scoring_of(mapped) if x is not None)
    first = make(settings, "pretrain_sasrec", [0, 1]).map(lambda x: x[:1])
    assert first.scoring is None
