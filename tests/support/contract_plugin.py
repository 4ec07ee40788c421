"""A plug-in as a stranger would write it: two noise models, four priors that depend on the problem, four solvers; public names only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve import Ability, Capability, GaussianNoise, NoiseModel, Operator, Problem, Requires, Solver, Step
from invsolve.operator.measurement import column, flat, mapped, minus
from invsolve.priors import Denoiser, GaussianPrior, LatentPrior

STD = 0.5


class LaplaceNoise(NoiseModel):
    """y = clean + Laplace noise; nll = sum |y - clean| / width, Var = 2 width^2."""

    def __init__(self, width: float = 0.05) -> None:
        super().__init__()
        self.width = float(width)

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.width * self._unit(rng.uniform(part.shape[1:], part) - 0.5), clean)

    @staticmethod
    def _unit(u):
        return -u.sign() * (1 - 2 * u.abs()).clamp_min(1e-12).log()

    def nll(self, y, clean):
        return flat(minus(y, clean)).abs().sum(1) / self.width

    def variance(self, clean):
        return mapped(lambda part: torch.full_like(part, 2 * self.width**2), clean)

    def scaled(self, factor):
        return LaplaceNoise(factor * self.width)


class SensorNoise(NoiseModel):
    """y = clean + sqrt(floor^2 + share^2 clean^2) n: a floor, and a share of the signal."""

    def __init__(self, floor: float = 0.05, share: float = 0.1) -> None:
        super().__init__()
        self.floor, self.share = float(floor), float(share)

    def variance(self, clean):
        return mapped(lambda part: self.floor**2 + (self.share * part) ** 2, clean)

    def sample(self, clean, rng):
        return mapped(lambda part, var: part + var.sqrt() * rng.normal_like(part), clean, self.variance(clean))

    def nll(self, y, clean):
        var = flat(self.variance(clean))
        return (flat(minus(y, clean)).square() / var + var.log()).sum(1) / 2

    def scaled(self, factor):
        return SensorNoise(factor * self.floor, self.share)


class ByLabel(Denoiser):
    """Pixels N(grey, std^2), grey .3, .5 or .7 by the item's context["label"]."""

    s0 = STD
    calls: ClassVar[list[int]] = []

    def forward(self, x, sigma):
        return GaussianPrior(0.5, STD)(x, sigma)  # without a label

    def gaps(self, problem):
        return [] if "label" in problem.context else ["the prior needs context={'label': labels}, 0, 1 or 2 for each item"]

    def given(self, problem):
        self.calls.append(problem.batch)
        return About(0.3 + 0.2 * problem.context["label"].double())

    def example_context(self, batch):
        return {"label": torch.arange(batch) % 3}


