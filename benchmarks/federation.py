"""What a message costs through a SuperLink: a warm round trip, its bytes, the memory of a node.

    python benchmarks/federation.py [--nodes N] [setting=value …]

Starts the federation of `make federation-demo` on this machine, with TLS and keys, and lets few
users train in many rounds, so that what is left of a round is its messages.

- a round: median seconds of the rounds after the first, from the first message sent to the last
  reply read, training and average included; and what a node spends in it to receive the message, to
  answer, and to send the reply, the medians over all nodes.
- a message: mean bytes of a round's message to a node, and of its reply, without the frozen rest,
  which a node is sent once.
- memory: the most resident memory of one SuperNode with its ClientApp, of the SuperLink, and of the
  ServerApp.
- idle: share of a core that the parts take while there is no run.

The figures are written to `benchmarks/federation.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from common import Machine, figure, make_table, middle, report

from fedmem.federation.deployment.demonstration import deal_out
from fedmem.federation.deployment.local_federation import LocalFederation, Process
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RESULTS
from fedmem.runs.folder import ROUNDS as METRICS

ROUNDS = 15
FEW_USERS = (
    "stage=all",
    "federation.fraction=0.01",
    f"federation.rounds={ROUNDS}",
    f"federation.evaluate_every={ROUNDS}",
)
IDLE_SECONDS = 20.0
SPENT = re.compile(r"train: ([\d.]+) s to receive, ([\d.]+) to answer, ([\d.]+) to send")
SERVER_APP = "flwr-serverapp"
COLUMNS = ("stage", "round s", "receive", "answer", "send", "MB down", "up")


@dataclass(frozen=True)
class Cost:
    """What the messages of one stage cost."""

    stage: str
    users: float
    round_seconds: float
    receive_seconds: float
    answer_seconds: float
    send_seconds: float
    megabytes_down: float
    megabytes_up: float


@dataclass
class Parts:
    """The processes of a federation, and the most memory seen of each kind of them.

    Attributes:
        federation: that is up.
        megabytes: resident, by kind.
    """

    federation: LocalFederation
    megabytes: dict[str, float]

    def look(self) -> None:
        """Take the memory of now where it is the most so far."""
        for name, process in self.federation.processes.items():
            sums = {"SuperNode": 0, "SuperLink": 0, "ServerApp": 0}
            kind = "SuperLink" if name == "superlink" else "SuperNode"
            for each in _with_children(process):
                with contextlib.suppress(psutil.Error):
                    is_app = any(SERVER_APP in word for word in each.cmdline())
                    sums["ServerApp" if is_app else kind] += each.memory_info().rss
            for part, size in sums.items():
                self.megabytes[part] = max(self.megabytes.get(part, 0.0), size / 2**20)

    def idle(self, seconds: float) -> dict[str, float]:
        """Percent of a core that each kind takes for so many seconds; nodes: of the first."""
        names = {"SuperLink": "superlink", "SuperNode": "node-0"}
        before = {part: self._cpu_seconds(name) for part, name in names.items()}
        time.sleep(seconds)
        return {
            part: 100 * (self._cpu_seconds(name) - before[part]) / seconds
            for part, name in names.items()
        }

    def _cpu_seconds(self, name: str) -> float:
        times = [p.cpu_times() for p in _with_children(self.federation.processes[name])]
        return float(sum(each.user + each.system for each in times))


def _with_children(process: Process) -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def measure(nodes: int, asked: Sequence[str]) -> tuple[list[Cost], dict[str, Any]]:
    """A run of the stages on so many nodes: costs by stage, and the rest of the figures."""
    data = compose_settings(asked).data
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with LocalFederation(folder, deal_out(data, folder, nodes)) as federation:
            parts = Parts(federation, {})
            idle = parts.idle(IDLE_SECONDS)
            own = [f"federation.nodes={nodes}", "output_dir=run", "checkpoint.dir=checkpoints"]
            with federation.run(*asked, *own) as running:
                while running.poll() is None:
                    parts.look()
                    time.sleep(1)
                assert running.stdout is not None
                if not (folder / "run" / RESULTS).is_file():
                    raise SystemExit(running.stdout.read())
            logs = [federation.log(f"node-{node}").read_text() for node in range(nodes)]
        lines = (folder / "run" / METRICS).read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["messages"]]
    ran = dict.fromkeys(record["stage"] for record in records)
    costs = [cost_of(stage, records, logs) for stage in ran]
    return costs, {"nodes": nodes, "megabytes": parts.megabytes, "idle_percent": idle}


def cost_of(stage: str, records: Sequence[dict[str, Any]], logs: Sequence[str]) -> Cost:
    """What a stage cost, from its rounds and from what the nodes say of all rounds."""
    places = [i for i, record in enumerate(records) if record["stage"] == stage]
    own = [records[i] for i in places]
    messages = sum(record["messages"] for record in own)
    warm = slice(places[1], places[-1] + 1)
    spent = [list(map(float, times)) for log in logs for times in SPENT.findall(log)[warm]]
    receive, answer, send = (middle(times) for times in zip(*spent, strict=True))
    return Cost(
        stage=stage,
        users=sum(record["users"] for record in own) / len(own),
        round_seconds=middle([r["seconds"] - r["evaluation_seconds"] for r in own[1:]]),
        receive_seconds=receive,
        answer_seconds=answer,
        send_seconds=send,
        megabytes_down=sum(r["bytes_down"] - r["bytes_frozen"] for r in own) / messages / 1e6,
        megabytes_up=sum(r["bytes_up"] for r in own) / messages / 1e6,
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    machine = Machine.this()
    costs, rest = measure(arguments.nodes, [*FEW_USERS, *arguments.overrides])
    table = make_table("a warm round on loopback, with TLS and keys", COLUMNS)
    for cost in costs:
        table.add_row(cost.stage, *(figure(x) for x in list(asdict(cost).values())[2:]))
    memory = ", ".join(f"{part} {size:.0f} MB" for part, size in rest["megabytes"].items())
    idle = ", ".join(f"{part} {share:.1f}%" for part, share in rest["idle_percent"].items())
    notes = f"{rest['nodes']} nodes; resident: {memory}; of a core while idle: {idle}"
    path = Path(__file__).with_suffix(".json")
    report(path, table, notes, machine, {**rest, "stages": [asdict(cost) for cost in costs]})


if __name__ == "__main__":
    main()
