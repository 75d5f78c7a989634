"""How many parameters a stage has, from its sizes alone: known before any of them is allocated."""

from __future__ import annotations

from fedmem.core.settings import ModelSettings
from fedmem.core.stages import Stage


def parameter_counts(
    model: ModelSettings, stage: Stage, items: int, widths: tuple[int, int]
) -> dict[str, int]:
    """Parameters of each part of a stage's model, by the prefix of their names.

    Args:
        model: sizes.
        stage: which parts.
        items: without the padding.
        widths: of visual and text vectors.
    """
    dim, norm = model.dim, 2 * model.dim

    def linear(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    attention = norm + linear(dim, 3 * dim) + linear(dim, dim)
    feedforward = norm + linear(dim, model.feedforward) + linear(model.feedforward, dim)
    counts = {
        "sasrec.item_emb": (items + 1) * dim,
        "sasrec.pos_emb": model.max_length * dim,
        "sasrec.blocks": model.blocks * (attention + feedforward),
        "sasrec.norm": norm,
        "visual_proj": linear(widths[0], dim),
        "text_proj": linear(widths[1], dim),
        "align_gating": linear(3 * dim, model.gating_hidden) + linear(model.gating_hidden, 2),
        "gating_weight": 2,
        **{f"{name}_expert": 3 * dim * dim + norm for name in model.experts},
        "router": linear(dim, model.router_hidden)
        + linear(model.router_hidden, len(model.experts)),
    }
    return {name: n for name, n in counts.items() if name.split(".")[0] in stage.modules}