class About(Denoiser):
    """Pixels N(grey, std^2), a grey of each item."""

    s0 = STD
    grey: torch.Tensor

    def __init__(self, grey: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("grey", grey)

    def forward(self, x, sigma):
        grey = column(self.grey, x)
        return grey + (x - grey) * (STD**2 / (STD**2 + column(sigma, x) ** 2))


class Guided(Denoiser):
    """Classifier-free guidance: D_0 + weight (D_label - D_0), two network evaluations a call.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598, eq. 6.
    """

    s0 = STD

    def __init__(self, without: Denoiser | None = None, labelled: Denoiser | None = None, weight: float = 1.5) -> None:
        super().__init__()
        self.without, self.labelled, self.weight = without or GaussianPrior(0.5, STD), labelled or ByLabel(), weight

    def gaps(self, problem):
        return self.labelled.gaps(problem)

    def given(self, problem):
        return Guided(self.without.given(problem), self.labelled.given(problem), self.weight)

    def example_context(self, batch):
        return self.labelled.example_context(batch)

    def forward(self, x, sigma):
        plain = self.without(x, sigma)
        return plain + self.weight * (self.labelled(x, sigma) - plain)


class SeesY(Denoiser):
    """Pixels about the mean of the item's own y: a prior that looks at the measurement, as super-resolution networks do."""

    s0 = STD

    def forward(self, x, sigma):
        return GaussianPrior(0.5, STD)(x, sigma)

    def given(self, problem):
        return About(flat(problem.y).mean(1).clamp(0.2, 0.8)) if flat(problem.y).shape[1] else About(torch.full((problem.batch,), 0.5))


DECODER = torch.eye(21, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5


class Codes(LatentPrior):
    """Pairs of equal pixels from a code of half as many numbers, N(.7, .4^2)."""

    @classmethod
    def examples(cls):
        return [cls(GaussianPrior(0.7, 0.4), Operator.from_matrix(DECODER, (1, 3, 7), (1, 6, 7)))]


@dataclass(frozen=True)
class Ascent(Solver):
    """Gradient ascent on log p(y | x) + log p(x) for any noise with a likelihood; the score is (D(x, s) - x) / s^2, s = .1.

    h = step / (1 / s^2 + 1 / sigma_x^2).
    """

    requires: ClassVar[Requires] = Requires(
        operator=frozenset({Capability.DIFFERENTIABLE}), noise=frozenset({Ability.NLL, Ability.VARIANCE})
    )
    steps: int = 80
    step: float = 1.0

    @staticmethod
    def slope(problem: Problem, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = problem.noise.nll(problem.y, problem.operator(leaf))
            return torch.autograd.grad(value.sum(), leaf)[0]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Any, rng: Any, start: Step | None = None) -> Iterator[Step]:
        x = problem.image + prior.centre if start is None else start.x
        low, level = 0.1, problem.sigma_x.clamp_min(1e-3)
        h = column(self.step / (1 / low**2 + 1 / level**2), x)
        for index in range(0 if start is None else start.index + 1, self.steps):
            x = x + h * ((prior(x, low) - x) / low**2 - self.slope(problem, x))
            yield Step(index, self.steps, x, x)


@dataclass(frozen=True)
class SensorAscent(Ascent):
    """The same for its own noise and its own prior only."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), prior=(ByLabel,), noise=(SensorNoise,))


@dataclass(frozen=True)
class CodeMean(Solver):
    """The mean of the code's posterior in closed form, for codes that are Gaussian and a linear decoder: one step, no drawing."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR}), prior=(LatentPrior,))
    asks: bool = True

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Any, rng: Any, start: Step | None = None) -> Iterator[Step]:
        if start is not None and start.index >= 0:
            yield start
            return
        shape, code = problem.operator.in_shape, prior.denoiser
        size = problem.image[0].numel()
        basis = torch.eye(size, dtype=problem.image.dtype).reshape(size, *shape)
        matrix = flat(problem.operator(basis)).T
        mean = torch.as_tensor(code.mean, dtype=matrix.dtype).expand(shape).flatten()
        eye = torch.eye(size, dtype=matrix.dtype)
        own = ((code.vectors * code.values) @ code.vectors.T).to(matrix.dtype) if code.full else eye * code.std**2
        spread = matrix @ own @ matrix.T
        spread = spread + torch.eye(len(spread), dtype=spread.dtype) * problem.sigma**2
        z = mean + (flat(problem.y) - matrix @ mean) @ torch.linalg.pinv(spread, hermitian=True) @ matrix @ own
        z = z.reshape(-1, *shape)
        z = z + 0 * prior(z, 0.1) if self.asks else z  # the network has its say, so that what it breaks is seen
        yield Step(0, 1, z, z)


class Halved(Operator):
    """Half of the picture's brightness; says what its solver asks for."""

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    halves = True

    def __init__(self, in_shape=(1, 6, 7)) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return x / 2


@dataclass(frozen=True)
class Twice(Solver):
    """For `Halved` alone: twice y, then a denoiser of its noise."""

    requires: ClassVar[Requires] = Requires()
    strength: float = 1.0

    def gaps(self, problem, prior):
        return [] if getattr(problem.operator, "halves", False) else [f"operator {problem.operator.label} does not halve"]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Any, rng: Any, start: Step | None = None) -> Iterator[Step]:
        if start is not None and start.index >= 0:
            yield start
            return
        x = prior(2 * problem.y if start is None else start.x, 2 * self.strength * problem.sigma)
        yield Step(0, 1, x, x)

    @classmethod
    def settings(cls):
        x = 0.3 + 0.4 * torch.linspace(0, 1, 3 * 42, dtype=torch.float64).reshape(3, 1, 6, 7)
        return [(Problem.simulate(Halved(), x, GaussianNoise(0.02), generator=0), GaussianPrior(0.5, STD))]


ENTRIES = [
    ("noise", "lab-laplace", "LaplaceNoise"),
    ("noise", "lab-sensor", "SensorNoise"),
    ("prior", "lab-by-label", "ByLabel"),
    ("prior", "lab-guided", "Guided"),
    ("prior", "lab-sees-y", "SeesY"),
    ("prior", "lab-codes", "Codes"),
    ("solver", "lab-ascent", "Ascent"),
    ("solver", "lab-sensor-ascent", "SensorAscent"),
    ("solver", "lab-code-mean", "CodeMean"),
    ("solver", "lab-twice", "Twice"),
]


def register(registry: Any) -> None:
    """What its hook would do."""
    for kind, name, attribute in ENTRIES:
        registry.add(kind, name, f"contract_plugin:{attribute}")
