"""What a solver gives back: single steps, and the solution with how it came about."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import InputError, Note

if TYPE_CHECKING:
    from invsolve.solver import Solver


class Status(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    CONVERGED = "converged"
    BUDGET = "budget"
    STOPPED = "stopped"
    DIVERGED = "diverged"

    @classmethod
    def worst(cls, several: Iterable[Status]) -> Status:
        """Of several runs: diverged, stopped, out of budget, finished, converged, since all must converge for the whole to."""
        order = (cls.CONVERGED, cls.FINISHED, cls.BUDGET, cls.STOPPED, cls.DIVERGED)
        return max(several, key=order.index)


@dataclass(frozen=True)
class Step:
    """One iteration.

    Args:
        index: 0-based number of this step; -1 for a start given by the user.
        total: number of steps the run will make at most.
        x: the iterate, (B, *in_shape), detached.
        x0_hat: the current estimate of the image (for solvers without a noise level: x itself).
        sigma: noise level of x after the step in data units, None where there is none.
        stats: per-item numbers (B,) such as the objective or a residual; for display.
        state: what else is needed to go on from here (duals, momenta).
        converged: whether every item met the solver's own stopping rule.
        finite: whether x is finite, where the solver has looked already, with its stopping rule (`invsolve.solver.looked`); else None.
    """

    index: int
    total: int
    x: Tensor
    x0_hat: Tensor
    sigma: float | None = None
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    converged: bool = False
    finite: bool | None = None

    def to(self, device: torch.device | str) -> Step:
        """A copy on another device."""
        stats = {key: value.to(device) for key, value in self.stats.items()}
        state = {key: value.to(device) for key, value in self.state.items()}
        return Step(self.index, self.total, self.x.to(device), self.x0_hat.to(device), self.sigma, stats, state, self.converged)

    def select(self, rows: Sequence[int]) -> Step:
        """The step of some items, in any order and any number of times."""
        index = list(rows)
        stats = {key: value[index] for key, value in self.stats.items()}
        state = {key: value[index] for key, value in self.state.items()}
        return Step(self.index, self.total, self.x[index], self.x0_hat[index], self.sigma, stats, state, self.converged)


def between(ordered: Tensor, place: float) -> Tensor:
    """The value at a place, 0 to n - 1, of n sorted ones, linear between two."""
    first = min(int(place), len(ordered) - 2)
    return torch.lerp(ordered[first], ordered[first + 1], place - first)


@dataclass(frozen=True)
class Solution:
    """The answer and how it was got.

    Args:
        x: (B, *in_shape) in y's dtype and device; (n, B, *in_shape) for samples=n.
        status: how the run ended; of several samples or parts the worst.
        steps: steps made (by the sample or part that made most).
        nfe: network evaluations per item, over all samples: rows that go through a `Denoiser` which calls no other one, over the batch. So
            a guided prior of two denoisers counts two. A denoiser counts one a call however often it calls a network of its own, which
            nothing else can see: it says so by its attribute `evaluations` (2 for two), or holds each as a `NetworkDenoiser`.
        seconds: wall-clock time in the solver.
        network_seconds: the part of it inside the prior's forward calls.
        seed: the seed that reproduces it.
        solver: the configuration.
        trace: every keep-th Step on the CPU, of all images: see `Solver.solve`.
        samples: n, or None for a plain run.
        backward: backward passes through the network per item, over all samples, counted as nfe is.
        latent: the answer in the prior's own space, where that is another than the image's; see `Prior.space`.
        stats: per-item numbers, (B,), or (n B,) of samples, the batch of the first sample first: those of the last Step; `still`, for
            how many last steps x stood still to the last bit, where it did and no rule of the solver had ended the run; `seam` where a
            mask shows a part of the image: how much more neighbours differ across its border than elsewhere, rms, 1 for a seam that
            cannot be seen.
        why: why this solver was taken, where one was chosen (`Auto`, `solve(..., tune=)`).
        tuning: how its settings were found, where they were (`invsolve.predictive.Tuning.record`).
        calibration: what its intervals are calibrated by (`invsolve.predictive.Calibration`).
    """

    x: Tensor
    status: Status
    steps: int
    nfe: int
    seconds: float
    network_seconds: float
    seed: int
    solver: Solver
    trace: tuple[Step, ...] = ()
    samples: int | None = None
    backward: int = 0
    latent: Tensor | None = None
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    why: str = ""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    calibration: Any = field(default=None, repr=False)

    @property
    def mean(self) -> Tensor:
        """Mean over samples, (B, *in_shape); x itself for a plain run. What all samples hold, such as known pixels, it holds to the bit."""
        return self.x if self.samples is None else self.x[0] + (self.x - self.x[0]).mean(0)

    @property
    def std(self) -> Tensor:
        """Standard deviation over samples (unbiased), (B, *in_shape); needs samples >= 2.

        It is the spread of the solver's law, no error bar: samplers that give one good picture spread less than they err. With the
        prior `natural` the ratio spread / error was .21 to .48 for DiffPIR(), .25 to .65 for DDRM(), .21 to .46 for ScoreALD(), and
        .52 to .90 for DiffPIR(zeta=0.3), whose pictures are 1 to 5 dB worse (benchmarks/results/defaults.md); 1 for exact draws.
        """
        if self.samples is None or self.samples < 2:
            raise ValueError("a standard deviation needs at least two samples: solve(..., samples=8)")
        return self.x.std(0)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """The pixels' central interval over the samples, two images (B, *in_shape): quantiles (1 - level) / 2 and (1 + level) / 2.

        It holds what the solver draws, no more: see `std`. With a `calibration` it is mean -+ k spread, which holds the truth as often as
        it says, under the prior: see `invsolve.predictive.calibrate`.

        Args:
            level: between 0 and 1; the samples must be at least 2 / (1 - level), so that the ends lie between two of them.

        Raises:
            InputError: a level outside (0, 1), or too few samples.
        """
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
            raise InputError(f"level must be between 0 and 1; given {level!r}")
        if self.calibration is not None:
            return self.calibration.interval(self, level)
        needed = math.ceil(2 / (1 - level) - 1e-9)
        if self.samples is None or self.samples < needed:
            raise InputError(
                f"an interval of {level:g} needs at least {needed} samples; given {self.samples}: solve(..., samples={needed})"
            )
        low, high = ((1 - level) / 2, (1 + level) / 2)
        ordered = self.x.sort(0).values  # torch.quantile refuses more than 16 million numbers
        return tuple(between(ordered, share * (self.samples - 1)) for share in (low, high))  # pyright: ignore[reportReturnType]

    def psnr(self, truth: Tensor, peak: float = 1.0) -> Tensor:
        """10 log10(peak^2 / mean squared error) in dB, (B,), of x, or of the mean of the samples.

        Args:
            truth: (B, *in_shape), or one for all items.
            peak: the range of the images.

        Raises:
            InputError: another shape.
        """
        x = self.mean
        if not isinstance(truth, Tensor) or truth.shape not in (x.shape, x.shape[1:], (1, *x.shape[1:])):
            given = tuple(truth.shape) if isinstance(truth, Tensor) else type(truth).__name__
            raise InputError(f"truth must have the shape of the answer, {tuple(x.shape)}, or of one item; given {given}")
        error = (x - truth.to(x)).abs().square().flatten(1).mean(1)
        return 10 * torch.log10(peak**2 / error)

    def save_image(self, path: str | Path, item: int = 0, *, bits: int | None = None) -> None:
        """Write one item's picture, of samples their mean; see `invsolve.io.images.write_image`.

        Raises:
            InputError: no such item, or what `write_image` refuses.
        """
        from invsolve.io.writing import write_image

        x = self.mean
        if not isinstance(item, int) or not -len(x) <= item < len(x):
            raise InputError(f"item must be a whole number below {len(x)}; given {item!r:.60}")
        write_image(path, x[item], bits=bits)

    def save(self, path: str | Path) -> None:
        """Write a folder with x (safetensors) and configuration, seed and versions (JSON).

        A calibration is kept too, with its draws; where their operator or noise has no registered name it is not, which a note says.
        """
        from invsolve.io.stored import save_solution

        lost = save_solution(self, path)
        if lost:
            text = f"the calibration is not saved with the solution ({lost}): after loading its intervals are those of the samples alone"
            warnings.warn(text, Note, stacklevel=2)

    @classmethod
    def load(cls, path: str | Path, *, solver: Solver | None = None) -> Solution:
        """Read what `save` wrote, on the CPU; a solver that is not in the registry must be given.

        Raises:
            InputError: no such folder, damaged or torn files, a foreign solver and none given.
            UnknownNameError: a solver of a plug-in that is not installed.
        """
        from invsolve.io.stored import read_solution

        fields = read_solution(path, solver)
        if fields["status"] not in list(Status):
            raise InputError(f"{path}: no status {fields['status']!r}; there are: {', '.join(Status)}")
        try:
            trace = tuple(Step(**step) for step in fields["trace"])
        except TypeError as error:
            raise InputError(f"{path}: malformed step in the trace: {error}") from error
        return cls(**{**fields, "status": Status(fields["status"]), "trace": trace})

    def summary(self) -> dict[str, Any]:
        """The numbers without the tensors."""
        return {
            "status": self.status.value,
            "steps": self.steps,
            "nfe": self.nfe,
            "backward": self.backward,
            "seconds": self.seconds,
            "network_seconds": self.network_seconds,
            "seed": self.seed,
            "samples": self.samples,
        }

    def _repr_html_(self) -> str:
        from invsolve.io.html import of_solution

        return of_solution(self)

    def __repr__(self) -> str:
        run = f"steps={self.steps}, nfe={self.nfe}, {self.seconds:.2f} s, seed={self.seed}"
        return f"Solution(x={tuple(self.x.shape)}, {self.status.value}, {run})"


def middle(solution: Solution, height: int, width: int) -> Solution:
    """The solution with the middle of its image alone, of so many pixels: what lies in a photograph's frame where a blur saw further."""
    top, left = ((whole - seen) // 2 for whole, seen in zip(solution.x.shape[-2:], (height, width), strict=True))
    return replace(solution, x=solution.x[..., top : top + height, left : left + width].contiguous())
