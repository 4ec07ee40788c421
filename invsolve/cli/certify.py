"""invsolve certify: what can be trusted of an answer; and invsolve tune of a problem's file: settings chosen on draws from its prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from invsolve.cli.loudness import quiet
from invsolve.cli.output import clean, line, noting, print_json, print_table
from invsolve.cli.wording import worded
from invsolve.errors import InputError

if TYPE_CHECKING:
    from invsolve.cli.setup import Setup
    from invsolve.predictive import Certificate, Trial, Tuning
    from invsolve.recipe.config import Config


@click.command(short_help="What can be trusted of the answer to the problem in a TOML file.")
@click.argument("problem", type=click.Path(dir_okay=False))
@click.argument("overrides", nargs=-1)
@click.option("--level", type=float, default=0.9, show_default=True, help="Of the intervals.")
@click.option("--samples", type=click.IntRange(min=1), help="Of the answer and of each draw; run.samples or 4 unless said.")
@click.option("--draws", type=click.IntRange(min=1), default=19, show_default=True, help="How many; 90 % needs 9.")
@click.option("--pool", help="In place of draws from the prior: a folder of pictures, or another prior, such as natural.")
@click.option("--held", type=click.Path(exists=True), help="A folder of pictures to hold the intervals against.")
@click.option("--side", type=click.IntRange(min=8), default=64, show_default=True, help="Of the window that stands for a large image.")
@click.option("--cache", type=click.Path(file_okay=False), help="A folder that draws are kept in.")
@click.option("--seed", type=int, help="Seed of everything; 0 is a seed.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder of page and pictures; NAME_certificate unless said.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def certify(
    problem: str, overrides: tuple[str, ...], samples: int | None, seed: int | None, out: str | None, as_json: bool, **options: Any
) -> None:
    """Solve the PROBLEM in a TOML file, and write a page that says what of the answer can be trusted.

    The intervals are calibrated on draws from the prior, whose truth is known, measured as yours were. Beside the page: the picture, the
    ends and the half width of the interval, what the data determine and what the prior filled in. Exit code 1: nothing is certified, the
    prior does not fit.
    """
    from invsolve.cli.setup import set_up
    from invsolve.predictive import certify as certified
    from invsolve.predictive.calibration import SAMPLES
    from invsolve.recipe.config import load_config

    with noting(echo=not as_json) as notes:
        config = load_config(problem, list(overrides))
        setup = set_up(config)
        seed, count = config.run.seed if seed is None else seed, samples or config.run.samples or SAMPLES
        tuning = chosen(config, setup, seed)
        solver, prior = (tuning.solver, tuning.prior) if tuning else (setup.solver, setup.prior)
        found = certified(setup.problem, prior, solver, samples=count, generator=seed, **options)
        found = replace(found, solution=replace(found.solution, why=tuning.why, tuning=tuning.record())) if tuning else found
        folder = Path(out) if out else Path(f"{Path(problem).stem}_certificate")
        written = write(found, folder)
    if as_json:
        facts = {name: worded(value) for name, value in found.rows()[1:]}
        print_json({"certified": found.certified, "said": worded(found.said), **facts, "out": written, "notes": notes})
    elif not quiet():
        click.echo(clean(worded(found.text())))
        for one in written:
            click.echo(f"written  {clean(one)}")
    if not found.certified:
        raise SystemExit(1)


def chosen(config: Config, setup: Setup, seed: int) -> Tuning | None:
    """What run.tune chooses, as `run` would; None without it."""
    from invsolve.plugins import registry

    if config.run.tune is None:
        return None
    options = {"generator": seed, "samples": config.run.samples}
    return registry().tuned(setup.solver, setup.problem, setup.prior, config.run.tune, options)


def write(found: Certificate, folder: Path) -> list[str]:
    """The page and the pictures of the first item."""
    from invsolve.io.files import make_folder
    from invsolve.io.writing import write_image

    make_folder(folder)
    low, high = found.interval()
    images = {"restored": found.solution.mean, "low": low, "high": high, "half_width": (high - low) / 2}
    parted = found.open or found.null
    if parted is not None:
        images |= {"determined": parted.determined + parted.centre, "filled_in": parted.filled}
    written = [folder / "certificate.html"]
    found.save(written[0])
    for name, image in images.items():
        pictures = image.ndim == 4 and image.shape[1] in (1, 3)
        suffix = ".npy" if not pictures else ".png" if name in ("restored", "determined") else ".tif"
        written.append(folder / f"{name}{suffix}")
        write_image(written[-1], image[0])
    return [str(one) for one in written]


def is_problem(path: str) -> bool:
    """Whether a TOML file is one of a problem: a suite has a list of solvers."""
    from invsolve.recipe.tables import read_toml

    file = Path(path)
    if file.suffix != ".toml":
        return False
    values = read_toml(file, "problem or suite")[0]
    return not isinstance(values.get("solver"), list) and "include" not in values


def tune_problem(path: str, solver: str | None, save: str | None, options: dict[str, Any]) -> None:
    """Choose settings for the problem in a file, say them, and write them as a preset where one is wanted."""
    from invsolve.cli.setup import set_up
    from invsolve.predictive import tune
    from invsolve.recipe.config import load_config

    setup = set_up(load_config(path, []))
    found = tune(setup.problem, setup.prior, setup.solver if solver is None else solver, callback=told, **options)
    target = Path(save) if save else Path(f"{Path(path).stem}_tuned.toml")
    found.save(target)
    if quiet():
        return
    print_table(("setting", found.for_, "draws", "evaluations each"), list(rows(found)))
    click.echo(clean(worded(found.why)))
    click.echo(clean(worded(found.fit.said)))
    click.echo(f"preset: {line(target)}; a suite's solver names it: preset = '{line(target.name)}'")


def refuse_options(names: dict[str, str], of: str) -> None:
    """Raise InputError where an option was given that means nothing here; names of parameters and how they are written.

    Raises:
        InputError: says which.
    """
    context = click.get_current_context()
    given = [text for name, text in names.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise InputError(f"{', '.join(given)} means nothing for {of}: invsolve tune --help says what is for which")


def told(trial: Trial) -> None:
    """A line of progress."""
    if not quiet():
        click.echo(f"{line(trial.label)}: {trial.score:.4g} on {len(trial.scores)} draws", err=True)


def rows(found: Tuning, most: int = 10) -> list[tuple[str, ...]]:
    """The trials, those first that saw most draws, the better first; what was given is among them."""
    ranked = sorted(found.trials, key=lambda one: (bool(one.reason), -len(one.scores), -one.score))
    shown = ranked[:most] if found.trials[0] in ranked[:most] else [*ranked[: most - 1], found.trials[0]]
    return [
        (one.label, one.reason or ("not tried" if not one.scores else f"{one.score:.4f}"), str(len(one.scores)), f"{one.nfe:g}")
        for one in shown
    ]
