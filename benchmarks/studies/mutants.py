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
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mutant_faults import Fault, drawn, region
from mutant_tests import Chosen, Recorder, Server, ended, forked, pytest_on

ROOT = Path(__file__).resolve().parents[2]
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
and of `bench/`. For each the tests ran that cover its line, among those of {files} (none that is marked slow; the conformance checks of
solvers and operators, which would notice more, were left out for their time). The first trial of a fault had 1 to 5 seconds of its tests,
so "at first" is a lower bound: {partly} of those not noticed had tests left over. Then tests were written for what lived
(`test_mutants_rules`, `test_mutants_inputs`, `test_mutants_bench`)
and the rest tried again: "now" is the rate of these faults with them, and other faults would
meet a rate between the two. killed: a test failed; endless: its tests did not end in ten times their time; lives: all that cover the line
passed; partly: those passed that fit in the budget. Every test named passed on the tree without a fault. Line numbers are the commit's."""


@dataclass
class Verdict:
    """What became of one fault.

    Args:
        fault: which.
        shown: the change.
        first: killed, lives, endless or partly (all that ran in the budget passed, some did not run), before tests were written for it;
            import until it was tried in a process that imports it anew.
        now: the same with all tests.
        by: the test that noticed it.
        tests: how many cover it.
    """

    fault: Fault
    shown: str
    first: str
    now: str
    by: str
    tests: int

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
        ended(forked(lambda: pytest_on(self.tree, Recorder(self.tree, self.work / "cover.json"), tests, log)), math.inf)
        print(log.read_text()[-3000:])

    def tests_of(self, fault: Fault) -> list[str]:
        """The tests that cover a fault, cheap ones first; the hundredth case of one test waits behind the first of another."""
        order: dict[str, None] = {}
        regions = region((self.tree / fault.path).read_text(), fault.line)
        for lines in regions:
            covering = {name for name, found in self.cover.items() if not lines.isdisjoint(found["lines"].get(fault.path, []))}
            files = {name for name in covering if name and "::" not in name}
            own = self._cheap_first(name for name in covering if "::" in name)
            order |= dict.fromkeys(own)
            order |= dict.fromkeys(self._cheap_first(name for name in self.cover if "::" in name and name.partition("::")[0] in files))
        if len(regions) > 1:  # and the tests of constants, which often run no line of the class that holds them
            order = dict.fromkeys(self._cheap_first(name for name in self.cover if "/test_mutants_" in name and "::" in name)) | order
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

    def affordable(self, tests: list[str]) -> tuple[list[str], float]:
        """As many of the tests as the budget allows, one at least, and the seconds after which they are taken for endless."""
        took, order = 0.0, []
        for name in tests:
            took += self.cover[name]["seconds"]
            if took > self.budget and order:
                break
            order.append(name)
        return order, 60 + 10 * took

    def run(self, tests: list[str], limit: float) -> tuple[str, str]:
        """(verdict, the test that failed first) of tests on the copy as it is, in a process that imports it anew."""
        first = self.work / "first.txt"
        first.unlink(missing_ok=True)
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        log = self.work / "output.txt"
        code = ended(forked(lambda: pytest_on(self.tree, Chosen(tests, first), ["-x", *files], log)), limit)
        by = first.read_text() if first.exists() else "collection" if code else ""
        return {None: "endless", 0: "lives"}.get(code, "killed"), by

    def attempt(self, faults: list[Fault], first: bool) -> None:
        """Verdicts on faults, kept as they come; `first`: before tests were written for them."""
        rows = self.load()
        jobs = [(fault, *self.affordable(self.tests_of(fault))) for fault in faults]
        files = sorted({name.partition("::")[0] for _, order, _ in jobs for name in order})

        def told(fault: Fault, verdict: str, by: str) -> None:
            tests, source = self.tests_of(fault), (self.tree / fault.path).read_text()
            verdict = "partly" if verdict == "lives" and len(self.affordable(tests)[0]) < len(tests) else verdict
            earlier = verdict if first or fault not in rows else rows[fault].first
            row = rows[fault] = Verdict(fault, fault.shown(source), earlier, verdict, by, len(tests))
            with (self.work / "log.txt").open("a") as log:
                print(f"{len(rows)} {row.now} {row.place} {row.shown} {row.by} ({row.tests} tests)", file=log)
            self.save(rows)

        quick = [job for job in jobs if job[1]]
        ended(forked(lambda: pytest_on(self.tree, Server(self.tree, quick, told), files, self.work / "output.txt")), math.inf)
        rows = self.load()
        for fault, order, limit in jobs:
            if fault not in rows or rows[fault].now == "import":
                self.attempt_imported(fault, order, limit, told)

    def attempt_imported(self, fault: Fault, order: list[str], limit: float, told: Callable[[Fault, str, str], None]) -> None:
        """One fault in what runs when its module is imported; the copy is clean again afterwards."""
        path = self.tree / fault.path
        source = path.read_text()
        try:
            path.write_text(fault.apply(source))
            verdict, by = self.run(order, limit) if order else ("lives", "")
        finally:
            path.write_text(source)
        told(fault, verdict, by)

    def load(self) -> dict[Fault, Verdict]:
        """The verdicts so far."""
        path = self.work / "verdicts.json"
        rows = [Verdict(**{**row, "fault": Fault(**row["fault"])}) for row in (json.loads(path.read_text()) if path.exists() else [])]
        return {row.fault: row for row in rows}

    def save(self, rows: dict[Fault, Verdict]) -> None:
        """Keep them."""
        (self.work / "verdicts.json").write_text(json.dumps([asdict(row) for row in rows.values()], indent=0))


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


def shortly(test: str) -> str:
    """A test without its folder."""
    file, _, name = test.partition("::")
    return f"{Path(file).name}::{name}"[:90].replace("|", "\\|") if name else file


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
    table = [f"| {row.now} | {row.place} | {row.fault.kind} | {row.shown} | {shortly(row.by)} |" for row in rows]
    head = HEAD.format(
        commit=(campaign.work / "commit").read_text().strip(),
        total=len(rows),
        partly=sum(row.first in ("partly", "import") for row in rows),
        files=", ".join(f"`{one}`" for one in sorted({Path(name.partition("::")[0]).stem for name in campaign.cover if "::" in name})),
    )
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
    parser.add_argument("--first", action="store_true", help="for again: the tests were there before, what they notice is noticed at first")
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
        rows = campaign.load()
        faults = drawn(campaign.tree, asked.only, asked.count, asked.seed)
        campaign.attempt([fault for fault in faults if fault not in rows or rows[fault].now == "import"], first=True)
    elif asked.what == "again":
        campaign.attempt([fault for fault, row in campaign.load().items() if not row.noticed], first=asked.first)
    elif asked.what == "audit":
        audit(campaign)
    else:
        print(report(campaign), end="")


if __name__ == "__main__":
    main()
