"""What a run shows: plain lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io

from rich.console import Console

from fedmem.runs.progress import LiveProgress, PlainProgress, clock, make_progress
from fedmem.stages import STAGES
from strategies import RoundRecord

STAGE = STAGES["pretrain_sasrec"]
TRAINED = RoundRecord("pretrain_sasrec", 1, loss=6.25)
VALIDATED = RoundRecord("pretrain_sasrec", 2, loss=5.5, validation={"sampled/HR@10": 0.625})
REFUSED = RoundRecord("pretrain_sasrec", 3, loss=5.5, refused=["node 7: too much"])


def shown(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with make_progress(console) as progress:
        assert isinstance(progress, LiveProgress if terminal else PlainProgress)
        progress.on_stage(STAGE, 4, 123, 0)
        for record in (TRAINED, VALIDATED, REFUSED):
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


def test_a_clock_rounds_to_seconds() -> None:
    assert [clock(s) for s in (0.4, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]
