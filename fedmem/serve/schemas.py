"""What the API is asked and what it answers: the OpenAPI description is made of these."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_HISTORY = 5000
MAX_BATCH = 128
MAX_TOP_K = 200
MAX_NEW = 16
MAX_WIDTH = 8192
MAX_TEXT = 8000
MAX_PICTURE = 3 << 20
"""Letters of a picture in base64."""


def _as_text(value: object) -> object:
    """A whole number as an id: the data's own may be either."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Id = Annotated[str, Field(min_length=1, max_length=512)]
OwnId = Annotated[_Id, BeforeValidator(_as_text, json_schema_input_type=_Id | int)]
History = Annotated[list[OwnId], Field(max_length=MAX_HISTORY)]
Vector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]],
    Field(min_length=1, max_length=MAX_WIDTH),
]


class Described(BaseModel):
    """A part of the API, whose fields are described by what stands below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Asked(Described):
    """A part of a request; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid")


class NewItem(Asked):
    """An item that the model does not know, by its content: as it is, or as vectors."""

    id: OwnId
    title: Annotated[str, Field(max_length=512)] = ""
    text: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    """Encoded at this node, where it was started with an encoder of texts."""
    picture: Annotated[str, Field(max_length=MAX_PICTURE)] = ""
    """An image file in base64, likewise."""
    text_vector: Vector | None = None
    """Of the encoder that the model was trained with."""
    picture_vector: Vector | None = None


class RecommendRequest(Asked):
    """For whom, and what: one of `user`, `history` and `histories`."""

    user: OwnId | None = None
    """A user who lives at this node."""
    history: History | None = None
    """Ids of items, oldest first."""
    histories: Annotated[list[History], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    """Several at once; there is a result for each, in their order."""
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K)] = 10
    exclude: Annotated[list[OwnId], Field(max_length=MAX_HISTORY)] = Field(default_factory=list)
    """Items that are not to be recommended; those of the history never are."""
    new_items: Annotated[list[NewItem], Field(max_length=MAX_NEW)] = Field(default_factory=list)
    """Items to rank beside the known ones, by content alone."""
    explain: bool = False
    """Whether to say which of the latest items and which memory entries spoke for each."""

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(each is not None for each in (self.user, self.history, self.histories)) != 1:
            raise ValueError("give one of user, history and histories")
        return self


class Item(Described):
    """An item as it is shown."""

    id: str
    title: str
    hue: int
    """Of its card, in degrees: items with similar vectors have similar colours."""
    picture: bool
    """Whether there is one."""


class Parts(Described):
    """What a score is made of; the parts add up to it."""

    sequence: float
    text: float
    picture: float
    memory: float


class Effect(Described):
    """An item that spoke for another one, or, below 0, against it."""

    item: Item
    effect: float


class Reasons(Described):
    """What spoke for an item."""

    latest: list[Effect]
    """Of the last items, the latest first: by how much the sequence's part would be lower without
    each."""
    memory: list[Effect]
    """Of the memory's entries: what each adds to the memory's part, the most first."""
    memory_rest: float
    """What no single entry adds to it."""


class RecommendedItem(Item):
    """An item that is recommended."""

    score: float
    parts: Parts
    is_new: bool
    why: Reasons | None = None


class Result(Described):
    """What is recommended for one history, the best first."""

    items: list[RecommendedItem]


class RecommendResponse(Described):
    """A result for each history that was asked for."""

    stage: str
    checkpoint: str
    """Hash of the parameters that ranked."""
    results: list[Result]


class UserSummary(Described):
    """A user who lives at this node."""

    id: str
    items: int


class Users(Described):
    """Users who live at this node: all, or a few that were searched for."""

    total: int
    users: list[UserSummary]


class UserHistory(Described):
    """A user's history, oldest first."""

    id: str
    items: list[Item]


class ShortTermItem(Described):
    """An entry of the short-term tier."""

    item: Item
    why: str


class LongTermItem(Described):
    """An entry of the long-term tier."""

    item: Item
    merged: list[Item]
    """Similar items that it stands for as well."""
    novelty: float | None
    utility: float
    age: int
    """Interactions since it was written."""
    is_next: bool
    """Whether it is the one that makes room for the next."""
    why: str


class MemoryView(Described):
    """What a user's memory holds now."""

    user: str
    has_memory: bool
    """Whether the stage that is served has one at all."""
    interactions: int
    threshold: float
    short_term_capacity: int
    long_term_capacity: int
    evicted: int
    short_term: list[ShortTermItem]
    long_term: list[LongTermItem]


class Forgotten(Described):
    """What was forgotten, and what was not."""

    user: str
    item: str
    interactions: int
    """That are gone from the history."""
    memories_rewritten: int
    """Files of memories on this disk that were rewritten."""
    remainders_deleted: int
    """Files of what rounding had left of a node's updates."""
    says: list[str]


class StageDeparture(Described):
    """What left during one stage."""

    stage: str
    rounds: int
    messages: int
    bytes_up: int
    bytes_down: int
    parameters: int | None
    scope: list[str]
    """Parts of the model whose change is sent; nothing else is."""


class Departures(Described):
    """What left this device, and what protects it."""

    source: str
    nodes: str
    """Whose figures these are."""
    stages: list[StageDeparture]
    epsilon: float | None
    delta: float | None
    never: list[str]
    """What never leaves."""


class Exposure(Described):
    """What whoever sees one upload of stage 1 learns of the history, measured on this model."""

    history: int
    """Items that training looks at."""
    found: int
    """Of them among as many items whose rows changed most."""
    auc: float
    """Chance that an item of the history ranks above another one; 0.5 is a guess."""
    says: str


class Health(Described):
    """What is served."""

    status: str
    stage: str
    round: int
    checkpoint: str
    users: int
    items: int
    reloads: int
    trouble: str
    """Why the newest checkpoint was not taken over; empty: it was."""
    titles: bool
    pictures: bool
    text_encoder: bool
    picture_encoder: bool
    new_items: bool
    """Whether the stage can rank items by content alone."""


class Refusal(Described):
    """Why a request was not answered."""

    detail: str
