"""Plan privacy, read a ledger, and attack our own uploads.

    python -m fedmem.privacy plan data=ml-1m data.dir=FOLDER privacy=central

`plan` prints the noise for several ε before any training, and how much of a round's mean it is.
`spent RUN` prints the ledger of a run. `leak` lets users of the data train, and finds their
histories in what they would send: one by one, in sums, and in all rounds of a private run. `audit`
trains with canaries, finds out which of them were in, and says what ε that shows; where it is above
the ledger's, it ends with 1. docs/privacy.md says what the figures mean.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from fedmem.core.commands import command_parser
from fedmem.core.errors import FedmemError, readable_exit

ACTIONS = ("plan", "spent", "leak", "audit")


def main() -> None:
    """The command; the first word says what to do, all but `spent` take a run's settings."""
    parser = command_parser("privacy", __doc__)
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("--users", type=int, default=50, help="users to attack (leak; 50)")
    parser.add_argument("--canaries", type=int, default=1000, help="of an audit (1000)")
    parser.add_argument("--rounds", type=int, help="of an audit's runs (those of the settings)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of an audit (1)")
    parser.add_settings()
    asked = parser.parse_with_settings()
    with readable_exit():
        act: dict[str, Callable[[], None]] = {
            "plan": lambda: _plan(asked.settings),
            "spent": lambda: _spent(asked.settings),
            "leak": lambda: _leak(asked.settings, asked.users),
            "audit": lambda: _audit(asked.settings, asked.canaries, asked.rounds, asked.seeds),
        }
        act[asked.action]()


def _plan(overrides: list[str]) -> None:
    from fedmem.privacy.plan import print_plan
    from fedmem.runs.configuration import compose_settings

    print_plan(compose_settings(overrides))


def _spent(words: list[str]) -> None:
    from fedmem.privacy.spent import print_spent

    if len(words) != 1:
        raise FedmemError("spent wants the folder of one run, such as runs/ml-1m/<time>.")
    print_spent(Path(words[0]))


def _leak(overrides: list[str], users: int) -> None:
    from fedmem.privacy.leak import print_leak
    from fedmem.runs.configuration import compose_settings

    if users < 1:
        raise FedmemError(f"--users {users}: at least one user has to be attacked.")
    print_leak(compose_settings(overrides), users)


def _audit(overrides: list[str], canaries: int, rounds: int | None, seeds: int) -> None:
    from fedmem.privacy.audit import print_audit
    from fedmem.runs.configuration import compose_settings

    logging.getLogger("flwr").setLevel(logging.ERROR)  # a line a round, of no news
    if not print_audit(compose_settings(overrides), canaries, rounds, seeds):
        sys.exit(1)


if __name__ == "__main__":
    main()
