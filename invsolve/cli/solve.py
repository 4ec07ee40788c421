"""invsolve run and restore: one problem, from a file or from options, solved and reported."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.loudness import quiet
from invsolve.cli.output import clean, noting, refuse_source
from invsolve.cli.results import destination, write
from invsolve.cli.wording import worded
from invsolve.errors import InputError, Note

if TYPE_CHECKING:
    from invsolve.cli.setup import Setup
    from invsolve.recipe.config import Config
    from invsolve.solution import Solution

OUT = "Result: .png, .tif, .npy or .safetensors, or a folder with everything; NAME_restored.png if it is left out."


class Level(click.ParamType):
    """A number, or auto."""

    name = "level"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number; auto as it is."""
        try:
            return value if value == "auto" else float(value)
        except (TypeError, ValueError):
            self.fail(f"a noise level is a number, or auto; given {value!r}", param, ctx)


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
@click.option("--bits", type=int, help="Of the picture: 8 or (grey) 16 for .png; 8, 16 or 32, floats as they are, for .tif.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def run(
    problem: str, overrides: tuple[str, ...], seed: int | None, device: str | None, out: str | None, bits: int | None, as_json: bool
) -> None:
    """Solve the PROBLEM in a TOML file; OVERRIDES are dotted, such as solver.steps=100."""
    from invsolve.recipe.config import load_config

    texts = [*overrides, *run_overrides(seed, device, out, bits)]
    solve(load_config(problem, texts), as_json, Path(problem).stem)


def asked_prior(solver: str) -> str:
    """The prior of a solver that asks none; for the others it is missing."""
    from invsolve.plugins import registry

    requires = getattr(registry().load("solver", solver), "requires", None)
    if requires is not None and not requires.asks_prior:
        return "gaussian"
    raise click.UsageError(f"Missing option '--prior': solver {solver} asks for one; invsolve list prior shows them.")


@click.command(short_help="Restore one image.")
@click.argument("image", type=click.Path(dir_okay=False))
@click.option(
    "--operator",
    required=True,
    help="Name of the operator, see invsolve list operator; outer/inner for one made of another; or a TOML table.",
)
@click.option("--solver", required=True, help="Name of the solver.")
@click.option("--prior", help="Name of the prior, or the path of a weight file; a solver such as bicubic asks none.")
@click.option(
    "--noise", type=Level(), default="0.05", show_default=True, help="Standard deviation of Gaussian noise, for images in [0, 1], or auto."
)
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="An argument, such as operator.sigma=1.5.")
@click.option("--simulate", is_flag=True, help="Degrade IMAGE first, and report the PSNR of the result.")
@click.option("--samples", type=int, help="Posterior samples; the result is their mean.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--out", type=click.Path(), help=OUT)
@click.option("--bits", type=int, help="Of the picture: 8 or (grey) 16 for .png; 8, 16 or 32, floats as they are, for .tif.")
@click.option("--save-config", type=click.Path(dir_okay=False), help="Write the problem file that gives the same with invsolve run.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def restore(
    image: str,
    operator: str,
    solver: str,
    prior: str | None,
    noise: float | str,
    settings: tuple[str, ...],
    simulate: bool,
    samples: int | None,
    seed: int,
    device: str,
    out: str | None,
    bits: int | None,
    save_config: str | None,
    as_json: bool,
) -> None:
    """Restore IMAGE, which is the measurement (or, with --simulate, the truth).

    The scene of a photograph goes on beyond its frame: take an operator with a boundary, not a circular one. A Gaussian blur:

    \b
      invsolve restore photo.png --operator separable-gaussian-blur \\
          --set operator.sigma=2 --set operator.boundary=symmetric \\
          --noise auto --solver hqs --prior dncnn

    Any other kernel, from a picture or an array; nothing is said of what lies beyond the frame, so that the result is larger by the
    kernel:

    \b
      invsolve restore photo.png --operator iterative-prox/padded-file-blur \\
          --set operator.operator.path=kernel.png --set operator.tol=1e-4 \\
          --noise auto --solver hqs --prior dncnn
    """
    from invsolve.io.files import write_text
    from invsolve.plugins.part import prior_part
    from invsolve.recipe.config import make_config

    refuse_source(out, image, "the result")
    tables: dict[str, Any] = {
        "data": {"image": image, "simulate": simulate},
        "operator": operator_table(operator),
        "noise": {"name": "gaussian", "sigma": noise} if noise else {"name": "none"},
        "prior": prior_part(asked_prior(solver) if prior is None else prior),
        "solver": {"name": solver},
        "run": {"seed": seed, "device": device, "samples": samples, "out": out, "bits": bits},
    }
    config = make_config(tables, settings, what="restore")
    if save_config is not None:
        write_text(save_config, config.toml())
    solve(config, as_json, Path(image).stem)


