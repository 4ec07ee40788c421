"""What the solvers make of the photograph, one after the other; what fails is a row in words, and the next one goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from invsolve.cli.photograph import Restored, in_words, restore_photograph, save_restored, shell_line
from invsolve_app.pictures import array, fitted, spread
from invsolve_app.wish import SUITS, Wish

MEASURED = "photograph"


@dataclass(frozen=True)
class Answer:
    """What one solver made of it.

    Args:
        name: of the solver.
        words: the verdict, or why there is no answer.
        line: what does the same in a shell.
        worked: whether there is an answer, or a reason why none is needed.
        facts: seconds, evaluations and the like, in words.
        pictures: by what the page calls them.
        files: what can be taken along.
    """

    name: str
    words: str
    line: str
    worked: bool = True
    facts: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def answers(wish: Wish, folder: Path, mask: str | None, watch: Callable[[str, Any], Any]) -> Iterator[Answer]:
    """The answer of each solver as it comes.

    Args:
        wish: what was said, with a photograph.
        folder: where files go.
        mask: path of what was painted.
        watch: called with the solver's name and each step; False stops it.

    Raises:
        InputError: what is missing from the wish.
    """
    image = Path(wish.image or "")
    for name, said in wish.runs(mask):
        line = shell_line(image, said, wish.settings)
        try:
            done = restore_photograph(image, said, wish.settings, callback=lambda step, name=name: watch(name, step))
            answer = answered(done, name, line, image, folder)
            yield answer if mask is None else replace(answer, files=(*answer.files, Path(mask)))
        except Exception as error:  # whatever one of them cannot do, the others are looked at
            yield Answer(name, plain(error, image.parent, folder), line, worked=False)


def answered(done: Restored, name: str, line: str, image: Path, folder: Path) -> Answer:
    """What was made, as the page shows it."""
    name, chosen = (done.by if name == SUITS else name), name != SUITS
    pictures, words = {MEASURED: array(done.measured)}, done.verdict or "done; nothing but the eye can judge it"
    facts = {"by": done.by} if chosen else {}
    if done.level is not None:
        facts["noise"] = f"{done.level:.4f}"
    if done.solution is None:
        words += ". Say what else happened to it, or how much noise there is"
        return Answer(name, words, line, facts=facts, pictures=pictures)
    solution = done.solution
    result = array(solution.mean[0])
    pictures = {MEASURED: fitted(pictures[MEASURED], result), name: result}
    facts |= {"seconds": f"{solution.seconds:.1f}", "evaluations": f"{solution.nfe}"}
    if solution.samples is not None and solution.samples > 1:
        shown, most = spread(solution.std[0])
        facts["spread"] = f"up to {most:.3g}" if most else "none, its samples are all the same"
        if most:
            pictures[f"{name}: spread"] = shown
    suffix = f"_{name}" if chosen else ""
    files = save_restored(done, image, folder / f"{image.stem}_restored{suffix}.png")
    return Answer(name, "; ".join([words, *done.notes]), line, facts=facts, pictures=pictures, files=tuple(files))


def plain(error: Exception, *folders: Path) -> str:
    """An error in words, files in these folders by their names alone: nobody has chosen where the page keeps them."""
    words = in_words(error)
    for folder in folders:
        words = words.replace(f"{folder}/", "")
    return words
