"""Who may ask, from where, and how much; and nothing of a history in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from fedmem.core.errors import FedmemError
from fedmem.serve.__main__ import listening, read_token, run
from fedmem.serve.app import Desk
from fedmem.serve.guard import MAX_BODY
from tests.helpers.serving import PORT, client_of

HOME = f"http://127.0.0.1:{PORT}"
TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"host": f"[::1]:{PORT}"}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": f"127.0.0.1.evil.example:{PORT}"}, 403),
        ({"host": f"localhost:{PORT + 1}"}, 403),
        ({"host": ""}, 403),
        ({"origin": HOME}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": f"http://127.0.0.1:{PORT + 1}"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
    ],
    ids=str,
)
def test_names_and_sites(headers: dict[str, str], status: int, client: TestClient) -> None:
    for method, path in (("GET", "/health"), ("GET", "/"), ("GET", "/users")):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == status
    if status == 403:
        assert len(answer.json()["detail"]) > 20
        assert client.delete("/users/5/items/1", headers=headers).status_code == 403
        assert client.post("/recommend", json={"user": "5"}, headers=headers).status_code == 403


def test_every_answer_keeps_a_browser_from_anything_else(client: TestClient) -> None:
    for path in ("/", "/health", "/nowhere", "/page/app.js", "/users/99", "/docs"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    preflight = client.options("/recommend", headers={"origin": "https://evil.example"})
    assert preflight.status_code == 403
    refused = client.get("/health", headers={"host": "evil.example"})
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_large_requests_are_refused_whether_they_say_their_size_or_not(client: TestClient) -> None:
    large = b"x" * (10 << 20)
    assert client.post("/recommend", content=large).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * (1 << 16)

    answer = client.post("/recommend", content=pieces())
    assert answer.status_code == 413
    assert f"{MAX_BODY:,}" in answer.json()["detail"]
    size = {"content-length": "many", "content-type": "application/json"}
    assert client.post("/recommend", content=b"{}", headers=size).status_code in (400, 413)


@pytest.mark.parametrize(
    "path", ["/page/..%2f..%2fapp.py", "/page/../app.py", "/page/%2e%2e/app.py", "/page/none.js"]
)
def test_no_path_leads_to_the_disk(path: str, client: TestClient) -> None:
    assert client.get(path).status_code == 404


def test_a_token_is_asked_for_everything_of_a_person(desk: Desk) -> None:
    with client_of(desk, TOKEN) as client:
        for path in ("/", "/docs", "/page/app.js", "/openapi.json"):
            assert client.get(path).status_code == 200
        for path in ("/users", "/memory/5", "/health", "/metrics", "/device", "/items?search=x"):
            assert client.get(path).status_code == 401, path
            wrong = {"authorization": f"Bearer {TOKEN}x"}
            assert client.get(path, headers=wrong).status_code == 401
            right = {"authorization": f"Bearer {TOKEN}"}
            assert client.get(path, headers=right).status_code == 200
        assert client.post("/recommend", json={"user": "5"}).status_code == 401
        odd = {"authorization": "Bearer \xe9".encode("latin-1")}
        assert client.get("/users", headers=odd).status_code == 401


def test_nothing_but_the_loopback_without_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FEDMEM_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "node.example"):
        with pytest.raises(FedmemError, match="opens the page to others: give a token"):
            run(["--host", host])
    monkeypatch.setenv("FEDMEM_TOKEN", "short")
    with pytest.raises(FedmemError, match="needs 16 letters"):
        read_token(None)
    monkeypatch.setenv("FEDMEM_TOKEN", TOKEN)
    assert read_token(None) == TOKEN


def test_a_port_that_is_taken_is_named() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FedmemError, match=f"Port {port} of 127.0.0.1 cannot be listened on"):
            listening("127.0.0.1", port)
    with pytest.raises(FedmemError, match="Port 99999 of"):
        listening("127.0.0.1", 99999)


def test_the_log_has_routes_and_nothing_of_a_history(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.get("/users/17")
        client.get("/memory/17")
        client.get("/items", params={"search": "Title 23"})
        client.post("/recommend", json={"history": ["23", "29", "31"], "explain": True})
        client.post("/recommend", json={"history": ["nothing-here"]})
        client.delete("/users/17/items/nothing-here")
        client.get("/nowhere/nothing-here")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("fedmem")]
    assert len(ours) == 7
    assert ours[1].startswith("GET /memory/{user} 200 ")
    every = " ".join(r.getMessage() for r in caplog.records if not r.name.startswith("httpx"))
    for word in ("17", "23", "29", "31", "nothing-here", "Title"):
        assert word not in [w.strip("/,") for w in every.replace("/", " ").split()], word
