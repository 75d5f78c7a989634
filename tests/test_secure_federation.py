"""Whole runs under masks: what they come to, what the server sees, and who may be lost when."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.privacy import plan
from fedmem.core.secure_sum.codes import largest
from fedmem.core.secure_sum.keys import PublicKeys
from fedmem.core.secure_sum.member import Member
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.messaging.secure_messages import (
    OFFER_KEYS,
    REVEAL_SHARES,
    SHARE_SECRETS,
    MaskRequest,
    read_masked,
)
from fedmem.runs.folder import STATE, RunFolder
from fedmem.runs.state import RunState
from tests.helpers.in_process_grid import InProcessGrid, RealNodes, run_in_process, run_on
from tests.helpers.losses import losing
from tests.helpers.secure_runs import (
    ASKED,
    FOUR,
    PLAIN,
    STEPS,
    UNSEEN,
    Ran,
    figures,
    own_folder,
    trained,
)
from tests.helpers.settings import small_settings
from tests.helpers.small_world import write_small_data

MakeSettings = Callable[..., Settings]
ROUNDED_DOWN = ("transport=int8", "transport.bits=16")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("secure")
    write_small_data(place / "data")
    return place


@pytest.fixture(scope="module")
def without_102(place: Path) -> Callable[[str], Ran]:
    """A run without masks, in which node 102 is lost before it answers this kind of message."""

    @cache
    def run(kind: str) -> Ran:
        settings = small_settings(place, *ASKED, *FOUR, PLAIN, *own_folder(place / kind))
        grid = RealNodes(4, losing({(kind, 102): 1}))
        return Ran(settings, run_on(grid, settings).records, grid)

    return run


def largest_difference(one: Settings, other: Settings, stage: str = "pretrain_sasrec") -> float:
    mine, theirs = trained(one, stage).parameters, trained(other, stage).parameters
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.mark.parametrize(
    ("stages", "bits", "range_", "down", "within"),
    [
        ("all", 32, "auto", ROUNDED_DOWN[:0], 1e-6),
        ("pretrain_sasrec", 16, "0.5", ROUNDED_DOWN[:0], 1e-3),
        ("pretrain_sasrec", 16, "0.5", ROUNDED_DOWN, 1e-3),
    ],
)
def test_stages_come_to_what_they_do_without_masks(
    stages: str,
    bits: int,
    range_: str,
    down: Sequence[str],
    within: float,
    make_masked: MakeSettings,
) -> None:
    asked = (f"stage={stages}", "federation.rounds=1", "strategy=fedavg", UNSEEN[0])
    coded = (f"privacy.secure_sum.modulus_bits={bits}", f"privacy.secure_sum.range={range_}")
    masked, plain = make_masked(*asked, *coded, *down), make_masked(*asked, PLAIN)
    _, found, _ = run_in_process(masked)
    _, expected, _ = run_in_process(plain)
    for stage in masked.stage:
        assert 0 < largest_difference(masked, plain, stage) < within
    for mine, theirs in zip(found.records, expected.records, strict=True):
        assert figures(mine) == figures(theirs)
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-4)
        assert mine.refused == []


@pytest.mark.parametrize("transport", ["float32", "coded"])
def test_the_same_seed_gives_the_same_bits_also_when_it_went_on(
    transport: str, make_masked: MakeSettings
) -> None:
    asked = ("federation.rounds=3", f"transport={transport}")
    coarse = ("privacy.secure_sum.modulus_bits=16", *asked)
    one, other, third = make_masked(*coarse), make_masked(*coarse), make_masked(*coarse)
    run_in_process(one)
    run_in_process(other)
    assert trained(one).hash == trained(other).hash
    gone = losing({("train", node): 2 for node in (100, 101, 102)})
    with pytest.raises(FedmemError, match="0 nodes sent their masked numbers"):
        run_on(RealNodes(3, gone), third)
    with RunFolder.go_on(Path(third.output_dir)) as folder:
        Run(folder.state.settings, [], folder=folder)(InProcessGrid(3))
    assert trained(third).hash == trained(one).hash


def test_the_server_receives_of_a_node_nothing_but_masked_numbers(masked_run: Ran) -> None:
    replies = [
        reply for asked, reply in masked_run.grid.log if asked.metadata.message_type == "train"
    ]
    assert len(replies) == 6
    size = sum(value.numel() for value in trained(masked_run.settings).parameters.values())
    for reply in replies:
        assert set(reply.content) == {"sum", "masked"}
        words = reply.content.config_records["sum"]
        assert set(words) == {"stage", "round", "offer sealing", "offer masking"}
        masked = read_masked(reply.content)
        assert masked.dtype == np.uint32
        assert 0 <= len(masked) - size <= 15
    first, second = (read_masked(reply.content).astype(float) for reply in replies[:2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(size)
    assert [figures(record)[::2] for record in masked_run.records] == [(24, 3), (24, 3)]


@pytest.mark.parametrize(("bits", "most"), [(32, 4.2), (16, 2.1)])
def test_bytes_of_a_number_on_its_way_up(bits: int, most: float, make_masked: MakeSettings) -> None:
    bits_ = f"privacy.secure_sum.modulus_bits={bits}"
    settings = make_masked("model.dim=64", "federation.rounds=1", bits_)
    _, watcher, _ = run_in_process(settings)
    size = sum(value.numel() for value in trained(settings).parameters.values())
    assert size > 20_000
    assert bits / 8 * size < watcher.records[0].bytes_up / 3 < most * size


def test_on_their_way_down_changes_are_coded_beside_masks(make_masked: MakeSettings) -> None:
    settings = make_masked(
        "transport=coded", "model.dim=64", "federation.rounds=3", "federation.evaluate_every=3"
    )  # fmt: skip
    _, watcher, _ = run_in_process(settings)
    size = sum(value.numel() for value in trained(settings).parameters.values())
    for record in watcher.records[1:]:
        up, down = record.traffic["train_up"], record.traffic["train_down"]
        assert 4 * size < up["masked"] / 3 < 4.2 * size
        assert "coded" not in up
        assert 0 < down["steps"] / 3 < size / 2
        assert down["scope"] == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_round_whose_node_is_lost_at_any_step_sums_those_that_sent_theirs(
    step: str, make_masked: MakeSettings, without_102: Callable[[str], Ran]
) -> None:
    settings = make_masked(*FOUR)
    records = run_on(RealNodes(4, losing({(step, 102): 1})), settings).records
    expected = without_102("evaluate" if step == REVEAL_SHARES else "train")
    if step == REVEAL_SHARES:  # it took part in round 1; without masks it is lost after round 2
        assert [record.messages for record in records] == [4, 3]
    else:
        assert [figures(each) for each in records] == [figures(each) for each in expected.records]
        assert largest_difference(settings, expected.settings) < 1e-6
    assert "node 102: left without an answer" in [line for r in records for line in r.nodes]


@pytest.mark.parametrize(
    ("step", "number", "did"),
    [
        (OFFER_KEYS, 1, "offered their keys"),
        (SHARE_SECRETS, 1, "shared their secrets"),
        ("train", 2, "sent their masked numbers"),
        (REVEAL_SHARES, 2, "revealed their shares"),
    ],
)
def test_with_too_few_left_the_run_stops_in_one_line_after_its_last_round(
    step: str, number: int, did: str, make_masked: MakeSettings
) -> None:
    settings = make_masked()
    with pytest.raises(FedmemError) as error:
        run_on(RealNodes(3, losing({(step, 101): number})), settings)
    text = str(error.value)
    what = f"round {number} of pretrain_sasrec was given up: 2 nodes {did}, and 3 are needed"
    assert text.startswith(what)
    assert "node 101: left without an answer" in text
    assert "\n" not in text
    state = RunState.load(Path(settings.output_dir) / STATE)
    assert (state.stage.round if state.stage else 0) == number - 1


def test_a_round_is_two_exchanges_but_for_the_first_and_those_with_other_nodes(
    make_masked: MakeSettings,
) -> None:
    settings, grid = make_masked("federation.nodes=4", "federation.rounds=5"), Leaving(4)
    run_on(grid, settings)
    kinds = [asked.metadata.message_type for asked, _ in grid.log]
    exchanges = [kind for kind, _ in itertools.groupby(kinds) if kind in STEPS]
    whole, short = list(STEPS), list(STEPS[2:])
    assert exchanges == [*whole, *short, *whole, *whole, *short]


class Leaving(RealNodes):
    """Nodes of which one is away in round 3."""

    def get_node_ids(self) -> Iterable[int]:
        trained = sum(asked.metadata.message_type == "train" for asked, _ in self.log)
        away = {103} if 8 <= trained < 11 else set()
        return [node for node in super().get_node_ids() if node not in away]


def test_no_secret_is_in_any_file_or_in_what_the_server_saw(
    make_masked: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: dict[bytes, int] = {}
    offer = Member.offer

    def remembered(member: Member) -> PublicKeys:
        for secret in (member.sealing, member.pairs, member.own):
            secrets[secret] = member.name.number
        return offer(member)

    monkeypatch.setattr(Member, "offer", remembered)
    _, _, grid = run_in_process(make_masked())
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    parts = [part for pair in grid.log for each in pair for part in each.content.values()]
    seen = [repr(dict(part)).encode() for part in parts]
    kept = [repr(context.state).encode() for context in grid.contexts.values()]
    assert Counter(secrets.values()) == {1: 9, 2: 9, 3: 9}  # round 3 is prepared, and never comes
    for secret, number in secrets.items():
        places = files + seen if number == 3 else files + seen + kept
        for form in (secret, secret.hex().encode(), repr(secret).encode()):
            assert not any(form in place for place in places)
    assert json.loads((tmp_path / "run-0" / "results.json").read_text())


def test_private_updates_come_to_the_same_under_masks(
    make_masked: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "new_key", lambda: "5e" * 32)
    asked = ("privacy=central", "privacy.delta=1e-3", "privacy.schedule=every_k", "strategy=fedavg")
    settings = [make_masked(*asked, "federation.fraction=0.5", *more) for more in ((), (PLAIN,))]
    (_, found, grid), (_, expected, _) = map(run_in_process, settings)
    assert 0 < largest_difference(*settings) < 1e-5
    assert [record.epsilon for record in found.records] == [
        record.epsilon for record in expected.records
    ]
    # The scale says nothing of the updates: their length is at most 1, of at most so many users.
    requests = [MaskRequest.beside(asked.content) for asked, _ in grid.log]
    levels = {request.levels for request in requests if request is not None}
    assert levels <= {largest(32, 3) / users for users in range(1, 13)}
