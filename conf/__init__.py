"""The configuration tree: every setting and its default."""
