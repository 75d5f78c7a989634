"""Findings in a terminal, a line each."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from fedmem.doctor.finding import Finding, Level

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def print_findings(findings: Iterable[Finding], console: Console) -> Level:
    """Print findings as they come; the worst of their levels."""
    worst = Level.OK
    for finding in findings:
        worst = max(worst, finding.level)
        line = Text(f"{finding.level.name.lower():<8}", STYLES[finding.level])
        line.append(f"{finding.check}: {finding.figure.removesuffix('.')}.", "default")
        if finding.advice:
            line.append(f" To do: {finding.advice}", "default")
        console.print(line, soft_wrap=True)
    return worst
