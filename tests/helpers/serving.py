"""The page and its API on the tiny world: a desk, and a client that asks as a browser does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from fastapi.testclient import TestClient

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.settings import Settings
from fedmem.serve.app import Desk, make_app
from fedmem.serve.guard import LOOPBACK, Access
from fedmem.serve.new_items import Encoders
from fedmem.serve.starting import find_node, make_desk
from tests.helpers.small_world import NUM_ITEMS

PORT = 8642
TITLES = {str(item): f"Title {item}" for item in range(1, NUM_ITEMS + 1)}


def desk_of(
    settings: Settings,
    stage: str | None = None,
    run: Path | None = None,
    node_config: str = "",
    encoders: Encoders | None = None,
) -> Desk:
    settings, here, users, node = find_node(settings, node_config)
    return make_desk(settings, here, users, node, stage, run, TITLES, encoders or Encoders())


def client_of(desk: Desk, token: str | None = None) -> TestClient:
    app = make_app(desk, Access.at(LOOPBACK, PORT, token))
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)


def moved(path: Path, by: float = 0.05) -> Checkpoint:
    """Put another checkpoint in the place of one, as a finished round does; all of it moved."""
    before = Checkpoint.load(path)
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: value + by * torch.randn(value.shape, generator=generator)
        for name, value in before.parameters.items()
    }
    parameters["sasrec.item_emb.weight"][0] = 0
    about = {k: v for k, v in vars(before).items() if k not in ("parameters", "model")}
    after = Checkpoint(**about, model=before.model, parameters=parameters)
    after.save(path)
    return after


def recommended(client: TestClient, **asked: object) -> list[dict[str, object]]:
    """The items of the first result."""
    answer = client.post("/recommend", json=asked)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["results"][0]["items"]
    return items


def ids(items: Sequence[dict[str, object]]) -> list[object]:
    return [item["id"] for item in items]
