"""One photograph restored for those who are not the shell, by its code and in its words.

from invsolve.cli.photograph import restore_photograph
done = restore_photograph("photo.jpg", {"blur": 1.6})
print(done.verdict, done.solution.mean.shape)
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.cli.large import LARGE
from invsolve.cli.output import noting
from invsolve.cli.restore import HAPPENED, named, tables
from invsolve.cli.restore_tasks import unsaid
from invsolve.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.solution import Solution

UNSAID: dict[str, Any] = {
    **dict.fromkeys((*HAPPENED, "operator", "solver", "prior", "noise", "samples", "out", "bits")),
    "denoise": False,
    "simulate": False,
    "seed": 0,
    "device": "cpu",
}


@dataclass(frozen=True)
class Restored:
    """A photograph and what became of it.

    Args:
        measured: (C, H, W), the part of the photograph that was worked on.
        level: of the noise, given or found; None where it is not Gaussian.
        solution: the answer in the photograph's frame, a batch of one; None where there is nothing to restore.
        verdict: what the answer is worth in words, or why there is none; None where nothing can be said.
        by: solver and prior.
        notes: what else was told on the way.
    """

    measured: Tensor
    level: float | None
    solution: Solution | None
    verdict: str | None
    by: str
    notes: tuple[str, ...] = ()


def restore_photograph(
    image: str | Path,
    said: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
    *,
    callback: Callable[[Any], Any] | None = None,
    most: int = LARGE,
) -> Restored:
    """What `invsolve restore` does, in one piece and without a file.

    Args:
        image: the photograph.
        said: restore's options, by name without dashes: {"blur": 1.6, "samples": 4}; those left out have its defaults.
        settings: as --set takes them: "solver.steps=20".
        callback: as `Solver.solve` takes it.
        most: pixels of the restored image; more are for the shell, which cuts them into pieces.

    Raises:
        InputError: an option that is not there or cannot be, two things that happened, too large a picture; what `restore` refuses.
    """
    from invsolve.cli.restore_verdict import ELSE
    from invsolve.cli.setup import set_up
    from invsolve.cli.solve import framed, judged, nothing_to_do
    from invsolve.noise import GaussianNoise
    from invsolve.operator.measurement import parts
    from invsolve.recipe.config import make_config

    said = whole(said or {})
    task = named(str(image), said)
    if task is None and said["operator"] is None:
        task = unsaid(str(image))
    config = make_config(tables(str(image), said, task), settings, what="restore")
    with noting(echo=False) as notes:
        setup = set_up(config)
        refuse_large(setup.problem.operator.in_shape, most, shell_line(image, said, settings))
        level = float(setup.problem.sigma.max()) if isinstance(setup.problem.noise, GaussianNoise) else None
        words, solution = nothing_to_do(config, setup, task), None
        if words is not None:
            words = words.removesuffix(ELSE)
        else:
            run = config.run
            solution = setup.solver.solve(setup.problem, setup.prior, generator=run.seed, samples=run.samples, callback=callback)
            words = judged(setup, solution, task)
            solution = framed(solution, config, setup)
    by = f"{config.solver.name} with {config.prior.name}"
    return Restored(parts(setup.problem.y)[0][0].cpu(), level, solution, words, by, tuple(notes))


def whole(said: dict[str, Any]) -> dict[str, Any]:
    """All options, those that were left out at their defaults.

    Raises:
        InputError: no such option.
    """
    unknown = [name for name in said if name not in UNSAID]
    if unknown:
        raise InputError(f"restore has no option --{', --'.join(unknown)}; it has --{', --'.join(UNSAID)}")
    return {**UNSAID, **said}


def refuse_large(shape: Sequence[int], most: int, line: str) -> None:
    """Raise InputError for a restored image of more than so many pixels, with the line that makes it in pieces."""
    pixels = math.prod(shape[1:])
    if pixels > most:
        raise InputError(
            f"the restored picture would have {pixels / 1e6:.1f} million pixels, and {most / 1e6:.1f} are made in one piece; "
            f"the shell cuts it into pieces: {line}"
        )


def shell_line(image: str | Path, said: dict[str, Any], settings: Sequence[str] = ()) -> str:
    """The line that does the same in a shell, files by their names alone."""
    words = ["invsolve", "restore", Path(image).name]
    for name, value in whole(said).items():
        if value is True or (name == "jpeg" and value == "file"):
            words.append(f"--{name}")
        elif value is not None and value is not False and value != UNSAID[name]:  # 0 is a number
            words += [f"--{name}", Path(value).name if name in ("kernel", "mask") else f"{value:g}" if type(value) is float else str(value)]
    for one in settings:
        words += ["--set", one]
    return shlex.join(words)


def save_restored(done: Restored, image: str | Path, path: Path) -> list[Path]:
    """Write the answer as `restore` does, with the photograph's bits, colour profile and EXIF, and the spread of samples beside it.

    Args:
        done: with a solution.
        image: the photograph.
        path: the picture; its suffix becomes .tif where a .png cannot hold the photograph's bits.
    """
    from invsolve.cli.results import named as one_each
    from invsolve.cli.results import usual_suffix, write
    from invsolve.io.images import deep_bits

    if done.solution is None:
        raise InputError("there is nothing to write: nothing was to restore")
    bits = 16 if deep_bits(Path(image)) == 16 else None
    path = path.with_suffix(usual_suffix(done.solution.mean.shape[1:], bits))
    write(path, done.solution, bits, Path(image))
    made = one_each(path, 1)
    return [one for one in (*made, path.with_name(f"{path.stem}_std.png")) if one.exists()]


def in_words(error: Exception) -> str:
    """An error as the shell says it; the traceback goes where --debug and --log send it."""
    from invsolve.cli.app import message
    from invsolve.cli.loudness import LOG

    LOG.debug("traceback of the error below", exc_info=error)
    return message(error)