def operator_table(text: str) -> Any:
    """The table of a name; of outer/inner, where outer is made of inner; or what is written as TOML: { name = ... } or a list of them.

    Raises:
        InputError: looks like TOML and is none, or an empty name.
    """
    from invsolve.recipe.config import parse_value

    text = text.strip()
    if text.startswith(("{", "[")):
        value = parse_value(text)
        if isinstance(value, str):
            raise InputError(f'--operator {text} is no table; it reads {{ name = "gaussian-blur", sigma = 1.5 }}, or a list of such')
        return value
    outer, slash, inner = text.partition("/")
    if slash and not (outer and inner):
        raise InputError(
            f"--operator {text} names nothing on one side of the /; it reads outer/inner, such as iterative-prox/padded-file-blur"
        )
    return {"name": outer, "operator": operator_table(inner)} if slash else {"name": outer}


def run_overrides(seed: int | None, device: str | None, out: str | None, bits: int | None) -> list[str]:
    """The options as overrides; a path on the command line starts from the current folder, not from the file's."""
    given = {"seed": seed, "bits": bits, "device": None if device is None else json.dumps(device)}
    if out is not None:
        given["out"] = json.dumps(str(Path(out).absolute()))
    return [f"run.{name}={value}" for name, value in given.items() if value is not None]


def solve(config: Config, as_json: bool, name: str) -> None:
    """Build, look where the result can go, solve, write, report."""
    with noting(echo=not as_json) as notes:
        setup, solution, path = answer(config, name)
        written = write(path, solution, config.run.bits)
        facts = report(setup, solution)
    if as_json:
        click.echo(json.dumps({**facts, "out": written, "notes": notes}, indent=2))
        return
    if quiet():
        return
    click.echo(clean(worded(str(solution.solver))))
    for key, value in facts.items():
        if value is not None:
            click.echo(f"{key:10} {shown(value)}")
    for one in written:
        click.echo(clean(f"{'written':10} {one}"))


def answer(config: Config, name: str) -> tuple[Setup, Solution, Path]:
    """The solution, and where it goes; whatever can be refused is refused before the work."""
    from invsolve.callbacks import Progress
    from invsolve.cli.doubts import boundary_doubt
    from invsolve.cli.setup import set_up

    setup = set_up(config)
    path = destination(config, setup, name)
    if setup.truth is None:  # a simulated measurement has the operator's own boundary
        tell(boundary_doubt(setup.problem))
    solution = setup.solver.solve(
        setup.problem, setup.prior, generator=config.run.seed, samples=config.run.samples, callback=Progress(config.solver.name)
    )
    return setup, solution, path


def tell(doubts: list[str]) -> None:
    """Each as a warning."""
    for doubt in doubts:
        warnings.warn(doubt, Note, stacklevel=2)


def shown(value: Any) -> str:
    """Numbers short, lists with commas."""
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report(setup: Setup, solution: Solution) -> dict[str, Any]:
    """Status, counts, the residual |Hx - y| / (sigma sqrt m), and the PSNR where the truth is known; per item where per item."""
    from invsolve.bench.metrics import PSNR, residual
    from invsolve.cli.doubts import residual_doubt
    from invsolve.noise import GaussianNoise
    from invsolve.problem import NoMeasurement

    measured = not isinstance(setup.problem.operator, NoMeasurement)
    left = residual(setup.problem, solution.mean) if measured else None
    tell(residual_doubt(left))
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
