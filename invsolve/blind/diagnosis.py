"""What was found to have happened to a photograph, and what follows from it: an operator, a problem, a restored picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from invsolve.blind.compression import Compression
from invsolve.blind.enlarged import Enlargement
from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, NoNoise
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.problem import Problem
from invsolve.solution import Solution, middle

if TYPE_CHECKING:
    from invsolve.priors.base import Prior
    from invsolve.solver import Solver

GREY = 1 / 255  # what a screen shows no less of
FAINT = 1.5 * GREY  # of noise: what is found in clean photographs is .9 to 1.1 grey levels, their own texture
NAMES = {
    "gaussian": ("separable-gaussian-blur", "sigma", "a Gaussian blur, sigma {:.2f} pixels"),
    "defocus": ("defocus-blur", "radius", "out of focus, a disk of radius {:.1f} pixels"),
    "motion": ("motion-blur", "length", "motion over {:.1f} pixels"),
}
FINE = 90  # JPEG qualities from here on lose nothing that is seen


@dataclass(frozen=True)
class Diagnosis:
    """What happened to a photograph, as far as it tells.

    Args:
        y: (C, H, W), what is measured: the photograph, or the smaller picture that it was enlarged from.
        noise: standard deviation of white noise, in [0, 1]; nan where the picture is too small to tell.
        family: "none", "gaussian", "defocus" or "motion": the blur.
        parameters: of the blur's operator: sigma or radius in pixels; length in pixels and angle in degrees.
        spread: relative standard deviation of the width, 0 without one.
        chances: of each family; {} where the picture is too small or too even to tell.
        compression: the JPEG that it was, or None.
        enlargement: how it was enlarged, or None.
        keep: (1, H, W), bool, False where the film is damaged; None where it is not, or nobody looked.
        lost: root mean square of what the compression took, in [0, 1].
    """

    y: Tensor = field(repr=False)
    noise: float
    family: str = "none"
    parameters: dict[str, float] = field(default_factory=dict)
    spread: float = 0.0
    chances: dict[str, float] = field(default_factory=dict)
    compression: Compression | None = None
    enlargement: Enlargement | None = None
    keep: Tensor | None = field(default=None, repr=False)
    lost: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to restore: no blur, no damage, no coarse JPEG, and noise of hardly a grey level."""
        return self.task == "none"

    @property
    def task(self) -> str:
        """What is restored, the first of these that was found: "damage", "enlargement", "blur", "jpeg", "noise"; else "none"."""
        if self.keep is not None:
            return "damage"
        if self.enlargement is not None:
            return "enlargement"
        if self.family != "none":
            return "blur"
        if self.coarse:
            return "jpeg"
        return "noise" if self.noise >= FAINT else "none"  # nan is no noise

    @property
    def coarse(self) -> bool:
        """Whether a JPEG lost something."""
        return self.compression is not None and self.compression.quality < FINE

    @property
    def level(self) -> float:
        """The noise that a solver is told: with what a JPEG took, never under the rounding of 8 bits; 0 where pixels are missing."""
        if self.task == "damage":
            return 0.0
        known = 0.0 if math.isnan(self.noise) else self.noise
        return max(math.hypot(known, self.lost), GREY / math.sqrt(12))

    @property
    def operator(self) -> dict[str, Any]:
        """The operator's table, as problem files have it; that of a damaged film without its mask, which is `keep`."""
        task = self.task
        if task == "blur":
            blur = {"name": NAMES[self.family][0], **self.parameters, "boundary": "valid"}
            prox = {"name": "iterative-prox", "tol": 1e-3, "preconditioner": "circular", "operator": blur}
            return blur if self.family == "gaussian" else prox  # that of rows and columns in turn has a closed form
        if task == "enlargement" and self.enlargement is not None:
            return {"name": "bicubic", "factor": self.enlargement.factor}
        return {"name": "mask"} if task == "damage" else {"name": "identity"}

    def build(self) -> Operator:
        """The operator, of an image that a blur's kernel makes larger than the photograph."""
        shape, task = tuple(self.y.shape), self.task
        table = dict(self.operator)
        if task == "blur":
            inner = dict(table.get("operator", table))
            name = inner.pop("name")
            seen = registry().build("operator", name, in_shape=shape, **inner).out_shape
            larger = (shape[0], *(2 * side - kept for side, kept in zip(shape[1:], seen[1:], strict=True)))
            blur = registry().build("operator", name, in_shape=larger, **inner)
            if "operator" not in table:
                return blur
            return registry().build("operator", table.pop("name"), **{**table, "operator": blur})
        if task == "enlargement":
            shape = (shape[0], *(table["factor"] * side for side in shape[1:]))
        if task == "damage":
            table["mask"] = self.keep.to(self.y)  # pyright: ignore[reportOptionalMemberAccess]
        return registry().build("operator", table.pop("name"), in_shape=shape, **table)

    def problem(self) -> Problem:
        """The inverse problem, for any solver: one item."""
        operator = self.build().to(self.y.dtype)
        y = self.y[None] if self.task != "damage" else operator(self.y[None])
        return Problem(operator, y, GaussianNoise(self.level) if self.level > 0 else NoNoise())

    def restore(self, solver: Solver | None = None, prior: Prior | None = None, generator: Any = 0) -> Solution:
        """The photograph without what happened to it, cut to its frame.

        Args:
            solver: any that takes `problem()`; what suits the task if None (`hqs`; one denoising for noise alone).
            prior: that of the solver; what suits the task if None (`dncnn`; `natural` for damage and noise).
            generator: seed.

        Raises:
            InputError: there is nothing to restore.
            CompatibilityError: the solver does not take the problem.
        """
        if self.nothing:
            raise InputError(f"there is nothing to restore: {self.words()[0]}")
        usual = ("one-shot", "natural") if self.task == "noise" else ("hqs", "natural" if self.task == "damage" else "dncnn")
        chosen: Any = registry().build("solver", usual[0]) if solver is None else solver
        if prior is None:
            prior = registry().build("prior", usual[1], channels=len(self.y))
        solution = chosen.solve(self.problem(), prior, generator=generator)
        return self.framed(solution)

    def framed(self, solution: Solution) -> Solution:
        """The part in the photograph's frame."""
        if self.task != "blur":
            return solution
        return middle(solution, *self.y.shape[-2:])

    def words(self) -> list[str]:
        """What was found, sentence by sentence, with what is unsure."""
        from invsolve.blind.words import sentences

        return sentences(self)

    def __str__(self) -> str:
        return "; ".join(self.words())
