"""Rounds of stage 1 in fedmem, beside other simulators of federated learning on the same work.

    python benchmarks/peers.py [--fractions 0.02,0.2,1] [--systems NAME,…] [setting=value …]

- `fedmem`: `python -m fedmem.simulate`; `fedmem loop`: the same with `client.execution=loop`;
  `fedmem bfloat16`: with `client.precision=bfloat16`, where the processor has it.
- `pfl`: pfl-research with as many processes as there are cores. `blazefl`: BlazeFL with as many
  threads. Each is written as its project's examples are, in `peer_systems/`, and runs in a virtual
  environment of its own with this environment's version of torch, which is made when it is missing.
- `plain` and `tuned`: Flower, see `plain_flower.py`. They run in this environment.
- `bare`, `bare loop`: PyTorch without any federation, as one batch and user by user.

All train the same users in a round, from the same parameters, on the same windows and targets, one
full-batch step of SGD each; the mean of their changes, weighted by targets, is a step of the same
Adam. Random numbers of dropout are each system's own, so losses differ: by more than 1% in any of
the first rounds and the system's figures are void, which the table says. `client.local_steps=3`
are taken by fedmem and by pfl; the others take one, and are void. With `client.precision=bfloat16`
all but Flower compute in it, the peers by torch's autocast.

Each run is a process of its own, and the systems take turns. A round's seconds are the median of
all but the first of a run; `start` is from the command to the first round. Memory is looked at in a
first run of each system whose seconds do not count: the highest sum over its processes (PSS). The
figures are written to `benchmarks/peers.json`; with `--add` those of earlier calls stay in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from common import Machine, figure, in_fresh_process, make_table, middle, report
from floor import sizes_of
from plain_flower import FLOWERS_CPUS, plain_rounds
from rich.table import Table
from scaling import PeakMemory
from systems import Rounds, Start, read_rounds

from fedmem.core.console import say
from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.errors import readable_exit
from fedmem.core.machine.children import environment
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage
from fedmem.runs.configuration import compose_settings

STAGE = "pretrain_sasrec"
PEERS = Path(__file__).with_name("peer_systems")
PACKAGES = {"pfl": ["pfl==0.6.0"], "blazefl": ["blazefl==2.0.2", "numpy"]}
"""What an environment of its own holds beside torch."""
COMMANDS = {
    "pfl": [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node={cores}",
        "pfl_research.py",
        "{work}",
    ],
    "blazefl": ["blazefl_threads.py", "{work}"],
    "bare": ["bare_pytorch.py", "{work}", "batched"],
    "bare loop": ["bare_pytorch.py", "{work}", "loop"],
}
FEDMEM = {
    "fedmem": [],
    "fedmem loop": ["client.execution=loop"],
    "fedmem bfloat16": ["client.precision=bfloat16"],
}
FLOWER_CPUS = {"plain": FLOWERS_CPUS, "tuned": 1}
SYSTEMS = (*FEDMEM, *COMMANDS, *FLOWER_CPUS)
ROUNDS = {0.02: 20, 0.2: 6, 1.0: 3}
"""That are counted in a run, by the share of the users; of plain Flower one."""
COMPARED, SAME = 3, 0.01
"""Rounds whose losses are compared, and by what share they may differ from fedmem's."""


@dataclass(frozen=True)
class Ran:
    """What a run of a system came to; `start` and `memory` in seconds and MB, None: not taken."""

    system: str
    fraction: float
    seconds: list[float]
    losses: list[float]
    start: float
    memory: float | None = None


def make_environment(folder: Path, peer: str) -> Path:
    """The Python of a peer's environment, which is made where it is missing."""
    python = folder / peer / "bin" / "python"
    if not (folder / peer / "made").exists():
        say(f"{folder / peer}: an environment for {', '.join(PACKAGES[peer])}")
        subprocess.run([sys.executable, "-m", "venv", folder / peer], check=True)
        torch = f"torch=={version('torch').partition('+')[0]}"
        pip = [str(python), "-m", "pip", "install", "--quiet", torch]
        subprocess.run([*pip, *PACKAGES[peer][1:]], check=True)
        # BlazeFL asks for a newer Python than it needs.
        older = ["--ignore-requires-python", "--no-deps"] if peer == "blazefl" else []
        subprocess.run([*pip, *older, PACKAGES[peer][0]], check=True)
        (folder / peer / "made").touch()
    return python


