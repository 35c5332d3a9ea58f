"""How `Ctrl-C` and SIGTERM end a command: once in order, in a given time; twice at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

CLOSING_SECONDS = 60
"""That a command has, from the first signal on, to write what it has and to stop its processes."""


def stop_in_order() -> None:
    """Let the first signal raise `KeyboardInterrupt`, and a second one end the process at once.

    The deadline is the kernel's: SIGALRM ends the process whatever Python waits for. Processes
    that it started end with it by themselves.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        signal.alarm(CLOSING_SECONDS)
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
