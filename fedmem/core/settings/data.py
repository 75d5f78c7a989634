"""Settings of the data: where they are, what of them is used, and what rankings are of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fedmem.core.settings.ranges import Count, Range, at_least, is_encoding, one_of, within
from fedmem.core.settings.schema import Section

FORMATS = (
    "auto",
    "ratings",
    "pairs",
    "sequences",
    "csv",
    "tsv",
    "recbole",
    "jsonl",
    "json",
    "parquet",
    "feather",
)
CONTENTS = ("real", "without_picture", "without_text", "shuffled", "random")
History = Annotated[int, at_least(3, ", as leave-one-out needs")]


@dataclass(frozen=True)
class ColumnSettings(Section, key="data.columns"):
    """Names of the columns of a table; null: the usual names are recognised."""

    user: str | None
    """Column of the users."""
    item: str | None
    """Column of the items."""
    rating: str | None
    """Column of the ratings."""
    timestamp: str | None
    """Column of the times."""
    order: list[str] | None
    """Names of all columns of a file without a header, in their order, as
    `[user,timestamp,item,other]`; null: they are guessed from their number."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class DataSettings(Section, key="data"):
    """Which interactions and content to read, and which of the interactions to keep."""

    name: str
    """Name of the data, used for folders of runs and checkpoints."""
    dir: str
    """Folder that the files below are in, where they are not named from the root."""
    path: str | list[str]
    """File of the interactions, or several that are parts of one or the splits of it; or a folder
    that holds such under names that are recognised."""
    format: Annotated[str, one_of(*FORMATS)]
    """Form of that file; `auto` recognises it by the first lines, see docs/data.md."""
    encoding: Annotated[str, Range("utf-8, latin-1, …", is_encoding)]
    """Encoding of its text."""
    columns: ColumnSettings
    missing: Annotated[str, one_of("refuse", "drop", "keep")]
    """What becomes of interactions without a user, an item or a time, or with a word for that, as
    NaN or NULL: they end the command, or are left out and counted; `keep` takes the words for ids
    like others."""
    min_rating: float | None
    """Interactions with a lower rating are dropped; null: none are."""
    duplicates: Annotated[str, one_of("keep", "first", "last")]
    """Which of a user's repeated interactions with an item stay."""
    min_interactions: History
    """Users with fewer interactions are dropped."""
    k_core: Count | None
    """Users and items with fewer interactions are dropped until none has fewer."""
    most_active_users: Count | None
    """Only so many users stay, those with most interactions."""
    max_history: History | None
    """Only so many interactions of a user stay, the latest."""
    visual_file: str | None
    """Visual item features, see `fedmem/core/data/vectors.py`; null: the data have none. Without
    both kinds only stage 1 can run."""
    text_file: str | None
    """Text item features, likewise."""
    catalogue_file: str | None
    """Ids of all items, one a line, for nodes that have each seen some of them; null: the items of
    the interactions."""
    first_index: Annotated[int, at_least(0)]
    """Index of the first user, where nodes bring data of their own; the users of one data set are
    counted from 0."""
    pictures: str | None
    """Folder or zip of the items' pictures, each `<item id>.jpg`, .jpeg, .png or .webp, which the
    page of `fedmem.serve` shows; null: it draws cards."""
    forgotten_file: str | None
    """List of what users had forgotten, which every history is read without; null:
    `forgotten.json` beside the interactions, see docs/serve.md."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class EvaluationSettings(Section, key="evaluation"):
    """How rankings are made."""

    negatives: Count
    """Never-touched items that the `sampled` ranking sets beside the positive."""
    cold_items: Annotated[float, within("[0, 1)")]
    """Share of the items that is kept from training, to be ranked by content alone; see
    docs/new-items.md."""
    users: Count | None
    """Users whose held-out items are ranked, drawn once a seed: the same in all validations and the
    test, on any number of nodes. null, or more than there are: all."""


@dataclass(frozen=True)
class AblationSettings(Section, key="ablation"):
    """Controls: what a run goes without, to see what it was worth."""

    content: Annotated[str, one_of(*CONTENTS)]
    """What stands in the place of the items' content: `shuffled` gives each item another's,
    `random` noise of the same length."""
    memory: bool
    """Whether the experts read the memory; if not, every read finds it empty."""
