"""A run's noise from its budget, its rounds from its noise, and ledgers that go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.privacy.accounting import Release, epsilon
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.privacy.plan import affordable, charged, open_ledger, require_affordable
from fedmem.core.settings import Settings

MakeSettings = Callable[..., Settings]
PRIVATE = ("privacy=central", "privacy.schedule=all", "federation.fraction=1")
STAGE_1 = (*PRIVATE, "stage=pretrain_sasrec", "federation.rounds=10")


def test_a_run_spends_its_budget_and_no_more(make_settings: MakeSettings) -> None:
    settings = make_settings(*PRIVATE, "federation.rounds=4")
    ledger = open_ledger(settings, 500, {})
    for stage in settings.stage:
        for _ in range(4):
            ledger = charged(settings, ledger, stage)
            require_affordable(settings, ledger)
        ledger = ledger.charged(Release(f"figures of {stage}", 20.0, 2))
    assert ledger.epsilon == pytest.approx(8.0, rel=2e-3)
    assert [each.of for each in ledger.releases[::2]] == list(settings.stage)
    assert [each.times for each in ledger.releases] == [4, 2] * 3
    with pytest.raises(FedmemError, match="is not sent"):
        require_affordable(settings, charged(settings, ledger, "finetune_moe"))


def test_a_ledger_survives_being_written(make_settings: MakeSettings) -> None:
    ledger = charged(make_settings(*STAGE_1), Ledger(1e-5, 2.0, "ab"), "pretrain_sasrec")
    assert Ledger.from_dict(ledger.to_dict()) == ledger
    assert "ab" not in str(ledger.entries)


def test_what_a_checkpoint_has_spent_is_not_given_out_again(make_settings: MakeSettings) -> None:
    settings = make_settings(*PRIVATE, "stage=align_projectors", "federation.rounds=10")
    spent = (Release("pretrain_sasrec", 8.0, 10),)
    kept = Ledger(1e-5, 8.0, "ab", spent).entries
    fresh, after = (open_ledger(settings, 500, {"pretrain_sasrec": e}) for e in ([], kept))
    assert after.releases == spent
    assert after.noise > fresh.noise
    whole = [*spent, Release("align_projectors", after.noise, 10)]
    figures = Release("figures of align_projectors", 20.0, 2)
    assert epsilon([*whole, figures], 1e-5) == pytest.approx(8.0, rel=2e-3)


def test_a_given_noise_ends_a_stage_where_the_budget_does(make_settings: MakeSettings) -> None:
    settings = make_settings(*STAGE_1, "privacy.noise=2", "privacy.figures=exact")
    ledger = open_ledger(settings, 500, {})
    rounds = affordable(settings, ledger, "pretrain_sasrec", 100)
    costs = [epsilon([Release("pretrain_sasrec", 2.0, n)], 1e-5) for n in (rounds, rounds + 1)]
    assert costs[0] <= 8.0 < costs[1]
    assert affordable(settings, ledger, "pretrain_sasrec", 3) == 3
    with pytest.raises(FedmemError, match="allows no round of pretrain_sasrec"):
        affordable(
            make_settings(*STAGE_1, "privacy.noise=0.2"),
            Ledger(1e-5, 0.2, "ab"),
            "pretrain_sasrec",
            9,
        )


@pytest.mark.parametrize(
    ("entries", "users", "message"),
    [
        ({"pretrain_sasrec": None}, 500, "checkpoint of pretrain_sasrec was trained without"),
        ({}, 100_000, r"privacy\.delta=1e-05 is no promise for 100000 users"),
        (
            {
                "pretrain_sasrec": [Release("pretrain_sasrec", 3.0, 5)],
                "align_projectors": [
                    Release("pretrain_sasrec", 4.0, 5),
                    Release("align_projectors", 4.0, 5),
                ],
            },
            500,
            "ledger in the checkpoint of pretrain_sasrec is of another run",
        ),
    ],
)
def test_no_ledger_is_opened_for_a_promise_that_does_not_hold(
    make_settings: MakeSettings,
    entries: dict[str, list[Release] | None],
    users: int,
    message: str,
) -> None:
    kept = {
        stage: None if own is None else Ledger(1e-5, 1.0, "ab", tuple(own)).entries
        for stage, own in entries.items()
    }
    with pytest.raises(FedmemError, match=message):
        open_ledger(make_settings(*PRIVATE), users, kept)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["privacy.epsilon=0"], r"privacy\.epsilon=0 is out of range"),
        (["privacy.epsilon=null"], r"privacy\.epsilon=None is out of range: a number"),
        (["privacy.bound=clip"], r"privacy\.clip=None is out of range: a number"),
        (["privacy.mechanism=banded"], r"privacy\.mechanism=banded .*gaussian"),
        (["privacy.schedule=all"], r"privacy\.schedule=all does not go with .*fraction=1"),
        (["strategy.aggregation=median"], r"strategy\.aggregation=median does not go"),
        (["transport=coded"], r"transport\.bits=3 does not go"),
        (["memory.threshold=auto"], r"memory\.threshold=auto does not go"),
        (["model.item_start=content"], r"model\.item_length=auto does not go"),
        (["evaluation.cold_items=0.1"], r"evaluation\.cold_items=0\.1 does not go"),
    ],
)
def test_settings_that_would_release_more_are_refused(
    make_settings: MakeSettings, overrides: list[str], message: str
) -> None:
    with pytest.raises(FedmemError, match=message):
        make_settings("privacy=central", *overrides)
