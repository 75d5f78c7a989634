"""What a stage minimises: its loss on a batch, summed over the batch's targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmem.core.machine.precision import computing_in
from fedmem.core.model import ItemTables, Recommender, Scores
from fedmem.core.model.dropout import Dropout
from fedmem.core.settings import Settings
from fedmem.core.training import losses
from fedmem.core.training.batches import Batch, Scoring


class Objective(nn.Module):
    """A stage's loss as a module, which can be called with any parameters for its model."""

    def __init__(self, model: Recommender, settings: Settings) -> None:
        super().__init__()
        self.model = model
        self.weights = settings.of_stage(model.stage.name).loss
        self.dropout = settings.model.dropout
        self.precision = settings.client.precision
        self.num_items = len(model.sasrec.item_emb.weight) - 1

    def forward(
        self, batch: Batch, hidden: Tensor | None = None, tables: ItemTables | None = None
    ) -> Tensor:
        """The loss [].

        Args:
            batch: the windows.
            hidden: [B, T, D] hidden states where the backbone does not train; else computed here.
            tables: the model's; None: made here.
        """
        model, weights = self.model, self.weights
        with computing_in(self.precision, batch.inputs.device):
            if hidden is None:
                dropout = Dropout(self.dropout, batch.noise)
                hidden = model.sasrec(batch.inputs, dropout, batch.packing)
            total = hidden.new_zeros(())
            if weights.identity:
                total = total + weights.identity * self._identity_loss(batch, hidden)
            if batch.scoring is not None:
                tables = model.tables() if tables is None else tables
                if tables is None:
                    raise ValueError(f"{model.stage.name} has no score of its own to train")
                total = total + self._score_loss(batch.scoring, hidden, batch.targets, tables)
            return total

    def _identity_loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        """The cross-entropy of h·e, at states [B, T, D]."""
        item_emb = self.model.sasrec.item_emb.weight
        if batch.candidates is None:
            return losses.summed_cross_entropy_over_items(
                hidden, item_emb, batch.targets, batch.places
            )
        return losses.summed_cross_entropy_over_drawn(
            hidden, item_emb, batch.targets, batch.candidates[0], self.num_items
        )

    def _score_loss(
        self, scoring: Scoring, hidden: Tensor, targets: Tensor, tables: ItemTables
    ) -> Tensor:
        """The terms of the score, at states [B, T, D] with targets [B, T]."""
        weights, share = self.weights, scoring.share
        if scoring.positions is not None:
            targets = targets.gather(1, scoring.positions)  # [B, P]
            channels = scoring.positions.unsqueeze(2).expand(-1, -1, hidden.shape[2])
            hidden = hidden.gather(1, channels)  # [B, P, D]
        positive, negative = self._scores(scoring, hidden, targets, tables)
        cross_entropy = losses.cross_entropy_over_candidates(positive.total, negative.total)
        hard = 1.0 + weights.hardness * torch.sigmoid(cross_entropy.detach())
        picture = positive.picture.squeeze(2)  # [B, P]
        aligned = losses.misalignment(*tables.content_products(targets, picture))
        aligned = aligned * self.model.has_content[targets]
        per_position = hard * (weights.score * cross_entropy + weights.alignment * aligned)
        if weights.content:
            by_content = losses.cross_entropy_over_candidates(
                self.model.by_content(positive, targets.unsqueeze(2)),
                self.model.by_content(negative, scoring.negatives.unsqueeze(1)),
            )
            by_content = by_content * self.model.has_content[targets]
            per_position = per_position + weights.content * by_content
        total = (share * per_position).sum()
        if tables.routed is not None and weights.load_balance:
            routed = tables.routed[targets]  # [B, P, E]
            usage = (share.unsqueeze(2) * routed).sum(1) / share.sum(1, keepdim=True).clamp(min=1)
            imbalance = share.sum(1) * losses.imbalance(usage)  # [B]
            total = total + weights.load_balance * imbalance.sum()
        return total

    def _scores(
        self, scoring: Scoring, hidden: Tensor, targets: Tensor, tables: ItemTables
    ) -> tuple[Scores, Scores]:
        """Scores of the targets [B, P, 1], and of the negatives [B, P, C]."""
        keep = Dropout(self.dropout, [scoring.gating_noise])(torch.ones_like(scoring.gating_noise))
        read = (tables, scoring.memories, keep, self.model.align_gating.position_part(hidden))
        if scoring.positions is None:
            positive = self.model.score(hidden, targets.unsqueeze(2), *read)
            return positive, self.model.score(hidden, scoring.negatives, *read)
        # Few positions: a row's targets are candidates at all of them, of which the diagonal
        # counts. That costs less than to read every memory twice.
        scores = self.model.score(hidden, torch.cat([targets, scoring.negatives], 1), *read)
        count = targets.shape[1]

        def own(x: Tensor) -> Tensor:
            return x[:, :, :count].diagonal(dim1=1, dim2=2).unsqueeze(2)

        return scores.map(own), scores.map(lambda x: x[:, :, count:])
