"""What all nodes of a process that have the same data know of it, read and computed once."""

from __future__ import annotations

from functools import cached_property

from fedmem.core.arrays import Floats
from fedmem.core.data import Histories, load_histories
from fedmem.core.data.content import content_of, files_hash
from fedmem.core.memory import item_vectors
from fedmem.core.model import Content
from fedmem.core.settings import Settings


class Corpus:
    """The interactions of a run's data, and what its items are.

    Args:
        settings: of the run; of them matter those of the data, the seed and the cold items, and
            which content `ablation.content` puts in the place of the items' own.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def histories(self) -> Histories:
        """Histories of the users, those with cold items apart."""
        return load_histories(self._settings)

    @cached_property
    def content(self) -> Content:
        """Content of all items, or what `ablation.content` puts in its place."""
        return content_of(self._settings, self.histories.warm)

    @cached_property
    def content_files(self) -> str:
        """Hash of the items' content as the files hold it."""
        return files_hash(self._settings, self.histories.warm, self.content)

    @cached_property
    def cold_content(self) -> Content:
        """Content of the cold items."""
        return content_of(self._settings, self.histories.cold)

    @cached_property
    def vectors(self) -> Floats:
        """The items' vectors that novelty compares."""
        return item_vectors(self.content.visual.numpy(), self.content.text.numpy())
