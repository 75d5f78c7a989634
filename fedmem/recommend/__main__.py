"""List a user's best items, and the parts of their scores.

    python -m fedmem.recommend --user 42 data=ml-1m data.dir=FOLDER

Give it the settings of the run that made the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedmem.core.checkpoint import Checkpoint, find_checkpoint
from fedmem.core.commands import Parser, command_parser
from fedmem.core.console import make_table, say
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.core.node import Node
from fedmem.features.table import find_titles, read_titles
from fedmem.recommend.new_items import load_new_items
from fedmem.recommend.person import find_user, memory_of, of_history, threshold_of
from fedmem.recommend.recommendation import PARTS, Recommended, recommend
from fedmem.runs.configuration import compose_settings


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> None:
    """The command; exits with 2 for a mistake that the user can mend."""
    with readable_exit():
        run(arguments, console or Console())


def run(arguments: Sequence[str] | None, console: Console) -> list[Recommended]:
    """What the command does; the items that it printed.

    Raises:
        FedmemError: the user, an item, a checkpoint or a file is not there or does not fit.
    """
    args = parser().parse_intermixed_args(arguments)
    if args.top_k < 1:
        raise FedmemError(f"--top-k {args.top_k} is out of range: at least 1.")
    settings = compose_settings(args.settings)
    node = Node(settings, participants(settings))
    named = args.user is not None
    person = find_user(node, args.user) if named else of_history(node, args.history)
    stage, path = find_checkpoint(settings, args.stage)
    checkpoint = Checkpoint.load(path)
    content = node.content_files if checkpoint.content else ""
    catalogue = node.interactions.fingerprint
    checkpoint.require_fit(path, stage.name, catalogue, settings.model, content)
    node.settings = replace(settings, model=checkpoint.model)  # which may have other experts
    model = node.load(stage, checkpoint.parameters, checkpoint.hash).cpu()
    encoding, report = settings.data.encoding, partial(say, console=console)
    if args.titles:
        titles = read_titles(args.titles, encoding=encoding, report=report)
    else:
        titles = find_titles(Path(settings.data.dir), encoding, report=report)
    new = None
    if args.new_items is not None:
        table = read_titles(args.new_items, encoding=encoding, report=report)
        new = load_new_items(node, model, table, args.new_visual, args.new_text)
        titles = {**table, **titles}
    memory = None
    if stage.memory:
        threshold = threshold_of(settings.memory, node.novelty_histogram())
        memory = memory_of(node, model, person.history, threshold).retrieve()[0]
    found = recommend(model, node.settings, person, args.top_k, memory, new)
    own = [str(item) for item in [*node.interactions.item_ids, *(new.ids[1:] if new else ())]]
    names = [titles.get(own[item], own[item]) for item in person.history[:-6:-1]]  # the latest 5
    say(
        f"{person.name}: {len(person.history):,} items, the latest {'; '.join(names)}\n"
        f"{path}, {stage.name}, round {checkpoint.round}\n",
        console,
    )
    console.print(_table(found, own, titles))
    return found


def parser() -> Parser:
    """The command's options; whatever else stands on its line is settings of the run."""
    made = command_parser("recommend", __doc__)
    made.add_settings()
    who = made.add_mutually_exclusive_group(required=True)
    history = "the data's own ids of items, oldest first; again for each id that holds a comma"
    who.add_argument("--user", metavar="ID", help="a user of the data, by the data's own id")
    who.add_argument("--history", action="append", metavar="ID,ID,…", help=history)
    made.add_argument("--top-k", type=int, default=10, metavar="K", help="how many; default: 10")
    made.add_argument("--stage", help="whose checkpoint; default: the last that has one")
    new = "ids and titles; those that the model does not know are recommended by content alone"
    for option, metavar, meaning in (
        ("--titles", "FILE", "titles by id; default: a usual name in data.dir"),
        ("--new-items", "TABLE", new),
        ("--new-visual", "FILE", "their visual vectors; default: those of data.visual_file"),
        ("--new-text", "FILE", "their text vectors; default: those of data.text_file"),
    ):
        made.add_argument(option, type=Path, metavar=metavar, help=meaning)
    return made


def _table(found: list[Recommended], own: list[str], titles: dict[str, str]) -> Table:
    table = make_table("", "item", "title", "score", *PARTS)
    rank, item, title = table.columns[:3]
    rank.justify, item.justify, title.justify = "right", "left", "left"
    title.overflow, title.max_width = "ellipsis", 34
    for place, one in enumerate(found, 1):
        name = own[one.item]
        words = titles.get(name, "") + (" (new)" if one.is_new else "")
        parts = [f"{one.parts[part]:+.2f}" if one.parts[part] else "-" for part in PARTS]
        table.add_row(str(place), name, words, f"{one.score:.2f}", *parts)
    return table


if __name__ == "__main__":
    main()
