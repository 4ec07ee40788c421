"""Several solvers on one photograph, in one picture: restore --grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from invsolve.errors import CompatibilityError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.cli.setup import Setup
    from invsolve.recipe.config import Config
    from invsolve.solution import Solution

USUAL = "hqs/tv,diffpir,spectral"  # a classical one, a sampler with a proximal data step, and ours
ZOOM = 4  # the square that is shown larger is so many times smaller than the picture
Rival = tuple["Config", "Setup"]


def rivals(config: Config, setup: Setup, text: str) -> list[Rival]:
    """The solvers of SOLVER[/PRIOR],..., each on the same problem; one that cannot solve it is left out, and a note says why.

    Args:
        config, setup: of the run that they stand beside.
        text: as written after --grid.

    Raises:
        InputError: nothing between two commas.
        UnknownNameError: no such solver or prior.
    """
    from invsolve.cli.restore import suiting
    from invsolve.cli.setup import make_prior
    from invsolve.cli.solve import tell
    from invsolve.plugins.part import prior_part
    from invsolve.recipe.parts import build
    from invsolve.recipe.tables import Part

    found: list[Rival] = []
    for one in text.split(","):
        name, _, prior = (part.strip() for part in one.partition("/"))
        if not name:
            raise InputError(f"a grid takes SOLVER or SOLVER/PRIOR, with commas between them, such as {USUAL}; given {text!r}")
        parts = {"solver": Part.model_validate({"name": name}), "prior": Part.model_validate(prior_part(prior or suiting(name)))}
        other = config.model_copy(update={**parts, "run": config.run.model_copy(update={"tune": None})})  # the budget is the first one's
        solver = build("solver", other.solver, other)
        made = make_prior(other.prior, other, setup.problem.operator.in_shape[0]).to(config.run.device)
        gaps = solver.mismatches(setup.problem, made)
        if gaps:
            tell([f"{one.strip()} is not in the grid: {'; '.join(gaps)}"])
        elif (other.solver, other.prior) != (config.solver, config.prior):
            found.append((other, replace(setup, solver=solver, prior=made)))
    return found


def draw(config: Config, setup: Setup, path: Path, first: Solution, others: list[Rival]) -> str:
    """Solve with the others, and write the measurement, the first answer and theirs beside the result; the picture's path.

    Raises:
        InputError: the picture cannot be written.
    """
    from invsolve import plot
    from invsolve.cli.solve import framed, solved, tell
    from invsolve.operator.measurement import parts

    y = parts(setup.problem.y)[0]
    answers = {titled(config, setup, first): framed(first, config, setup).mean}
    for other, rival in others:
        try:
            solution = solved(other, rival, path.with_name(f"{path.stem}_{other.solver.name}{path.suffix}"))
        except (CompatibilityError, InputError) as error:
            tell([f"{other.solver.name} is not in the grid: {error}"])
            continue
        answers[titled(other, rival, solution)] = framed(solution, config, setup).mean
    shown = next(iter(answers.values()))
    given = {"given": y} if y.shape == shown.shape else {}
    place = path.with_name(f"{path.stem.removesuffix('_restored')}_grid.png")
    plot.compare({**given, **answers}, zoom=liveliest(shown[0])).save(place)
    return str(place)


def titled(config: Config, setup: Setup, solution: Solution) -> str:
    """Who, at what cost, and how much of the noise is left over."""
    from invsolve.bench.metrics import residual

    left = residual(setup.problem, solution.mean)
    explains = "" if left is None else f", residual {float(left[0]):.2f}"
    return f"{config.solver.name}, {Path(config.prior.name).name}\n{solution.nfe} evaluations, {solution.seconds:.1f} s{explains}"


def liveliest(image: Tensor) -> tuple[int, int, int] | None:
    """(top, left, side) of the square with the most going on, a quarter of the image's shorter side; None of a small image."""
    from torch.nn.functional import avg_pool2d

    side = min(image.shape[-2:]) // ZOOM
    if side < 8:
        return None
    steps = image.float().mean(0)
    steps = steps[1:, 1:].sub(steps[:-1, 1:]).square() + steps[1:, 1:].sub(steps[1:, :-1]).square()
    sums = avg_pool2d(steps[None, None], side - 1, stride=max(1, side // 8))[0, 0]
    row, column = divmod(int(sums.argmax()), sums.shape[1])
    return row * max(1, side // 8), column * max(1, side // 8), side
