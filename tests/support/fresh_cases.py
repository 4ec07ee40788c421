"""A program in a process that has run nothing else: forked from one that has only imported what all need, where that can be had."""

import contextlib
import multiprocessing
import os
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["COMMAND", "PRELOADED", "ended_fresh", "run_command", "run_fresh", "started_fresh"]

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(METHOD)
# What nearly every page imports sooner or later: once, before processes are forked. By names of installed modules: the server that is
# forked does not look into this folder, and passes over what it cannot import.
PRELOADED = ("deepinv.physics", "invsolve.bench.suite", "invsolve.solvers", "invsolve_operators", "matplotlib.figure", "torchmetrics")
CONTEXT.set_forkserver_preload(list(PRELOADED))


@dataclass
class Done:
    """What a program said, and its exit code."""

    returncode: int | None
    stdout: str
    stderr: str


def work(program, folder, out, err):
    """Run it as __main__ in a folder, its output in two files."""
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    sys.path.insert(0, "")
    torch.set_num_threads(1)
    main = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = main, ["-c"]
    try:
        exec(program, vars(main))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):
                stream.flush()


def started_fresh(program: str, folder: Path) -> Any:
    """The process of a program, which runs; `ended_fresh` waits for it. One program a folder at a time."""
    process = CONTEXT.Process(target=work, args=(program, str(folder), str(folder / ".out"), str(folder / ".err")))
    process.start()
    return process


def ended_fresh(process: Any, folder: Path, timeout: float = 300) -> Done:
    """What it said, and its exit code."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
    paths = [folder / ".out", folder / ".err"]
    texts = [path.read_text(encoding="utf-8") if path.exists() else "" for path in paths]
    for path in paths:
        path.unlink(missing_ok=True)
    return Done(process.exitcode, *texts)


def run_fresh(program: str, folder: Path, timeout: float = 300) -> Done:
    """Run a program to its end."""
    return ended_fresh(started_fresh(program, folder), folder, timeout)


COMMAND = """
import sys
sys.path[:0], sys.argv = {site!r}, {words!r}
from invsolve.cli import main
sys.exit(main())
"""


def run_command(words: list[str], folder: Path, *site: str) -> Done:
    """Run `invsolve ...` as the installed script does, with what is installed in `site`."""
    return run_fresh(COMMAND.format(site=list(site), words=words), folder)
