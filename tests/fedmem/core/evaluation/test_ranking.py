"""Scores of candidates: the same whether users share them or have their own."""

from __future__ import annotations

import torch

from fedmem.core.evaluation.ranking import by_embeddings


def test_candidates_that_users_share_have_the_scores_of_their_own() -> None:
    torch.manual_seed(0)
    hidden, embeddings = torch.randn(5, 4), torch.randn(9, 4)
    score = by_embeddings(hidden, embeddings).of
    candidates = torch.tensor([3, 1, 8])
    users = slice(1, 4)
    shared = score(users, candidates)
    assert torch.allclose(shared, score(users, candidates.expand(3, -1)), atol=1e-6)
    assert torch.allclose(shared[0, 1], hidden[1] @ embeddings[1], atol=1e-6)
