"""How much of training on pooled data federated training reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fedmem.core.stages import CENTRALISED
from fedmem.report.groups import Arm
from fedmem.report.runs import METRICS, Record
from fedmem.report.study import Study

HEADINGS = ("arm", "stage", "seeds", *(metric.replace("/", " ") for metric in METRICS))


def rows_of(study: Study) -> list[list[str]]:
    """A cell for each of `HEADINGS`, of every stage of every arm; none without pooled training.

    A share is that of the means over the seeds that both have; arms of other users are left out.
    """
    pooled = next((arm for arm in study.arms if CENTRALISED.name in arm.stages()), None)
    if pooled is None:
        return []
    return [row for arm in study.arms if arm is not pooled for row in _rows(arm, pooled)]


def _rows(arm: Arm, pooled: Arm) -> Iterator[list[str]]:
    theirs = {(run.seed, run.users): run.result_of(CENTRALISED.name) for run in pooled.runs}
    for stage in arm.stages():
        pairs = [
            (one, other)
            for run in arm.runs
            if (one := run.result_of(stage)) and (other := theirs.get((run.seed, run.users)))
        ]
        if pairs:
            shares = [_share(pairs, metric) for metric in METRICS]
            yield [arm.name, stage, str(len(pairs)), *(f"{share:.1%}" for share in shares)]


def _share(pairs: Sequence[tuple[Record, Record]], metric: str) -> float:
    ours, theirs = (
        [result["test"][metric] for result in side] for side in zip(*pairs, strict=True)
    )
    return float(np.mean(ours) / np.mean(theirs))
