"""The audit: an honest run keeps its ledger's promise, and one without noise or bound is caught."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy import plan
from fedmem.core.privacy.noise import GaussianMechanism
from fedmem.core.privacy.secret import KEY_BYTES
from fedmem.core.settings import Settings
from fedmem.core.updates.private import PrivateUpdates
from fedmem.core.updates.update import UserUpdates
from fedmem.privacy.audit import print_audit
from fedmem.privacy.canaries import Canaries

MakeSettings = Callable[..., Settings]
PRIVATE = (
    "privacy=central",
    "privacy.delta=1e-3",
    "privacy.epsilon=2",
    "client.learning_rate=0.1",  # without the bound users still hand in little
)
POISSON = (*PRIVATE, "privacy.schedule=poisson")
EVERY_K = (*PRIVATE, "privacy.schedule=every_k")
BANDED = (*EVERY_K, "privacy.mechanism=banded")
CLIPPED = (*EVERY_K, "privacy.bound=clip", "privacy.clip=0.5")
CANARIES = 300


@pytest.fixture(autouse=True)
def known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit is a statistical test: with a key drawn anew one run in many would fail."""
    monkeypatch.setattr(plan, "new_key", lambda: "a7" * KEY_BYTES)


def figures(text: str) -> list[list[float]]:
    """ε of the ledger, ε̂, its lower bound and the AUC, of each run."""
    rows = [line.split() for line in text.splitlines() if re.match(r"^\d+ ", line.strip())]
    return [[float(cell) for cell in row[1:]] for row in rows if len(row) == 5]


@pytest.mark.parametrize("overrides", [POISSON, BANDED, CLIPPED])
def test_an_honest_run_is_not_refuted_and_the_estimate_is_near_the_ledger(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    assert print_audit(make_settings(*overrides), CANARIES, rounds=4, seeds=1)
    text = capsys.readouterr().out
    ((claimed, estimate, bound, auc),) = figures(text)
    assert claimed == pytest.approx(2.0, rel=0.01)
    assert 1.0 < estimate < 3.0  # of 300 canaries
    assert bound <= claimed
    assert 0.55 < auc < 0.75
    assert "Nothing here speaks against the ledger" in text


def no_noise(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(GaussianMechanism, "deviation", 0.0)


def a_fifth_of_the_noise(patched: pytest.MonkeyPatch) -> None:
    fifth = property(lambda own: 0.2 * own.noise / own.expected)
    patched.setattr(GaussianMechanism, "deviation", fifth)


def no_bound(patched: pytest.MonkeyPatch) -> None:
    def unbounded(_: PrivateUpdates, updates: UserUpdates) -> UserUpdates:
        return replace(updates, weights=np.ones_like(updates.weights))

    patched.setattr(PrivateUpdates, "at_user", unbounded)


def noise_on_embeddings_alone(patched: pytest.MonkeyPatch) -> None:
    release = GaussianMechanism.release

    def leaky(own: GaussianMechanism, mean: Parameters, weight: int, number: int) -> Parameters:
        plain = {name: value * (weight / own.expected) for name, value in mean.items()}
        noised = release(own, mean, weight, number)
        return plain | {name: value for name, value in noised.items() if "_emb" in name}

    patched.setattr(GaussianMechanism, "release", leaky)


@pytest.mark.parametrize(
    ("mutate", "overrides"),
    [
        (no_noise, EVERY_K),
        (no_bound, POISSON),
        (no_bound, CLIPPED),
        (a_fifth_of_the_noise, EVERY_K),
        (noise_on_embeddings_alone, EVERY_K),
    ],
)
def test_a_mechanism_that_keeps_less_than_it_promises_is_refuted(
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mutate: Callable[[pytest.MonkeyPatch], None],
    overrides: tuple[str, ...],
) -> None:
    mutate(monkeypatch)
    assert not print_audit(make_settings(*overrides), CANARIES, rounds=4, seeds=1)
    text = capsys.readouterr().out
    ((claimed, estimate, bound, _),) = figures(text)
    assert bound > claimed
    assert estimate > claimed
    assert "REFUTED in 1 of 1" in text


def test_canaries_have_a_coordinate_each_and_come_if_the_coin_says_so(
    make_settings: MakeSettings,
) -> None:
    scope = {"a": torch.zeros(3, 4), "b": torch.zeros(2)}
    canaries = Canaries.draw(make_settings(*CLIPPED), scope, first=24, count=14)
    assert len(set(canaries.places)) == 14
    assert sorted(x for name, x in canaries.places if name == "a") == list(range(12))
    handed_in = list(canaries.updates(np.arange(20, 30), scope))
    users = np.concatenate([each.users for each in handed_in])
    np.testing.assert_array_equal(users, np.arange(24, 30)[canaries.present[:6]])
    assert {float(norm) for each in handed_in for norm in each.norms} == {4.0}
    for each in handed_in:
        for row, user in enumerate(each.users):
            read = canaries.read({name: value[row] for name, value in each.change.items()})
            assert np.flatnonzero(read).tolist() == [user - 24]
    with pytest.raises(FedmemError, match="15 are more than the 14 numbers"):
        Canaries.draw(make_settings(*CLIPPED), scope, first=24, count=15)


@pytest.mark.parametrize(
    ("overrides", "canaries", "message"),
    [
        ((), 9, "ask for no privacy"),
        ((*PRIVATE, "stage=align_projectors"), 9, "starts from a checkpoint"),
        (PRIVATE, 0, "0 is too few"),
    ],
)
def test_what_cannot_be_audited_is_said(
    make_settings: MakeSettings, overrides: tuple[str, ...], canaries: int, message: str
) -> None:
    with pytest.raises(FedmemError, match=message):
        print_audit(make_settings(*overrides), canaries, rounds=None, seeds=1)
