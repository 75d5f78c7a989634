"""The options of an item table, which both commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmem.features.table import COLUMNS, READERS


def add_table_options(
    parser: argparse.ArgumentParser, fields: tuple[str, ...], required: bool = False
) -> None:
    """`--items`, and a `--…-column` for each field that the command reads."""
    parser.add_argument(
        "--items", type=Path, required=required, help=f"item table: {' '.join(READERS)}"
    )
    for field in fields:
        parser.add_argument(
            f"--{field}-column", metavar="NAME", help=f"column of {field}; default: by its name"
        )


def named_columns(args: argparse.Namespace) -> dict[str, str]:
    """The columns that the user named, by field."""
    named = {field: getattr(args, f"{field}_column", None) for field in COLUMNS}
    return {field: column for field, column in named.items() if column}
