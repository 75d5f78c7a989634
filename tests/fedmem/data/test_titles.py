"""Titles in every form that is read, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmem.data.titles import find_titles, read_titles
from fedmem.errors import FedmemError

EXPECTED = {"7": "Misérables, Les", "12": "Heat"}
FORMS = {
    "movies.dat": "7::Misérables, Les::Drama\n12::Heat::Action\n\n".encode("latin-1"),
    "a.csv": '\ufeffmovieId,Title\n7,"Misérables, Les"\n12,Heat\n'.encode(),
    "a.tsv": "item_id\tname\n7\tMisérables, Les\n12\tHeat\n".encode(),
    "a.json": json.dumps(EXPECTED).encode(),
    "list.json": json.dumps([{"id": int(k), "title": v} for k, v in EXPECTED.items()]).encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_titles(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    assert read_titles(tmp_path / name) == EXPECTED


def test_a_usual_name_beside_the_data_is_found(tmp_path: Path) -> None:
    assert find_titles(tmp_path) == {}
    (tmp_path / "movies.dat").write_bytes(FORMS["movies.dat"])
    assert find_titles(tmp_path) == EXPECTED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"movieId,year\n7,1995\n"),
        ("a.json", b"[1, 2]"),
        ("a.json", b"{"),
        ("movies.dat", b"7 Heat\n"),
        ("a.csv", "id,title\n7,Misérables\n".encode("latin-1")),
    ],
)
def test_other_files_are_refused_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FedmemError) as caught:
        read_titles(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedmemError, match=r"no table of items .*none\.csv"):
        read_titles(tmp_path / "none.csv")
