"""Which exceptions of foreign code are its own, and which are the user's; and a limit of time.

A plug-in may raise what is no Exception: SystemExit from a library, pytest's Skipped at import, KeyboardInterrupt or CancelledError by
mistake. None of them may end a program that runs other plug-ins too; Ctrl-C must.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class OutOfTimeError(BaseException):
    """A limit of time has passed. No Exception: code that catches those must not go on."""


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether Ctrl-C was pressed since: what else ends a foreign call is an error of that call.

        with watched() as interrupted:
            try:
                foreign()
            except BaseException as error:
                if interrupted():
                    raise

    A foreign call that swallows Ctrl-C is found out too: ask afterwards. Where the handler that was there raises nothing, nothing is seen.
    Signals reach the main thread alone; elsewhere it is always False.
    """
    seen = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        try:
            if callable(before):
                before(number, frame)
        except BaseException:  # a handler that raises nothing has taken care of it: a run that finishes its cell first
            seen = True
            raise

    if not in_main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, or handled outside Python: it never arrives here
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """OutOfTimeError inside once `seconds` have passed, again and again until the block ends; None sets no limit.

    Between two steps of the interpreter: a call into a library is waited for. In the main thread by the alarm signal, which ends a sleep
    too; in others by an exception that another thread sets. Where the main thread has no such signal (Windows), or something else has set
    it, nothing is limited.
    """
    if seconds is not None and not in_main_thread():
        with _limited_thread(seconds):
            yield
        return
    if seconds is None or not can_limit():
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise OutOfTimeError(f"more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    # Again every tenth of a second: foreign code may catch the first one.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), 0.1)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # once more: the alarm may have rung on the way to the line above
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _limited_thread(seconds: float) -> Iterator[None]:
    """The same for a thread that is not the main one."""
    thread, over, one_at_a_time = threading.get_ident(), threading.Event(), threading.Lock()
    put = ctypes.pythonapi.PyThreadState_SetAsyncExc
    rung = False

    def ring() -> None:
        nonlocal rung
        wait = seconds
        while not over.wait(wait):
            wait = 0.1
            with one_at_a_time:
                if not over.is_set():
                    rung = True
                    put(ctypes.c_ulong(thread), ctypes.py_object(OutOfTimeError))

    bell = threading.Thread(target=ring, name="limit of a cell", daemon=True)
    bell.start()
    try:
        yield
    finally:
        quiet = False
        while True:
            try:
                over.set()
                with one_at_a_time:  # whoever rang has rung
                    quiet = True
                # What has not arrived must: taken back by NULL, CPython would look for it for ever, in every thread and at every call,
                # and 3.11 would hang at the next function that is traced (sys.settrace).
                if rung:
                    put(ctypes.c_ulong(thread), ctypes.py_object(OutOfTimeError))
                    while True:
                        time.sleep(0)
                break
            except OutOfTimeError:
                if quiet:  # the last one
                    break


def can_limit() -> bool:
    """Whether `limited` works here and now."""
    return hasattr(signal, "setitimer") and in_main_thread() and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def in_main_thread() -> bool:
    """Signals arrive in the main thread only."""
    return threading.current_thread() is threading.main_thread()


def attempted(call: Callable[[], T], seconds: float | None = None) -> T | BaseException:
    """What a foreign call gives, or whatever it raised; Ctrl-C goes on as KeyboardInterrupt, also where the call has swallowed it.

    Args:
        call: without arguments.
        seconds: limit of time, see `limited`; OutOfTimeError is given where it has passed.
    """
    with watched() as interrupted:
        try:
            with limited(seconds):
                found: T | BaseException = call()
        except BaseException as error:
            found = error
        if interrupted():
            raise KeyboardInterrupt from (found if isinstance(found, BaseException) else None)
        return found
