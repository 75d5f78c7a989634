"""What a run has released so far, over all of its stages and those that it starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from fedmem.core.privacy.accounting import Release, epsilon


@dataclass(frozen=True)
class Ledger:
    """Releases in order, and the key of the run's secret numbers.

    Attributes:
        delta: the δ that ε is stated at.
        noise: noise multiplier of the run's rounds.
        key: see `fedmem.core.privacy.secret`.
        releases: neighbours of one kind are one entry.
    """

    delta: float
    noise: float
    key: str = field(repr=False)
    releases: tuple[Release, ...] = ()

    @property
    def epsilon(self) -> float:
        """What has been spent."""
        return epsilon(self.releases, self.delta)

    def charged(self, release: Release) -> Self:
        """With one more entry."""
        last = self.releases[-1] if self.releases else None
        if last is not None and replace(last, times=release.times) == release:
            merged = replace(last, times=last.times + release.times)
            return replace(self, releases=(*self.releases[:-1], merged))
        return replace(self, releases=(*self.releases, release))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The releases as a checkpoint keeps them, without the key."""
        return [asdict(each) for each in self.releases]

    def to_dict(self) -> dict[str, Any]:
        """As a run's state keeps it."""
        return {**vars(self), "releases": self.entries}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**{**values, "releases": releases_of(values["releases"])})


def releases_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Release, ...]:
    """The inverse of `Ledger.entries`."""
    return tuple(Release(**each) for each in entries)
