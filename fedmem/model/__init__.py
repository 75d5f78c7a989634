"""The recommender: SASRec, content projectors with gating, experts over the memory."""

from fedmem.model.recommender import Content, Memories, Recommender

__all__ = ["Content", "Memories", "Recommender"]
