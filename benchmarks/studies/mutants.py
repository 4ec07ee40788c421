"""Single-line faults planted in copies of the tree, and whether the tests notice: which of them do, and a table of those that live.

    python benchmarks/studies/mutants.py [--count 60] [--seed 0] [--only solvers noise problem] [--log FILE]

A fault is one change at one place: a number changed, a comparison turned round, + and - or * and / exchanged, min and max, `and` and
`or`, a keyword argument left out, a condition negated, a minus dropped, a statement left out, a return brought forward. Places are found
in the syntax tree (texts of messages, annotations, docstrings and imports are left alone) and drawn with a seed. Each is run in a copy
of the last commit in --work against the tests that concern its module, in one process, until the first failure. A failure counts if the
test passes without the fault; a run of more than a quarter of an hour counts as noticed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INPUTS = "test_flow or test_inputs or test_wrong_measurements or test_contracts"
CLASSICAL = "test_variational or test_poisson or test_certified or test_mutants_splitting or test_ranges"
SPLITTING = "test_variational or test_certified or test_plug_and_play or (test_units_splitting and (levels or sweep or default or ends))"
BENCH = (
    "test_bench or test_bench_report or test_bench_records or test_bench_faults or test_metrics or test_bench_metrics or test_prior_report"
)


def conformance(names: str) -> str:
    """The conformance checks of some classes."""
    return f"test_conformance_solvers and test_conformance and ({names})"


def law(name: str) -> str:
    """The exact laws of a sampler, and its conformance."""
    own = "test_units_samplers or test_mutants_samplers or test_ranges"
    return f"(test_truth_samplers and {name}) or {own} or ({conformance(name.replace('_', ''))})"


QUICK, QUICK_FILES = (
    "test_mutants or test_ranges or recursion or authors or test_conformance_noises",
    (
        "test_ranges",
        "test_units_samplers",
        "test_dps",
        "test_variational",
        "test_plug_and_play",
        "test_conformance_noises",
    ),
)

# Module (beginning of its path in invsolve/) -> which tests, in pytest's -k language over the names of files and cases.
TESTS = {
    "solvers/diffusion/common": f"test_schedule or {law('ddim')} or {law('diffpir')}",
    "solvers/diffusion/ddim": law("ddim"),
    "solvers/diffusion/ddpm": law("ddpm"),
    "solvers/diffusion/ddrm": law("ddrm"),
    "solvers/diffusion/diffpir": law("diffpir"),
    "solvers/diffusion/dps": f"test_dps or test_noise_levels or {law('dps')}",
    "solvers/diffusion/heun": f"churn or {law('heun')}",
    "solvers/diffusion/score_ald": f"(test_truth_samplers and score-ald) or {law('score_ald')}",
    "solvers/diffusion/spectrum": f"test_rounding or {law('ddrm')}",
    "solvers/splitting/hqs": f"{SPLITTING} or test_mutants_splitting or test_ranges or ({conformance('HQS')})",
    "solvers/splitting/": f"{SPLITTING} or test_mutants_splitting or test_ranges or ({conformance('ADMM')})",
    "solvers/variational/": f"{CLASSICAL} or ({conformance('AdamTV or RLTV')})",
    "noise": "test_conformance_noises or test_contracts or test_mutants_problem",
    "problem": f"{INPUTS} or test_storage or test_mutants_problem",
    "bench/": f"{BENCH} or test_suite_language or test_hostile_language or test_data_sets",
    "recipe/": "test_suite_language or test_hostile_language or test_config or test_recipe_types or test_wrappers",
    "data/": "test_data_sets",
    "plugins/typed": "test_recipe_types",
    "solvers/lanczos": "test_lanczos",
    "solvers/start": "test_starts",
}

SWAPS: dict[type, str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
TURNED: dict[type, str] = {
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
NAMES = {
    "min": "max",
    "max": "min",
    "maximum": "minimum",
    "minimum": "maximum",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "any": "all",
    "all": "any",
    "amax": "amin",
    "amin": "amax",
    "mean": "sum",
    "sqrt": "square",
    "square": "sqrt",
}


@dataclass(frozen=True)
class Fault:
    """One change.

    Args:
        path: of the file, from the root.
        line: 1-based.
        start, end: columns, in bytes of that line.
        text: what stands there afterwards.
        kind: of the change.
    """

    path: str
    line: int
    start: int
    end: int
    text: str
    kind: str

    def apply(self, source: str) -> str:
        """The file with it."""
        lines = source.splitlines(keepends=True)
        raw = lines[self.line - 1].encode()
        lines[self.line - 1] = (raw[: self.start] + self.text.encode() + raw[self.end :]).decode()
        return "".join(lines)

    def shown(self, source: str) -> str:
        """`before` -> `after`."""
        before, after = (text.splitlines()[self.line - 1].strip() for text in (source, self.apply(source)))
        return f"`{before}` -> `{after}`".replace("|", "\\|")


def skipped(tree: ast.AST) -> set[int]:
    """Nodes that are no behaviour: messages of errors, annotations, texts, imports, decorators, declarations for readers."""
    out: set[int] = set()
    for node in ast.walk(tree):
        hidden: list[ast.AST] = []
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
            hidden = [node]
        elif isinstance(node, ast.AnnAssign):  # what a class declares of its own bias and lines only bounds what checks find
            hidden = [node] if ast.unparse(node.target) in ("declared_bias", "unreached") else [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            extra = [node.returns] if node.returns else []
            hidden = [*node.decorator_list, *extra, *(arg.annotation for arg in node.args.args + node.args.kwonlyargs if arg.annotation)]
            if node.name in ("examples", "__repr__", "extra_repr"):
                hidden = [node]
        elif isinstance(node, ast.ClassDef):
            hidden = [*node.decorator_list, *node.bases, *node.keywords]
        out |= {id(part) for one in hidden for part in ast.walk(one)}
    return out


def faults(path: str, source: str) -> Iterator[Fault]:
    """Every fault there can be in a file."""
    tree = ast.parse(source)
    out, lines = skipped(tree), source.splitlines()
    for node in ast.walk(tree):
        if id(node) not in out:
            for line, start, end, text, kind in changes(node, lines):
                yield Fault(path, line, start, end, text, kind)


def between(left: ast.expr, right: ast.expr, lines: list[str]) -> tuple[int, int, str] | None:
    """(start, end, text) of what stands between two operands on one line."""
    if left.end_lineno != right.lineno or left.end_col_offset is None:
        return None
    return left.end_col_offset, right.col_offset, lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()


def changes(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str, str]]:
    """(line, start, end, text, kind) of each change at a node."""
    yield from of_operators(node, lines)
    if not hasattr(node, "end_lineno") or node.lineno != node.end_lineno:  # pyright: ignore[reportAttributeAccessIssue]
        return
    line, start, end = node.lineno, node.col_offset, node.end_col_offset  # pyright: ignore[reportAttributeAccessIssue]
    own = lines[line - 1].encode()[start:end].decode()
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
        yield line, start, end, repr(new), "number"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield line, start, end, f"({ast.unparse(node.operand)})", "sign dropped" if isinstance(node.op, ast.USub) else "branch negated"
    elif isinstance(node, ast.Attribute) and node.attr in NAMES and ast.unparse(node.value) != "math":
        yield line, end - len(node.attr), end, NAMES[node.attr], "name exchanged"
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield line, start, start + len(node.func.id), NAMES[node.func.id], "name exchanged"
        for index in range(len(node.keywords)):
            if node.keywords[index].arg:
                fewer = ast.Call(node.func, node.args, [one for place, one in enumerate(node.keywords) if place != index])
                yield line, start, end, ast.unparse(fewer), "argument dropped"
    elif isinstance(node, ast.Return) and node.value is not None and own != "return None":
        yield line, start, end, "return None", "nothing returned"
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield line, start, end, "pass", "statement dropped"


def of_operators(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str, str]]:
    """Changes of what stands between operands, and conditions turned round."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not isinstance(node.left, ast.Constant | ast.JoinedStr):
        if (gap := between(node.left, node.right, lines)) and gap[2].strip(" ()") in "+-*/":
            sign = gap[2].strip(" ()")
            yield node.right.lineno, gap[0], gap[1], gap[2].replace(sign, SWAPS[type(node.op)]), f"{sign} exchanged"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        gap = between(node.left, node.comparators[0], lines)
        if gap and not set(gap[2]) & set("()"):
            yield node.left.end_lineno or 0, gap[0], gap[1], f" {TURNED[type(node.ops[0])]} ", "comparison turned"
    elif isinstance(node, ast.BoolOp):
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        gap = between(node.values[0], node.values[1], lines)
        if gap and word in gap[2]:
            yield node.values[1].lineno, gap[0], gap[1], gap[2].replace(word, other), "and, or exchanged"
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and node.test.lineno == node.test.end_lineno:
        test = node.test
        yield test.lineno, test.col_offset, test.end_col_offset or 0, f"not ({ast.unparse(test)})", "branch negated"


