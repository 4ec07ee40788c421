"""invsolve check: the public conformance checks on registered operators, priors and solvers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from invsolve.commands import Kind
from invsolve.output import line

CHECKED = ("operator", "prior", "solver")


@click.command(short_help="Run the conformance checks.")
@click.argument("kind", type=Kind(), required=False)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry of KIND, or of every kind.")
@click.option("--device", default="cpu", show_default=True, help="Where operators are checked: cpu, cuda, ...")
def check(kind: str | None, name: str | None, everything: bool, device: str) -> None:
    """Run the conformance checks on one entry (KIND NAME) or on all (--all): one line a check, exit code 1 if any fails.

    The checks of priors and solvers run on the CPU, where equality to the bit is promised; --device is for operators.
    """
    from invsolve.build import usable_device
    from invsolve.plugins import registry

    if kind is not None and kind not in CHECKED:
        raise click.UsageError(f"there are checks for {', '.join(CHECKED)}; not for {kind}")
    if everything == (name is not None) or (kind is None and not everything):
        raise click.UsageError("give KIND NAME, or [KIND] --all")
    if usable_device(device).type != "cpu" and kind != "operator":
        raise click.UsageError(f"--device {device} is for operators; the checks of priors and solvers run on the CPU")
    if everything:
        chosen = [entry for one in CHECKED if kind in (None, one) for entry in registry().of(one)]
    else:
        chosen = [registry().entry(str(kind), str(name))]
    passed, failed = 0, []
    for entry in chosen:
        for label, fault in results(entry, device, alone=not everything):
            click.echo(f"{'FAIL' if fault else 'PASS'}  {entry.kind} {entry.name}  {line(label)}{'  ' + line(fault) if fault else ''}")
            passed, failed = (passed, [*failed, label]) if fault else (passed + 1, failed)
    click.echo(f"{passed} passed, {len(failed)} failed")
    if failed or not passed:
        sys.exit(1)


def results(entry: Any, device: str, *, alone: bool) -> Iterator[tuple[str, str]]:
    """(check, fault or "") of an entry; one that cannot be loaded is a fault among many, and an error where it stands alone."""
    try:
        examples = [example.to(device) if entry.kind == "operator" else example for example in examples_of(entry)]
    except Exception as error:
        if alone:
            raise
        yield "examples", f"{type(error).__name__}: {error}"
        return
    for index, example in enumerate(examples):
        for label, run in checks_of(entry.kind, example):
            yield (f"{index} {label}" if len(examples) > 1 else label), fault_of(run, example)


def examples_of(entry: Any) -> list[Any]:
    """Instances to check; an entry that is a function is called without arguments."""
    target = entry.load()
    made = target.examples() if hasattr(target, "examples") else [target()]
    if not made:
        raise ValueError("examples() gives nothing to check")
    return list(made)


def checks_of(kind: str, example: Any) -> list[tuple[str, Callable[[Any], None]]]:
    """The checks that apply."""
    from invsolve.priors.base import Denoiser
    from invsolve.testing import denoisers, operators, solvers

    if kind == "operator":
        return operators.operator_checks(example)
    if kind == "solver":
        return solvers.solver_checks(example)
    return denoisers.denoiser_checks(example) if isinstance(example, Denoiser) else denoisers.regulariser_checks(example)


def fault_of(run: Callable[[Any], None], example: Any) -> str:
    """What is wrong, "" if nothing."""
    try:
        run(example)
    except AssertionError as error:
        return (str(error).strip().splitlines() or ["failed"])[0]
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""
