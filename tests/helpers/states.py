"""States of a run, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from fedmem.runs.schedule import Schedule
from fedmem.runs.stage_progress import StageProgress


def stage_state(server_round: int = 3, best_round: int = 2, **changes: Any) -> StageProgress:
    made = StageProgress(
        stage="finetune_moe",
        round=server_round,
        parameters={"router.weight": torch.full((2, 3), float(server_round))},
        optimizer={"steps": torch.tensor(3.0), "mean/router.weight": torch.ones(2, 3) / 3},
        best_round=best_round,
        best_validation={"sampled/HR@10": 0.1 + 0.2},
        best={"router.weight": torch.full((2, 3), float(best_round))},
        since_best=1,
        schedule=Schedule(20, 1.0, 0.3, cut_after=4),
        lowest_loss=5.25,
        filters={"norm": [[0.1, 12.0], [0.2, 11.5]]},
        threshold=0.81,
        trouble=None,
    )
    return replace(made, **changes)
