"""What is learned from, and how it is ranked."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from fedmem.core.settings.ranges import require

FORMATS = (
    "auto",
    "ratings",
    "pairs",
    "sequences",
    "csv",
    "tsv",
    "recbole",
    "jsonl",
    "parquet",
)
DUPLICATES = ("keep", "first", "last")
CONTENTS = ("real", "without_picture", "without_text", "shuffled", "random")


@dataclass(frozen=True)
class ColumnSettings:
    """Names of the columns of a table; null: the usual names are recognised. That of the item also
    counts in a Parquet file of features.
    """

    user: str | None
    item: str | None
    rating: str | None
    timestamp: str | None


@dataclass(frozen=True)
class DataSettings:
    """Which interactions and content to read, and which of the interactions to keep."""

    name: str
    dir: str
    """Folder that the files below are in, where they are not named from the root."""
    path: str
    """File of the interactions, or a folder that holds one under a name that is recognised."""
    format: str
    """One of `FORMATS`: `auto` recognises it by the first lines (`fedmem/core/data/formats.py`)."""
    encoding: str
    """Of text."""
    columns: ColumnSettings
    min_rating: float | None
    """Interactions with a lower rating are dropped."""
    duplicates: str
    """What happens to a user's repeated interactions with an item, one of `DUPLICATES`."""
    min_interactions: int
    """Users with fewer interactions are dropped."""
    k_core: int | None
    """Users and items with fewer interactions are dropped until none has fewer."""
    most_active_users: int | None
    """Only so many users stay, those with most interactions."""
    max_history: int | None
    """Only so many interactions of a user stay, the latest."""
    visual_file: str | None
    """Item features, see `fedmem/core/data/vectors.py`; null: the data have none of this kind.
    Without both only stage 1 can run."""
    text_file: str | None
    catalogue_file: str | None
    """Ids of all items, one a line, for nodes that have each seen some of them; null: the items of
    the interactions."""
    first_index: int
    """Index of the first user, where nodes bring data of their own; the users of one data set are
    counted from 0."""

    def __post_init__(self) -> None:
        require(self.first_index >= 0, "data.first_index", self.first_index, "at least 0")
        require(self.format in FORMATS, "data.format", self.format, f"one of {', '.join(FORMATS)}")
        require(_is_encoding(self.encoding), "data.encoding", self.encoding, "utf-8, latin-1, …")
        require(
            self.duplicates in DUPLICATES,
            "data.duplicates",
            self.duplicates,
            f"one of {', '.join(DUPLICATES)}",
        )
        for key in ("min_interactions", "max_history"):
            value = getattr(self, key)
            require(
                value is None or value >= 3,
                f"data.{key}",
                value,
                "leave-one-out needs at least 3 interactions a user",
            )
        for key in ("k_core", "most_active_users"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"data.{key}", value, "at least 1, or null")


def _is_encoding(name: str) -> bool:
    try:
        return bool(codecs.lookup(name))
    except LookupError:
        return False


@dataclass(frozen=True)
class EvaluationSettings:
    """How rankings are made."""

    negatives: int
    """Never-touched items that the `sampled` ranking sets beside the positive."""
    cold_items: float
    """Share of the items that is kept from training, to be ranked by content alone."""

    def __post_init__(self) -> None:
        require(self.negatives >= 1, "evaluation.negatives", self.negatives, "at least 1")
        require(
            0 <= self.cold_items < 1, "evaluation.cold_items", self.cold_items, "from 0 to below 1"
        )


@dataclass(frozen=True)
class AblationSettings:
    """Controls: what a run goes without, to see what it was worth."""

    content: str
    """What stands in the place of the items' content, one of `CONTENTS`: `shuffled` gives each item
    another's, `random` noise of the same length."""
    memory: bool
    """Whether the experts read the memory; if not, every read finds it empty."""

    def __post_init__(self) -> None:
        require(
            self.content in CONTENTS,
            "ablation.content",
            self.content,
            f"one of {', '.join(CONTENTS)}",
        )
