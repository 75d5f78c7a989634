"""Reduced precision: what computes in it, and what refuses to."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.training import precision
from fedmem.core.training.precision import check_precision, computing_in

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "dtype"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_products_are_made_in_the_precision_asked_for(name: str, dtype: str) -> None:
    with computing_in(name, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, dtype)


def test_hardware_without_bfloat16_refuses_it_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: False)
    check_precision("float32", CPU)
    with pytest.raises(FedmemError, match=r"client\.precision=float32") as caught:
        check_precision("bfloat16", CPU)
    assert len(str(caught.value).splitlines()) == 1


def test_hardware_with_bfloat16_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda _: True)
    check_precision("bfloat16", CPU)
