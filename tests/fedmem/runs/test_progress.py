"""What a run shows: plain lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from fedmem.core.stages import STAGES
from fedmem.runs.progress import LiveProgress, PlainProgress, clock, make_progress
from fedmem.runs.records import RoundRecord

STAGE = STAGES["pretrain_sasrec"]
TRAINED = RoundRecord("pretrain_sasrec", 1, last=4, loss=6.25)
VALIDATED = RoundRecord("pretrain_sasrec", 2, last=4, loss=5.5, validation={"sampled/HR@10": 0.625})
REFUSED = RoundRecord("pretrain_sasrec", 3, last=4, loss=5.5, refused=["node 7: too much"])
IMPATIENT = replace(VALIDATED, last=3)


def shown(terminal: bool, *records: RoundRecord) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with make_progress(console) as progress:
        assert isinstance(progress, LiveProgress if terminal else PlainProgress)
        progress.on_stage(STAGE, 4, 123, 0)
        for record in records or (TRAINED, VALIDATED, REFUSED):
            progress.on_round(record)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_plain_lines_tell_the_validated_rounds_and_every_refusal() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[0] == "pretrain_sasrec: 4 rounds, 123 parameters trained"
    assert lines[1] == (
        "pretrain_sasrec round 2/4  loss 5.5000  validation HR@10 0.6250  0:00 left"
    )
    assert lines[2] == "pretrain_sasrec round 3: refused node 7: too much"
    assert len(lines) == 3


def test_the_bar_tells_round_loss_and_validation() -> None:
    text = shown(terminal=True)
    assert "3/4" in text
    assert "5.5000" in text
    assert "0.6250" in text
    assert "refused node 7" in text


def test_what_a_private_run_has_spent_is_shown_in_both() -> None:
    private = replace(VALIDATED, epsilon=3.456)
    for terminal in (False, True):
        assert "ε 3.46" in shown(terminal, private)
        assert "ε" not in shown(terminal, VALIDATED)


def test_a_stage_whose_patience_has_run_out_shows_its_new_end_and_says_so_once() -> None:
    rest = RoundRecord("pretrain_sasrec", 3, last=3, loss=5.0, validation={"sampled/HR@10": 0.6})
    lines = shown(False, TRAINED, IMPATIENT, rest).splitlines()
    assert lines[1] == (
        "pretrain_sasrec round 2: patience has run out: cools down, and ends after round 3"
    )
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "pretrain_sasrec round 2/3",
        "pretrain_sasrec round 3/3",
    ]
    text = shown(True, TRAINED, IMPATIENT, rest)
    assert "3/3" in text
    assert text.count("patience has run out") == 1


def test_a_clock_rounds_to_seconds() -> None:
    assert [clock(s) for s in (0.4, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]
