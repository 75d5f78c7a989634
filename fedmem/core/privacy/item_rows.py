"""What an update says of each item: its row of the table, or what layers that read items changed.

The change of a linear layer is Σ g_i x_iᵀ over what went in and what came back. Where that were
items' vectors, which everybody knows, the product of the change with such a vector, less what it
shares with those of all items, is what came back for the item: as good as a row of a table.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model import Content
from fedmem.core.stages import Stage

TABLE = "sasrec.item_emb.weight"
RIDGE = 0.001
"""Of the mean variance of the vectors, added to all: what is below it is taken for noise."""


class ItemRows:
    """Rows [I + 1, K] of all items, from changes of a stage's scope by the same parameters.

    Args:
        stage: whose scope it is.
        parameters: of the stage's model.
        content: of the items, where the stage reads some.
    """

    def __init__(
        self, stage: Stage, parameters: Mapping[str, Tensor], content: Content | None
    ) -> None:
        known = _known_inputs(parameters, content)
        self._inputs = {n: _apart(x) for n, x in known.items() if stage.in_scope(n)}
        # A row without a picture or a text has less noise; that it has none is no news.
        present = [x.any(1) for x in self._inputs.values()]
        self._scale = torch.stack(present).sum(0).clamp(min=1).rsqrt()[:, None] if present else None
        self.of_table = stage.in_scope(TABLE)

    @property
    def names(self) -> list[str]:
        """The parameters whose changes are looked at."""
        return [TABLE] if self.of_table else list(self._inputs)

    def __call__(self, change: Mapping[str, Tensor]) -> Tensor:
        """The rows; linear in the change."""
        if self.of_table or self._scale is None:
            return change[TABLE]
        rows = [x @ change[name].T for name, x in self._inputs.items()]
        return torch.cat(rows, dim=1) * self._scale


def _known_inputs(parameters: Mapping[str, Tensor], content: Content | None) -> dict[str, Tensor]:
    """Items' vectors [I + 1, in] by the weights [out, in] that they go into, where these exist."""
    table = parameters[TABLE]
    dim = table.shape[1]
    unit = F.normalize(table, dim=1)
    found = {
        "sasrec.blocks.0.qkv.weight": F.layer_norm(table * dim**0.5, (dim,)),
        "semantic_expert.query.weight": unit,
        "identity_expert.query.weight": unit,
        "identity_expert.key.weight": unit,
        "identity_expert.value.weight": unit,
        "router.hidden.weight": table,
    }
    if content is not None:
        found |= {"visual_proj.weight": content.visual, "text_proj.weight": content.text}
    return {name: x for name, x in found.items() if name in parameters}


def _apart(vectors: Tensor) -> Tensor:
    """Vectors X [I + 1, n] times (XᵀX / I + λ)⁻¹, and as long as makes noise alike in all rows."""
    x = vectors.double()
    moments = x.T @ x / len(x)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=x.dtype)
    apart = torch.linalg.solve(moments, x.T).T
    return F.normalize(apart, dim=1).float()
