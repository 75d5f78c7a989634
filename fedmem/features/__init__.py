"""Content vectors from an item table, and what a feature file is worth.

`python -m fedmem.features --items TABLE --out FOLDER` makes them,
`python -m fedmem.features inspect data=…` looks at them: see `docs/features.md`.
"""
