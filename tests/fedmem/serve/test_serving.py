"""A checkpoint that a round replaces is taken over; pictures, records, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.privacy.accounting import Release, epsilon
from fedmem.core.settings import Settings
from fedmem.federation.sent import note_sent, read_sent
from fedmem.serve.__main__ import main
from fedmem.serve.app import Desk
from fedmem.serve.departures import departures, find_run
from fedmem.serve.new_items import Encoders
from fedmem.serve.pictures import SIDE, Pictures
from tests.helpers.commands import free_port
from tests.helpers.in_process_grid import InProcessGrid, run_in_process
from tests.helpers.serving import client_of, desk_of, ids, moved, recommended
from tests.helpers.shared_runs import WholeRun
from tests.helpers.small_world import TEXT_WIDTH, VISUAL_WIDTH


def path_of(settings: Settings) -> Path:
    return Path(settings.checkpoint.dir) / "finetune_moe.safetensors"


def test_another_checkpoint_is_taken_over_without_a_failed_request(trained: Settings) -> None:
    desk = desk_of(trained)
    desk.look_every = 0.02
    answers: list[tuple[int, str]] = []
    stop = threading.Event()
    with client_of(desk) as client:

        def load() -> None:
            while not stop.is_set():
                answer = client.post("/recommend", json={"user": "5"})
                answers.append((answer.status_code, answer.json()["checkpoint"]))

        asking = threading.Thread(target=load)
        asking.start()
        hashes = [desk.engine.served.hash]
        for _ in range(3):
            hashes.append(moved(path_of(trained)).hash)
            for _ in range(500):
                if desk.engine.served.hash == hashes[-1]:
                    break
                stop.wait(0.02)
        stop.set()
        asking.join()
        expected = recommended(client, user="5")
        assert client.get("/health").json()["reloads"] == 3
    assert {status for status, _ in answers} == {200}
    assert {checkpoint for _, checkpoint in answers} <= set(hashes)
    assert len(set(hashes)) == 4
    with client_of(desk_of(trained)) as fresh:
        assert ids(recommended(fresh, user="5")) == ids(expected)


def test_one_that_cannot_be_taken_over_leaves_the_other(trained: Settings) -> None:
    desk = desk_of(trained)
    before = desk.engine.served
    whole = path_of(trained).read_bytes()
    path_of(trained).write_bytes(whole[:-100])
    assert not desk.engine.refresh()
    assert desk.engine.served is before
    assert "finetune_moe.safetensors" in desk.engine.trouble
    other = Checkpoint.load(Path(trained.checkpoint.dir) / "align_projectors.safetensors")
    replace(other, stage="finetune_moe", catalogue="another").save(path_of(trained))
    assert not desk.engine.refresh()
    assert "other data" in desk.engine.trouble
    with client_of(desk) as client:
        assert client.get("/health").json()["trouble"]
        assert recommended(client, user="5")
    path_of(trained).write_bytes(whole)
    assert desk.engine.refresh()
    assert desk.engine.trouble == ""
    assert not desk.engine.refresh()


def test_a_later_stage_is_taken_over_and_a_lost_file_is_not_missed(trained: Settings) -> None:
    last = path_of(trained).read_bytes()
    path_of(trained).unlink()
    desk = desk_of(trained)
    assert desk.engine.served.stage.name == "align_projectors"
    path_of(trained).write_bytes(last)
    assert desk.engine.refresh()
    assert desk.engine.served.stage.name == "finetune_moe"
    for path in Path(trained.checkpoint.dir).glob("*.safetensors"):
        path.unlink()
    assert not desk.engine.refresh()
    assert desk.engine.served.stage.name == "finetune_moe"


def test_what_another_process_forgot_is_noticed(trained: Settings) -> None:
    from fedmem.core.data.forgotten import forget

    desk = desk_of(trained)
    served = desk.engine.served
    item = served.item_ids[served.node.interactions.history(4)[0]]
    forget(trained.data, "5", item)
    assert desk.engine.refresh()
    assert desk.engine.reloads == 0
    left = [desk.engine.served.item_ids[i] for i in desk.engine.served.node.interactions.history(4)]
    assert item not in left


def image_bytes(kind: str = "PNG", size: tuple[int, int] = (900, 600)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_come_small_from_a_folder_or_a_zip(
    packed: bool, trained: Settings, tmp_path: Path
) -> None:
    files = {"5.png": image_bytes(), "7.jpg": b"no picture", "notes.txt": b"x", "6.JPEG": b""}
    place = tmp_path / ("covers.zip" if packed else "covers")
    if packed:
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"inside/{name}", content)
    else:
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
    settings = replace(trained, data=replace(trained.data, pictures=str(place)))
    with client_of(desk_of(settings)) as client:
        answer = client.get("/items/5/picture")
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == (SIDE, SIDE * 600 // 900)
        for item in ("6", "7", "8", "notes", "..%2f5"):
            assert client.get(f"/items/{item}/picture").status_code == 404
        assert client.get("/items", params={"search": "5"}).json()[0]["picture"]
    with pytest.raises(FedmemError, match="neither a folder nor a zip"):
        Pictures(tmp_path / "none")


class Encoder:
    """Gives a text or a picture a vector of its own."""

    identity = "test"

    def __init__(self, width: int) -> None:
        self.width = width
        self.seen: list[object] = []

    def encode(self, batch):  # type: ignore[no-untyped-def]
        self.seen += batch
        generator = np.random.default_rng(len(str(batch[0])))
        return generator.normal(size=(len(batch), self.width)).astype(np.float32)


def test_texts_and_pictures_of_new_items_are_encoded_here(trained: Settings) -> None:
    encoders = Encoders(Encoder(TEXT_WIDTH), Encoder(VISUAL_WIDTH))
    with client_of(desk_of(trained, encoders=encoders)) as client:
        picture = base64.b64encode(image_bytes()).decode()
        new = {"id": "n", "title": "New", "text": " words ", "picture": picture}
        found = recommended(client, user="5", top_k=200, new_items=[new])
        assert [item["title"] for item in found if item["is_new"]] == ["New"]
        assert encoders.text.seen == ["words"]  # type: ignore[union-attr]
        assert encoders.picture.seen[0].size == (900, 600)  # type: ignore[union-attr]
        huge = image_bytes(size=(20_000, 3_000))
        for bad, words in (
            ("%%%", "cannot be read"),
            (base64.b64encode(b"no picture").decode(), "no image"),
            (base64.b64encode(image_bytes()[:200]).decode(), "cannot be read"),
            (base64.b64encode(huge).decode(), "more than 40,000,000 pixels"),
        ):
            asked = {"user": "5", "new_items": [{"id": "n", "picture": bad}]}
            answer = client.post("/recommend", json=asked)
            assert answer.status_code == 422
            assert words in answer.json()["detail"]
    with pytest.raises(FedmemError, match="text encoder gives vectors of 9 numbers"):
        desk_of(trained, encoders=Encoders(text=Encoder(9)))


def test_what_left_is_read_from_the_run_or_from_the_node(
    whole_run: WholeRun, desk: Desk, tmp_path: Path
) -> None:
    served = desk.engine.served
    run = tmp_path / "a-run"
    run.mkdir()
    lines = [
        {"stage": "pretrain_sasrec", "round": 0, "bytes_up": 7},
        {"stage": "pretrain_sasrec", "round": 1, "messages": 2, "bytes_up": 50, "bytes_down": 60},
        {"stage": "pretrain_sasrec", "round": 2, "messages": 2, "bytes_up": 50, "bytes_down": 60},
        {"stage": "align_projectors", "round": 1, "messages": 2, "bytes_up": 5, "bytes_down": 6},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (run / "metrics.jsonl").write_text(text + '{"stage": "align')  # it is being written
    found = departures(run, None, served)
    assert [(e.stage, e.rounds, e.messages, e.bytes_up, e.bytes_down) for e in found.stages] == [
        ("pretrain_sasrec", 2, 4, 100, 120),
        ("align_projectors", 1, 2, 5, 6),
    ]
    assert found.stages[1].scope == ["visual_proj", "text_proj", "align_gating"]
    assert found.epsilon is None
    with (run / "metrics.jsonl").open("a") as file:
        file.write("\n" + json.dumps({"stage": "align_projectors", "round": 2, "epsilon": 4.5}))
    found = departures(run, None, served)
    assert (found.epsilon, found.delta) == (4.5, served.node.settings.privacy.delta)
    settings = {"settings": {"privacy": {"delta": 1e-7}}}
    (run / "results.json").write_text(json.dumps(settings))
    found = departures(run, None, served)
    assert (found.epsilon, found.delta) == (4.5, 1e-7)
    noisy = asdict(Release("update", noise=3.0, times=10, rate=1.0))
    served.checkpoint = replace(served.checkpoint, released=[noisy])
    assert departures(None, None, served).epsilon == pytest.approx(
        epsilon([Release(**noisy)], served.node.settings.privacy.delta)
    )
    node = tmp_path / "node"
    note_sent(node, {"kind": "train", "stage": "pretrain_sasrec", "round": 3, "bytes": 11})
    note_sent(node, {"kind": "evaluate", "stage": "pretrain_sasrec", "round": 3, "bytes": 4})
    own = departures(run, node, served)
    assert (own.stages[0].rounds, own.stages[0].messages, own.stages[0].bytes_up) == (1, 2, 15)
    assert departures(None, None, served).stages == []
    hash_ = whole_run.checkpoints["finetune_moe"].hash
    made = Path(whole_run.settings.output_dir)
    assert find_run(made.parent, "finetune_moe", hash_) == made
    assert find_run(made.parent, "finetune_moe", "of another") is None


def test_a_real_node_writes_down_what_it_sends(
    make_settings: Callable[..., Settings], data_dir: Path, tmp_path: Path
) -> None:
    settings = make_settings("stage=pretrain_sasrec", "federation.rounds=2")
    grid = InProcessGrid(2)
    for place, context in enumerate(grid.contexts.values()):
        own = {"data": str(data_dir), "state-dir": str(tmp_path / f"state-{place}"), "threads": 1}
        context.node_config = {**context.node_config, **own}
    _, watcher, _ = run_in_process(settings, grid)
    sent = [list(read_sent(tmp_path / f"state-{place}")) for place in (0, 1)]
    trained = [record for record in watcher.records if record.round]
    for record in trained:
        own = [
            e for node in sent for e in node if (e["kind"], e["round"]) == ("train", record.round)
        ]
        assert sum(e["bytes"] for e in own) == record.bytes_up
        assert sum(e["users"] for e in own) == record.users
        assert all(e["stage"] == "pretrain_sasrec" and e["parameters"] > 1000 for e in own)
    assert any(e["kind"] == "evaluate" for node in sent for e in node)


def test_mistakes_end_the_command_in_a_line(
    capsys: pytest.CaptureFixture[str], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    taken = socket.create_server(("127.0.0.1", 0))
    for arguments, words in (
        (["--port", str(taken.getsockname()[1])], "cannot be listened on: Address already in use."),
        (["--port", "99999"], "cannot be listened on: bind(): port must be 0-65535."),
        (["--certificate", "none.pem"], "--certificate none.pem cannot be used: [Errno 2]"),
        (["--certificate", "ratings.dat", "--key", "ratings.dat"], "with --key ratings.dat cannot"),
        (["--key", "own.key"], "give --certificate FILE too"),
        (["--prot", "1"], "there is no option --prot, but --port"),
        (["checkpoint.dir=nowhere"], "There is no checkpoint of any stage in nowhere"),
        (["--token-file", "none"], "--token-file none cannot be read"),
        (["--node-config", "threads=1"], "node-config: data is missing"),
        (["--stage", "last"], "no stage 'last'"),
        (["data.picture=x"], "data.picture is no setting"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["--port", str(free_port()), *arguments, "data=ml-1m", f"data.dir={data_dir}"])
        assert ended.value.code == 2
        shown = capsys.readouterr().err
        assert words in shown
        assert len(shown.strip().splitlines()) <= 2
    taken.close()
