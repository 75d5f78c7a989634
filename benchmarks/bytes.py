"""What each transport moves, and what coding costs.

    python benchmarks/bytes.py [--transports NAME,…] [--rounds N] [--of N] [setting=value …]

Runs a few rounds of the asked stages with each transport, in the simulation, and counts bytes as
`metrics.jsonl` has them. Shown are, of each stage: MB of parameters in a training message and of an
update in its reply, in the rounds after the first; MB of a full copy; MB of the rest of a message
and its reply; MB of all messages in as many rounds as `--of` says, validations and test included,
reckoned from these; milliseconds that server and node spend on coding in a round, on tensors of the
stage's sizes; seconds of a round; the share that coding takes of one; and milliseconds more that a
node spends on keeping what it holds, and what rounding has left, on its disk. The figures are
written to `benchmarks/bytes.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import Machine, figure, make_table, middle, report

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec, shapes_of, values_of
from fedmem.core.transport.down import ChangeCoder, joined
from fedmem.core.transport.rounding import FLOAT_BITS
from fedmem.core.transport.up import Remainders, code_update
from fedmem.core.updates.update import Update
from fedmem.federation.parameter_store import ParameterStore
from fedmem.runs.configuration import compose_settings
from fedmem.strategies.server_optimizer import ServerOptimizer

TRANSPORTS = ("float32", "int8", "int4", "coded", "signs")
PARAMETERS, UPDATES = ("scope", "steps"), ("change", "coded", "masked")
"""Parts of a message and of its reply."""


@dataclass(frozen=True)
class Moved:
    """What a stage moved with a transport.

    Attributes:
        down: MB of parameters in a training message.
        up: MB of the update in its reply.
        full: MB of a full copy.
        rest: MB of the settings, users and figures in both.
        whole: MB of a run of so many rounds on these nodes, reckoned.
        coding: seconds a round.
        keeping: seconds a round that a node spends on its files, beside.
        seconds: of a round.
    """

    transport: str
    stage: str
    down: float
    up: float
    full: float
    rest: float
    whole: float
    coding: float
    keeping: float
    seconds: float


def run(transport: str, rounds: int, overrides: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rounds of a run with a transport, as it recorded them."""
    few = [f"federation.rounds={rounds}", f"federation.evaluate_every={rounds}"]
    asked = [f"transport={transport}", *overrides, *few]
    own = [f"hydra.run.dir={folder}", f"checkpoint.dir={folder / 'checkpoints'}"]
    command = [sys.executable, "-m", "fedmem.simulate", *asked, *own, "tracking.tensorboard=false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def moved(
    transport: str, records: list[dict[str, Any]], settings: Settings, of: int, scope: Parameters
) -> Moved:
    """What a stage moved, of the rounds after its first."""
    later = [record for record in records if record["round"] > 1]
    nodes = max(record["messages"] for record in later)
    trained = [record["traffic"][f"train_{way}"] for record in later for way in ("down", "up")]
    validated = [
        record["traffic"][f"evaluate_{way}"]
        for record in records
        for way in ("down", "up")
        if record["validation"]
    ]
    full = sum(value.numel() * value.element_size() for value in scope.values()) / 1e6
    messages = len(later) * nodes
    down, up, rest = (total(trained, kinds) / messages for kinds in (PARAMETERS, UPDATES, None))
    asking = total(validated, None) / (len(validated) // 2 * nodes)
    validations = of / settings.federation.evaluate_every
    copies = validations + 1 if settings.transport.bits == FLOAT_BITS else 2  # the first, the test
    whole = of * (down + up + rest) + validations * asking + copies * full
    stage = records[0]["stage"]
    coding, keeping = coding_seconds(settings, scope, stage)
    return Moved(
        transport,
        stage,
        down=down,
        up=up,
        full=full,
        rest=rest,
        whole=nodes * whole,
        coding=coding,
        keeping=keeping,
        seconds=middle([r["seconds"] - r["evaluation_seconds"] for r in later]),
    )


def total(traffic: list[dict[str, int]], kinds: tuple[str, ...] | None) -> float:
    """MB of these kinds; None: of those that bring neither parameters nor updates."""
    known = (*PARAMETERS, *UPDATES, "frozen")
    counts = (
        count
        for each in traffic
        for kind, count in each.items()
        if (kind not in known if kinds is None else kind in kinds)
    )
    return sum(counts) / 1e6


def coding_seconds(settings: Settings, scope: Parameters, stage: str) -> tuple[float, float]:
    """What server and one node spend on coding in a round, one after the other; and what the node
    spends on its files.
    """
    codec = Codec(settings.transport)
    if codec.exact:
        return 0.0, 0.0
    generator = torch.Generator().manual_seed(0)
    change = {n: 1e-3 * torch.randn(x.shape, generator=generator) for n, x in scope.items()}
    update = Update(change, weight=1, loss=1.0, users=1)
    coder = ChangeCoder(codec, {})
    optimizer = ServerOptimizer(settings.strategy, in_place=True)
    reached = {name: value.clone() for name, value in scope.items()}
    coding, keeping = [], []
    with tempfile.TemporaryDirectory() as folder:
        remainders = Remainders(Path(folder), "key") if codec.feedback else None
        store = ParameterStore(Path(folder))
        for number in range(1, 6):
            key = RoundKey(settings.seed, stage, number)
            started = time.perf_counter()
            payload = code_update(update, codec, key, "node")
            received = values_of(codec.from_bytes(payload, shapes_of(scope)))
            _, step = coder(received, key)
            taken = values_of(codec.from_bytes(step, shapes_of(scope)))
            reached = optimizer.step(reached, taken)  # the node's
            held = joined(reached, optimizer.state)
            hashed = time.perf_counter()
            content_hash(held)
            coded = time.perf_counter()
            coding.append(coded - started + coded - hashed)  # the server's hash, and the node's
            if remainders is not None:
                remainders.put(number, change)
                remainders.before(number + 1)
            store.put(held)
            keeping.append(time.perf_counter() - coded - (coded - hashed))
    return middle(coding[1:]), middle(keeping[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transports", default=",".join(TRANSPORTS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--of", type=int, default=300, help="rounds of a whole run")
    parser.add_argument("--out", default="benchmarks/bytes.json")
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_args()
    machine, found = Machine.this(), []
    for transport in asked.transports.split(","):
        settings = compose_settings([f"transport={transport}", *asked.overrides])
        with tempfile.TemporaryDirectory() as place:
            records = run(transport, asked.rounds, asked.overrides, Path(place))
            for name in settings.stage:
                checkpoint = Checkpoint.load(Path(place) / "checkpoints" / f"{name}.safetensors")
                names, _ = find_stage(name).split(checkpoint.parameters)
                scope = {each: checkpoint.parameters[each] for each in names}
                own = [record for record in records if record["stage"] == name]
                found.append(moved(transport, own, settings, asked.of, scope))
    plain = {each.stage: each.seconds for each in found if each.transport == "float32"}
    columns = ("down", "up", "full", "rest", f"{asked.of} rounds")
    table = make_table("MB", ["transport", *columns, "coding ms", "round s", "share", "keeping ms"])
    for each in found:
        share = each.coding / (plain.get(each.stage, each.seconds - each.coding) + each.coding)
        sizes = (each.down, each.up, each.full, each.rest, each.whole)
        cells = [*map(figure, sizes), figure(1e3 * each.coding), figure(each.seconds)]
        cells += [f"{share:.1%}", figure(1e3 * each.keeping)]
        table.add_row(f"{each.transport}, {each.stage}", *cells)
    notes = (
        "down, up and rest: of a training message to a node, and its reply\n"
        "share: of coding in a round of that and of what float32's takes, of its own without it"
    )
    report(Path(asked.out), table, notes, machine, [asdict(each) for each in found])


if __name__ == "__main__":
    main()
