"""Products are made in the precision asked for, and refused where that could only be imitated."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.machine import precision
from fedmem.core.machine.device import CPU
from fedmem.core.machine.precision import (
    ROWS_AT_ONCE,
    check_precision,
    computing_in,
    factor,
    is_reduced,
    product,
    rows_as_factor,
)

ALMOST_ONE = torch.full((2, 2), 1 + 2.0**-12)
"""In bfloat16, whose steps there are of 2⁻⁷, it is 1."""


def test_products_are_of_rounded_numbers_and_are_float32() -> None:
    with computing_in("bfloat16", CPU):
        found = product(ALMOST_ONE, ALMOST_ONE)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.full((2, 2), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_that_of_the_numbers(dtype: torch.dtype) -> None:
    numbers = ALMOST_ONE.to(dtype)
    with computing_in("float32", CPU):
        assert factor(numbers) is numbers
        assert torch.equal(product(numbers, numbers), numbers @ numbers)


@pytest.mark.parametrize("rows", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
def test_factors_have_one_of_few_numbers_of_rows(rows: int) -> None:
    x = torch.randn(rows, 3)
    assert rows_as_factor(x) is x
    with computing_in("bfloat16", CPU):
        found = rows_as_factor(x)
    assert len(found) % ROWS_AT_ONCE == 0
    assert 0 <= len(found) - rows < ROWS_AT_ONCE
    assert torch.equal(found[:rows], x.bfloat16())
    assert not found[rows:].any()


def test_what_is_no_product_stays_float32() -> None:
    with computing_in("bfloat16", CPU):
        assert (ALMOST_ONE + ALMOST_ONE).dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")


def test_gradients_are_products_too() -> None:
    one, other = (ALMOST_ONE.clone().requires_grad_() for _ in range(2))
    with computing_in("bfloat16", CPU):
        made = product(one, other)
    made.backward(ALMOST_ONE)  # after the context, as a loss is
    for x in (one, other):
        assert x.grad is not None
        assert torch.equal(x.grad, torch.full((2, 2), 2.0))


def test_the_context_ends_with_a_mistake() -> None:
    with pytest.raises(RuntimeError), computing_in("bfloat16", CPU):
        product(ALMOST_ONE, torch.ones(3, 3))
    assert not is_reduced(CPU)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_gpu_computes_without_the_attention_of_cudnn() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with computing_in("bfloat16", torch.device("cuda")):
        assert not is_reduced(CPU)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_hardware_without_bfloat16_refuses_it_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: False)
    check_precision("float32", CPU)
    with pytest.raises(FedmemError, match=r"client\.precision=float32") as caught:
        check_precision("bfloat16", CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_hardware_with_bfloat16_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)
    check_precision("bfloat16", CPU)
