"""A federation of real processes under masks, of which some are killed at each step of a sum."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.federation.deployment.local_federation import LocalFederation
from fedmem.messaging.secure_messages import OFFER_KEYS, REVEAL_SHARES, SHARE_SECRETS
from fedmem.runs.folder import STATE
from fedmem.runs.state import RunState
from tests.helpers import dying_node
from tests.helpers.deployment import finish, left_of, overrides, parts, rounds
from tests.helpers.in_process_grid import RealNodes, run_on
from tests.helpers.losses import losing

MakeSettings = Callable[..., Settings]
DEATHS = {
    "node-0": (OFFER_KEYS, 1),
    "node-1": (SHARE_SECRETS, 1),
    "node-2": ("train", 2),
    "node-3": (REVEAL_SHARES, 2),
    "node-4": ("train", 4),
}
"""Before which message, and before which of them, nodes die: the number is that of the round."""
AS_LATE = {0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 4}
"""From which round on the numbers of each node are missing from the sum, or there is no sum."""
ASKED = (
    *("stage=pretrain_sasrec", "federation.nodes=7", "federation.fraction=1.0"),
    *("federation.rounds=10", "federation.evaluate_every=10", "strategy=fedavg"),
    "strategy.guard_ratio=null",
)


@pytest.mark.slow
def test_rounds_end_without_the_nodes_killed_at_each_step_until_too_few_are_left(
    data_dir: Path,
    tmp_path: Path,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # nodes with so few users need compile nothing
    folder = tmp_path / "federation"
    folder.mkdir()
    killer = [sys.executable, dying_node.__file__]
    within = {name: [*killer, kind, str(number)] for name, (kind, number) in DEATHS.items()}
    with LocalFederation(folder, parts(data_dir, nodes=7), within=within) as federation:
        output = finish(
            federation.run(
                *overrides(*ASKED, "privacy.secure_sum.enabled=true"),
                *("privacy.secure_sum.threshold=0.51", "strategy.round_timeout=60"),
            )
        )
        found = rounds(federation)
        dead = [
            name for name, process in federation.processes.items() if process.poll() is not None
        ]
    assert left_of(folder) == []
    assert dead == list(DEATHS)
    assert [record["messages"] for record in found] == [5, 4, 3], output
    (line,) = [line for line in output.splitlines() if "was given up" in line]
    assert (
        "round 4 of pretrain_sasrec was given up: 2 nodes sent their masked numbers, and 3" in line
    )
    assert "Traceback" not in output
    monkeypatch.delenv("NUMBA_DISABLE_JIT")
    plain = make_settings(*ASKED)
    lost = losing({("train", 100 + node): number for node, number in AS_LATE.items()})
    with pytest.raises(FedmemError, match="round 4"):
        run_on(RealNodes(7, lost), plain)
    mine, theirs = (
        RunState.load(path / STATE, with_best=False).stage
        for path in (folder / "run", Path(plain.output_dir))
    )
    assert mine is not None
    assert theirs is not None
    assert mine.round == theirs.round == 3
    for name, value in theirs.parameters.items():
        assert float((mine.parameters[name] - value).abs().max()) < 1e-5
