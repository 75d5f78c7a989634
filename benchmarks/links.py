"""A round over slow links: how long it takes with each transport.

    python benchmarks/links.py [--mbit N] [--delay MS] [--nodes N] [--turns N] [setting=value …]

As root, on Linux with iproute2: starts a real federation, each part in a network namespace of its
own, and between each node's and the SuperLink's a link of so many Mbit/s each way (`tc`, a token
bucket) and so many milliseconds there and back (`benchmarks/wire.py`). Few users train, so that
what is left of a round is its messages, as where every node is a user's own. The transports take
turns, each time with a federation of their own; figures are medians over the turns.

- a round: median seconds of the rounds after a stage's first, without their validation.
- of it: what a node spends to receive the task once its head is there, to answer, and to send the
  reply, the medians. The rest is the head's way, the hub's work, and waiting for the other nodes.
- faster: float32's seconds by these.

The figures are written to `benchmarks/links.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common import Machine, figure, make_table, middle, report
from federation import Cost, cost_of

from fedmem.core.console import say
from fedmem.core.errors import FedmemError
from fedmem.federation.deployment.demonstration import deal_out
from fedmem.federation.deployment.local_federation import LocalFederation
from fedmem.federation.deployment.local_hosts import ADDRESS, HUB, LocalHosts, run
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RESULTS
from fedmem.runs.folder import ROUNDS as METRICS

ROUNDS = 6
FEW_USERS = (
    "stage=[pretrain_sasrec,align_projectors]",
    "federation.fraction=0.01",
    f"federation.rounds={ROUNDS}",
    f"federation.evaluate_every={ROUNDS}",
)
TRANSPORTS = ("float32", "coded")
COLUMNS = ("", "round s", "receive", "answer", "send", "MB down", "up", "faster")


class SlowHosts(LocalHosts):
    """Hosts whose cables are slow.

    Args:
        nodes: their names.
        mbit: Mbit/s each way.
        delay: milliseconds there and back.
    """

    def __init__(self, nodes: Sequence[str], mbit: float, delay: float) -> None:
        super().__init__(nodes)
        self._mbit, self._delay = mbit, delay
        self._wires: list[subprocess.Popen[str]] = []

    def cable(self, node: str) -> None:
        """Lay a node's wire, and limit both ends."""
        ends = ((HUB, node), (node, "uplink"))
        command = [sys.executable, str(Path(__file__).with_name("wire.py"))]
        command += [word for part, end in ends for word in (self.names[part], end)]
        wire = subprocess.Popen(
            [*command, f"{self._delay / 2}"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C comes to us, and we end it
        )
        self._wires.append(wire)
        if wire.stdout is None or not wire.stdout.readline():
            raise FedmemError("There is no TUN device here, or this is not root.")
        for part, end in ends:
            limit = ("tbf", "rate", f"{self._mbit}mbit", "burst", "16kb", "latency", "400ms")
            run("tc", "-n", self.names[part], "qdisc", "add", "dev", end, "root", *limit)

    def __exit__(self, *of: object) -> None:
        for wire in self._wires:
            wire.terminate()
            wire.wait()
        super().__exit__(*of)


@dataclass(frozen=True)
class Timed:
    """A stage's rounds with a transport.

    Attributes:
        cost: of a round without its validation.
        whole: seconds of a round, a validation's share included.
    """

    transport: str
    cost: Cost
    whole: float


def measure(transport: str, hosts: SlowHosts, nodes: int, asked: Sequence[str]) -> list[Timed]:
    """The stages with a transport, on a federation of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        configs = deal_out(compose_settings(asked).data, folder, nodes)
        with LocalFederation(folder, configs, ADDRESS, hosts.within) as federation:
            own = [f"federation.nodes={nodes}", "output_dir=run", "checkpoint.dir=checkpoints"]
            with federation.run(*asked, *own, f"transport={transport}") as running:
                output, _ = running.communicate()
            if not (folder / "run" / RESULTS).is_file():
                raise FedmemError(f"The run with transport={transport} failed:\n{output}")
            logs = [federation.log(f"node-{node}").read_text() for node in range(nodes)]
        lines = (folder / "run" / METRICS).read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["messages"]]
    found = []
    for stage in dict.fromkeys(record["stage"] for record in records):
        later = [record for record in records if record["stage"] == stage][1:]
        whole = sum(record["seconds"] for record in later) / len(later)
        found.append(Timed(transport, cost_of(stage, records, logs), whole))
    return found


def middle_of(turns: Sequence[Timed]) -> Timed:
    """A stage's rounds with a transport, of several turns."""
    costs = [vars(each.cost) for each in turns]
    numbers = {k: middle([cost[k] for cost in costs]) for k in costs[0] if k != "stage"}
    cost = replace(turns[0].cost, **numbers)
    return Timed(turns[0].transport, cost, middle([each.whole for each in turns]))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mbit", type=float, default=10.0)
    parser.add_argument("--delay", type=float, default=50.0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--transports", default=",".join(TRANSPORTS))
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    machine, timed = Machine.this(), list[Timed]()
    nodes = [f"node-{node}" for node in range(asked.nodes)]
    try:
        with SlowHosts(nodes, asked.mbit, asked.delay) as hosts:
            for turn, transport in itertools.product(
                range(asked.turns), asked.transports.split(",")
            ):
                settings = [*FEW_USERS, *asked.overrides]
                timed += measure(transport, hosts, asked.nodes, settings)
                say(f"{transport}, turn {turn + 1}: done")
    except FedmemError as error:
        say(f"left out: {error}")
        return
    names = dict.fromkeys((each.transport, each.cost.stage) for each in timed)
    found = [
        middle_of([each for each in timed if (each.transport, each.cost.stage) == name])
        for name in names
    ]
    plain = {e.cost.stage: e.cost.round_seconds for e in found if e.transport == "float32"}
    table = make_table(f"a round over {asked.mbit:g} Mbit/s and {asked.delay:g} ms", COLUMNS)
    for each in found:
        cost = each.cost
        seconds = (cost.round_seconds, cost.receive_seconds, cost.answer_seconds, cost.send_seconds)
        cells = [*seconds, cost.megabytes_down, cost.megabytes_up]
        faster = plain.get(cost.stage, float("nan")) / cost.round_seconds
        row = f"{each.transport}, {cost.stage}"
        table.add_row(row, *map(figure, cells), figure(faster, "×"))
    notes = f"{asked.nodes} nodes, each with a link of its own; medians of {asked.turns} turns"
    figures = {"mbit": asked.mbit, "delay": asked.delay, "rounds": [asdict(e) for e in found]}
    figures["turns"] = [asdict(each) for each in timed]
    report(Path(__file__).with_suffix(".json"), table, notes, machine, figures)


if __name__ == "__main__":
    main()
