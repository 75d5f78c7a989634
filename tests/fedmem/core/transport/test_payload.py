"""Payloads come back as they were; what is damaged, of another codec or a bomb is refused."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmem.core.model.parameters import Parameters
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport import payload
from fedmem.core.transport.codec import Codec, shapes_of, values_of
from fedmem.core.transport.payload import HEADER, PayloadError, Rounded
from tests.helpers.settings import composed

KEY = RoundKey(0, "pretrain_sasrec", 1)
CODECS = ("int8", "int4", "fine", "coded", "signs")
WITHOUT = ("transport.share=null", "transport.largest=null")


def tensors() -> Parameters:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(40, 16, generator=generator)
    table[[0, 3, 17]] = 0
    return {
        "table": table,
        "cube": torch.randn(2, 3, 4, generator=generator),
        "bias": torch.randn(16, generator=generator),
        "gain": torch.tensor(0.5),
        "still": torch.zeros(5, 4),
    }


def codec(name: str) -> Codec:
    return Codec(composed(f"transport={name}").transport)


def coded(name: str) -> bytes:
    return codec(name).to_bytes(codec(name).round(tensors(), KEY, "node 0"))


def refusal(data: bytes, name: str = "coded") -> str:
    with pytest.raises(PayloadError) as caught:
        codec(name).from_bytes(data, shapes_of(tensors()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("bits", [None, 1, 2, 3, 5, 16, 31])
def test_tensors_come_back_as_they_were_rounded(name: str, bits: int | None) -> None:
    other = () if bits is None else (f"transport.bits={bits}", *WITHOUT)
    own = Codec(composed(f"transport={name}", *other).transport)
    rounded = own.round(tensors(), KEY, "node 0")
    found = own.from_bytes(own.to_bytes(rounded), shapes_of(tensors()))
    assert found.keys() == tensors().keys()
    for one, value in values_of(found).items():
        assert torch.equal(value, rounded[one].values())
        assert value.shape == tensors()[one].shape


def test_rows_of_zeros_do_not_travel() -> None:
    few = {"table": torch.zeros(100_000, 8)}
    few["table"][[5, 70_000]] = 7.0
    own = Codec(composed("transport=int4", "transport.feedback=true").transport)
    rounded = own.round(few, KEY, "node 0")
    assert rounded["table"].rows.tolist() == [5, 70_000]
    found = own.from_bytes(own.to_bytes(rounded), shapes_of(few))
    assert torch.equal(found["table"].values(), few["table"])
    few = {"table": few["table"][:50_000]}
    data = codec("coded").to_bytes(codec("coded").round(few, KEY, "node 0"))
    assert len(data) < 50_000 / 8 / 4  # marks of rows are coded too


def test_a_payload_is_close_to_its_entropy() -> None:
    values = {"w": torch.randn(2000, 128, generator=torch.Generator().manual_seed(0))}
    for name in ("coded", "signs", "int4"):
        own = Codec(composed(f"transport={name}", "transport.entropy_coded=true").transport)
        rounded = own.round(values, KEY, "node 0")
        _, counts = np.unique(rounded["w"].integers, return_counts=True)
        share = counts / counts.sum()
        entropy = float(-(share * np.log2(share)).sum()) * values["w"].numel() / 8
        assert entropy < len(own.to_bytes(rounded)) < 1.2 * entropy


def test_rows_of_one_scale_go_side_by_side_and_come_back_to_their_places() -> None:
    generator = torch.Generator().manual_seed(0)
    alike = torch.randint(0, 2, (3000, 1), generator=generator) == 1
    direction, noise = (torch.randn(n, 128, generator=generator) for n in (1, 3000))
    values = {"w": torch.where(alike, direction, 10 * noise)}  # at random places
    own = codec("coded")
    rounded = own.round(values, KEY, "node 0")
    odd = int((~alike).sum()) * 128  # of which each takes more than two bits, and the others none
    assert len(own.to_bytes(rounded)) < 1.1 * odd * 2.4 / 8
    found = own.from_bytes(own.to_bytes(rounded), shapes_of(values))
    assert np.array_equal(found["w"].integers, rounded["w"].integers)
    assert np.array_equal(found["w"].scales, rounded["w"].scales)


def test_rows_along_one_direction_cost_little_whichever_way_they_point() -> None:
    generator = torch.Generator().manual_seed(0)
    direction, away = torch.randn(128, generator=generator), torch.randn(2000, generator=generator)
    spread = 0.1 * torch.randn(2000, 128, generator=generator)
    values = {"w": away[:, None] * (direction + spread)}
    own = codec("coded")
    rounded = own.round(values, KEY, "node 0")
    data = own.to_bytes(rounded)
    shuffled = rounded["w"].integers.copy()
    np.random.default_rng(0).permuted(shuffled, axis=1, out=shuffled)  # as large, at other places
    other = own.to_bytes({"w": replace(rounded["w"], integers=shuffled)})
    assert len(data) < len(other) / 2
    found = own.from_bytes(data, shapes_of(values))["w"]
    assert np.array_equal(found.integers, rounded["w"].integers)
    assert np.array_equal(found.scales, rounded["w"].scales)
    assert torch.equal(torch.signbit(found.values()), torch.signbit(rounded["w"].values()))


def test_a_coarser_grid_leaves_fewer_bytes() -> None:
    values = {"w": torch.randn(2000, 128, generator=torch.Generator().manual_seed(0))}
    sizes = []
    for largest in ("null", "5", "4"):
        own = Codec(composed("transport=fine", f"transport.largest={largest}").transport)
        rounded = own.round(values, KEY, "node 0")
        assert np.abs(rounded["w"].integers).max() == (7 if largest == "null" else int(largest))
        sizes.append(len(own.to_bytes(rounded)))
    assert sizes == sorted(sizes, reverse=True)


def test_another_codec_and_another_version_are_refused() -> None:
    data = bytearray(coded("coded"))
    data[4] = 1
    assert "is of version 1.1 of the codec" in refusal(bytes(data))
    assert refusal(b"PK" + bytes(data[2:])) == "is of another codec"
    assert refusal(coded("int4")) == "has table in 4 bits, not 3 (transport.bits)"
    assert refusal(b"") == "ends after 0 bytes, within its header"


@pytest.mark.parametrize("name", CODECS)
def test_a_payload_that_was_cut_is_refused_wherever_it_was(name: str) -> None:
    data = coded(name)
    for end in range(len(data)):
        refusal(data[:end], name)
    assert "too many" in refusal(_resized(coded("int4") + b"\0", 1), "int4")


def test_damage_is_refused_or_changes_values_only() -> None:
    data = coded("coded")
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 0x55
        try:
            found = codec("coded").from_bytes(bytes(broken), shapes_of(tensors()))
        except PayloadError:
            continue
        assert shapes_of(values_of(found)) == shapes_of(tensors())


def test_a_bomb_is_refused_by_what_it_declares() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    header = HEADER.pack(payload.MAGIC, payload.VERSION, 1, 50_000_000)
    assert refusal(header + bomb).startswith("declares 50000000 bytes, and tensors of the scope")
    modest = HEADER.pack(payload.MAGIC, payload.VERSION, 1, 1_000)
    assert "where it declares 1000" in refusal(modest + bomb)  # it is unpacked no further


@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan])
def test_scales_that_are_no_scales_are_refused(scale: float) -> None:
    rounded = codec("coded").round(tensors(), KEY, "node 0")
    table = rounded["table"]
    rounded["table"] = replace(table, scales=np.full_like(table.scales, scale))
    assert refusal(codec("coded").to_bytes(rounded)) == ("has scales of table that are not finite")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_values_that_are_not_finite_are_noticed_by_who_receives_them(value: float) -> None:
    for name in CODECS:
        odd = tensors()
        odd["table"][7, 3] = value
        own = codec(name)
        assert "not finite" in refusal(own.to_bytes(own.round(odd, KEY, "node 0")), name)


def test_other_tensors_are_refused() -> None:
    own = codec("coded")
    for change, said in (
        ({"router.bias": torch.ones(3)}, "is not of the scope's tensors: router.bias"),
        ({"bias": torch.ones(17)}, "has bias of shape (17,), not (16,)"),
    ):
        other = own.to_bytes(own.round({**tensors(), **change}, KEY, "node 0"))
        assert refusal(other) == said
    fewer = {name: each for name, each in tensors().items() if name != "cube"}
    assert refusal(own.to_bytes(own.round(fewer, KEY, "node 0"))) == (
        "is not of the scope's tensors: cube"
    )


def test_marks_and_counts_of_rows_have_to_agree() -> None:
    own = codec("int4")
    rounded = own.round({"table": tensors()["table"]}, KEY, "node 0")
    data = bytearray(own.to_bytes(rounded))
    place = HEADER.size + struct.calcsize("<I") + len('[["table",[40,16],4,37]]')
    data[place] ^= 0b10
    with pytest.raises(PayloadError, match="marks 36 rows where 37 follow"):
        own.from_bytes(bytes(data), {"table": (40, 16)})
    twisted = {"table": Rounded((40, 16), 4, np.arange(41), rounded["table"].integers, np.ones(41))}
    with pytest.raises(PayloadError, match="has 41 rows of table"):
        own.from_bytes(payload.to_bytes(_as_if(twisted), deflated=False), {"table": (40, 16)})


def _as_if(tensors: dict[str, Rounded]) -> dict[str, Rounded]:
    """The same with as many marks as rows, which hides that there are too many."""
    (name, each) = next(iter(tensors.items()))
    wide = np.zeros((len(each.rows), 16), np.int32)
    return {name: replace(each, rows=np.arange(40).repeat(2)[:41], integers=wide)}


def _resized(data: bytes, more: int) -> bytes:
    magic, version, deflated, size = HEADER.unpack_from(data)
    return HEADER.pack(magic, version, deflated, size + more) + data[HEADER.size :]
