"""A user's best items: what `python -m fedmem.recommend` does."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedmem.core.checkpoint import Checkpoint, find_checkpoint
from fedmem.core.console import make_table, say
from fedmem.core.data.sampling import participants
from fedmem.core.errors import FedmemError
from fedmem.core.node import Node
from fedmem.features.table import find_titles, read_titles
from fedmem.recommend.new_items import load_new_items
from fedmem.recommend.person import find_user, memory_of, of_history, threshold_of
from fedmem.recommend.recommendation import PARTS, Recommended, recommend
from fedmem.runs.configuration import compose_settings


def list_items(args: argparse.Namespace, console: Console) -> list[Recommended]:
    """Print the items of the user that the options name; they are returned too.

    Raises:
        FedmemError: the user, an item, a checkpoint or a file is not there or does not fit.
    """
    if args.top_k < 1:
        raise FedmemError(f"--top-k {args.top_k} is out of range: at least 1.")
    settings = compose_settings(args.settings)
    node = Node(settings, participants(settings))
    named = args.user is not None
    person = find_user(node, args.user) if named else of_history(node, args.history)
    stage, path = find_checkpoint(settings, args.stage)
    checkpoint = Checkpoint.load(path)
    content = node.corpus.content_files if checkpoint.content else ""
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
