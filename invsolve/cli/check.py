"""invsolve check: the public conformance checks on registered operators, priors, noise models and solvers."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import SkipTest

import click

from invsolve.cli.kinds import Kind
from invsolve.cli.output import line
from invsolve.plugins.interrupts import OutOfTimeError, attempted

NOTICE = 10.0  # seconds after which a check that is still running is named
CHECKED = ("operator", "prior", "noise", "solver")


@click.command(short_help="Run the conformance checks.")
@click.argument("kind", type=Kind(), required=False)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry of KIND, or of every kind.")
@click.option("-k", "pattern", default="", metavar="TEXT", help="Only the checks whose name contains TEXT, such as svd.")
@click.option("-v", "--verbose", is_flag=True, help="With --all: a line for every check, not one an entry.")
@click.option("--device", default="cpu", show_default=True, help="Where operators are checked: cpu, cuda, ...")
@click.option(
    "--limit", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True, help="Seconds that a check may take."
)
@click.option("--truth", is_flag=True, help="The page of truth of one solver in place of the checks, written to runs/truth-NAME.")
def check(
    kind: str | None, name: str | None, everything: bool, pattern: str, verbose: bool, device: str, limit: float, truth: bool
) -> None:
    """Run the conformance checks on one entry (KIND NAME) or on all (--all): PASS, FAIL with what was found, SKIP or XFAIL.

    NAME may be module:Class, a class of your own that is not registered; it is looked for in the current directory too. XFAIL is
    a failure that the class declares, with its reason (`expected_failures`); one that passes all the same is a FAIL. SKIP is a check
    that found nothing to look at. After the checks of one solver stands what they measured: its bias under Gaussian priors, behind a dense
    operator (S, G, N: strong noise) and a mask (I). A check that takes longer than a few seconds is named on stderr while it runs, and one
    that takes longer than --limit fails. Exit code 1 if any check fails, 2 for wrong use.

    The checks of priors, noise and solvers run on the CPU, where equality to the bit is promised; --device is for operators.
    """
    from invsolve.plugins import registry
    from invsolve.recipe.device import usable_device

    if kind is not None and kind not in CHECKED:
        raise click.UsageError(f"there are checks for {', '.join(CHECKED)}; not for {kind}")
    if everything == (name is not None) or (kind is None and not everything):
        raise click.UsageError("give KIND NAME, or [KIND] --all")
    if usable_device(device).type != "cpu" and kind != "operator":
        raise click.UsageError(f"--device {device} is for operators; the checks of priors, noise and solvers run on the CPU")
    if truth:
        truth_page(kind, name)
    if everything:
        chosen = [entry for one in CHECKED if kind in (None, one) for entry in registry().of(one)]
    else:
        chosen = [own_entry(str(kind), str(name)) if ":" in str(name) else registry().entry(str(kind), str(name))]
    total: Counter[str] = Counter()
    for entry in chosen:
        counts: Counter[str] = Counter()
        for label, outcome, text in results(entry, device, pattern, alone=not everything, limit=limit):
            counts[outcome] += 1
            if verbose or not everything or outcome != "PASS":
                click.echo(f"{outcome:<4}  {entry.kind} {entry.name}  {line(label)}{'  ' + line(text) if text else ''}")
        if everything and not verbose and counts["PASS"]:
            click.echo(f"PASS  {entry.kind} {entry.name}  {counts['PASS']} check{'s' * (counts['PASS'] > 1)}")
        total += counts
    if pattern and not total:
        raise click.UsageError(f"no check's name contains '{pattern}'")
    if not everything and chosen[0].kind == "solver" and pattern in "check_posterior":
        show_bias(chosen[0])
    expected = f"{total['XFAIL']} failed as expected, " if total["XFAIL"] else ""
    skipped = f"{total['SKIP']} skipped, " if total["SKIP"] else ""
    click.echo(f"{total['PASS']} passed, {skipped}{expected}{total['FAIL']} failed")
    if total["FAIL"] or not total:
        sys.exit(1)


def truth_page(kind: str | None, name: str | None) -> NoReturn:
    """How far a solver's draws are from posteriors that are known, on the problems of the leaderboard; then the end."""
    from invsolve.bench.own import own_suite
    from invsolve.plugins import registry

    suite = own_suite("truth")
    if kind != "solver" or name is None:
        raise click.UsageError("--truth is of one solver: invsolve check solver NAME --truth")
    if suite is None:
        raise click.UsageError("no suite 'truth' is installed; it comes with the package of benchmarks")
    entry = own_entry(kind, name) if ":" in name else registry().entry(kind, name)
    page, sound = suite.check(entry, Path("runs") / f"truth-{re.sub(r'[^A-Za-z0-9._-]', '-', name)}")
    click.echo(page.read_text(encoding="utf-8"))
    click.echo(f"page: {line(page)}")
    sys.exit(0 if sound else 1)


def own_entry(kind: str, target: str) -> Any:
    """module:Class as an entry that is not registered."""
    from invsolve.plugins import Entry

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return Entry(kind, target, target, "your own code")


