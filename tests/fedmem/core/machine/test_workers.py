"""Workers of this machine: they answer side by side, keep what they know, and may die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.machine import workers as machine_workers
from fedmem.core.machine.workers import (
    ALLOCATOR,
    HUGE_PAGES,
    RESTARTS,
    CallError,
    Workers,
    import_ahead,
    leave_ahead,
    workers_of,
)

HERE = f"{__name__}:answer"
KEPT: list[object] = []
PREPARED: list[int] = []


def prepare() -> None:
    """What is called before they are forked."""
    PREPARED.append(os.getpid())


def answer(asked: str, value: object = None) -> object:
    """What the workers of these tests run."""
    match asked:
        case "process":
            return os.getpid(), os.getppid()
        case "prepared":
            return PREPARED
        case "variable":
            return os.environ.get(str(value or "OF_A_WORKER"))
        case "keep":
            KEPT.append(value)
            return list(KEPT)
        case "sleep":
            time.sleep(0.3)
            return os.getpid()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once":
            mark = Path(str(value))
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return "answered"
        case "mistake":
            raise FedmemError("Mend it so.")
        case "wrapped":
            raise RuntimeError("of a library") from FedmemError("Mend it so.")
    raise ValueError("nobody knows")


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with workers_of(HERE) as made:
        made.fork([{"OF_A_WORKER": "a"}, {"OF_A_WORKER": "b"}])
        yield made


def is_running(process: int) -> bool:
    """Whether it is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_is_a_process_with_variables_and_a_state_of_its_own(workers: Workers) -> None:
    assert len(workers) == 2
    assert [workers.call(worker, "variable") for worker in (0, 1, 0)] == ["a", "b", "a"]
    assert workers.call(0, "keep", 1) == [1]
    assert workers.call(1, "keep", 2) == [2]
    assert workers.call(0, "keep", 3) == [1, 3]
    (one, parent), (other, same) = (workers.call(worker, "process") for worker in (0, 1))
    assert one != other
    assert parent == same != os.getpid()


@pytest.mark.parametrize("given", [None, "glibc.malloc.tcache_count=7"])
def test_memory_is_of_huge_pages_unless_told_otherwise(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ALLOCATOR, raising=False)
    if given is not None:
        monkeypatch.setenv(ALLOCATOR, given)
    with workers_of(HERE) as made:
        made.fork([{}])
        assert made.call(0, "variable", ALLOCATOR) == (given or HUGE_PAGES)


def test_what_they_prepare_is_prepared_once_where_they_are_forked(workers: Workers) -> None:
    _, parent = workers.call(0, "process")
    assert workers.call(0, "prepared") == workers.call(1, "prepared") == [parent]


def test_where_one_is_busy_another_answers_and_more_calls_wait(workers: Workers) -> None:
    with ThreadPoolExecutor(4) as pool:
        answered = list(pool.map(lambda _: workers.call(0, "sleep"), range(4)))
    assert set(answered) == {workers.call(worker, "process")[0] for worker in (0, 1)}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("mistake", r"^Mend it so\.$"),
        ("wrapped", r"^Mend it so\.$"),
        ("what", r"^ValueError: nobody knows \(.*test_workers\.py:\d+\)$"),
    ],
)
def test_an_error_comes_back_in_a_line_and_the_worker_goes_on(
    asked: str, words: str, workers: Workers
) -> None:
    with pytest.raises(CallError, match=words):
        workers.call(0, asked)
    assert workers.call(0, "variable") == "a"


def test_signals_of_a_terminal_are_for_whoever_started_them(workers: Workers) -> None:
    process, parent = workers.call(1, "process")
    for each in (process, parent):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(each, number)
    assert workers.call(1, "process") == (process, parent)


def test_one_that_dies_is_made_again_and_asked_again(workers: Workers, tmp_path: Path) -> None:
    assert workers.call(1, "die once", str(tmp_path / "mark")) == "answered"
    assert workers.call(1, "variable") == "b"
    with pytest.raises(CallError, match=f"died {RESTARTS + 1} times"):
        workers.call(1, "die")


def test_they_end_with_the_block_whatever_they_are_doing() -> None:
    with workers_of(HERE) as made:
        made.fork([{}])
        processes = made.call(0, "process")
        assert all(map(is_running, processes))
    assert not any(map(is_running, processes))


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with workers_of("fedmem.nothing:answer") as made:  # noqa: SIM117
        with pytest.raises(FedmemError, match=r"No module named 'fedmem\.nothing'\.\n.*are free"):
            made.fork([{}])


def test_what_was_started_ahead_is_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Noted(Workers):
        def __init__(self, function: str) -> None:
            super().__init__(function)
            started.append(self)

    monkeypatch.setattr(machine_workers, "Workers", Noted)
    import_ahead(HERE)
    for known in (1, 2):
        with workers_of(HERE) as made:
            assert made is started[-1]
            assert len(started) == known
    import_ahead(HERE)
    leave_ahead()
    leave_ahead()
    assert len(started) == 3


def test_a_system_that_refuses_a_process_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    import_ahead(HERE)  # says nothing yet
    with pytest.raises(FedmemError, match=r"unavailable\.\n.*ulimit -u"), workers_of(HERE):
        pass
