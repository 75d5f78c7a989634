"""The item table that a first stage starts from, made of what items are."""

from __future__ import annotations

from torch import Tensor

from fedmem.core.data.content import content_here
from fedmem.core.errors import FedmemError
from fedmem.core.model.item_start import content_rows, usual_length
from fedmem.core.model.parameters import content_hash
from fedmem.core.settings import Settings
from fedmem.messaging.messages import ITEMS, ITEMS_WITH_ROWS, ItemsHere
from fedmem.messaging.roster import Roster


def starting_rows(settings: Settings, roster: Roster) -> Tensor:
    """Rows [I + 1, K] of the mean length that `model.item_length` asks for.

    They come from the server's own feature files, or else from the first node that has some: an
    item's pictures and texts are public. Whoever has any must have the same.

    Raises:
        FedmemError: nobody has content, or two have different content.
    """
    model, nodes = settings.model, roster.look()
    found = {node: ItemsHere.from_record(r) for node, r in roster.query(nodes, ITEMS).items()}
    hashes = {f"node {node}": here.content for node, here in found.items() if here.content}
    own = content_here(settings, roster.catalogue)
    if own is not None:
        hashes = {"the server": content_hash(vars(own)), **hashes}
    if not hashes:
        raise FedmemError(
            "model.item_start=content needs the items' pictures or texts, and neither the server "
            f"(in {settings.data.dir}) nor a node has the files.\nSet data.visual_file or "
            "data.text_file, or model.item_start=random."
        )
    first, *others = hashes
    differing = [other for other in others if hashes[other] != hashes[first]]
    if differing:
        raise FedmemError(
            f"{differing[0]} has other item features than {first}: give all of them the same "
            "files, or none."
        )
    if own is not None:
        rows = content_rows(own, model)
    else:
        giver = next(node for node, here in found.items() if here.content)
        answer = roster.query([giver], ITEMS_WITH_ROWS).get(giver)
        if answer is None:
            raise FedmemError(f"No item table to start from: {'; '.join(roster.news())}")
        rows = ItemsHere.from_record(answer).rows
    if rows.shape != (roster.num_items + 1, min(rows.shape[1], model.dim)):
        raise FedmemError(f"An item table of {list(rows.shape)} for {roster.num_items} items.")
    length = model.item_length
    if length == "auto":
        seen = sum(here.interactions for here in found.values())
        length = usual_length(seen / roster.num_items)
    return rows * float(length)
