"""fedmem: a federated sequential recommender whose users' histories stay where they are."""

__version__ = "0.1.0"
