"""Settings of single stages, each of which starts from checkpoints that were trained briefly."""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import in_fresh_process
from systems import run_quietly

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, find_stage
from fedmem.runs.configuration import compose_settings


class StagedSettings:
    """Settings of a run for each stage, with the checkpoints that it starts from.

    Args:
        overrides: settings as on the command line.
        stages: names of the stages to measure.
        folder: for checkpoints and runs; thrown away by the caller.
    """

    def __init__(self, overrides: list[str], stages: list[str], folder: Path) -> None:
        self._overrides = overrides
        self._folder = folder
        required = {name for stage in stages for name in find_stage(stage).requires}
        self._parents = [name for name in STAGES if name in required]
        if self._parents:
            chain = [
                f"stage=[{','.join(self._parents)}]",
                "federation.rounds=2",
                "federation.evaluate_every=2",
                f"checkpoint.dir={folder / 'parents'}",
            ]
            in_fresh_process(run_quietly, self._compose(chain))

    def settings(self, stage: str, rounds: int, *own: str) -> Settings:
        """Of one run: `rounds` to count after one that is not, and no validation between them.

        Args:
            stage: its name.
            rounds: to count.
            own: further settings of this run.
        """
        parents = [
            f"checkpoint.{name}={self._folder / 'parents' / name}.safetensors"
            for name in self._parents
        ]
        return self._compose(
            [
                f"stage={stage}",
                f"federation.rounds={rounds + 1}",
                f"federation.evaluate_every={rounds + 2}",
                f"checkpoint.dir={self._folder / 'children'}",
                *parents,
                *own,
            ]
        )

    def _compose(self, own: list[str]) -> Settings:
        output = tempfile.mkdtemp(dir=self._folder)
        return compose_settings([*self._overrides, *own], output_dir=output)
