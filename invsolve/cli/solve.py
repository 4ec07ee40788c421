"""invsolve run: a problem from a file, solved and reported; `restore` makes its own and solves it here."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.grid import draw, rivals
from invsolve.cli.large import forget, in_pieces
from invsolve.cli.loudness import quiet
from invsolve.cli.output import clean, noting
from invsolve.cli.results import depth, destination, source, write
from invsolve.cli.wording import worded
from invsolve.errors import Note

if TYPE_CHECKING:
    from invsolve.cli.restore_tasks import Task
    from invsolve.cli.setup import Setup
    from invsolve.recipe.config import Config
    from invsolve.solution import Solution

OUT = "Result: .png, .tif, .jpg, .npy or .safetensors, or a folder with everything; NAME_restored.png if it is left out."


def print_example(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """A problem file that runs, and the end."""
    from invsolve.recipe.config import EXAMPLE

    if wanted:
        click.echo(EXAMPLE, nl=False)
        ctx.exit()


@click.command(short_help="Solve the problem in a TOML file.")
@click.argument("problem", type=click.Path(dir_okay=False))
@click.argument("overrides", nargs=-1)
@click.option(
    "--example", is_flag=True, is_eager=True, expose_value=False, callback=print_example, help="Print a problem file that runs, and stop."
)
@click.option("--seed", type=int, help="Seed of the noise and of the solver; 0 is a seed.")
@click.option("--device", help="cpu, cuda, ...")
@click.option("--out", type=click.Path(), help=OUT)
@click.option("--bits", type=int, help="Of the picture: 8 or 16 for .png; 8, 16 or 32, floats as they are, for .tif.")
@click.option("--tune", "budget", help='Choose settings first, on draws from the prior: a budget, "60s" or "5000 nfe".')
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def run(
    problem: str,
    overrides: tuple[str, ...],
    seed: int | None,
    device: str | None,
    out: str | None,
    bits: int | None,
    budget: str | None,
    as_json: bool,
) -> None:
    """Solve the PROBLEM in a TOML file; OVERRIDES are dotted, such as solver.steps=100."""
    from invsolve.recipe.config import load_config

    texts = [*overrides, *run_overrides(seed, device, out, bits), *([] if budget is None else [f"run.tune={json.dumps(budget)}"])]
    solve(load_config(problem, texts), as_json, Path(problem).stem)


def run_overrides(seed: int | None, device: str | None, out: str | None, bits: int | None) -> list[str]:
    """The options as overrides; a path on the command line starts from the current folder, not from the file's."""
    given = {"seed": seed, "bits": bits, "device": None if device is None else json.dumps(device)}
    if out is not None:
        given["out"] = json.dumps(str(Path(out).absolute()))
    return [f"run.{name}={value}" for name, value in given.items() if value is not None]


def solve(config: Config, as_json: bool, name: str, task: Task | None = None, note: str | None = None) -> None:
    """Build, look where the result can go, solve, write, report; with a task, say what the result is worth, or that nothing is to do."""
    with noting(echo=not as_json) as notes:
        tell([] if note is None else [note])
        setup, path = prepared(config, name)
        idle, grid = nothing_to_do(config, setup, task), config.run.grid
        if idle is None:
            others = [] if grid is None else rivals(config, setup, grid)  # what is misspelt is said before the work
            solution = solved(config, setup, path)
            facts, shown_part = report(setup, solution, doubt=task is None), framed(solution, config, setup)
            facts |= {"image": list(shown_part.mean.shape), "verdict": judged(setup, solution, task)}
            written = write(path, shown_part, depth(config), source(config))
            forget(path)
            written += [] if grid is None else [draw(config, setup, path, solution, others)]
        else:
            written, facts = [], {"verdict": idle}
    if as_json:
        click.echo(json.dumps({**facts, "out": written, "notes": notes}, indent=2))
        return
    if quiet():
        return
    if idle is None:
        click.echo(clean(worded(str(solution.solver))))  # pyright: ignore[reportPossiblyUnboundVariable]
    for key, value in facts.items():
        if value is not None:
            click.echo(f"{key:10} {shown(value)}")
    for one in written:
        click.echo(clean(f"{'written':10} {one}"))


