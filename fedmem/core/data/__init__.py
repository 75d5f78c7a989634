"""Histories and content: reading them, splitting them by time, cutting training windows."""

from fedmem.core.data.cold import Histories, load_histories
from fedmem.core.data.content import load_content
from fedmem.core.data.forgotten import load_interactions
from fedmem.core.data.id_files import write_id_files
from fedmem.core.data.interactions import (
    Interactions,
    absent_items,
)
from fedmem.core.data.summary import print_summary
from fedmem.core.data.windows import Windows

__all__ = [
    "Histories",
    "Interactions",
    "Windows",
    "absent_items",
    "load_content",
    "load_histories",
    "load_interactions",
    "print_summary",
    "write_id_files",
]
