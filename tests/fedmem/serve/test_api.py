"""What the API answers: what `fedmem.recommend` ranks, and a clear word for the rest."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from rich.console import Console

from fedmem.core.data import load_interactions
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.recommend.__main__ import parser
from fedmem.recommend.listing import list_items
from fedmem.recommend.recommendation import PARTS
from fedmem.serve.app import Desk
from tests.helpers.serving import client_of, desk_of, ids, recommended
from tests.helpers.small_world import NUM_ITEMS, NUM_USERS, SMALL, TEXT_WIDTH, VISUAL_WIDTH


@pytest.mark.parametrize("stage", STAGES)
def test_scores_are_those_of_the_command_and_parts_add_up(stage: str, trained: Settings) -> None:
    with client_of(desk_of(trained, stage)) as client:
        own = [f"data.dir={trained.data.dir}", f"checkpoint.dir={trained.checkpoint.dir}"]
        for user in ("5", "12"):
            arguments = ["--user", user, "--stage", stage, "--top-k", "7", *SMALL, *own]
            asked = parser().parse_intermixed_args(arguments)
            expected = list_items(asked, Console(file=io.StringIO()))
            found = recommended(client, user=user, top_k=7)
            assert ids(found) == [str(one.item) for one in expected]
            for item, one in zip(found, expected, strict=True):
                assert item["score"] == pytest.approx(one.score, abs=1e-5)
                parts: Any = item["parts"]
                assert sum(parts.values()) == pytest.approx(item["score"], abs=1e-5)
                for part in PARTS:
                    assert parts[part] == pytest.approx(one.parts[part], abs=1e-5)


def test_a_user_and_the_user_s_history_get_the_same(client: TestClient, trained: Settings) -> None:
    interactions = load_interactions(trained.data)
    history = interactions.item_ids[interactions.history(4)].tolist()
    by_user = recommended(client, user="5")
    by_history = recommended(client, history=history)
    assert ids(by_user) == ids(by_history)
    for one, other in zip(by_user, by_history, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    assert client.get("/users/5").json()["items"][-1]["title"] == f"Title {history[-1]}"


def test_a_batch_gives_each_history_what_it_gets_alone(client: TestClient) -> None:
    histories = [["1", "2", "3"], ["9"], [str(item) for item in range(20, 40)]]
    answer = client.post("/recommend", json={"histories": histories, "top_k": 5}).json()
    assert len(answer["results"]) == 3
    for history, result in zip(histories, answer["results"], strict=True):
        alone = recommended(client, history=history, top_k=5)
        assert ids(result["items"]) == ids(alone)
        for one, other in zip(result["items"], alone, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert not set(ids(alone)) & set(history)


def test_what_is_excluded_is_not_recommended(client: TestClient) -> None:
    first = recommended(client, user="5", top_k=4)
    left = recommended(client, user="5", top_k=4, exclude=[first[0]["id"], first[2]["id"]])
    assert ids(left)[:2] == [first[1]["id"], first[3]["id"]]
    everything = recommended(client, history=[1], top_k=200)
    assert len(everything) == NUM_ITEMS - 1


def test_why_names_the_last_items_and_the_memory(client: TestClient) -> None:
    for item in recommended(client, user="5", explain=True, top_k=3):
        why: Any = item["why"]
        parts: Any = item["parts"]
        total = sum(each["effect"] for each in why["memory"]) + why["memory_rest"]
        assert total == pytest.approx(parts["memory"], abs=1e-5)
        assert why["latest"][0]["item"]["title"].startswith("Title ")


def test_the_memory_says_why_each_entry_is_there(client: TestClient, desk: Desk) -> None:
    view = client.get("/memory/6").json()
    served = desk.engine.served
    memory = served.account(served.node.interactions.history(5))
    assert [int(e["item"]["id"]) for e in view["short_term"]] == memory.short_term
    assert [int(e["item"]["id"]) for e in view["long_term"]] == [e.item for e in memory.long_term]
    assert view["has_memory"]
    assert view["interactions"] == served.node.interactions.lengths[5]
    whys = " ".join(entry["why"] for entry in view["long_term"])
    assert f"{served.threshold:.2f} is enough" in whys
    surprises = [e for e in view["long_term"] if e["item"]["id"] == "3"]  # it has no content
    assert all(e["novelty"] is None and "surprise" in e["why"] for e in surprises)
    assert client.get("/memory/99").status_code == 404


def test_without_a_memory_the_view_says_so(trained: Settings) -> None:
    with client_of(desk_of(trained, "align_projectors")) as client:
        view = client.get("/memory/6").json()
        assert not view["has_memory"]
        assert view["long_term"] == []
        assert client.get("/health").json()["stage"] == "align_projectors"


def test_who_lives_here_and_what_there_is_can_be_searched(client: TestClient) -> None:
    assert client.get("/users").json()["total"] == NUM_USERS
    found = client.get("/users", params={"search": "2"}).json()["users"]
    assert [each["id"] for each in found][:2] == ["2", "12"]
    by_title = client.get("/items", params={"search": "title 7"}).json()
    assert [each["id"] for each in by_title] == ["7", "17", "27", "37"]
    assert client.get("/items", params={"search": "7"}).json()[0]["id"] == "7"
    assert client.get("/items", params={"search": " "}).json() == []


def test_new_items_are_ranked_by_the_vectors_that_come_with_them(client: TestClient) -> None:
    generator = np.random.default_rng(0)
    new = {
        "id": "fresh",
        "title": "Fresh",
        "text_vector": generator.normal(size=TEXT_WIDTH).tolist(),
        "picture_vector": generator.normal(size=VISUAL_WIDTH).tolist(),
    }
    found = recommended(client, user="5", top_k=200, new_items=[new])
    (own,) = [item for item in found if item["is_new"]]
    assert (own["id"], own["title"]) == ("fresh", "Fresh")
    parts: Any = own["parts"]
    assert parts["sequence"] == 0.0
    assert sum(parts.values()) == pytest.approx(own["score"], abs=1e-5)
    known = [item for item in found if not item["is_new"]]
    for one, other in zip(known, recommended(client, user="5", top_k=200), strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def vector(width: int) -> list[float]:
    return [1.0] * width


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "one of user, history and histories"),
    ({"user": "5", "history": ["1"]}, "one of user, history and histories"),
    ({"user": "99"}, "no user 99"),
    ({"history": []}, "history is empty"),
    ({"histories": []}, "at least 1"),
    ({"histories": [["1"], []]}, "history is empty"),
    ({"histories": [["1"]] * 129}, "at most 128"),
    ({"history": ["1", "x", "y", "z", "w"]}, "no item x, y, z and 1 more"),
    ({"history": ["1"] * 10_000}, "at most 5000"),
    ({"user": "5", "top_k": 0}, "greater than or equal to 1"),
    ({"user": "5", "top_k": 10**9}, "less than or equal to 200"),
    ({"user": "5", "top_k": 10**400}, "top_k"),
    ({"user": "5", "exclude": ["nothing"]}, "no item nothing"),
    ({"user": True}, "valid string"),
    ({"user": "5", "unknown": 1}, "not permitted"),
    ({"user": "5", "new_items": [{"id": "7", "text_vector": vector(TEXT_WIDTH)}]}, "7 is an item"),
    ({"user": "5", "new_items": [{"id": "n"}]}, "n has no content"),
    ({"user": "5", "new_items": [{"id": "n", "text_vector": vector(3)}]}, "has 3 numbers"),
    ({"user": "5", "new_items": [{"id": "n", "text": "words"}]}, "--text-model"),
    ({"user": "5", "new_items": [{"id": "n", "picture": "AAAA"}]}, "--image-model"),
    (
        {"user": "5", "new_items": [{"id": "n", "text_vector": vector(TEXT_WIDTH)}] * 2},
        "an id is there twice",
    ),
]


@pytest.mark.parametrize(("asked", "words"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_answered_is_a_clear_4xx(
    asked: dict[str, Any], words: str, client: TestClient
) -> None:
    answer = client.post("/recommend", json=asked)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 400


def test_numbers_that_are_none_and_bodies_that_are_none(client: TestClient) -> None:
    kind = {"content-type": "application/json"}
    for body in (b"", b"{", b"[]", b'"x"', b"\xff", b'{"user": "5", "top_k": NaN}', b"null"):
        answer = client.post("/recommend", content=body, headers=kind)
        assert answer.status_code in (400, 422), body
    nan = b'{"user": "5", "new_items": [{"id": "n", "text_vector": [NaN]}]}'
    assert client.post("/recommend", content=nan, headers=kind).status_code == 422
    deep = b'{"user": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.post("/recommend", content=deep, headers=kind).status_code in (400, 422)
    text = {"content-type": "text/plain"}
    assert client.post("/recommend", content=b'{"user": "5"}', headers=text).status_code == 422


def test_the_api_describes_itself(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        "/recommend",
        "/memory/{user}",
        "/users/{user}/items/{item}",
        "/health",
        "/metrics",
    } <= set(paths)
    assert client.get("/docs").text.count("http") == 0  # nothing of another host
    described = client.get("/openapi.json").json()["components"]["schemas"]
    assert "oldest first" in described["RecommendRequest"]["properties"]["history"]["description"]


def test_metrics_are_in_the_form_of_prometheus_and_name_nobody(client: TestClient) -> None:
    client.get("/memory/6")
    client.post("/recommend", json={"user": "6"})
    client.get("/nowhere/6")
    text = client.get("/metrics").text
    assert 'fedmem_requests_total{method="GET",route="/memory/{user}",status="200"} 1' in text
    assert 'fedmem_request_seconds_count{route="/recommend"} 1' in text
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        assert line.startswith("# ") or float(value) >= 0
        assert "6" not in name.replace("16", "") or line.startswith("# ")


def test_the_attack_finds_the_history_of_who_is_asked_for(client: TestClient, desk: Desk) -> None:
    seen = client.get("/users/5/exposure").json()
    interactions = desk.engine.served.node.interactions
    assert seen["history"] == len(np.unique(interactions.training(4)))
    assert 0 < seen["found"] <= seen["history"]
    assert seen["auc"] > 0.8
    assert client.get("/users/99/exposure").status_code == 404


@pytest.mark.parametrize("first_index", [0, 3])
def test_users_of_other_nodes_are_not_here(
    first_index: int, trained: Settings, data_dir: Path
) -> None:
    config = f'data="{data_dir}" state-dir="{data_dir.parent / "state"}" first-index={first_index}'
    desk = desk_of(trained, node_config=config)
    with client_of(desk) as client:
        assert client.get("/users").json()["total"] == NUM_USERS
        assert recommended(client, user="5")
        assert client.get("/health").json()["users"] == NUM_USERS
    part = f'data="{data_dir}" state-dir="{data_dir.parent / "state"}" users="2-4"'
    with client_of(desk_of(trained, node_config=part)) as client:
        assert [each["id"] for each in client.get("/users").json()["users"]] == ["3", "4", "5"]
        assert client.post("/recommend", json={"user": "6"}).status_code == 422
        assert client.get("/memory/6").status_code == 404
