"""When rounds are told of: while nodes work, in order, and every one whatever comes after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Message, MessageType

from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.messaging.messages import Task
from fedmem.runs.records import RoundRecord
from tests.helpers.in_process_grid import InProcessGrid, Watcher

MakeSettings = Callable[..., Settings]
STAGE = ("stage=pretrain_sasrec", "federation.nodes=1", "federation.rounds=3")


class Grid(InProcessGrid):
    """Tells which round's training is about to be asked for."""

    def __init__(self, asked: Callable[[int], None]) -> None:
        super().__init__(1)
        self._asked = asked

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        for message in sent:
            if message.metadata.message_type == MessageType.TRAIN:
                self._asked(Task.from_record(message.content).round)
        return super().push_messages(sent)


def test_a_round_is_told_of_when_the_nodes_have_been_asked_for_the_next(
    make_settings: MakeSettings,
) -> None:
    events: list[tuple[str, int]] = []

    class Telling(Watcher):
        def on_round(self, record: RoundRecord) -> None:
            events.append(("told", record.round))

    grid = Grid(lambda number: events.append(("asked", number)))
    Run(make_settings(*STAGE), [Telling()])(grid)
    first, rest = [("asked", 1), ("asked", 2), ("told", 1)], [("asked", 3), ("told", 2)]
    assert events == [*first, *rest, ("told", 3)]


def test_a_round_that_breaks_off_takes_none_before_it_along(make_settings: MakeSettings) -> None:
    def asked(number: int) -> None:
        if number == 3:
            raise ConnectionError

    settings = make_settings(*STAGE)
    with pytest.raises(ConnectionError):
        Run(settings, [])(Grid(asked))
    lines = (Path(settings.output_dir) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2]
