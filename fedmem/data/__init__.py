"""Histories and content: reading them, splitting them by time, cutting training windows."""

from fedmem.data.content import load_content
from fedmem.data.interactions import Interactions, load_interactions
from fedmem.data.windows import Windows

__all__ = ["Interactions", "Windows", "load_content", "load_interactions"]