def drawn(root: Path, count: int, seed: int, only: list[str]) -> list[Fault]:
    """Seeded faults: modules by their size in places, no two on one line; each must still be Python."""
    found: list[Fault] = []
    for path in sorted((root / "invsolve").rglob("*.py")):
        name = path.relative_to(root / "invsolve").as_posix()
        if tests_of(name) and any(name.startswith(one) for one in only):
            found += faults(path.relative_to(root).as_posix(), path.read_text())
    rng = random.Random(seed)
    rng.shuffle(found)
    # Every method returns something: three in four of those go, since hardly any could live.
    found = [fault for fault in found if fault.kind != "nothing returned" or rng.random() < 0.25]
    lines: set[tuple[str, int]] = set()
    chosen: list[Fault] = []
    for fault in found:
        if (fault.path, fault.line) in lines:
            continue
        try:
            compile(fault.apply((root / fault.path).read_text()), fault.path, "exec")
        except SyntaxError:
            continue
        lines.add((fault.path, fault.line))
        chosen.append(fault)
    return chosen[:count]


def tests_of(name: str) -> str:
    """The tests of a module, "" for one that is not of those looked at."""
    return next((tests for start, tests in TESTS.items() if name.startswith(start)), "")


class Copy:
    """A copy of the last commit, to spoil.

    Args:
        work: the folder; it is made anew.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "x"], cwd=work, input=packed, check=True)
        self.sound: set[str] = set()
        self.broken: set[str] = set()

    def tests(self, tests: str, quick: bool) -> list[str]:
        """pytest's arguments for the tests of a module, but those that fail without a fault."""
        found = [one for one in (self.work / "tests").rglob("test_*.py") if one.stem in tests]
        if quick:
            found = [one for one in found if one.stem.startswith("test_mutants") or one.stem in QUICK_FILES]
            tests = f"({tests}) and ({QUICK})"
        files = [str(one.relative_to(self.work)) for one in sorted(found, key=lambda one: ("conformance" in one.stem, one))]
        return ["-k", tests, *files, *(part for name in sorted(self.broken) for part in ("--deselect", name))]

    def run(self, chosen: list[str], limit: float = 900.0) -> tuple[str, list[str]]:
        """(verdict, failed cases) of tests until the first failure, in a process forked from this one: torch is there, nothing of ours."""
        command = ["-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", *chosen]
        output = self.work / "output.txt"
        child = os.fork()
        if child == 0:
            self._inside(command, output)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "endless", []
        failed = [line.split(" ")[1] for line in output.read_text().splitlines() if line.startswith(("FAILED", "ERROR"))]
        return ("lives" if os.waitstatus_to_exitcode(status) == 0 else "killed"), failed

    def _inside(self, command: list[str], output: Path) -> None:
        """The forked process: run pytest on the copy and end."""
        import pytest

        code = 3
        try:
            os.chdir(self.work)
            sys.dont_write_bytecode = True
            sys.path[:0] = [str(self.work / part) for part in ("", "operators", "plugins", "benchmarks")]
            handle = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            code = int(pytest.main(command))
        finally:
            sys.stdout.flush()
            os._exit(code)

    def try_one(self, fault: Fault, quick: bool) -> tuple[str, list[str]]:
        """The verdict on one fault; the copy is clean again afterwards. A failure counts if its test passes without the fault."""
        path = self.work / fault.path
        source = path.read_text()
        while True:
            path.write_text(fault.apply(source))
            try:
                verdict, failed = self.run(self.tests(tests_of(fault.path.removeprefix("invsolve/")), quick))
            finally:
                path.write_text(source)
            if not failed or failed[0] in self.sound:
                return verdict, failed
            if self.run(failed[:1])[0] == "lives":
                self.sound.add(failed[0])
                return verdict, failed
            self.broken.add(failed[0])


