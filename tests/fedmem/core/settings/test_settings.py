"""Settings travel as JSON, and an implausible value is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings, flattened
from fedmem.core.stages import STAGES
from fedmem.runs.configuration import compose_settings

BASE = compose_settings()

OUT_OF_RANGE = [
    ("data", "format", "excel"),
    ("data", "encoding", "utf-9"),
    ("data", "duplicates", "drop"),
    ("data", "min_interactions", 2),
    ("data", "k_core", 0),
    ("data", "most_active_users", 0),
    ("data", "max_history", 2),
    ("model", "dim", 0),
    ("model", "blocks", 0),
    ("model", "heads", 0),
    ("model", "heads", 3),
    ("model", "feedforward", 0),
    ("model", "max_length", 0),
    ("model", "gating_hidden", 0),
    ("model", "semantic_heads", 0),
    ("model", "semantic_heads", 5),
    ("model", "dropout", 1.0),
    ("model", "dropout", -0.1),
    ("model", "dropout", float("nan")),
    ("model", "experts", []),
    ("model", "experts", ["visual", "visual"]),
    ("model", "experts", ["visual", "audio"]),
    ("memory", "short_term_capacity", 0),
    ("memory", "long_term_capacity", 0),
    ("memory", "top_k", 0),
    ("memory", "top_k", 251),
    ("memory", "threshold", "often"),
    ("memory", "write_ratio", 0.0),
    ("memory", "write_ratio", 1.0),
    ("memory", "half_life", 0.0),
    ("memory", "short_term_share", -0.1),
    ("memory", "short_term_share", 1.1),
    ("client", "learning_rate", 0.0),
    ("client", "local_steps", 0),
    ("client", "windows", 0),
    ("client", "negatives", 0),
    ("client", "positions", 0),
    ("client", "micro_batch", 0),
    ("client", "execution", "parallel"),
    ("client", "precision", "float16"),
    ("client", "optimizer", "lbfgs"),
    ("ablation", "content", "noise"),
    ("centralised", "epochs", 0),
    ("centralised", "batch", 0),
    ("centralised", "windows", 0),
    ("centralised", "learning_rate", 0.0),
    ("strategy", "optimizer", "lamb"),
    ("strategy", "learning_rate", 0.0),
    ("strategy", "beta_1", 1.0),
    ("strategy", "beta_2", -0.1),
    ("strategy", "epsilon", 0.0),
    ("strategy", "patience", 0),
    ("transport", "bits", 0),
    ("transport", "bits", 33),
    ("transport", "largest", 0),
    ("transport", "largest", 1 << 31),
    ("transport", "share", 0.0),
    ("transport", "share", 1.5),
    ("federation", "rounds", 0),
    ("federation", "fraction", 0.0),
    ("federation", "fraction", 1.5),
    ("federation", "num_clients", 0),
    ("federation", "nodes", 0),
    ("federation", "nodes", -1),
    ("federation", "nodes", 2.5),
    ("federation", "nodes", True),
    ("federation", "nodes", "many"),
    ("federation", "evaluate_every", 0),
    ("loss", "identity", -1.0),
    ("loss", "score", -1.0),
    ("loss", "alignment", -1.0),
    ("loss", "hardness", -1.0),
    ("loss", "load_balance", -1.0),
    ("evaluation", "negatives", 0),
    ("simulation", "ray_address", "cluster"),
    ("simulation", "ray_address", "ray://cluster:10001"),
    ("simulation", "device", "tpu"),
    ("simulation", "workers", -1),
    ("simulation", "workers_per_gpu", 0),
    ("simulation", "threads", -1),
]


def error_of(action: Callable[[], Any]) -> str:
    with pytest.raises(FedmemError) as caught:
        action()
    return str(caught.value)


def test_json_gives_the_same_settings_back() -> None:
    assert Settings.from_json(BASE.to_json()) == BASE


def test_json_keeps_a_number_that_stands_for_auto_and_a_null_that_was_filled() -> None:
    changed = replace(
        BASE,
        seed=7,
        memory=replace(BASE.memory, threshold=0.583),
        federation=replace(BASE.federation, rounds=3, num_clients=100),
        loss=replace(BASE.loss, alignment=0.2),
    )
    back = Settings.from_json(changed.to_json())
    assert back == changed
    assert list(back.stage) == list(STAGES)  # in their order, which a dictionary's == passes over


def test_json_is_one_line() -> None:
    assert "\n" not in BASE.to_json()


@pytest.mark.parametrize(("section", "key", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_its_key(section: str, key: str, value: Any) -> None:
    message = error_of(lambda: replace(getattr(BASE, section), **{key: value}))
    assert f"{section}.{key}={value}" in message


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "router_hidden", 0),
        ("memory", "threshold", -0.5),
        ("memory", "threshold", 2.5),
        ("memory", "threshold", float("nan")),
    ],
)
def test_a_value_out_of_an_unchecked_range_is_refused_too(
    section: str, key: str, value: Any
) -> None:
    assert f"{section}.{key}" in error_of(lambda: replace(getattr(BASE, section), **{key: value}))


@pytest.mark.parametrize("execution", ["auto", "stacked", "loop"])
def test_several_local_steps_are_no_one_batch(execution: str) -> None:
    steps = "client.local_steps=3"
    message = error_of(lambda: compose_settings([steps, "client.execution=batched"]))
    assert message.splitlines() == [message]
    assert "client.execution=batched" in message
    assert steps in message
    client = compose_settings([steps, f"client.execution={execution}"]).client
    assert client.execution == execution


def test_a_negative_seed_is_refused() -> None:
    assert "seed=-1" in error_of(lambda: replace(BASE, seed=-1))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "min_interactions", 3),
        ("data", "encoding", "latin-1"),
        ("data", "max_history", 3),
        ("data", "k_core", None),
        ("model", "dropout", 0.0),
        ("memory", "top_k", 250),
        ("memory", "threshold", 0.583),
        ("memory", "short_term_share", 0.0),
        ("memory", "short_term_share", 1.0),
        ("federation", "fraction", 1.0),
        ("federation", "nodes", "auto"),
        ("federation", "nodes", 1),
        ("simulation", "ray_address", "auto"),
        ("simulation", "ray_address", "127.0.0.1:6379"),
        ("strategy", "beta_1", 0.0),
        ("loss", "score", 0.0),
    ],
)
def test_the_ends_of_a_range_belong_to_it(section: str, key: str, value: Any) -> None:
    assert getattr(replace(getattr(BASE, section), **{key: value}), key) == value


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.dim=many", "model.dim"),
        ("model.dim=1.5", "model.dim"),
        ("seed=abc", "seed"),
        ("federation.rounds=few", "federation.rounds"),
        ("model.experts=visual", "model.experts"),
        ("client.learning_rate=null", "client.learning_rate"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(override: str, key: str) -> None:
    assert key in error_of(lambda: compose_settings([override]))


def test_a_whole_number_stands_for_a_real_one() -> None:
    assert compose_settings(["client.learning_rate=2"]).client.learning_rate == 2.0


def test_an_unknown_key_on_the_command_line_is_refused_by_name() -> None:
    message = error_of(lambda: compose_settings(["model.depth=3"]))
    assert "depth" in message
    assert len(message.splitlines()) <= 2


def test_an_unknown_key_in_a_dictionary_is_refused_by_name() -> None:
    values = json.loads(BASE.to_json())
    values["model"]["depth"] = 3
    assert "depth" in error_of(lambda: Settings.from_dict(values))


def test_a_missing_key_in_a_dictionary_is_refused_by_name() -> None:
    values = json.loads(BASE.to_json())
    del values["model"]["dim"]
    assert "model.dim" in error_of(lambda: Settings.from_dict(values))


def test_a_range_is_checked_on_the_command_line_too() -> None:
    assert "model.dropout=1.0" in error_of(lambda: compose_settings(["model.dropout=1.0"]))


@pytest.mark.parametrize(
    ("override", "choices"),
    [
        ("stage=pretrain", ["all", *STAGES]),
        ("data=ml-25m", ["amazon-beauty", "ml-100k", "ml-1m"]),
        ("strategy=lamb", ["adam", "fedavg", "momentum"]),
    ],
)
def test_an_unknown_choice_is_refused_in_two_lines_with_the_choices(
    override: str, choices: list[str]
) -> None:
    message = error_of(lambda: compose_settings([override]))
    assert len(message.splitlines()) <= 2
    for word in (override.split("=")[1], *choices):
        assert word in message


def test_a_stage_has_its_own_numbers_but_for_those_that_the_run_sets_for_all() -> None:
    for name, own in BASE.stage.items():
        assert BASE.of_stage(name) == own
    asked = ["loss.alignment=0", "loss.score=2", "federation.rounds=3", "stage.finetune_moe.pace=2"]
    changed = compose_settings(asked)
    for name, own in BASE.stage.items():
        expected = replace(own, rounds=3, loss=replace(own.loss, alignment=0.0, score=2.0))
        pace = 2.0 if name == "finetune_moe" else own.pace
        assert changed.of_stage(name) == replace(expected, pace=pace)


def test_a_stage_that_the_run_has_not_has_no_numbers() -> None:
    message = error_of(lambda: BASE.of_stage("continue_sasrec"))
    assert all(word in message for word in ("continue_sasrec", *STAGES))


def test_a_stage_says_where_its_mistake_is() -> None:
    values = json.loads(BASE.to_json())
    values["stage"]["finetune_moe"]["loss"]["score"] = -1.0
    message = error_of(lambda: Settings.from_dict(values))
    assert message == "stage.finetune_moe.loss.score=-1.0 is out of range: at least 0."


def test_earlier_runs_list_their_stages_and_later_ones_name_them_alike() -> None:
    flat = flattened(json.loads(BASE.to_json()))
    assert flat["stage"] == list(STAGES)
    assert flat["stage.align_projectors.pace"] == 0.4
    earlier = flattened({"seed": 0, "stages": list(STAGES), "federation": {"rounds": 3}})
    assert earlier == {"stage": list(STAGES), "seed": 0, "federation.rounds": 3}


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_can_be_chosen_alone(stage: str) -> None:
    assert list(compose_settings([f"stage={stage}"]).stage) == [stage]
