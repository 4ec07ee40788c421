"""What `mutants.py` runs pytest with: a record of what tests cover, chosen tests in order, and many faults after one collection."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutant_faults import Fault

PLAIN = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow"]
LOOKED_AT = ["invsolve/solvers/*", "invsolve/noise.py", "invsolve/problem.py", "invsolve/bench/*"]


def ended(child: int, limit: float) -> int | None:
    """The exit code of a forked process that leads a group of processes, None if it had to be ended."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def forked(inside: Callable[[], int]) -> int:
    """A process forked from this one, leader of a group, which does this and ends."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setpgrp()
        code = inside()
    finally:
        sys.stdout.flush()
        os._exit(code)


def pytest_on(tree: Path, plugin: object, arguments: list[str], log: Path) -> int:
    """Run pytest with a plug-in on a copy of the project, whose modules this process has not imported."""
    os.chdir(tree)
    sys.dont_write_bytecode = True
    places = [str(tree / part) for part in ("", "operators", "plugins", "benchmarks")]
    sys.path[:0] = places
    os.environ |= {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    return int(pytest.main([*PLAIN, f"--basetemp={log.with_name('temporary')}", *arguments], plugins=[plugin]))


class Recorder:
    """Records which lines each test covers, and its seconds of processor time, as a plug-in of pytest.

    Args:
        tree: the copy of the project.
        out: the file that the record is merged into.
    """

    def __init__(self, tree: Path, out: Path) -> None:
        coverage: Any = importlib.import_module("coverage")
        self.tree, self.out = tree, out
        store = out.with_suffix(".coverage")
        store.unlink(missing_ok=True)
        self.coverage = coverage.Coverage(data_file=str(store), include=[str(tree / one) for one in LOOKED_AT])
        self.coverage.start()
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """A fixture may serve several tests: its lines are covered by the file."""
        self.coverage.switch_context(item.nodeid.partition("::")[0])
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """From here the lines are the test's own."""
        self.coverage.switch_context(item.nodeid)
        began = time.process_time()  # other programs do not count
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Those that fail are no witnesses."""
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write {test: {seconds, lines of each file}}; what only fixtures ran stands under the name of the test's file."""
        self.coverage.stop()
        data = self.coverage.get_data()
        record = json.loads(self.out.read_text()) if self.out.exists() else {}
        record |= {name: {"seconds": round(took, 4), "lines": {}} for name, took in self.seconds.items()}
        for path in data.measured_files():
            for line, contexts in data.contexts_by_lineno(path).items():
                for name in contexts:
                    found = record.setdefault(name, {"seconds": 0.0, "lines": {}})
                    found["lines"].setdefault(str(Path(path).relative_to(self.tree)), []).append(line)
        for name in self.failed:
            record.pop(name, None)
        self.out.write_text(json.dumps(record))


class Chosen:
    """Runs some tests in the order of a list, as a plug-in of pytest, and keeps the first that fails.

    Args:
        order: the tests.
        out: where the name of the first failed one is written.
    """

    def __init__(self, order: list[str], out: Path) -> None:
        self.order, self.out = {name: place for place, name in enumerate(order)}, out

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Only these, in this order."""
        items[:] = sorted((item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first failure."""
        if report.failed and not self.out.exists():
            self.out.write_text(report.nodeid)


class Server:
    """Tries faults inside functions, as a plug-in of pytest: everything is imported and collected once, and each fault has a fork of that.

    Args:
        tree: the copy of the project.
        jobs: (fault, tests in order, seconds that they may take).
        told: given the verdict on each: a fault, "lives", "killed" or "endless" ("import" where no function has it), and the failed test.
    """

    def __init__(self, tree: Path, jobs: list[tuple[Fault, list[str], float]], told: Callable[[Fault, str, str], None]) -> None:
        self.tree, self.jobs, self.told, self.failed = tree, jobs, told, ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running what was collected."""
        items = {item.nodeid: item for item in session.items}
        for path in sorted({fault.path for fault, _, _ in self.jobs}):
            importlib.import_module(path.removesuffix(".py").replace("/", "."))
        functions = [one for one in gc.get_objects() if isinstance(one, FunctionType)]
        gc.freeze()  # or every fork would copy what the collector looks at
        first = self.tree.parent / "first.txt"
        for fault, order, limit in self.jobs:
            first.unlink(missing_ok=True)
            chosen = [items[name] for name in order if name in items]
            code = ended(forked(lambda fault=fault, chosen=chosen: self._inside(fault, functions, chosen, first)), limit)
            by = first.read_text() if first.exists() else ""
            self.told(fault, {None: "endless", 0: "lives", 4: "import"}.get(code, "killed"), by)
        return True

    def _inside(self, fault: Fault, functions: list[FunctionType], chosen: list[pytest.Item], first: Path) -> int:
        if not plant(fault, functions, self.tree):
            return 4
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                first.write_text(self.failed)
                return 1
        return 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first failure."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


def plant(fault: Fault, functions: list[FunctionType], tree: Path) -> bool:
    """Give those of the functions that a module made the code that they have with a fault; False if no function differs."""
    path = tree / fault.path
    source = path.read_text()
    before, after = (codes(compile(text, str(path), "exec")) for text in (source, fault.apply(source)))
    changed = {place: code for place, code in after.items() if before.get(place) != code}
    found = 0
    for function in functions:
        if function.__code__.co_filename == str(path):
            code = changed.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
            if code is not None and code.co_freevars == function.__code__.co_freevars:
                function.__code__ = code
                found += 1
    return found > 0


def codes(module: CodeType) -> dict[tuple[str, int], CodeType]:
    """The code of every function in a module, by name and line."""
    found: dict[tuple[str, int], CodeType] = {}
    waiting = [module]
    while waiting:
        inner = [const for const in waiting.pop().co_consts if isinstance(const, CodeType)]
        found |= {(code.co_qualname, code.co_firstlineno): code for code in inner}
        waiting += inner
    return found
