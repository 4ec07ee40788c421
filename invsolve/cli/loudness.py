"""How much is said: -q, -v and --log FILE, which the program and each of its commands take.

Quiet is a sieve on stderr: whatever draws a bar or writes a note there need not know of it. A log is a copy of what was said, with the
time, and of what was not: log messages and tracebacks.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import click

LOG = logging.getLogger("invsolve")
KEY = "invsolve.loudness"
SHOUTED = ("Error", "Usage", "Traceback")  # how what even a quiet program says begins
TIMED = "%(asctime)s %(levelname)s %(message)s"
OPTIONS: dict[str, dict[str, Any]] = {
    "quiet": {"flags": ("-q", "--quiet"), "is_flag": True, "help": "No bars, no notes, no report: errors and what was asked for."},
    "verbose": {"flags": ("-v", "--verbose"), "is_flag": True, "help": "Say what is done, how long it took and how much memory."},
    "log": {"flags": ("--log",), "type": click.Path(dir_okay=False), "help": "Append everything that is said, and more, to this file."},
}


class Told:
    """A stream whose lines are copied to the log, and of which a quiet program shows the errors only.

    Args:
        stream: where they go.
        quiet: show errors only.
        log: whether there is a log file that wants them.
    """

    def __init__(self, stream: TextIO, *, quiet: bool, log: bool) -> None:
        self.stream, self.quiet, self.log = stream, quiet, log
        self.half = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        """Whether a bar makes sense."""
        return not self.quiet and self.stream.isatty()

    def write(self, text: str) -> int:
        """Show it, unless it is kept quiet, and keep whole lines for the log; a bar (carriage returns) is none."""
        if not isinstance(text, str):  # click asks in this way whether a stream takes bytes
            raise TypeError("text only")
        *lines, self.half = (self.half + text).split("\n")
        for line in lines if self.log else ():
            if line.strip() and "\r" not in line:
                LOG.info("%s", line, extra={"said": True})
        return self.stream.write(text) if not self.quiet or text.startswith(SHOUTED) else len(text)


def loud(command: click.Command) -> click.Command:
    """The command, and all below it, with -q, -v and --log, where it has no options of these names itself."""
    taken = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts, param.name)}
    for name, settings in OPTIONS.items():
        free = [flag for flag in settings["flags"] if flag not in taken]
        if free and name not in taken:
            more = {key: value for key, value in settings.items() if key != "flags"}
            command.params.append(click.Option([*free, name], expose_value=False, callback=chosen(name), **more))
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        loud(one)
    return command


def chosen(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """What click calls with the value of an option: it holds for the rest of the program."""

    def call(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        del param
        held: dict[str, Any] = ctx.find_root().meta.setdefault(KEY, {})
        if value and not ctx.resilient_parsing and held.get(name) != value:
            held[name] = value
            ctx.find_root().with_resource(STARTED[name](value))

    return call


def quiet() -> bool:
    """Whether -q was given."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.find_root().meta.get(KEY, {}).get("quiet"))


@contextmanager
def hushed(value: bool) -> Iterator[None]:
    """stderr with errors only."""
    del value
    if isinstance(sys.stderr, Told):  # a log that was asked for first has it all the same
        sys.stderr.quiet = True
        yield
        return
    with redirect_stderr(Told(sys.stderr, quiet=True, log=False)):  # pyright: ignore[reportArgumentType]
        yield


@contextmanager
def talkative(value: bool) -> Iterator[None]:
    """Log messages on stderr, and at the end time and memory."""
    del value
    with handling(console(), logging.INFO):
        begun = time.perf_counter()
        LOG.info("invsolve %s, Python %s", version("invsolve"), sys.version.split()[0])
        try:
            yield
        finally:
            LOG.info("%.1f s%s", time.perf_counter() - begun, memory())


@contextmanager
def logged(value: str) -> Iterator[None]:
    """A file that is written on."""
    try:
        handler = logging.FileHandler(value, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--log {value} cannot be written: {error.strerror}") from None
    handler.setFormatter(logging.Formatter(TIMED))
    out, err = (Told(one, quiet=False, log=True) for one in (sys.stdout, sys.stderr))
    with handling(handler, logging.DEBUG), redirect_stdout(out), redirect_stderr(err):  # pyright: ignore[reportArgumentType]
        begun = time.perf_counter()
        LOG.info("invsolve %s in %s: %s", version("invsolve"), Path.cwd(), " ".join(sys.argv[1:]))
        try:
            yield
        finally:
            LOG.info("ended after %.1f s%s", time.perf_counter() - begun, memory())


STARTED: dict[str, Callable[[Any], Any]] = {"quiet": hushed, "verbose": talkative, "log": logged}


def console() -> logging.Handler:
    """A handler for stderr itself: what goes through `Told` comes back as a message, and is shown already."""
    handler = logging.StreamHandler(sys.stderr.stream if isinstance(sys.stderr, Told) else sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: not hasattr(record, "said"))
    return handler


@contextmanager
def handling(handler: logging.Handler, level: int) -> Iterator[None]:
    """The handler on our log, from a level on, and both as they were afterwards."""
    before = LOG.level
    handler.setLevel(level)
    LOG.addHandler(handler)
    LOG.setLevel(min(level, before or logging.WARNING))
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(before)
        handler.close()


def memory() -> str:
    """How much memory the program has held at most, where the system says it."""
    try:
        import resource
    except ImportError:  # not on Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f", at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:.0f} MB"
