"""The options of the two commands: all that `--help` needs, and nothing that imports for long."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from fedmem.core.commands import Parser, command_parser
from fedmem.core.settings import DEVICES

ROLES = {
    "id": "item",
    "title": "title",
    "genres": "genres",
    "description": "description",
    "image": "image",
}
"""The fields of an item, and what `fedmem.core.data.columns` calls their columns."""
FORMS = "CSV, TSV, JSON lines, Parquet, RecBole's .item or movies.dat"
TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
IMAGE_MODEL = "sentence-transformers/clip-ViT-B-32"
TEMPLATE = "{title}. Genres: {genres}. {description:.600}"
EFFICIENTNET = "efficientnet-lite0"

BUILD = """Make text and image vectors from an item table.

    python -m fedmem.features --items movies.dat --images posters/ --out FOLDER
    python -m fedmem.features inspect data=ml-1m data.dir=FOLDER

The same command goes on where it was stopped, and makes only what changed. `inspect` measures
vectors that are there, and has a `--help` of its own.
"""
INSPECT = """Measure the feature files of some data, before anything is trained on them.

    python -m fedmem.features inspect data=ml-1m data.dir=FOLDER

It prints how many items and interactions have a vector, whether neighbours in a history are more
alike than random items, how novel interactions are, and the nearest items of five examples.
"""


def build_options() -> argparse.ArgumentParser:
    """Of the command that makes vectors."""
    made = command_parser("features", BUILD)
    add = made.add_argument
    add_table_options(made, tuple(ROLES), required=True)
    add("--encoding", default="utf-8", help="of the item table; default: %(default)s")
    add("--out", type=Path, required=True, help="folder for the feature files")
    add("--descriptions", type=Path, metavar="JSON", help="an object: item id to description")
    add("--images", type=Path, metavar="FOLDER", help="of <item id>.jpg, .png or .webp")
    default, also = "default: %(default)s", f"also {EFFICIENTNET}, which needs no download"
    add("--text-model", default=TEXT_MODEL, metavar="NAME_OR_FOLDER", help=default)
    add("--image-model", default=IMAGE_MODEL, metavar="NAME_OR_FOLDER", help=f"{default}; {also}")
    add("--image-width", type=_count, metavar="N", help="keep N principal components")
    add("--template", default=TEMPLATE, help="of the text; default: %(default)r")
    add("--only", choices=("text", "images"), help="make one kind only; default: what there is")
    add("--device", choices=DEVICES, default="auto", help="default: CUDA where there is a GPU")
    add("--batch-size", type=_count, default=32, metavar="N", help=default)
    return made


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def inspect_options() -> Parser:
    """Of the command that measures them."""
    made = command_parser("features inspect", INSPECT)
    made.add_settings()
    add_table_options(made, ("id", "title"))
    default = "default: runs/<data>/features.png"
    made.add_argument("--page", type=Path, metavar="PNG", help=default)
    return made


def add_table_options(
    parser: argparse.ArgumentParser, fields: Collection[str], required: bool = False
) -> None:
    """`--items`, and a `--…-column` for each field that the command reads."""
    parser.add_argument("--items", type=Path, required=required, help=f"item table: {FORMS}")
    for field in fields:
        parser.add_argument(
            f"--{field}-column", metavar="NAME", help=f"column of {field}; default: by its name"
        )


def named_columns(args: argparse.Namespace) -> dict[str, str | None]:
    """The columns that the user named, by field."""
    return {field: getattr(args, f"{field}_column", None) for field in ROLES}
