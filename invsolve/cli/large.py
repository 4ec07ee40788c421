"""Photographs too large for one piece: solved in several, with the time said beforehand, and gone on with where they were stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from invsolve.errors import CapabilityError, CompatibilityError, InputError

if TYPE_CHECKING:
    from invsolve.cli.setup import Setup
    from invsolve.priors.base import Prior
    from invsolve.recipe.config import Config
    from invsolve.solution import Solution

LARGE = 2_000_000  # pixels of an image from which on it is cut: .5 to 1 GB a million in one piece


def in_pieces(config: Config, setup: Setup, path: Path) -> Solution | None:
    """The solution of a large image; None of a small one, and where operator, solver or prior ask for the whole image."""
    from invsolve.callbacks import Progress
    from invsolve.cli.solve import tell
    from invsolve.tiles.forecast import forecast
    from invsolve.tiles.run import Large, plan, solve_tiled

    shape = setup.problem.operator.in_shape
    if len(shape) != 3 or shape[1] * shape[2] < LARGE:
        return None
    try:
        large = Large.of(setup.problem)
        plan(setup.solver, large, setup.prior)
    except (CapabilityError, CompatibilityError, InputError) as error:
        tell([f"a large image, in one piece all the same: {error}"])
        return None
    prior, folder, run = fast(config, setup), kept(path), config.run
    if not folder.exists():
        expected = forecast(setup.solver, large, prior, samples=run.samples)
        tell([f"a large image: {expected}; stopped, it goes on from {folder} with the same line"])
    bar = Progress(config.solver.name)
    return solve_tiled(setup.solver, large, prior, generator=run.seed, samples=run.samples, callback=bar, checkpoint=folder)


def fast(config: Config, setup: Setup) -> Prior:
    """The prior with its network in bfloat16 where the processor multiplies it, unless a precision was given."""
    from invsolve.cli.setup import make_prior
    from invsolve.plugins import registry
    from invsolve.plugins.arguments import signature_of

    part = config.prior
    takes = signature_of(registry().load("prior", part.name)).parameters
    if "precision" in part.arguments or "precision" not in takes:
        return setup.prior
    quick = type(part)(**{"name": part.name, **part.arguments, "precision": "auto"})
    return make_prior(quick, config, setup.problem.operator.in_shape[0]).to(config.run.device)


def kept(path: Path) -> Path:
    """The folder of a result's pieces, beside it."""
    return path.parent / f"{path.stem}_pieces"


def forget(path: Path) -> None:
    """Remove the pieces of a result that is written."""
    from invsolve.tiles.run import PLAN

    folder = kept(path)
    if (folder / PLAN).is_file():
        shutil.rmtree(folder, ignore_errors=True)