def write_work(settings: Settings, rounds: int, path: Path) -> None:
    """Write what `peer_systems/work.py` reads: parameters, windows, users of the rounds, rates."""
    node, stage, server = Node(settings), find_stage(STAGE), settings.strategy
    everyone, fraction = participants(settings), settings.federation.fraction
    sampled = [
        sample_round(everyone, fraction, settings.seed, STAGE, number).tolist()
        for number in range(1, rounds + 1)
    ]
    start = Start.of(settings, stage, node).parameters
    arrays: dict[str, Any] = {
        f"start/{name.removeprefix('sasrec.')}": value.numpy() for name, value in start.items()
    }
    for user in sorted({user for users in sampled for user in users}):
        rows = np.flatnonzero(node.windows.user == user)
        arrays[f"inputs/{user}"] = node.windows.inputs(rows)
        arrays[f"targets/{user}"] = node.windows.targets(rows)
    np.savez(path, **arrays)
    about = {
        "model": {
            "num_items": node.interactions.num_items,
            "precision": settings.client.precision,
            **sizes_of(settings.model),
        },
        "adam": {
            "lr": server.learning_rate,
            "betas": (server.beta_1, server.beta_2),
            "eps": server.epsilon,
        },
        "learning_rate": settings.client.learning_rate,
        "local_steps": settings.client.local_steps,
        "processes": len(os.sched_getaffinity(0)),
        "rounds": sampled,
    }
    path.with_suffix(".json").write_text(json.dumps(about))


@contextlib.contextmanager
def lines_of(command: Sequence[str | Path], **variables: str) -> Iterator[Iterator[str]]:
    """The lines that a command prints, as it prints them, from a folder of no importance."""
    with subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(PYTHONUNBUFFERED="1", **variables),
    ) as process:
        assert process.stdout is not None
        yield iter(process.stdout)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")


def run_fedmem(overrides: Sequence[str], folder: Path) -> Rounds:
    """A run by its command, from the lines that it prints and the file of its rounds."""
    output = tempfile.mkdtemp(dir=folder)
    own = [f"output_dir={output}", f"checkpoint.dir={output}/checkpoints"]
    began = 0.0
    with lines_of([sys.executable, "-m", "fedmem.simulate", *overrides, *own]) as lines:
        for line in lines:
            if line.startswith(f"{STAGE}: ") and "trained" in line:
                began = time.time()
    rounds = read_rounds(compose_settings(overrides, output_dir=output))
    seconds = [r["seconds"] - r["evaluation_seconds"] for r in rounds]  # the last one validates
    return Rounds(began, seconds, [r["loss"] for r in rounds])


def run_peer(python: Path, system: str, work: Path) -> Rounds:
    """A run of a script of `peer_systems/`."""
    words = [
        word.format(cores=len(os.sched_getaffinity(0)), work=work) for word in COMMANDS[system]
    ]
    words = [str(PEERS / word) if word.endswith(".py") else word for word in words]
    # Ours is of no use to them, and they import what lies beside them.
    own = {"PYTHONPATH": "", "PYTHONSAFEPATH": ""} | (
        {"OMP_NUM_THREADS": "1"} if system == "pfl" else {}
    )
    with lines_of([python, *words], **own) as lines:
        found = [json.loads(line) for line in lines if line.startswith("{")]  # pfl prints more
    began, *rounds = found
    return Rounds(began["began"], [r["seconds"] for r in rounds], [r["loss"] for r in rounds])


def measure(system: str, fraction: float, overrides: list[str], folder: Path, made: Path) -> Ran:
    """Run a system once."""
    count = 1 if system == "plain" else ROUNDS[fraction]
    asked = [
        f"stage={STAGE}",
        f"federation.fraction={fraction}",
        f"federation.rounds={count + 1}",
        f"federation.evaluate_every={count + 2}",
        "strategy.cooldown=0",
        *overrides,
    ]
    python = make_environment(made, system) if system in PACKAGES else Path(sys.executable)
    settings, work = compose_settings(asked), folder / f"{fraction}-{count}.npz"
    if system in COMMANDS and not work.exists():
        in_fresh_process(write_work, settings, count + 1, work)
    started = time.time()
    if system in COMMANDS:
        found = run_peer(python, system, work)
    elif system in FLOWER_CPUS:
        cpus = FLOWER_CPUS[system]
        found = in_fresh_process(plain_rounds, settings, find_stage(STAGE), count, cpus)
    else:
        found = run_fedmem([*asked, *FEDMEM[system]], folder)
    return Ran(system, fraction, found.seconds[1:], found.losses, found.began - started)


