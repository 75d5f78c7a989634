"""fedmem: a federated sequential recommender whose users' histories stay where they are."""
