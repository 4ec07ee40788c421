"""Single-line faults planted in a copy of the tree, and whether the tests notice: a table of all that were tried, the living ones first.

    python benchmarks/studies/mutants.py record tests/solvers tests/bench ...    # which test covers which line, and its seconds
    python benchmarks/studies/mutants.py try --only solvers noise problem --count 140
    python benchmarks/studies/mutants.py try --only bench --count 70
    python benchmarks/studies/mutants.py again    # after `record` of new tests: those that live
    python benchmarks/studies/mutants.py report > benchmarks/results/mutants.md

Everything is kept in --work: the copy of a commit, `cover.json`, `verdicts.json`; a run that was cut off goes on where it stopped. For a
fault the tests run that cover its line, the cheap ones first, in one process, until the first failure, up to --budget seconds by the
times that `record` measured; a fault that no test covers lives. Tests that fail without a fault are no witnesses. Needs `coverage`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from mutant_faults import Fault, drawn, region

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow"]
LOOKED_AT = ["invsolve/solvers/*", "invsolve/noise.py", "invsolve/problem.py", "invsolve/bench/*"]
# What tests import, before processes are forked: everything but the project.
SHARED = [
    "torch",
    "scipy.sparse.linalg",
    "scipy.optimize",
    "deepinv",
    "torchmetrics",
    "hypothesis",
    "pydantic",
    "rich",
    "matplotlib.pyplot",
]

NOTICED = ("killed", "endless")
REASONS = Path(__file__).with_name("mutants_reasons.toml")  # the line with the fault -> why it lives
HEAD = """# Single-line faults

`benchmarks/studies/mutants.py`, seed 1: {total} faults drawn from the files of commit {commit}, of `solvers`, `noise.py` and `problem.py`,
and of `bench/`. For each the tests ran that cover its line, of `tests/solvers`, `tests/core`, `tests/bench`, `tests/cli`, `tests/io` and
the kit's checks of noises and metrics, without those marked slow. "At first" is before tests were written for what lived (`test_mutants_*`
in `tests/solvers` and `tests/bench`); "now" is with them, so that it is the rate of these faults: the rate that other faults would meet is
nearer to "at first". killed: a test failed; endless: its tests did not end in five times their time; lives: all tests that cover the line
passed; partly: those passed that fit in the budget. Every test named passes without a fault. Line numbers are those of the commit."""


class Recorder:
    """Records which lines each test covers, and its seconds, as a plug-in of pytest.

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
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Its seconds."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
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


@dataclass
class Verdict:
    """What became of one fault.

    Args:
        fault: which.
        shown: the change.
        first: killed, lives, endless or partly (all that ran in the budget passed, some did not run), before tests were written for it.
        now: the same with all tests.
        by: the test that noticed it.
        tests: how many cover it.
        seconds: that the last trial took.
    """

    fault: Fault
    shown: str
    first: str
    now: str
    by: str
    tests: int
    seconds: float

    @property
    def place(self) -> str:
        """Path in the package and line."""
        return f"{self.fault.path.removeprefix('invsolve/')}:{self.fault.line}"

    @property
    def after(self) -> str:
        """The line with the fault."""
        return self.shown.partition("` -> `")[2].rstrip("`")

    @property
    def noticed(self) -> bool:
        """Whether some test fails with it now."""
        return self.now in NOTICED


