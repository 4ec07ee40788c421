"""Raw data in image units and back: what is known exactly about it."""

import pytest
import torch
from invsolve_operators import JPEG, MRI, Gain, GaussianBlur, KernelBlur, Mask

from invsolve import GaussianNoise, InputError, Operator, PoissonNoise, Problem, raw_problem
from invsolve.estimate import estimate_unit
from invsolve.priors import GaussianPrior, Unit
from invsolve.solvers import DDRM

DRAW = torch.Generator().manual_seed(0)
X = torch.rand(1, 1, 16, 16, generator=DRAW, dtype=torch.float64)
H = MRI((1, 16, 16), acceleration=2)


@pytest.mark.parametrize("unit", [Unit(0.0, 3.7e4), Unit(-1000.0, 2000.0), Unit(0.0, 2e-6)])
@pytest.mark.parametrize("operator", [KernelBlur((1, 16, 16), [[0.5, 0.3, 0.2]]), Gain((1, 16, 16), X[0, 0]), Mask((1, 16, 16), 0.5), H])
def test_data_of_a_known_unit_are_the_problem_of_the_image(operator, unit):
    y = Problem.simulate(operator, X, GaussianNoise(0.05), generator=3).y
    assert isinstance(y, torch.Tensor)
    # the same draw of the noise in the raw unit: width times it
    raw = operator(unit.to(X)) + unit.width * (y - operator(X))
    problem, found = raw_problem(operator, raw, 0.05 * unit.width, unit=unit)
    assert found is unit
    # rounding of numbers of the size of raw, in units of the image
    size = float(raw.abs().max()) / unit.width
    assert isinstance(problem.y, torch.Tensor)
    assert torch.allclose(problem.y, y, rtol=0, atol=1e-13 * max(1.0, size))
    assert float(problem.noise.sigma) == pytest.approx(0.05)
    assert torch.allclose(found.to(X), unit.low + unit.width * X)


def test_the_unit_that_is_found_goes_with_the_data():
    """Everything measured and no noise: the image itself, whose 99.9 % quantile is the 256th of 256 values."""
    full = MRI((1, 16, 16), acceleration=1)
    y = full(5e3 * X)
    assert estimate_unit(full, y).high == pytest.approx(5e3 * float(X.max()), rel=1e-10)
    less = H(X)
    assert estimate_unit(H, 7e-9 * less).high == pytest.approx(7e-9 * estimate_unit(H, less).high, rel=1e-10)
    assert estimate_unit(H, less).low == 0.0
    blurred = KernelBlur((1, 16, 16), [[0.25, 0.5, 0.25]])
    assert estimate_unit(blurred, blurred(X)).high == pytest.approx(float(X.max()), rel=0.2)


def test_an_answer_goes_back_to_the_unit_of_the_data():
    raw = H(800 * X) + 4.0 * torch.randn(H.out_shape, generator=DRAW, dtype=torch.float64)[None]
    answers = []
    for factor in (1.0, 1e5):
        problem, unit = raw_problem(H, factor * raw, factor * 4.0)
        answers.append(unit.to(DDRM(steps=5).solve(problem, GaussianPrior(0.5, 0.3), generator=0).x) / factor)
    assert torch.allclose(*answers, rtol=1e-6)
    assert float((answers[0] - 800 * X).square().mean().sqrt()) < 0.25 * 800  # the data's own scale, not [0, 1]


def test_the_noise_is_estimated_where_it_is_not_given():
    big = GaussianBlur((1, 64, 64), 3.0)
    image = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    raw = big(300 * image) + 6 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    problem, unit = raw_problem(big, raw)
    directions = int((big.svd().s < 1e-3).sum())  # of no signal; of n numbers an estimate is sqrt(1 / 2n) off, one standard error
    assert directions > 2000
    assert float(problem.noise.sigma) * unit.width == pytest.approx(6, rel=4 / (2 * directions) ** 0.5)


def test_photons_keep_their_counts_and_no_ground_is_taken_from_them():
    operator = Gain((1, 16, 16), 1.0)
    problem, unit = raw_problem(operator, 1000 * X.round(decimals=3), PoissonNoise(1.0), unit=Unit(0, 1000))
    assert (problem.noise.gain, unit.high) == (pytest.approx(1e-3), 1000.0)
    with pytest.raises(InputError, match=r"depends on y itself.*take Unit\(0, high\)"):
        raw_problem(operator, 1000 * X, PoissonNoise(1.0), unit=Unit(-1000, 1000))


class Squared(Operator):
    """Not linear."""

    def __init__(self):
        super().__init__()
        self.in_shape = self.out_shape = (1, 16, 16)

    def forward(self, x):
        return x**2


def test_what_has_no_unit():
    with pytest.raises(InputError, match="is 0 wherever H measures"):
        raw_problem(H, 0 * H(X), 0.1)
    with pytest.raises(InputError, match="one at a time, or give unit"):
        raw_problem(H, H(X).expand(2, *H.out_shape).contiguous(), 0.1)
    for operator in (Squared(), JPEG((1, 16, 16))):
        with pytest.raises(InputError, match="is not linear"):
            raw_problem(operator, X, 0.1)
