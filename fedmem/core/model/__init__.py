"""The recommender: SASRec, content projectors with gating, experts over the memory."""

from fedmem.core.model.content import Content
from fedmem.core.model.recommender import ItemTables, Recommender, Scores

__all__ = ["Content", "ItemTables", "Recommender", "Scores"]
