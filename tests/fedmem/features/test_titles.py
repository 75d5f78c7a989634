"""Titles from an item table, named or found beside the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.features.table import find_titles, read_titles

EXPECTED = {"7": "Misérables, Les", "12": "Heat"}
FORMS = {
    "movies.dat": "7::Misérables, Les::Drama\n12::Heat::Action\n".encode("latin-1"),
    "items.csv": 'item_id,title\n7,"Misérables, Les"\n12,Heat\n'.encode(),
    "ml.item": "item_id:token\ttitle:token_seq\n7\tMisérables, Les\n12\tHeat\n".encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_is_read_and_found_beside_the_data(name: str, tmp_path: Path) -> None:
    assert find_titles(tmp_path) == {}
    (tmp_path / name).write_bytes(FORMS[name])
    assert read_titles(tmp_path / name) == EXPECTED
    assert find_titles(tmp_path) == EXPECTED


def test_what_is_left_out_of_a_table_is_said(tmp_path: Path) -> None:
    path, said = tmp_path / "items.csv", list[str]()
    path.write_text("item_id,title,image\n7,Heat,http://x.y/z.jpg\n,Alien,\n7,Again,\n")
    assert find_titles(tmp_path, report=said.append) == {"7": "Heat"}
    assert said == [
        f"{path}: left out: 1 row without an id, first line 3",
        f"{path}: left out: 1 row with an id that an earlier row has, first 7 in line 4",
    ]
    path.write_text("code,title\n7,Heat\n")
    assert find_titles(tmp_path, report=said.append) == {}
    assert said[2].startswith(f"no titles: {path} has no column of item ids")
