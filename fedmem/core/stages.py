"""The three stages as data: what each trains and needs; and controls beside them.

Client and server both read `STAGES` and `CONTROLS`; neither has a rule of its own about scope.
A stage's numbers, its rounds, pace and loss weights, are in `conf/stage/`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from fedmem.core.errors import FedmemError, one_of


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Parameter names are those of `fedmem.core.model.Recommender`; a scope is prefixes of them.
    """

    name: str
    modules: tuple[str, ...]
    """Modules of the model that are in the stage's graph."""
    trains: tuple[str, ...]
    """Prefixes of the parameters that are trained, sent and aggregated."""
    freezes: tuple[str, ...] = ()
    """Prefixes taken out of `trains` again."""
    requires: tuple[str, ...] = ()
    """Stages whose checkpoints this one starts from; the last one is its parent."""
    content: bool = False
    projects: bool = False
    """Whether item embeddings are a trained projection of content, with no rows of their own."""
    memory: bool = False
    validated_by: tuple[str, ...] = ("sampled",)
    """Rankings of a validation; the best round has the highest mean of their HR@10."""

    def in_scope(self, parameter: str) -> bool:
        """Whether the stage trains, sends and aggregates the parameter of this name."""
        return parameter.startswith(self.trains) and not parameter.startswith(self.freezes)

    @property
    def trains_backbone(self) -> bool:
        """Whether the backbone trains, with the item embeddings or without them."""
        return self.in_scope("sasrec.norm.weight")

    @property
    def reads_content(self) -> bool:
        """Whether the items' content is in the stage's graph."""
        return self.content or self.projects

    @property
    def makes_table(self) -> bool:
        """Whether item embeddings begin here."""
        return not self.requires and not self.projects

    def split(self, parameters: Collection[str]) -> tuple[list[str], list[str]]:
        """Parameter names, parted into (scope, frozen rest), each in the order given."""
        scope = [name for name in parameters if self.in_scope(name)]
        return scope, [name for name in parameters if not self.in_scope(name)]


_BACKBONE = ("sasrec",)
_CONTENT = ("visual_proj", "text_proj", "align_gating")
_MEMORY = ("visual_expert", "semantic_expert", "identity_expert", "router")

PRETRAIN_SASREC = Stage(name="pretrain_sasrec", modules=_BACKBONE, trains=_BACKBONE)

ALIGN_PROJECTORS = Stage(
    name="align_projectors",
    modules=(*_BACKBONE, *_CONTENT, "gating_weight"),
    trains=_CONTENT,
    requires=("pretrain_sasrec",),
    content=True,
    validated_by=("sampled", "content"),
)

FINETUNE_MOE = Stage(
    name="finetune_moe",
    modules=(*_BACKBONE, *_CONTENT, *_MEMORY, "gating_weight"),
    trains=(*_BACKBONE, *_CONTENT, *_MEMORY, "gating_weight"),
    freezes=("sasrec.item_emb",),
    requires=("pretrain_sasrec", "align_projectors"),
    content=True,
    memory=True,
)

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (PRETRAIN_SASREC, ALIGN_PROJECTORS, FINETUNE_MOE)
}


CONTINUE_SASREC = replace(PRETRAIN_SASREC, name="continue_sasrec", requires=("pretrain_sasrec",))
"""Stage 1 for as many more rounds as stages 2 and 3 have: what these must be better than."""

CONTINUE_FROZEN = replace(CONTINUE_SASREC, name="continue_frozen", freezes=FINETUNE_MOE.freezes)
"""The same with the item embeddings frozen, as stage 3 has them."""

PROJECTED_SASREC = replace(PRETRAIN_SASREC, name="projected_sasrec", projects=True)
"""Stage 1 without a row of its own for any item: what content alone is good for."""

FROZEN_SASREC = replace(PRETRAIN_SASREC, name="frozen_sasrec", freezes=FINETUNE_MOE.freezes)
"""Stage 1 with item embeddings that stay as they start: few coordinates, so privacy's noise is
small beside what is trained."""

CONTROLS: dict[str, Stage] = {
    stage.name: stage
    for stage in (CONTINUE_SASREC, CONTINUE_FROZEN, PROJECTED_SASREC, FROZEN_SASREC)
}

ALL_STAGES: dict[str, Stage] = STAGES | CONTROLS

CENTRALISED = replace(PRETRAIN_SASREC, name="centralised")
"""Stage 1 on pooled data, under another name, so that nobody takes its checkpoint or its figures
for federated."""


def find_stages(names: Collection[str]) -> list[Stage]:
    """The stages of a run, controls among them.

    Raises:
        FedmemError: a name is unknown, or they are not in their order, each once.
    """
    stages = [find_stage(name) for name in names]
    in_order = [stage for stage in ALL_STAGES.values() if stage in stages]
    if not stages or stages != in_order:
        raise FedmemError(
            f"stage=[{','.join(names)}] cannot run: name at least one of {', '.join(ALL_STAGES)}, "
            "each once and in this order."
        )
    return stages


def find_stage(name: str) -> Stage:
    """The stage or control of this name.

    Raises:
        FedmemError: the name is unknown.
    """
    if name not in ALL_STAGES:
        raise FedmemError(f"There is no stage {name!r}: {one_of(name, ALL_STAGES)}.")
    return ALL_STAGES[name]
