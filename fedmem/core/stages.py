"""The three stages as data: what each trains, needs and minimises; and controls beside them.

Client and server both read `STAGES` and `CONTROLS`; neither has a rule of its own about scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fedmem.core.errors import FedmemError
from fedmem.core.settings import LossSettings
from fedmem.core.settings.schema import nearest


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of `fedmem.core.training.objective.Objective`."""

    identity: float
    """Softmax cross-entropy of h·e over all items: the loss of stage 1."""
    score: float
    """Softmax cross-entropy of the stage's full score over sampled candidates."""
    content: float
    """Softmax cross-entropy of h·z̄, content in the place of the IDs, over the same candidates."""
    alignment: float
    """1 − cos(z, e) of the target's content and ID embedding."""
    hardness: float
    """Extra weight of hard samples: 1 + hardness · sigmoid(cross-entropy)."""
    load_balance: float
    """Σ(usage − 1/E)² of the router."""

    def overridden(self, settings: LossSettings) -> LossWeights:
        """These weights, with those that the settings name put in their place."""
        given = {k: v for k, v in vars(settings).items() if v is not None}
        return replace(self, **given)


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
    freezes: tuple[str, ...]
    """Prefixes taken out of `trains` again."""
    requires: tuple[str, ...]
    """Stages whose checkpoints this one starts from; the last one is its parent."""
    content: bool
    memory: bool
    rounds: int
    validated_by: tuple[str, ...]
    """Rankings of a validation; the best round has the highest mean of their HR@10."""
    pace: float
    """Multiplies `strategy.learning_rate`."""
    loss: LossWeights

    def in_scope(self, parameter: str) -> bool:
        """Whether the stage trains, sends and aggregates the parameter of this name."""
        return parameter.startswith(self.trains) and not parameter.startswith(self.freezes)

    @property
    def trains_backbone(self) -> bool:
        """Whether the backbone trains, be it without the item embeddings."""
        return self.in_scope("sasrec.norm.weight")

    def split(self, parameters: Iterable[str]) -> tuple[list[str], list[str]]:
        """Parameter names, parted into (scope, frozen rest), each in the order given."""
        scope: list[str] = []
        frozen: list[str] = []
        for name in parameters:
            (scope if self.in_scope(name) else frozen).append(name)
        return scope, frozen


_BACKBONE = ("sasrec",)
_CONTENT = ("visual_proj", "text_proj", "align_gating")
_MEMORY = ("visual_expert", "semantic_expert", "identity_expert", "router")

PRETRAIN_SASREC = Stage(
    name="pretrain_sasrec",
    modules=_BACKBONE,
    trains=_BACKBONE,
    freezes=(),
    requires=(),
    content=False,
    memory=False,
    rounds=100,
    validated_by=("sampled",),
    pace=1.0,
    loss=LossWeights(
        identity=1.0, score=0.0, content=0.0, alignment=0.0, hardness=0.0, load_balance=0.0
    ),
)

ALIGN_PROJECTORS = Stage(
    name="align_projectors",
    modules=(*_BACKBONE, *_CONTENT, "gating_weight"),
    trains=_CONTENT,
    freezes=(),
    requires=("pretrain_sasrec",),
    content=True,
    memory=False,
    rounds=60,
    validated_by=("sampled", "content"),
    pace=0.4,
    loss=LossWeights(
        identity=0.0, score=1.0, content=0.3, alignment=0.1, hardness=0.5, load_balance=0.0
    ),
)

FINETUNE_MOE = Stage(
    name="finetune_moe",
    modules=(*_BACKBONE, *_CONTENT, *_MEMORY, "gating_weight"),
    trains=(*_BACKBONE, *_CONTENT, *_MEMORY, "gating_weight"),
    freezes=("sasrec.item_emb",),
    requires=("pretrain_sasrec", "align_projectors"),
    content=True,
    memory=True,
    rounds=100,
    validated_by=("sampled",),
    pace=1.0,
    loss=LossWeights(
        identity=1.0, score=0.5, content=0.1, alignment=0.05, hardness=0.0, load_balance=0.01
    ),
)

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (PRETRAIN_SASREC, ALIGN_PROJECTORS, FINETUNE_MOE)
}


CONTINUE_SASREC = replace(
    PRETRAIN_SASREC,
    name="continue_sasrec",
    requires=("pretrain_sasrec",),
    rounds=ALIGN_PROJECTORS.rounds + FINETUNE_MOE.rounds,
)
"""Stage 1 for as many more rounds as stages 2 and 3 have: what these must be better than."""

CONTINUE_FROZEN = replace(CONTINUE_SASREC, name="continue_frozen", freezes=FINETUNE_MOE.freezes)
"""The same with the item embeddings frozen, as stage 3 has them."""

CONTROLS: dict[str, Stage] = {stage.name: stage for stage in (CONTINUE_SASREC, CONTINUE_FROZEN)}

ALL_STAGES: dict[str, Stage] = STAGES | CONTROLS


def find_stages(names: Sequence[str]) -> list[Stage]:
    """The stages of a run, controls among them.

    Raises:
        FedmemError: there is none of a name, or they are not in their order, each once.
    """
    stages = [find_stage(name) for name in names]
    in_order = [stage for stage in ALL_STAGES.values() if stage in stages]
    if not stages or stages != in_order:
        raise FedmemError(
            f"stages={','.join(names)} cannot run: name at least one of {', '.join(ALL_STAGES)}, "
            "each once and in this order."
        )
    return stages


def find_stage(name: str) -> Stage:
    """The stage or control of this name.

    Raises:
        FedmemError: there is none.
    """
    if name not in ALL_STAGES:
        meant = nearest(name, ALL_STAGES)
        hint = f"did you mean {meant}? There are" if meant else "choose one of"
        raise FedmemError(f"There is no stage {name!r}: {hint} {', '.join(ALL_STAGES)}.")
    return ALL_STAGES[name]
