"""Checkpoints: one sealed file a stage, and what can be made of files from elsewhere."""

from fedmem.core.checkpoint.checkpoint import (
    Checkpoint,
    checkpoint_path,
    find_checkpoint,
    load_parents,
)

__all__ = ["Checkpoint", "checkpoint_path", "find_checkpoint", "load_parents"]
