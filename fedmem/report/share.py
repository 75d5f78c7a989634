"""How much of training on pooled data federated training reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedmem.core.stages import CENTRALISED
from fedmem.report.groups import RunGroup
from fedmem.report.runs import METRICS, Record
from fedmem.report.study import Study

HEADINGS = ("arm", "stage", "seeds", *(metric.replace("/", " ") for metric in METRICS))


def rows_of(study: Study) -> list[list[str]]:
    """A cell for each of `HEADINGS`, of every stage of every group; none without pooled training.

    A share is that of the means over the seeds that both have; groups of other users are left out.
    """
    pooled = next((group for group in study.groups if CENTRALISED.name in group.stages()), None)
    if pooled is None:
        return []
    return [row for group in study.groups if group is not pooled for row in _rows(group, pooled)]


def _rows(group: RunGroup, pooled: RunGroup) -> Iterator[list[str]]:
    theirs = {(run.seed, run.users): run.result_of(CENTRALISED.name) for run in pooled.runs}
    for stage in group.stages():
        pairs = [
            (one, other)
            for run in group.runs
            if (one := run.result_of(stage)) and (other := theirs.get((run.seed, run.users)))
        ]
        if pairs:
            shares = [_share(pairs, metric) for metric in METRICS]
            yield [group.name, stage, str(len(pairs)), *(f"{share:.1%}" for share in shares)]


def _share(pairs: Sequence[tuple[Record, Record]], metric: str) -> float:
    ours, theirs = (
        [result["test"][metric] for result in side] for side in zip(*pairs, strict=True)
    )
    return float(np.mean(ours) / np.mean(theirs))