def results(entry: Any, device: str, pattern: str, *, alone: bool, limit: float | None = None) -> Iterator[tuple[str, str, str]]:
    """(check, PASS, FAIL, SKIP or XFAIL, fault or reason) of an entry; one that cannot be loaded is a fault among many, an error alone."""
    from invsolve.testing.cases import declared

    def made() -> list[tuple[int, Any, list[tuple[str, Callable[[Any], None]]]]]:
        examples = [example.to(device) if entry.kind == "operator" else example for example in examples_of(entry)]
        return [(index, example, checks_of(entry.kind, example)) for index, example in enumerate(examples)]

    with announced(f"{entry.kind} {entry.name}  examples"):
        several = attempted(made, limit)
    if isinstance(several, SkipTest):
        yield "examples", "SKIP", str(several)
        return
    if isinstance(several, BaseException):
        if alone and isinstance(several, Exception):
            raise several
        yield "examples", "FAIL", told(several, limit)
        return
    examples = [example for _, example, _ in several]
    unused = {name for example in examples for name in declared(example)}
    for index, example, checks in several:
        for label, run in checks:
            unused.discard(label)
            if pattern in label:
                with announced(f"{entry.kind} {entry.name}  {label}"):
                    found = outcome(run, example, limit)
                yield f"{index} {label}" if len(examples) > 1 else label, *found
    for label in sorted(unused):
        yield label, "FAIL", "is among the expected failures, but applies to none of the examples: remove it"


def examples_of(entry: Any) -> list[Any]:
    """Instances to check; an entry that is a function is called without arguments, an instance is taken as it is.

    Raises:
        InputError: there are none, or they are not of the entry's kind.
        SkipTest: there are none where something is missing that the entry says it needs.
    """
    from invsolve.errors import InputError
    from invsolve.noise import NoiseModel
    from invsolve.operator import Operator
    from invsolve.priors.base import Prior
    from invsolve.solver import Solver

    wanted = {"operator": Operator, "prior": Prior, "noise": NoiseModel, "solver": Solver}[entry.kind]
    target = entry.load()
    if isinstance(target, wanted):
        made: Any = [target]
    elif isinstance(target, type) and not issubclass(target, wanted):
        raise InputError(f"{entry.target} is no {entry.kind}: a class derived from {wanted.__name__} is needed")
    else:
        made = target.examples() if hasattr(target, "examples") else [target()]
    if made == [] and entry.needs:
        raise SkipTest(f"there is nothing to check without what it needs: {entry.needs}")
    if not isinstance(made, list | tuple) or not made or not all(isinstance(one, wanted) for one in made):
        raise InputError(f"examples() of {entry.target} must give a list of at least one {wanted.__name__}; it gives {made!r:.200}")
    return list(made)


def checks_of(kind: str, example: Any) -> list[tuple[str, Callable[[Any], None]]]:
    """The checks that apply."""
    from invsolve.priors.base import Denoiser
    from invsolve.testing import denoisers, noises, operators, solvers

    if kind == "operator":
        return operators.operator_checks(example)
    if kind in ("solver", "noise"):
        return solvers.solver_checks(example) if kind == "solver" else noises.noise_checks(example)
    return denoisers.denoiser_checks(example) if isinstance(example, Denoiser) else denoisers.regulariser_checks(example)


@contextmanager
def announced(what: str) -> Iterator[None]:
    """What is running, on stderr, once it has taken a while."""

    def tell() -> None:
        click.echo(f"running: {line(what)} (for {NOTICE:g} s so far)", err=True)

    timer = threading.Timer(NOTICE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def outcome(run: Callable[[Any], None], example: Any, limit: float | None = None) -> tuple[str, str]:
    """(PASS, FAIL, SKIP or XFAIL, fault or reason) of one check."""
    from invsolve.testing.cases import ExpectedFailure

    try:
        fault = fault_of(run, example, limit)
    except SkipTest as reason:
        return "SKIP", str(reason)
    if fault:
        return "FAIL", fault
    return ("XFAIL", run.reason) if isinstance(run, ExpectedFailure) else ("PASS", "")


def show_bias(entry: Any) -> None:
    """What the solvers' check_posterior measured, example by example; nothing where that cannot be had (the checks have said why)."""
    from invsolve.testing.posterior import bias_table

    examples = attempted(lambda: examples_of(entry))
    for example in [] if isinstance(examples, BaseException) else examples:
        table = attempted(lambda one=example: bias_table(one))
        if table and not isinstance(table, BaseException):
            click.echo(f"\n{line(repr(example))}, at its default number of steps:\n" + "\n".join(table) + "\n")


def fault_of(run: Callable[[Any], None], example: Any, limit: float | None = None) -> str:
    """What is wrong, "" if nothing; SkipTest passes through, and so does Ctrl-C. Whatever else is raised is a fault."""
    error = attempted(lambda: run(example), limit)
    if isinstance(error, SkipTest):
        raise error
    return told(error, limit) if isinstance(error, BaseException) else ""


def told(error: BaseException, limit: float | None) -> str:
    """An exception in a line."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, OutOfTimeError):
        return f"it took more than {limit:g} seconds (--limit)"
    return first or "failed" if isinstance(error, AssertionError) else f"{type(error).__name__}: {first}"
