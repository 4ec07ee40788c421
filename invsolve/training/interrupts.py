"""Ctrl-C and SIGTERM that wait for the end of a step: between two steps a run can be saved exactly, within one it cannot."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Deferred:
    """While entered, notes SIGINT and SIGTERM in `received` in place of acting on them; a second Ctrl-C interrupts at once.

    Python delivers signals to the main thread only, so in another thread nothing changes. A signal that the process ignores (as
    under nohup) stays ignored. The old handlers are restored at the end.
    """

    def __init__(self) -> None:
        self.received = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Deferred:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # None is a handler that was not set from Python and could not be restored.
            self.before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
            for number in self.before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A launcher may send SIGTERM after the user's Ctrl-C: only a second Ctrl-C is a user who will not wait.
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True