@dataclass
class Campaign:
    """A copy of the tree, what its tests cover, and the verdicts so far.

    Args:
        work: the folder of all that.
        budget: seconds of tests for one fault.
    """

    work: Path
    budget: float

    @cached_property
    def cover(self) -> dict[str, Any]:
        """What `record` found."""
        return json.loads((self.work / "cover.json").read_text())

    @property
    def tree(self) -> Path:
        """The copy."""
        return self.work / "tree"

    def prepare(self, commit: str) -> None:
        """Copy a commit, unless there is a copy."""
        if not self.tree.exists():
            self.tree.mkdir(parents=True)
            packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "x"], cwd=self.tree, input=packed, check=True)
            (self.work / "commit").write_text(subprocess.check_output(["git", "rev-parse", "--short", commit], cwd=ROOT, text=True))

    def record(self, tests: list[str]) -> None:
        """Run tests on the copy, files as they are in the project now, and merge what they cover into the record."""
        for one in tests:
            if (ROOT / one).is_file():
                shutil.copy(ROOT / one, self.tree / one)
        log = self.work / "record.txt"
        self._forked(lambda: [Recorder(self.tree, self.work / "cover.json")], [*PLAIN, *tests], log, 7200.0)
        print(log.read_text()[-3000:])

    def _forked(self, plugins: Callable[[], list[object]], arguments: list[str], log: Path, limit: float) -> int | None:
        """pytest's exit code in a process forked from this one (torch is there, nothing of the project), None if it did not end."""
        child = os.fork()
        if child == 0:
            code = 3
            try:
                os.chdir(self.tree)
                sys.dont_write_bytecode = True
                places = [str(self.tree / part) for part in ("", "operators", "plugins", "benchmarks")]
                sys.path[:0] = places
                os.environ |= {"PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
                handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                os.setpgrp()
                code = int(pytest.main(arguments, plugins=plugins()))
            finally:
                sys.stdout.flush()
                os._exit(code)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def tests_of(self, fault: Fault) -> list[str]:
        """The tests that cover a fault, cheap ones first; the hundredth case of one test waits behind the first of another."""
        order: dict[str, None] = {}
        for lines in region((self.tree / fault.path).read_text(), fault.line):
            covering = {name for name, found in self.cover.items() if not lines.isdisjoint(found["lines"].get(fault.path, []))}
            files = {name for name in covering if name and "::" not in name}
            own = self._cheap_first(name for name in covering if "::" in name)
            order |= dict.fromkeys(own)
            order |= dict.fromkeys(self._cheap_first(name for name in self.cover if "::" in name and name.partition("::")[0] in files))
        return list(order)

    def _cheap_first(self, names: Iterator[str]) -> list[str]:
        cases: Counter[str] = Counter()
        price: dict[str, float] = {}
        for name in sorted(names, key=lambda name: (self.cover[name]["seconds"], name)):
            test = name.partition("[")[0]
            cases[test] += 1
            price[name] = (0.01 + self.cover[name]["seconds"]) * cases[test]
        return sorted(price, key=lambda name: (price[name], name))

    def forget(self, test: str) -> None:
        """Leave a test out from now on."""
        self.cover.pop(test)
        (self.work / "cover.json").write_text(json.dumps(self.cover))

    def run(self, tests: list[str], budget: float | None = None) -> tuple[str, str]:
        """(verdict, the test that failed first) of tests on the copy as it is, those that the budget allows."""
        budget = self.budget if budget is None else budget
        took, order = 0.0, []
        for name in tests:
            took += self.cover[name]["seconds"]
            if took > budget and order:
                break
            order.append(name)
        if not order:
            return "lives", ""
        first = self.work / "first.txt"
        first.unlink(missing_ok=True)
        files = list(dict.fromkeys(name.partition("::")[0] for name in order))
        code = self._forked(lambda: [Chosen(order, first)], [*PLAIN, "-x", *files], self.work / "output.txt", 120 + 5 * min(took, budget))
        if code is None:
            return "endless", first.read_text() if first.exists() else ""
        if code != 0:
            return "killed", first.read_text() if first.exists() else "collection"
        return ("lives" if len(order) == len(tests) else "partly"), ""

    def attempt(self, fault: Fault) -> Verdict:
        """One fault; the copy is clean again afterwards."""
        path = self.tree / fault.path
        source = path.read_text()
        tests, began = self.tests_of(fault), time.monotonic()
        try:
            path.write_text(fault.apply(source))
            verdict, by = self.run(tests)
        finally:
            path.write_text(source)
        return Verdict(fault, fault.shown(source), verdict, verdict, by, len(tests), round(time.monotonic() - began, 1))

    def load(self) -> dict[Fault, Verdict]:
        """The verdicts so far."""
        path = self.work / "verdicts.json"
        rows = [Verdict(**{**row, "fault": Fault(**row["fault"])}) for row in (json.loads(path.read_text()) if path.exists() else [])]
        return {row.fault: row for row in rows}

    def save(self, rows: dict[Fault, Verdict]) -> None:
        """Keep them."""
        (self.work / "verdicts.json").write_text(json.dumps([asdict(row) for row in rows.values()], indent=0))


def attempt_all(campaign: Campaign, faults: list[Fault]) -> None:
    """Try faults that have no verdict yet."""
    rows = campaign.load()
    for fault in faults:
        if fault not in rows:
            row = rows[fault] = campaign.attempt(fault)
            print(f"{len(rows)} {row.now} {row.place} {row.shown} {row.by} ({row.tests} tests, {row.seconds:.0f} s)", flush=True)
            campaign.save(rows)


def again(campaign: Campaign) -> None:
    """Those that live, with the tests there are now."""
    rows = campaign.load()
    for fault, row in rows.items():
        if not row.noticed:
            rows[fault] = replace(campaign.attempt(fault), first=row.first)
            print(f"{rows[fault].now} {row.place} {row.shown} {rows[fault].by} ({rows[fault].seconds:.0f} s)", flush=True)
            campaign.save(rows)


def audit(campaign: Campaign) -> None:
    """Run all tests that noticed something on the clean copy: those that fail there are no witnesses, and their faults have no verdict."""
    rows = campaign.load()
    witnesses = list(dict.fromkeys(row.by for row in rows.values() if row.by in campaign.cover))
    while (found := campaign.run(witnesses, math.inf))[0] == "killed":
        print(f"no witness: {found[1]}", flush=True)
        witnesses.remove(found[1])
        campaign.forget(found[1])
        campaign.save(rows := {fault: row for fault, row in rows.items() if row.by != found[1]})
    print(f"{len(witnesses)} witnesses pass without a fault")


def report(campaign: Campaign) -> str:
    """The page of results."""
    rows = sorted(campaign.load().values(), key=lambda row: (row.fault.path, row.fault.line))
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    counts = ["| part | tried | noticed at first | noticed now | equivalent | rate now |", "|---|---|---|---|---|---|"]
    for part in ("solvers/", "noise.py", "problem.py", "bench/", ""):
        own = [row for row in rows if row.fault.path.removeprefix("invsolve/").startswith(part)]
        first, now = sum(row.first in NOTICED for row in own), sum(row.noticed for row in own)
        same = sum(reasons.get(row.after, "").startswith("equivalent") for row in own if not row.noticed)
        counts.append(f"| {part or 'all'} | {len(own)} | {first} | {now} | {same} | {100 * now / max(1, len(own)):.0f} % |")
    living = [
        f"- `{row.place}` ({row.fault.kind}): {row.shown}. {reasons.get(row.after, 'no reason yet')}" for row in rows if not row.noticed
    ]
    table = [f"| {row.now} | {row.place} | {row.fault.kind} | {row.shown} | {row.by.rpartition('/')[2][:90]} |" for row in rows]
    head = HEAD.format(commit=(campaign.work / "commit").read_text().strip(), total=len(rows))
    parts = [
        head,
        "\n".join(counts),
        "## What lives",
        "\n".join(living),
        "## All",
        "| | place | kind | change | noticed by |\n|---|---|---|---|---|",
    ]
    return "\n\n".join(parts) + "\n" + "\n".join(table) + "\n"


def main() -> None:
    """Record, try, try again or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "try", "again", "audit", "report"])
    parser.add_argument("tests", nargs="*", help="for record: files and folders")
    parser.add_argument("--only", nargs="*", default=["solvers", "noise", "problem", "bench"], help="beginnings of paths in invsolve/")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--commit", default="HEAD", help="what is copied when there is no copy yet")
    parser.add_argument("--work", type=Path, default=Path("/tmp/mutants"))
    asked = parser.parse_intermixed_args()
    campaign = Campaign(asked.work, asked.budget)
    campaign.prepare(asked.commit)
    if asked.what != "report":
        for name in SHARED:
            importlib.import_module(name)
    if asked.what == "record":
        campaign.record(asked.tests)
    elif asked.what == "try":
        attempt_all(campaign, drawn(campaign.tree, asked.only, asked.count, asked.seed))
    elif asked.what == "report":
        print(report(campaign), end="")
    else:
        (again if asked.what == "again" else audit)(campaign)


if __name__ == "__main__":
    main()
