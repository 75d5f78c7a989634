"""The command: what it says of a mistake."""

from __future__ import annotations

import pytest

from fedmem.experiment.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "experiment=nonsense is unknown: choose one of amazon-beauty"),
        (["ml-100k", "--arms", "ful"], "no arm 'ful'"),
        (["ml-100k", "federation.round=3"], "federation.round is no setting"),
        (["ml-100k", "--seeds", "one"], "--seeds=one"),
        (["ml-100k", "--parallel", "0"], "--parallel=0 is out of range"),
    ],
)
def test_a_mistake_is_named_in_two_lines(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dry-run"])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert len(errors.splitlines()) <= 2
