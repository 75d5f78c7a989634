"""Forget: gone from the history and the memory, here and on the disk, also after a restart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from fedmem.core.data import load_interactions
from fedmem.core.data.forgotten import FILE
from fedmem.core.files.sealed import load_sealed
from fedmem.core.memory.memory_store import FILE as MEMORY
from fedmem.core.memory.memory_store import NodeStore
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import FINETUNE_MOE
from fedmem.core.transport.up import REMAINDERS, Remainders
from fedmem.serve.app import Desk
from tests.helpers.in_process_grid import InProcessGrid, run_in_process
from tests.helpers.serving import client_of, desk_of, ids, recommended


def history_of(client: TestClient, user: str) -> list[str]:
    return [item["id"] for item in client.get(f"/users/{user}").json()["items"]]


def test_it_is_gone_and_stays_gone(client: TestClient, trained: Settings, data_dir: Path) -> None:
    before = history_of(client, "6")
    gone = before[1]
    others = {user: recommended(client, user=user) for user in ("1", "9")}
    answer = client.delete(f"/users/6/items/{gone}")
    assert answer.status_code == 200
    assert answer.json()["interactions"] == 1
    assert any("cannot be recalled" in line for line in answer.json()["says"])
    assert json.loads((data_dir / FILE).read_text()) == [{"user": "6", "item": gone}]
    left = [item for item in before if item != gone]
    with client_of(desk_of(trained)) as restarted:
        for each in (client, restarted):
            assert history_of(each, "6") == left
            view = each.get("/memory/6").json()
            held = [e["item"]["id"] for e in [*view["short_term"], *view["long_term"]]]
            assert gone not in held
            assert view["interactions"] == len(left)
            assert each.delete(f"/users/6/items/{gone}").status_code == 404
        same = zip(recommended(client, user="6"), recommended(restarted, user="6"), strict=True)
        assert all(one["score"] == pytest.approx(two["score"], abs=1e-5) for one, two in same)
        for user, found in others.items():
            again = zip(found, recommended(restarted, user=user), strict=True)
            assert all(a["score"] == pytest.approx(b["score"], abs=1e-3) for a, b in again)
        assert gone in ids(recommended(restarted, user="6", top_k=200))


def test_the_memory_is_as_if_it_had_never_been_there(client: TestClient, desk: Desk) -> None:
    gone = history_of(client, "6")[0]
    client.delete(f"/users/6/items/{gone}")
    served = desk.engine.served
    fresh = Node(served.node.settings, served.node.users)
    assert fresh.novelty_histogram().tolist() == served.novelty_counts.tolist()
    left = history_of(client, "6")
    by_history = recommended(client, history=left)
    by_user = recommended(client, user="6")
    # What was forgotten may be recommended to the user, as to anybody with that history.
    assert ids(by_history) == ids(by_user)


def test_all_of_a_history_can_be_forgotten(client: TestClient, trained: Settings) -> None:
    items = history_of(client, "6")
    for item in items:
        assert client.delete(f"/users/6/items/{item}").status_code == 200
    assert history_of(client, "6") == []
    assert client.post("/recommend", json={"user": "6"}).status_code == 422
    assert client.get("/memory/6").json()["short_term"] == []
    assert client.get("/users/6/exposure").json()["history"] == 0
    with client_of(desk_of(trained)) as restarted:
        assert history_of(restarted, "6") == []
        assert restarted.get("/users").json()["total"] == client.get("/users").json()["total"]


def test_what_is_not_there_cannot_be_forgotten(client: TestClient, data_dir: Path) -> None:
    for path in ("/users/99/items/1", "/users/6/items/none", "/users/6/items/%2e%2e"):
        assert client.delete(path).status_code == 404
    assert not (data_dir / FILE).exists()


def test_a_disk_that_does_not_take_it_forgets_nothing(
    client: TestClient, desk: Desk, data_dir: Path
) -> None:
    item = history_of(client, "6")[0]
    data = replace(desk.engine.settings.data, forgotten_file=str(data_dir / "ratings.dat" / "no"))
    desk.engine.settings = replace(desk.engine.settings, data=data)
    answer = client.delete(f"/users/6/items/{item}")
    assert answer.status_code == 507
    assert "nothing was changed" in answer.json()["detail"]
    assert item in history_of(client, "6")


def test_memories_on_the_disk_are_rewritten(trained: Settings, tmp_path: Path) -> None:
    node = Node(trained)
    bank = node.open_bank(0.5)
    node.model(FINETUNE_MOE)
    node.ingest(FINETUNE_MOE, "test")
    run = tmp_path / "run"
    store = NodeStore(run / "nodes" / "0")
    store.put("key", bank.pack())
    before = store.get("key")
    assert before is not None
    user = int(before["users"][4])
    own = str(node.interactions.user_ids[user])
    item = str(node.interactions.item_ids[node.interactions.history(user)[0]])
    remainders = Remainders(run / "nodes" / "0", "key")
    for number in (1, 2):
        remainders.put(number, {"w": torch.ones(2)})
    with client_of(desk_of(trained, run=run)) as client:
        answer = client.delete(f"/users/{own}/items/{item}").json()
    assert (answer["memories_rewritten"], answer["remainders_deleted"]) == (1, 2)
    assert any("kept back of earlier updates" in line for line in answer["says"])
    assert [path.name for path in (run / "nodes" / "0").iterdir()] == [MEMORY]
    assert store.get("key") is None  # for histories that still have the item
    about, tensors = load_sealed(run / "nodes" / "0" / MEMORY, "node's memory")
    assert user not in tensors["users"].tolist()
    kept = store.get("key", about["forgotten"])
    assert kept is not None
    assert kept["users"].tolist() == [u for u in before["users"].tolist() if u != user]
    after = Node(trained)
    after.open_bank(0.5)
    after.restore(kept)
    after.load(FINETUNE_MOE, node.model(FINETUNE_MOE).state_dict())
    assert after.ingest(FINETUNE_MOE, "test")
    again = after.open_bank(0.5).pack()
    assert again["users"].tolist() == before["users"].tolist()
    for name in ("counters", "long_term"):
        assert len(again[name]) <= len(before[name])
    row = before["users"].tolist().index(user)
    assert again["counters"][row, 0] == before["counters"][row, 0] - 1
    others = np.arange(len(before["users"])) != row
    assert (again["counters"][others] == before["counters"][others]).all()


def test_training_goes_on_without_it(make_settings: Callable[..., Settings]) -> None:
    """Nodes that are at work notice: neither histories nor memories have the item any more, nor is
    anything carried on of updates on it.
    """
    from fedmem.core.data.forgotten import forget

    settings = make_settings("transport=coded")
    interactions = load_interactions(settings.data)
    user = int(np.argmax(interactions.lengths))
    item = int(interactions.training(user)[0])

    class Forgetting(InProcessGrid):
        """A grid on which the user asks for it in the midst of stage 3."""

        done = False

        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            messages = list(messages)
            task = messages[0].content.config_records.get("about", {})
            if not self.done and task.get("stage") == "finetune_moe" and task.get("round") == 2:
                self.done = True
                own = str(interactions.user_ids[user]), str(interactions.item_ids[item])
                forget(settings.data, *own)
            return super().push_messages(messages)

    grid = Forgetting(2)
    run_in_process(settings, grid)
    assert grid.done
    folder = Path(settings.output_dir) / "nodes"
    held = 0
    for node in ("0", "1"):
        about, tensors = load_sealed(folder / node / MEMORY, "node's memory")
        assert about["forgotten"]
        (left,) = (folder / node).glob(REMAINDERS)
        assert load_sealed(left, "node's remainder")[0]["forgotten"] == about["forgotten"]
        if user not in tensors["users"].tolist():
            continue
        row = tensors["users"].tolist().index(user)
        sizes = tensors["counters"][:, 1] - tensors["counters"][:, 3]
        begin = int(sizes[:row].sum())
        entries = tensors["long_term"][begin : begin + int(sizes[row])]
        assert item not in entries[:, 0].tolist()
        assert tensors["counters"][row, 0] == len(interactions.history(user)) - 2
        held += 1
    assert held == 1
