"""fedmem: a federated sequential recommender whose users' histories stay where they are."""

__version__ = "0.1.0"
"""Also in `pyproject.toml`, where Flower reads it of a bundle, which is not installed."""
