"""Serving: how long a request takes, how many histories a second, and what load does to memory.

    python benchmarks/serving.py data=ml-1m data.dir=FOLDER checkpoint.dir=FOLDER
    python benchmarks/serving.py --load 1800 data=ml-1m data.dir=FOLDER checkpoint.dir=FOLDER

Starts `python -m fedmem.serve` on two cores at most, for each stage that has a checkpoint, and asks
it over HTTP from another process: one history at a time, and batches of 32. Beside each figure
stands the floor, measured in the same run: one forward pass of the backbone and one product with
the item table, in bare PyTorch. `CPU` is the server's processor time a request, which other work
on the machine inflates less than the clock's. `user p50` is of users who have asked before, by id.

`--load SECONDS` asks without a pause, or `--rate` times a second, puts a new checkpoint in place
every few seconds, as a training beside it does, and reports errors, takeovers and the growth of
memory. The figures are written to `benchmarks/serving.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch
from common import Machine, figure, make_table, report

from fedmem.core.checkpoint import Checkpoint, checkpoint_path
from fedmem.core.console import say
from fedmem.core.data import load_histories
from fedmem.core.data.interactions import Interactions
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES, Stage
from fedmem.runs.configuration import compose_settings

TOP_K = 10
BATCH = 32
WARM = 20
"""Requests before those that count."""
REPLACED_EVERY = 10.0
"""Seconds between two checkpoints under load."""
Seconds = list[float]


@contextlib.contextmanager
def served(overrides: Sequence[str], stage: str) -> Iterator[tuple[httpx.Client, int]]:
    """A server in a process of its own on two cores; a client of it, and its process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--stage", stage]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    command = ["taskset", "-c", cores, sys.executable, "-m", "fedmem.serve", *options, *overrides]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            while not is_up(client):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended with code {process.returncode}")
                time.sleep(0.1)
            yield client, process.pid
    finally:
        process.terminate()
        process.wait()


def is_up(client: httpx.Client) -> bool:
    """Whether the server answers."""
    with contextlib.suppress(httpx.TransportError):
        return client.get("/health").status_code == 200
    return False


def histories_of(interactions: Interactions, count: int) -> list[list[str]]:
    """Histories of users spread over all, by the items' own ids."""
    users = np.linspace(0, interactions.num_users - 1, count).astype(int)
    ids = interactions.item_ids
    return [[str(ids[item]) for item in interactions.history(int(user))] for user in users]


def timed(client: httpx.Client, asked: Sequence[dict[str, object]]) -> Seconds:
    """Seconds of each request, after a few that do not count."""
    seconds, first = [], asked[:WARM]
    for body in [*first, *asked]:
        began = time.perf_counter()
        client.post("/recommend", json=body).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return seconds[len(first) :]


