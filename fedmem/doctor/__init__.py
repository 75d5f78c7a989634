"""The doctor: what people check by hand before and after a run, a line each."""

from fedmem.doctor.case import Case
from fedmem.doctor.checks import CHECKS, examine, preflight
from fedmem.doctor.finding import Finding, Level, print_findings

__all__ = ["CHECKS", "Case", "Finding", "Level", "examine", "preflight", "print_findings"]
