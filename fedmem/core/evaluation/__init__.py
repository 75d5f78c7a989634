"""How well a model ranks what was held out, and how sure a difference is."""