def prepared(config: Config, name: str) -> tuple[Setup, Path]:
    """The objects, and where the result goes; whatever can be refused is refused before the work."""
    from invsolve.cli.doubts import boundary_doubt
    from invsolve.cli.setup import set_up
    from invsolve.predictive.budget import Budget

    if config.run.tune is not None:
        Budget.make(config.run.tune)
    setup = set_up(config)
    path = destination(config, setup, name)
    if setup.truth is None:  # a simulated measurement has the operator's own boundary
        tell(boundary_doubt(setup.problem))
    return setup, path


def solved(config: Config, setup: Setup, path: Path) -> Solution:
    """The solution, with a bar; of a large image in pieces."""
    from invsolve.callbacks import Progress

    bar, run = Progress(config.solver.name), config.run
    solution = in_pieces(config, setup, path)
    if solution is None:
        solution = setup.solver.solve(setup.problem, setup.prior, generator=run.seed, samples=run.samples, callback=bar, tune=run.tune)
    return solution


def nothing_to_do(config: Config, setup: Setup, task: Task | None) -> str | None:
    """Why there is nothing to restore; None where there is, or nobody can tell: a level that was given is meant."""
    from invsolve.cli.restore_verdict import nothing

    found = config.noise is not None and config.noise.arguments.get("sigma") == "auto"
    return nothing(setup.problem) if task is not None and (found or task.found) and setup.truth is None else None


def judged(setup: Setup, solution: Solution, task: Task | None) -> str | None:
    """The verdict on a restored photograph; none on JPEG, whose losses are no white noise."""
    from invsolve.bench.metrics import residual
    from invsolve.cli.restore_verdict import verdict

    return None if task is None or not task.white or setup.truth is not None else verdict(residual(setup.problem, solution.mean), task.what)


def framed(solution: Solution, config: Config, setup: Setup) -> Solution:
    """The part of the image that lies in the photograph's frame, where the image is larger by a kernel and `run.frame` says so."""
    if not config.run.frame:
        return solution
    from invsolve.solution import middle

    return middle(solution, *setup.problem.y.shape[-2:])  # pyright: ignore[reportAttributeAccessIssue]


def tell(doubts: list[str]) -> None:
    """Each as a warning."""
    for doubt in doubts:
        warnings.warn(doubt, Note, stacklevel=2)


def shown(value: Any) -> str:
    """Numbers short, lists with commas."""
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report(setup: Setup, solution: Solution, *, doubt: bool = True) -> dict[str, Any]:
    """Status, counts, the residual |Hx - y| / (sigma sqrt m), and the PSNR where the truth is known; per item where per item."""
    from invsolve.bench.metrics import PSNR, residual
    from invsolve.cli.doubts import residual_doubt
    from invsolve.noise import GaussianNoise
    from invsolve.problem import NoMeasurement

    measured = not isinstance(setup.problem.operator, NoMeasurement)
    left = residual(setup.problem, solution.mean) if measured else None
    tell(residual_doubt(left) if doubt else [])
    facts: dict[str, Any] = {
        "image": list(solution.mean.shape),
        "status": solution.status.value,
        "steps": solution.steps,
        "nfe": solution.nfe,
        "seconds": solution.seconds,
        "seed": solution.seed,
        "sigma": listed(setup.problem.sigma.reshape(-1)) if isinstance(setup.problem.noise, GaussianNoise) else None,
        "residual": None if left is None else listed(left),
        "psnr": None,
    }
    if setup.truth is not None:
        facts["psnr"] = listed(PSNR()(solution.mean.cpu(), setup.truth))
    return {**facts, "why": solution.why} if solution.why else facts


def listed(values: Any) -> list[float | str]:
    """A (B,) tensor as numbers that JSON can hold."""
    return [value if math.isfinite(value) else str(value) for value in values.tolist()]


def __getattr__(name: str) -> Any:
    """What stood here before `restore` had a module of its own."""
    if name not in ("Level", "asked_prior", "operator_table", "restore"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("invsolve.cli.restore"), name)
