"""The device is what the setting says, where the machine has it."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.machine.device import (
    local_gpus,
    resolve_device,
    set_threads,
)
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES


def see_gpus(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_gpus_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    see_gpus(monkeypatch, gpus)
    assert local_gpus() == gpus


def test_gpus_that_cuda_cannot_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    see_gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_gpus() == 0


@pytest.mark.parametrize(
    ("device", "gpus", "resolved"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cpu", 0, "cpu"),
        ("cuda", 1, "cuda"),
    ],
)
def test_auto_takes_cuda_where_there_is_a_gpu(device: str, gpus: int, resolved: str) -> None:
    assert resolve_device(device, gpus) == resolved


def test_cuda_without_a_gpu_is_refused_in_one_line_with_what_to_set() -> None:
    with pytest.raises(FedmemError, match=r"^simulation\.device=cuda, .* auto or cpu\.$"):
        resolve_device("cuda", 0)


def test_a_node_puts_its_models_and_their_content_on_its_device(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    see_gpus(monkeypatch, 1)
    assert Node(settings).device == torch.device("cuda")
    node = Node(settings)
    node.__dict__["device"] = torch.device("meta")  # the one other device that is everywhere
    model = node.model(STAGES["align_projectors"])
    tensors = [*model.parameters(), *model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert node.content.visual.device.type == "cpu"  # the memory reads it there


@pytest.mark.parametrize(
    ("asked", "kind", "gpus", "threads"),
    [(0, "cpu", 1, 7), (0, "auto", 0, 7), (0, "auto", 1, 4), (0, "cuda", 2, 4), (6, "cuda", 1, 6)],
)
def test_a_process_beside_a_gpu_computes_in_few_threads(
    asked: int, kind: str, gpus: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    see_gpus(monkeypatch, gpus)
    torch.set_num_threads(7)
    try:
        set_threads(asked, kind)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
