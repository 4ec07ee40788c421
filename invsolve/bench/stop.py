"""Ctrl-C in a run: once, the cells in flight are finished; twice, it stops now."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from invsolve.plugins.interrupts import in_main_thread


class InterruptedRunError(KeyboardInterrupt):
    """A run was stopped by Ctrl-C between two cells: what is finished is kept. No Exception, as KeyboardInterrupt is none."""


@dataclass
class Stop:
    """Whether to begin no further cell."""

    asked: bool = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Gives what the first Ctrl-C sets, with a line on stderr; the second one is what it was before, KeyboardInterrupt.

    Signals reach the main thread alone; elsewhere, and where Ctrl-C is ignored or handled outside Python, nothing is ever asked.
    """
    stop = Stop()
    before = signal.getsignal(signal.SIGINT) if in_main_thread() else None
    if not callable(before):
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked and callable(before):
            before(number, frame)
        if not stop.asked:
            stop.asked = True
            print("\nfinishing the cells in flight; Ctrl-C again stops now", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
