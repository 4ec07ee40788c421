"""invsolve which and noise: which solvers fit a problem, and how noisy a measurement is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.output import clean, line, print_json, print_table
from invsolve.cli.wording import worded
from invsolve.plugins.former import without

if TYPE_CHECKING:
    from invsolve.operator import Operator
    from invsolve.problem import Problem


@click.command(short_help="Which solvers fit a problem, and why the others do not.")
@click.argument("path", required=False, type=click.Path())
@click.option("--operator", help="Name of the operator, where no PATH is given.")
@click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="An argument, such as operator.sigma=1.5 or prior.weight=0.1."
)
@click.option("--shape", type=(int, int, int), default=(3, 64, 64), show_default=True, help="Channels, height and width of the image.")
@click.option("--noise", type=float, default=0.05, show_default=True, help="Standard deviation of Gaussian noise; 0 for none.")
@click.option("--prior", help="Name of the prior; without one only operator and noise count.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def which(
    path: str | None,
    operator: str | None,
    settings: tuple[str, ...],
    shape: tuple[int, int, int],
    noise: float,
    prior: str | None,
    as_json: bool,
) -> None:
    """Every installed solver: fits, or why not and what would make it fit.

    The problem is PATH, a problem file or the folder of a saved problem, or the --operator on a grey image.
    """
    from invsolve.which import known_doors, which_solvers

    if (path is None) == (operator is None):
        raise click.UsageError("give PATH (a problem file or a saved problem) or --operator NAME")
    problem, chosen = from_path(str(path), prior, settings) if path is not None else made(str(operator), settings, shape, noise, prior)
    fits = which_solvers(problem, chosen)
    if as_json:
        print_json([{"solver": one.solver, "fits": one.fits, "reasons": list(one.reasons), "doors": list(one.doors)} for one in fits])
        return
    print_table(("solver", "", "why not"), [(one.solver, "fits" if one.fits else "-", worded("; ".join(one.reasons))) for one in fits])
    opened = {door: [one.solver for one in fits if door in one.doors] for one in fits for door in one.doors}
    tables = {door.code: door.table for door in known_doors()} if opened else {}
    for door, solvers in opened.items():
        click.echo(f"{line(worded(door))} in place of H gives what {', '.join(map(line, solvers))} lack{'s' if len(solvers) == 1 else ''}")
        click.echo(f"    in a file: operator = {line(tables.get(door, ''))}")


def from_path(path: str, prior: str | None, settings: tuple[str, ...]) -> tuple[Problem, Any]:
    """The problem and the prior of a problem file, or a saved problem with the named prior."""
    from invsolve.cli.setup import set_up
    from invsolve.plugins.part import prior_part
    from invsolve.problem import Problem
    from invsolve.recipe.config import load_config

    if not Path(path).is_dir():
        asked = {} if prior is None else prior_part(prior)
        full = {**asked, "path": os.path.abspath(asked["path"])} if "path" in asked else asked
        setup = set_up(load_config(path, [*settings, *(f"prior.{key}={json.dumps(value)}" for key, value in full.items())]))
        return setup.problem, setup.prior
    problem = Problem.load(path)
    return problem, None if prior is None else prior_for(prior, settings, problem.operator.in_shape[0])


def made(name: str, settings: tuple[str, ...], shape: tuple[int, ...], noise: float, prior: str | None) -> tuple[Problem, Any]:
    """The measurement of a grey image by a named operator, and the named prior."""
    import torch

    from invsolve.cli.setup import build
    from invsolve.data import Here
    from invsolve.noise import GaussianNoise, NoNoise
    from invsolve.problem import Problem
    from invsolve.recipe.config import apply_override
    from invsolve.recipe.tables import part_of

    tables: dict[str, Any] = {"operator": {"name": name}}
    for text in settings:
        apply_override(tables, text)
    operator: Operator = build("operator", part_of(tables["operator"], "operator"), Here(), in_shape=shape)
    x = torch.full((operator.batch or 1, *operator.in_shape), 0.5)
    problem = Problem.simulate(operator, x, GaussianNoise(noise) if noise else NoNoise(), generator=0, check_range=False)
    return problem, None if prior is None else prior_for(prior, settings, operator.in_shape[0])


def prior_for(name: str, settings: tuple[str, ...], channels: int) -> Any:
    """The prior by its name, with the settings that are its own, made for that many channels where it takes a number of them."""
    from invsolve.cli.setup import make_prior
    from invsolve.data import Here
    from invsolve.plugins.part import prior_part
    from invsolve.recipe.config import apply_override
    from invsolve.recipe.tables import part_of

    tables: dict[str, Any] = {"prior": prior_part(name)}
    for text in settings:
        if text.startswith("prior."):
            apply_override(tables, text)
    return make_prior(part_of(tables["prior"], "prior"), Here(), channels)


@click.command(short_help="Estimate the noise level of a measurement.")
@click.argument("image", type=click.Path(dir_okay=False))
@click.option("--operator", default="identity", show_default=True, help="Name of the operator that made it.")
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="An argument, such as operator.sigma=1.5.")
@click.option(
    "--method", type=click.Choice(["auto", "null-space", "patches", "coefficients"]), default="auto", show_default=True, help="How."
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def noise(image: str, operator: str, settings: tuple[str, ...], method: str, as_json: bool) -> None:
    """The standard deviation of white Gaussian noise in IMAGE, for images in [0, 1]."""
    from invsolve.cli.setup import set_up
    from invsolve.estimate import estimate_noise
    from invsolve.recipe.config import make_config

    tables = {
        "data": {"image": image},
        "operator": {"name": operator},
        "noise": {"name": "none"},
        "prior": {"name": "tv"},
        "solver": {"name": "adam-tv"},
    }
    problem = set_up(make_config(tables, settings, what="noise")).problem
    found = estimate_noise(problem.operator, problem.y, method=method)
    levels = [round(float(one), 6) for one in found.sigma]
    if as_json:
        print_json({"sigma": levels, "method": found.method, "count": found.count})
        return
    click.echo(clean(f"sigma {', '.join(f'{level:.4g}' for level in levels)}  ({found.method}, from {found.count} numbers or patches)"))


without(__name__, {"bare_config": 'registry().build("prior", name, **arguments): a prior is made without a configuration'})
