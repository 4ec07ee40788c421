"""invsolve run and restore: one problem, from a file or from options, solved and reported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.output import clean

if TYPE_CHECKING:
    from invsolve.recipe.config import Config
    from invsolve.recipe.setup import Setup
    from invsolve.solution import Solution


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
@click.option("--out", type=click.Path(), help="Result: .png, .npy or .safetensors, or a folder with everything.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def run(problem: str, overrides: tuple[str, ...], seed: int | None, device: str | None, out: str | None, as_json: bool) -> None:
    """Solve the PROBLEM in a TOML file; OVERRIDES are dotted, such as solver.steps=100."""
    from invsolve.recipe.config import load_config

    texts = [*overrides, *run_overrides(seed, device, out)]
    solve(load_config(problem, texts), as_json)


@click.command(short_help="Restore one image.")
@click.argument("image", type=click.Path(dir_okay=False))
@click.option("--operator", required=True, help="Name of the operator; see invsolve list operator.")
@click.option("--solver", required=True, help="Name of the solver.")
@click.option("--prior", required=True, help="Name of the prior.")
@click.option(
    "--noise", type=Level(), default="0.05", show_default=True, help="Standard deviation of Gaussian noise, for images in [0, 1], or auto."
)
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="An argument, such as operator.sigma=1.5.")
@click.option("--simulate", is_flag=True, help="Degrade IMAGE first, and report the PSNR of the result.")
@click.option("--samples", type=int, help="Posterior samples; the result is their mean.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--out", type=click.Path(), help="Result: .png, .npy or .safetensors, or a folder with everything.")
@click.option("--save-config", type=click.Path(dir_okay=False), help="Write the problem file that gives the same with invsolve run.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def restore(
    image: str,
    operator: str,
    solver: str,
    prior: str,
    noise: float | str,
    settings: tuple[str, ...],
    simulate: bool,
    samples: int | None,
    seed: int,
    device: str,
    out: str | None,
    save_config: str | None,
    as_json: bool,
) -> None:
    """Restore IMAGE, which is the measurement (or, with --simulate, the truth)."""
    from invsolve.io.files import write_text
    from invsolve.recipe.config import make_config

    tables: dict[str, Any] = {
        "data": {"image": image, "simulate": simulate},
        "operator": {"name": operator},
        "noise": {"name": "gaussian", "sigma": noise} if noise else {"name": "none"},
        "prior": {"name": prior},
        "solver": {"name": solver},
        "run": {"seed": seed, "device": device, "samples": samples, "out": out},
    }
    config = make_config(tables, settings, what="restore")
    if save_config is not None:
        write_text(save_config, config.toml())
    solve(config, as_json)


def run_overrides(seed: int | None, device: str | None, out: str | None) -> list[str]:
    """The options as overrides; a path on the command line starts from the current folder, not from the file's."""
    given = {"seed": seed, "device": None if device is None else json.dumps(device)}
    if out is not None:
        given["out"] = json.dumps(str(Path(out).absolute()))
    return [f"run.{name}={value}" for name, value in given.items() if value is not None]


def solve(config: Config, as_json: bool) -> None:
    """Build, solve, report, write."""
    from invsolve.callbacks import Progress
    from invsolve.recipe.setup import set_up

    setup = set_up(config)
    solution = setup.solver.solve(
        setup.problem, setup.prior, generator=config.run.seed, samples=config.run.samples, callback=Progress(config.solver.name)
    )
    facts = report(setup, solution)
    written = [] if config.run.out is None else write(config.path(config.run.out), solution)
    if as_json:
        click.echo(json.dumps({**facts, "out": written}, indent=2))
        return
    click.echo(clean(f"{config.solver.name}: {solution.solver}"))
    for name, value in facts.items():
        if value is not None:
            click.echo(f"{name:10} {shown(value)}")
    for path in written:
        click.echo(clean(f"{'written':10} {path}"))


def shown(value: Any) -> str:
    """Numbers short, lists with commas."""
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report(setup: Setup, solution: Solution) -> dict[str, Any]:
    """Status, counts, the residual |Hx - y| / (sigma sqrt m), and the PSNR where the truth is known; per item where per item."""
    from invsolve.bench.metrics import PSNR, residual
    from invsolve.noise import GaussianNoise
    from invsolve.problem import NoMeasurement

    measured = not isinstance(setup.problem.operator, NoMeasurement)
    left = residual(setup.problem, solution.mean) if measured else None
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
    return facts


def listed(values: Any) -> list[float | str]:
    """A (B,) tensor as numbers that JSON can hold."""
    return [value if math.isfinite(value) else str(value) for value in values.tolist()]


def write(path: Path, solution: Solution) -> list[str]:
    """The mean image (one file an item), or the whole solution as a folder where the path has no suffix."""
    from invsolve.io.images import write_image

    if not path.suffix:
        solution.save(path)
        return [str(path)]
    images = solution.mean
    if len(images) == 1:
        write_image(path, images[0])
        return [str(path)]
    paths = [path.with_name(f"{path.stem}_item{item}{path.suffix}") for item in range(len(images))]
    for one, image in zip(paths, images, strict=True):
        write_image(one, image)
    return [str(one) for one in paths]
