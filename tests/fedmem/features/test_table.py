"""Item tables of every form give the same items, and what is wrong with one is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedmem.core.errors import FedmemError
from fedmem.features.table import Item, read_items

ROWS = [
    {"id": "7", "title": "Amélie, or so", "genres": "Comedy|Romance"},
    {"id": "12", "title": 'The "Net"', "genres": "Thriller"},
]
ITEMS = [
    Item("7", "Amélie, or so", "Comedy, Romance"),
    Item("12", 'The "Net"', "Thriller"),
]


def write_dat(path: Path) -> None:
    path.write_text("".join("::".join(r.values()) + "\n" for r in ROWS), encoding="latin-1")


def write_item(path: Path) -> None:
    lines = [f"{r['id']}\t{r['title']}\t{r['genres'].replace('|', ' ')}\n" for r in ROWS]
    header = "item_id:token\tmovie_title:token_seq\tclass:token_seq\n"
    path.write_text(header + "".join(lines), encoding="utf-8")


def write_json_lines(path: Path) -> None:
    rows = [{**r, "id": int(r["id"]), "genres": r["genres"].split("|")} for r in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(pd.DataFrame(ROWS).to_csv(index=False).encode()))


def write_parquet(path: Path) -> None:
    rows = [{**r, "id": int(r["id"]), "genres": r["genres"].split("|")} for r in ROWS]
    pd.DataFrame(rows).to_parquet(path)


def write_semicolons(path: Path) -> None:
    rows = "".join(
        ";".join('"' + cell.replace('"', '""') + '"' for cell in r.values()) + "\r\n" for r in ROWS
    )
    path.write_text('"ISBN";"Book-Title";"tags"\r\n' + rows, encoding="utf-8-sig")


def write_u_item(path: Path) -> None:
    flags = {"7": (5, 14), "12": (16,)}
    lines = [
        f"{r['id']}|{r['title']}|01-Jan-1995||http://example.org/|"
        + "|".join(str(int(n in flags[r["id"]])) for n in range(19))
        for r in ROWS
    ]
    path.write_text("\n".join(lines), encoding="latin-1")


FORMS: dict[str, Callable[[Path], object]] = {
    "movies.dat": write_dat,
    "items.csv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    "items.tsv": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t"),
    "items.csv.gz": write_gzip,
    "items.jsonl": write_json_lines,
    "items.parquet": write_parquet,
    "films.item": write_item,
    "u.item": write_u_item,
    "books.csv": write_semicolons,
    "items.csv.zip": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    "array.json": lambda path: path.write_text(json.dumps(ROWS)),
    "items.json.gz": lambda path: pd.DataFrame(ROWS).to_json(path, orient="records", lines=True),
    "items.txt": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False, sep="|", quoting=1),
    "items.feather": lambda path: pd.DataFrame(ROWS).to_feather(path),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_items(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    assert read_items(tmp_path / name, {}) == ITEMS


def written(folder: Path, text: str, name: str = "items.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


def test_columns_are_found_by_name_in_any_case_or_as_named(tmp_path: Path) -> None:
    path = written(tmp_path, "MovieId,Caption,Overview\n1,A,long ago\n")
    assert read_items(path, {}) == [Item("1", description="long ago")]
    assert read_items(path, {"title": "Caption"}) == [Item("1", "A", description="long ago")]


def test_a_movies_table_may_be_in_utf_8(tmp_path: Path) -> None:
    path = written(tmp_path, "7::Amélie::Comedy\n", "movies.dat")
    assert read_items(path, {}) == [Item("7", "Amélie", "Comedy")]


def test_the_parent_comes_before_the_variant_as_in_interactions(tmp_path: Path) -> None:
    path = written(tmp_path, '{"asin": "B1", "parent_asin": "B0", "title": "T"}\n', "meta.jsonl")
    assert read_items(path, {}) == [Item("B0", "T")]
    assert read_items(path, {"id": "asin"}) == [Item("B1", "T")]


def test_ids_are_written_as_those_of_interactions_are(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pd.DataFrame({"id": [7.0, 12.0, None], "title": ["A", "B", "C"]}).to_parquet(path)
    assert read_items(path, {}) == [Item("7", "A"), Item("12", "B")]
    path = written(tmp_path, "id,title\n07,A\n 7 ,B\n")
    assert [item.id for item in read_items(path, {})] == ["07", "7"]


def test_what_is_left_out_is_counted_and_placed(tmp_path: Path) -> None:
    said: list[str] = []
    text = "id,title\n1,A\n2,B\n1,C\n,D\nNaN,E\n1,A\n"
    found = read_items(written(tmp_path, text), {}, report=said.append)
    assert found == [Item("1", "A"), Item("2", "B")]
    assert said == [
        "left out: 2 rows without an id, first line 5",
        "left out: 2 rows with an id that an earlier row has, first 1 in line 4",
    ]


def test_texts_are_plain_and_lists_joined_by_what_they_are(tmp_path: Path) -> None:
    row = {
        "asin": "B1",
        "title": "<span>Cream</span> &quot;soft&quot;",
        "category": ["Beauty", "Face &amp; Neck"],
        "description": ["For skin.", "<b>Two</b>"],
    }
    path = written(tmp_path, json.dumps(row), "meta.jsonl")
    assert read_items(path, {}) == [
        Item("B1", 'Cream "soft"', "Beauty, Face & Neck", "For skin. Two")
    ]
    written_out = pd.DataFrame([{**row, "category": "[{'id': 1, 'name': 'Beauty'}]"}])
    written_out.to_csv(tmp_path / "items.csv", index=False)
    assert read_items(tmp_path / "items.csv", {}) == [
        Item("B1", 'Cream "soft"', "Beauty", "For skin. Two")
    ]


def test_a_quoted_cell_may_go_over_lines(tmp_path: Path) -> None:
    path = written(tmp_path, 'id,plot\n1,"one\ntwo"\n\n2,three\n')
    assert [item.description for item in read_items(path, {})] == ["one\ntwo", "three"]


def test_descriptions_by_id_come_before_the_tables_own(tmp_path: Path) -> None:
    path = written(tmp_path, "id,plot\n1,own\n2,own\n")
    texts = written(tmp_path, json.dumps({"2": " given ", "9": "of nobody"}), "plots.json")
    assert [item.description for item in read_items(path, {}, texts)] == ["own", "given"]


def test_pictures_are_found_by_id_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "posters"
    folder.mkdir()
    for name in ("1.jpg", "2.PNG", "3.webp", "4.txt"):
        (folder / name).touch()
    path = written(tmp_path, "id\n1\n2\n3\n4\n5\n")
    found = [item.image and item.image.name for item in read_items(path, {}, images=folder)]
    assert found == ["1.jpg", "2.PNG", "3.webp", None, None]


def test_pictures_are_found_by_a_column_of_paths(tmp_path: Path) -> None:
    path = written(tmp_path, "id,image\n1,a/b.jpg\n2,\n")
    assert [item.image for item in read_items(path, {})] == [tmp_path / "a/b.jpg", None]
    (tmp_path / "c").mkdir()
    assert read_items(path, {}, images=tmp_path / "c")[0].image == tmp_path / "c/a/b.jpg"


ADDRESSES: list[Any] = [
    "https://example.org/1.jpg",
    ["HTTP://example.org/1.jpg", "https://example.org/2.jpg"],
    [{"hi_res": None, "large": "https://example.org/1.jpg", "variant": "MAIN"}],
    "['https://example.org/1.jpg']",
    "//example.org/1.jpg",
]


@pytest.mark.parametrize("image", ADDRESSES, ids=range(len(ADDRESSES)))
def test_pictures_that_are_addresses_are_said_to_be_left_out(image: Any, tmp_path: Path) -> None:
    rows = [{"id": 1, "images": image}, {"id": 2, "images": []}, {"id": 3, "images": image}]
    path = written(tmp_path, "\n".join(map(json.dumps, rows)), "items.jsonl")
    said: list[str] = []
    assert [item.image for item in read_items(path, {}, report=said.append)] == [None] * 3
    (line,) = said
    assert line.startswith("left out: 2 pictures of column images that are no files, as ")
    (tmp_path / "1.jpg").touch()  # which is where it was downloaded to
    found = read_items(path, {}, images=tmp_path, report=said.append)
    assert [item.image for item in found] == [tmp_path / "1.jpg", None, None]
    assert said[1].startswith("left out: 1 pictures")


def test_pictures_in_the_table_itself_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pd.DataFrame({"id": [1], "image": [{"bytes": b"\x89PNG", "path": "1.png"}]}).to_parquet(path)
    said: list[str] = []
    assert read_items(path, {}, report=said.append) == [Item("1")]
    assert "no files, as data: in the table itself: save them as <item id>.jpg" in said[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("items.csv", "", ["no items"]),
        ("items.csv", "id,title\n,A\nnan,B\n", ["no row has an id in its column id"]),
        ("items.csv", "id,title,id\n1,A,2\n", ["more than one column 'id'"]),
        ("items.csv", "id,title\n", ["no items"]),
        ("items.csv", "title,year\nA,1\n", ["no column of item ids", "title, year", "--id-column"]),
        ("items.csv", "id,title\n1,A\n2,B,C\n", ["line 3 has 3 columns", "line 1 names 2"]),
        ("items.csv", f"id,title\n1,{'A' * 2_000_000}\n", ["line 2 is longer than 1,048,576"]),
        ("items.csv", 'id,title\n1,"A\n2,"B"\n', ["begins in line 2", "written twice"]),
        ("items.csv", 'id,title\n1,A\n\n2,"B\n', ["begins in line 4", "unexpected end of data"]),
        ("items.tsv", 'id\ttitle\n1\t"A\nB"\n', ["line 3 has 1 columns"]),
        ("items.csv", "1,Toy Story,Comedy\n", ["1, Toy Story, Comedy", "have a line of names"]),
        ("movies.dat", "1::A::B\n2::C\n", ["line 2", "id::title::genres"]),
        ("items.jsonl", '{"id": 1}\n{"id"\n', ["line 2 is no JSON"]),
        ("items.jsonl", '{"id": 1}\n[2]\n', ["line 2 is no JSON object"]),
        ("items.parquet", "PAR1 and nothing of the kind", ["cannot be read"]),
        ("items.csv", "<html>404</html>", ["a page of HTML"]),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_line(
    name: str, text: str, words: list[str], tmp_path: Path
) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(FedmemError) as caught:
        read_items(path, {})
    message = str(caught.value)
    assert str(path) in message
    assert [word for word in words if word not in message] == []
    assert len(message.splitlines()) <= 2


def test_another_encoding_is_named_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "id,title\n1,Amélie\n", encoding="latin-1")
    with pytest.raises(FedmemError, match=r"line 2 is not text in utf-8\.\n.*=latin-1"):
        read_items(path, {})
    assert read_items(path, {}, encoding="latin-1") == [Item("1", "Amélie")]


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.csv.gz"
    text = "id,title\n" + "".join(f"{i},{i * 7919 % 1000}\n" for i in range(5000))
    path.write_bytes(gzip.compress(text.encode())[:-300])
    with pytest.raises(FedmemError, match=r"items\.csv\.gz is cut short or damaged"):
        read_items(path, {})


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "id,title\n1,A\n")
    with pytest.raises(FedmemError, match=r"no item table .*none\.csv"):
        read_items(tmp_path / "none.csv", {})
    with pytest.raises(FedmemError, match="no column Caption: the columns are id, title"):
        read_items(path, {"title": "Caption"})
    with pytest.raises(FedmemError, match=r"no folder of images .*none"):
        read_items(path, {}, images=tmp_path / "none")
    with pytest.raises(FedmemError, match=r"plots\.json cannot be read"):
        read_items(path, {}, tmp_path / "plots.json")
    with pytest.raises(FedmemError, match="one JSON object"):
        read_items(path, {}, written(tmp_path, '{"1": 2}', "plots.json"))
