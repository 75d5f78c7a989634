"""From an item table to feature files: what `python -m fedmem.features` does."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedmem.core.console import make_table, say
from fedmem.core.errors import FedmemError
from fedmem.core.files.atomic import replacing
from fedmem.core.machine.device import local_gpus, resolve_device
from fedmem.features.encode import VectorStore, encode_items
from fedmem.features.encoders import Encoder, find_encoder
from fedmem.features.options import build_options, named_columns
from fedmem.features.pictures import Unreadable
from fedmem.features.sources import Pictures, Texts
from fedmem.features.table import Item, read_items
from fedmem.features.vectors import Vectors, reduce_by_pca, write_features
from fedmem.runs.progress import clock

NAMED_AT_MOST = 10
"""Unusable pictures that are named on the screen; `features.json` names all."""


@dataclass(frozen=True)
class Coverage:
    """What became of one kind of content, on the screen and in `features.json`."""

    kind: str
    """`text` or `visual`."""
    file: str
    """Path of the vectors."""
    model: str
    encoder: str
    """Its identity: a hash of the weights and of how inputs are prepared."""
    template: str | None
    """Of the texts."""
    width: int
    items: int
    covered: int
    absent: int
    """Items that have nothing to encode."""
    unreadable: dict[str, str]
    """Which picture could not be used and why, by item id."""
    made: int
    """Vectors that this run made; the others were there."""
    seconds: float


def main(arguments: Sequence[str], console: Console | None = None) -> list[Coverage]:
    """Make what the arguments ask for, and report it; errors as of `make`."""
    return make(build_options().parse_args(arguments), console)


def make(args: argparse.Namespace, console: Console | None = None) -> list[Coverage]:
    """Make what the options ask for, and report it.

    Raises:
        FedmemError: the table, a folder or a model does not allow it, or no item has content.
    """
    console = console or Console()
    texts, pictures = Texts(args.template), Pictures()
    items = _read(args, console)
    # All that can be found out is found out before anything is encoded, which may take hours.
    has_text = args.only != "images" and any(map(texts.raw, items))
    has_picture = args.only != "text" and any(item.image for item in items)
    if has_picture:
        _require_one(pictures, items, args)
    if not (has_text or has_picture):
        wanted = {"images": "a picture", "text": "a text"}.get(args.only, "a text or a picture")
        raise FedmemError(
            f"No item of {args.items} has {wanted}: name its columns (--title-column, …), "
            "or give --descriptions FILE or --images FOLDER of <item id>.jpg."
        )
    device = resolve_device(args.device, local_gpus(), setting="--device")
    read_text = find_encoder(args.text_model, "text", device) if has_text else None
    see = find_encoder(args.image_model, "image", device) if has_picture else None
    made = []
    if read_text:
        # Texts of about a length together: a batch takes as long as its longest.
        items_by_length = sorted(items, key=lambda item: -len(texts.raw(item) or b""))
        made.append(_make("text", items_by_length, texts, read_text, args, console))
    if see:
        made.append(_make("visual", items, pictures, see, args, console))
    _print(made, console)
    return made


def _read(args: argparse.Namespace, console: Console) -> list[Item]:
    """The items of the table; what is left out of it is said."""
    try:
        return read_items(
            args.items,
            named_columns(args),
            args.descriptions,
            args.images,
            encoding=args.encoding,
            report=lambda line: say(line, console),
        )
    except FedmemError as error:  # which may name the setting of interactions
        raise FedmemError(str(error).replace("data.encoding=", "--encoding ")) from error


def _require_one(pictures: Pictures, items: Sequence[Item], args: argparse.Namespace) -> None:
    """End the command where no picture can be used, of however many."""
    reasons: dict[str, str] = {}
    for item in items:
        try:
            raw = pictures.raw(item)
            if raw is not None:
                pictures.decode(raw)
                return
        except Unreadable as error:
            reasons.setdefault(item.id, f"{item.image}: {error}")
    first, reason = next(iter(reasons.items()))
    raise FedmemError(
        f"No picture of {args.items} can be used; item {first}: {reason}.\nGive the folder that "
        "they are in with --images FOLDER, or go without them with --only text."
    )


def _make(
    kind: str,
    items: Sequence[Item],
    source: Texts | Pictures,
    encoder: Encoder,
    args: argparse.Namespace,
    console: Console,
) -> Coverage:
    """Encode one kind of content and write its file."""
    started = time.monotonic()
    store = VectorStore(args.out / "made", encoder.identity, encoder.width)
    with _progress(kind, len(items), console) as advance:
        found = encode_items(items, source, encoder, store, args.batch_size, advance)
    ids = list(found.keys)
    vectors: Vectors = store.take(list(found.keys.values()))
    if kind == "visual" and args.image_width is not None:
        if args.image_width > min(vectors.shape):
            raise FedmemError(
                f"--image-width {args.image_width} is too many: {len(ids)} vectors of "
                f"{encoder.width} numbers have {min(vectors.shape)} components."
            )
        if (vectors == vectors[0]).all():
            raise FedmemError(
                f"--image-width {args.image_width}: all {len(ids)} pictures have the same vector, "
                "so there are no components. Leave it out."
            )
        vectors, kept = reduce_by_pca(vectors, args.image_width)
        say(f"visual: {args.image_width} components keep {kept:.1%} of the variance", console)
    path = write_features(args.out, f"{kind}_features", [i.id for i in items], ids, vectors)
    coverage = Coverage(
        kind=kind,
        file=str(path),
        model=args.text_model if kind == "text" else args.image_model,
        encoder=encoder.identity,
        template=args.template if kind == "text" else None,
        width=vectors.shape[1],
        items=len(items),
        covered=len(ids),
        absent=len(found.absent),
        unreadable=found.unreadable,
        made=found.made,
        seconds=time.monotonic() - started,
    )
    _note(args.out / "features.json", coverage)
    return coverage


@contextmanager
def _progress(kind: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal, a line at every tenth elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description:<6}"), BarColumn(), MofNCompleteColumn())
        left = TimeRemainingColumn(elapsed_when_finished=True)
        with Progress(*columns, left, console=console) as progress:
            task = progress.add_task(kind, total=total)
            yield lambda count: progress.advance(task, count)
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if before * 10 // total < done * 10 // total:
            say(f"{kind}: {done:,} of {total:,} items", console)

    yield advance


def _note(path: Path, coverage: Coverage) -> None:
    """Write JSON by kind, beside what is there of the other kind."""
    content: dict[str, object] = {}
    with suppress(OSError, ValueError, TypeError):  # there is none, or it is damaged
        content |= json.loads(path.read_text("utf-8"))
    content[coverage.kind] = asdict(coverage)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _print(coverages: Sequence[Coverage], console: Console) -> None:
    """Print a line a kind, which pictures could not be used, and how to go on."""
    headings = ("items", "covered", "none", "unusable", "made now", "width", "time")
    table = make_table("", *headings, gap=2)
    for c in coverages:
        share = f"{c.covered:,} ({c.covered / c.items:.1%})"
        counts = [f"{n:,}" for n in (c.absent, len(c.unreadable), c.made)]
        table.add_row(c.kind, f"{c.items:,}", share, *counts, str(c.width), clock(c.seconds))
    console.print(table)
    for c in coverages:
        for item, reason in islice(c.unreadable.items(), NAMED_AT_MOST):
            say(f"unusable, counted as missing: item {item}, {reason}", console)
        if (more := len(c.unreadable) - NAMED_AT_MOST) > 0:
            say(f"and {more:,} more, all named in features.json", console)
    for c in coverages:
        say(f"data.{c.kind}_file={Path(c.file).resolve()}", console)
