"""A node's page and API: recommendations, what the memory keeps, what left, and how to forget."""