def main() -> None:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many, to go on from an earlier run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["solvers", "noise", "problem"], help="beginnings of paths in invsolve/")
    parser.add_argument("--work", type=Path, default=Path("/tmp/mutants"))
    parser.add_argument("--log", type=Path, default=Path("/tmp/mutants.log"), help="a line a fault, as they are tried")
    chosen = parser.parse_args()
    for name in ("numpy", "scipy.sparse", "torch", "hypothesis", "pydantic", "click", "matplotlib"):  # what every run needs, once
        importlib.import_module(name)
    copy = Copy(chosen.work)
    several = drawn(copy.work, chosen.count, chosen.seed, chosen.only)[chosen.skip :]
    verdicts = dict.fromkeys(several, "lives")
    with chosen.log.open("a") as log:
        for quick in (True, False):  # the quick tests on all, then the others on what they leave
            for fault in [one for one, verdict in verdicts.items() if verdict == "lives"]:
                began = time.monotonic()
                verdicts[fault], failed = copy.try_one(fault, quick)
                by, seconds = failed[0] if failed else "", time.monotonic() - began
                text = fault.shown((copy.work / fault.path).read_text())
                row = f"| {verdicts[fault]} | {fault.path}:{fault.line} | {fault.kind} | {text} | {by} | {seconds:.0f} s |"
                print(f"{'quick' if quick else 'all'} {row}", file=log, flush=True)
            lived = sum(verdict == "lives" for verdict in verdicts.values())
            print(f"{len(several)} faults, {lived} left by the {'quick' if quick else 'other'} tests", flush=True)


if __name__ == "__main__":
    main()
