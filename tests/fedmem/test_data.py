"""The command: what it makes of data, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedmem.data import main


def test_the_command_prints_it_and_ends_with_2_on_a_mistake(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["fedmem.data", "data=ml-1m", f"data.dir={data_dir}"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    printed, said = capfd.readouterr()
    assert "visual: 38 of 40 items" in printed
    assert said == ""
    monkeypatch.setattr(sys, "argv", [*command, "data.path=nowhere"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    assert f"looked for {data_dir / 'nowhere'}" in said