def tabulate(runs: Sequence[Ran], data: str) -> Table:
    """Medians, their ratios to fedmem's, and what else was seen, a system a row."""
    fractions = sorted({run.fraction for run in runs})
    shares = [f"{fraction:.0%} of the\nusers, s" for fraction in fractions]
    columns = [each for share in shares for each in (share, "/ fedmem")]
    title = f"{data}, stage 1: seconds a round"
    table = make_table(title, ("system", *columns, "start, s", "MB", "losses"))
    counted = [run for run in runs if run.memory is None]
    seconds: dict[tuple[str, float], list[float]] = {}
    for run in counted:
        seconds.setdefault((run.system, run.fraction), []).extend(run.seconds)
    for system in SYSTEMS:
        own = [run for run in runs if run.system == system]
        if not own:
            continue
        cells = []
        for fraction in fractions:
            taken = middle(seconds.get((system, fraction), []))
            reference = middle(seconds.get(("fedmem", fraction), []))
            cells += [figure(taken), figure(taken / reference, "×")]
        start = middle([run.start for run in counted if run.system == system])
        memory = middle([run.memory for run in own if run.memory is not None])
        table.add_row(system, *cells, figure(start), figure(memory), _verdict(own, runs))
    return table


def _verdict(own: Sequence[Ran], runs: Sequence[Ran]) -> str:
    """Whether the losses of the first rounds are fedmem's; the furthest that they are away."""
    furthest = 0.0
    for run in own:
        first = next((r for r in runs if r.system == "fedmem" and r.fraction == run.fraction), None)
        if first is None:
            return "not compared"
        pairs = zip(run.losses[:COMPARED], first.losses[:COMPARED], strict=False)
        furthest = max([furthest, *(abs(a / b - 1) for a, b in pairs)])
    return f"{'within' if furthest <= SAME else 'VOID:'} {furthest:.2%}"


def systems(listed: str) -> list[str]:
    """Names of systems, joined by commas."""
    names = listed.split(",")
    for unknown in set(names) - set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"{unknown} is none of {', '.join(SYSTEMS)}")
    return names


def shares(listed: str) -> list[float]:
    """Shares of the users, joined by commas, of which it is known how many rounds count."""
    found = [float(share) for share in listed.split(",")]
    for unknown in set(found) - set(ROUNDS):
        raise argparse.ArgumentTypeError(f"{unknown} is none of {', '.join(map(str, ROUNDS))}")
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    everything, fractions = ",".join(SYSTEMS), ",".join(map(str, ROUNDS))
    parser.add_argument("--systems", type=systems, default=everything, help="joined by commas")
    parser.add_argument("--fractions", type=shares, default=fractions, help="likewise")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each whose seconds count")
    parser.add_argument("--without-memory", action="store_true", help="leave out the first run")
    parser.add_argument("--add", action="store_true", help="to the figures of earlier calls")
    where = "folder of the peers' environments; default: %(default)s"
    parser.add_argument("--environments", type=Path, default=Path("runs/peers"), help=where)
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    asked = parser.parse_intermixed_args()
    with readable_exit():
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """Run the systems in turn, and print and write what they took."""
    name = compose_settings(asked.overrides).data.name
    machine, path = Machine.this(), Path(__file__).with_suffix(".json")
    made = asked.environments.absolute()
    runs: list[Ran] = []
    if asked.add and path.exists():
        runs = [Ran(**each) for each in json.loads(path.read_text())["figures"]["runs"]]
    for peer in set(PACKAGES) & set(asked.systems):
        make_environment(made, peer)
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(1 if asked.without_memory else 0, asked.repeats + 1):
            for fraction in asked.fractions:
                for system in asked.systems:
                    peak = PeakMemory()
                    with peak.watched() if repeat == 0 else contextlib.nullcontext():
                        ran = measure(system, fraction, asked.overrides, Path(folder), made)
                    if repeat == 0:
                        ran = replace(ran, memory=peak.bytes / 1e6)
                    runs.append(ran)
                    say(f"{fraction:.0%}, {system}: {figure(middle(ran.seconds))} s")
    versions = {each: PACKAGES[each][0] for each in PACKAGES} | {"flwr": version("flwr")}
    report(
        path,
        tabulate(runs, name),
        ", ".join([*(versions[each] for each in PACKAGES), f"flwr {versions['flwr']}"]),
        machine,
        {"settings": asked.overrides, "versions": versions, "runs": [asdict(run) for run in runs]},
    )


if __name__ == "__main__":
    main()
