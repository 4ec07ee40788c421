"""What makes a solver of inpainting one of codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires
from invsolve.solvers.diffusion.common import Restorer
from invsolve.solvers.inpainting.common import Inpainter
from invsolve.solvers.latent.common import cell_gaps, code_gaps, known_codes
from invsolve.solvers.ranges import need_count


class OfCodes(Inpainter):
    """Before an inpainter of images among the bases: it is run on the known codes. A subclass has the field `erode`.

    Attributes:
        plain: the name of the inpainter of images, for refusals.
    """

    requires: ClassVar[Requires] = Requires()
    plain: ClassVar[str]
    erode: int

    def __post_init__(self) -> None:
        super().__post_init__()  # pyright: ignore[reportAttributeAccessIssue] (of the inpainter of images)
        need_count(self, "erode", least=0)

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images or without an encoder, an H that is no mask; a grid that leaves the prior's range."""
        found = code_gaps(problem, prior, self.plain, Capability.MASK, encodes=True)
        return [*(found or cell_gaps(problem, self.erode)), *Restorer.gaps(self, problem, prior)]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The inpainter's own, on the known codes."""
        assert isinstance(prior, Denoiser)
        yield from super().iterate(known_codes(problem, prior, self.erode), prior, rng, start)