@torch.no_grad()
def floor(settings: Settings, stage: Stage, checkpoint: Checkpoint, count: int) -> Seconds:
    """Seconds of a forward pass, a product and the best ten for single histories, bare."""
    torch.set_num_threads(1)
    node = Node(replace(settings, model=checkpoint.model))
    model = node.load(stage, checkpoint.parameters, checkpoint.hash).cpu()
    items, length = model.sasrec.item_emb.weight, settings.model.max_length
    users = np.linspace(0, node.interactions.num_users - 1, count).astype(int)
    seconds = []
    for user in users:
        history = torch.from_numpy(node.interactions.history(int(user))[-length:]).long()
        began = time.perf_counter()
        hidden = model.sasrec(history[None], NO_DROPOUT)[0, -1]
        (items @ hidden).topk(TOP_K)
        seconds.append(time.perf_counter() - began)
    return seconds[count // 4 :]


def percentiles(seconds: Seconds) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{at}": 1000 * float(np.percentile(seconds, at)) for at in (50, 95, 99)}


def measure(
    overrides: Sequence[str], stage: Stage, settings: Settings, requests: int
) -> dict[str, float]:
    """All figures of one stage."""
    interactions = load_histories(settings).warm
    histories = histories_of(interactions, requests)
    users = [str(own) for own in interactions.user_ids[: requests // 2]]
    checkpoint = Checkpoint.load(checkpoint_path(settings.checkpoint, stage.name))
    found: dict[str, float] = {}
    with served(overrides, stage.name) as (client, process):
        of_server = psutil.Process(process)
        busy = sum(of_server.cpu_times()[:2])
        one = timed(client, [{"history": each, "top_k": TOP_K} for each in histories])
        busy = sum(of_server.cpu_times()[:2]) - busy
        found |= percentiles(one)
        found["CPU"] = 1000 * busy / (len(histories) + WARM)
        timed(client, [{"user": user, "top_k": TOP_K} for user in users])
        again = timed(client, [{"user": user, "top_k": TOP_K} for user in users])
        found["user p50"] = percentiles(again)["p50"]
        batches = [histories[at : at + BATCH] for at in range(0, len(histories), BATCH)]
        whole = [each for each in batches if len(each) == BATCH][: max(4, requests // BATCH)]
        seconds = timed(client, [{"histories": each, "top_k": TOP_K} for each in whole])
        found["histories a second"] = BATCH / float(np.median(seconds))
        found["MB"] = of_server.memory_info().rss / 1e6
    bare = floor(settings, stage, checkpoint, requests)
    found["floor p50"] = percentiles(bare)["p50"]
    return found


def load(
    overrides: Sequence[str], settings: Settings, stage: Stage, seconds: float, rate: float
) -> dict[str, float]:
    """Ask so often a second while checkpoints come and go; errors, takeovers and memory."""
    interactions = load_histories(settings).warm
    histories = histories_of(interactions, 256)
    with tempfile.TemporaryDirectory() as place:
        for path in Path(settings.checkpoint.dir).glob("*.safetensors"):
            shutil.copy(path, place)
        path = Path(place) / f"{stage.name}.safetensors"
        first = Checkpoint.load(path)
        with served([*overrides, f"checkpoint.dir={place}"], stage.name) as (
            client,
            pid,
        ):
            process = psutil.Process(pid)
            began = time.monotonic()
            asked = errors = replaced = 0
            sizes: list[tuple[float, float]] = []
            while (now := time.monotonic() - began) < seconds:
                body = {"history": histories[asked % len(histories)], "top_k": TOP_K}
                trouble = failure(client, body)
                if trouble and not errors:
                    say(f"the first error, after {now:.0f} s and {asked} requests: {trouble}")
                errors += bool(trouble)
                asked += 1
                time.sleep(max(0.0, began + asked / rate - time.monotonic()))
                if now > (replaced + 1) * REPLACED_EVERY:
                    replaced += 1
                    moved = {n: v * (1 + 1e-6 * replaced) for n, v in first.parameters.items()}
                    replace(first, round=replaced, parameters=moved).save(path)
                if asked % 50 == 0:
                    sizes.append((now, process.memory_info().rss / 1e6))
            reloads = client.get("/health").json()["reloads"]
    settled = [size for at, size in sizes if at > min(120, seconds / 5)]
    tenth = max(1, len(settled) // 10)
    before, after = float(np.median(settled[:tenth])), float(np.median(settled[-tenth:]))
    return {
        "seconds": seconds,
        "requests": asked,
        "errors": errors,
        "replaced": replaced,
        "taken over": reloads,
        "MB at first": before,
        "MB at last": after,
        "growth": after / before - 1,
    }


def failure(client: httpx.Client, body: dict[str, object]) -> str:
    """What went wrong with a request; empty: nothing."""
    try:
        answer = client.post("/recommend", json=body)
    except httpx.HTTPError as error:
        return repr(error)
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--load", type=float, metavar="SECONDS", help="load in place of latency")
    parser.add_argument("--rate", type=float, default=np.inf, metavar="REQUESTS", help="a second")
    parser.add_argument("--stages", default="pretrain_sasrec,finetune_moe")
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    arguments = parser.parse_intermixed_args()
    machine = Machine.this()
    settings = compose_settings(arguments.overrides)
    names = arguments.stages.split(",")
    figures: dict[str, dict[str, float]] = {}
    if arguments.load:
        stage = STAGES[names[-1]]
        found = load(arguments.overrides, settings, stage, arguments.load, arguments.rate)
        figures[f"load, {stage.name}"] = found
        table = make_table(f"{stage.name} under load, {settings.data.name}", ["", "figure"])
        for name, value in found.items():
            shown = f"{value:+.1%}" if name == "growth" else figure(value)
            table.add_row(name, shown)
        notes = f"a checkpoint is replaced every {REPLACED_EVERY:g} s; memory after it has settled"
    else:
        for name in names:
            figures[name] = measure(arguments.overrides, STAGES[name], settings, arguments.requests)
        columns = list(next(iter(figures.values())))
        table = make_table(
            f"ms a request, {settings.data.name}", ["stage", *columns, "p50 / floor"]
        )
        for name, own in figures.items():
            ratio = figure(own["p50"] / own["floor p50"], "×")
            table.add_row(name, *(figure(own[column]) for column in columns), ratio)
        notes = f"over HTTP on the loopback, top {TOP_K}, batches of {BATCH}; floor: bare PyTorch"
    report(Path(__file__).with_suffix(".json"), table, notes, machine, figures)


if __name__ == "__main__":
    main()
