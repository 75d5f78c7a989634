"""Payloads survive their form as Flower records."""

from __future__ import annotations

import numpy as np
import torch
from flwr.app import ConfigRecord, RecordDict

from fedmem.core.updates.update import Update
from fedmem.messaging.messages import (
    Description,
    EvaluateResult,
    NeedsFrozen,
    Task,
    from_array_record,
    to_array_record,
    update_from_record,
    update_to_record,
)
from fedmem.messaging.traffic import payload_bytes

PARAMETERS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(0.5)}


def test_parameters_come_back_by_name_bit_for_bit() -> None:
    back = from_array_record(to_array_record(PARAMETERS))
    assert list(back) == list(PARAMETERS)
    assert all(torch.equal(back[name], value) for name, value in PARAMETERS.items())


def test_a_task_comes_back_as_it_was() -> None:
    scope = to_array_record(PARAMETERS)
    task = Task(
        "{}", "finetune_moe", scope, "ab", scope, 0.81, 7, np.array([3, 5]), hints={"norm": 2.5}
    )
    back = Task.from_record(task.to_record())
    assert (back.settings, back.stage, back.frozen_hash) == ("{}", "finetune_moe", "ab")
    assert (back.threshold, back.round, back.split, back.rankings) == (0.81, 7, "", "")
    assert back.users is not None
    assert back.users.tolist() == [3, 5]
    assert back.frozen is not None
    assert back.hints == {"norm": 2.5}
    later = Task("{}", "finetune_moe", scope, "ab", None, None, 7, None, "test", "sampled,full")
    back = Task.from_record(later.to_record())
    assert back.threshold is None
    assert back.hints == {}
    assert back.frozen is None
    assert back.users is None
    assert (back.split, back.rankings) == ("test", "sampled,full")


def test_results_and_descriptions_come_back_as_they_were() -> None:
    update = Update({"w": torch.ones(2)}, weight=5, loss=0.5, users=2, left_out=1)
    back = update_from_record(update_to_record(update))
    assert back.change["w"].tolist() == [1.0, 1.0]
    assert (back.weight, back.loss, back.users, back.left_out) == (5, 0.5, 2, 1)
    sums = EvaluateResult({"users": 2.0, "full/MRR": 0.25}, {"st_size": 3.0})
    assert EvaluateResult.from_record(sums.to_record()) == sums
    about = Description(np.array([1, 4], np.int32), 40, "cafe", (512, 384), "7ea")
    described = Description.from_record(about.to_record())
    assert described.users.tolist() == [1, 4]
    assert (described.num_items, described.catalogue, described.widths) == (40, "cafe", (512, 384))
    assert described.content == "7ea"
    assert NeedsFrozen.is_in(NeedsFrozen("ab").to_record())
    assert not NeedsFrozen.is_in(sums.to_record())


def test_bytes_are_those_of_the_arrays_and_little_more() -> None:
    task = Task("{}", "finetune_moe", to_array_record({"w": torch.zeros(1000)}), "", None, None, 1)
    counted = payload_bytes(task.to_record())
    assert counted.keys() == {"about", "scope", "hints"}
    assert 4000 <= counted["scope"] < 4300
    assert sum(counted.values()) < 4500


def test_raw_bytes_count_as_they_are_and_words_as_text() -> None:
    said = ConfigRecord(
        {"box": b"\0" * 50, "boxes": [b"\0" * 7, b"\1" * 9], "stage": "a", "none": ""}
    )
    assert payload_bytes(RecordDict({"sum": said})) == {"sum": 3 + 50 + 5 + 16 + 5 + 3 + 4 + 2}
