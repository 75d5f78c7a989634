"""The command `python -m fedmem.privacy`: what privacy costs, what was spent, and what leaks."""
