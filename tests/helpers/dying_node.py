"""Runs a SuperNode's command, and kills it before it answers its n-th message of a kind.

python dying_node.py KIND N python -m fedmem.supernode …
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from flwr.app import Context, Message, RecordDict

from fedmem.federation.deployment.warm_app import WarmApp


def main(kind: str, number: int, module: str, options: list[str]) -> None:
    answered, left = WarmApp.answer, number

    def answer_or_die(
        self: WarmApp, message: Message, context: Context
    ) -> tuple[Message, RecordDict]:
        nonlocal left
        left -= message.metadata.message_type == kind
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answered(self, message, context)

    WarmApp.answer = answer_or_die  # type: ignore[method-assign]
    sys.argv[1:] = options
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[5], sys.argv[6:])
