"""What rounding and signs must not do: the cases in which a factor's sign, a product's rank or float32 data decided the answer."""

import pytest
import torch
from invsolve_operators import BlockMean, BlurDecimate, GaussianBlur, KernelBlur, Mask, Separable, SeparableGaussianBlur, ThroughPlane

from invsolve import Capability, GaussianNoise, NoNoise, Operator, Problem, load_prior
from invsolve.rng import Rng
from invsolve.solvers import DDRM

THICK = (4, 8, 8)
# Some tens of float64 operations on values about 1.
FLOAT64 = 1e-12


def drawn(*shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "outer",
    [
        lambda shape: GaussianBlur(shape, 0.8),
        lambda shape: SeparableGaussianBlur(shape, 0.8),
        lambda shape: Mask(shape, mask=drawn(1, 8, 8) > 0.5),
        lambda shape: BlockMean(shape, 2),
        lambda shape: BlurDecimate(shape, 2, torch.ones(3, 3) / 9),
    ],
    ids=["circular", "separable", "mask", "block mean", "decimate"],
)
def test_one_thick_slice_keeps_its_sign_in_the_decomposition(outer):
    inner = ThroughPlane(THICK, factor=4)
    operator = outer(inner.out_shape) @ inner
    x, z = drawn(2, *THICK), drawn(2, *THICK).flip(0)
    y = operator(x)
    assert float((operator.svd().forward(x) - y).abs().max()) < FLOAT64
    # pinv divides by s; the least of these is above 1e-2
    assert float((operator(operator.pinv(y)) - y).abs().max()) < 100 * FLOAT64
    made = operator.prox(z, y, 0.5)
    gradient = operator.adjoint(operator(made) - y) + (made - z) / 0.5
    assert float(gradient.abs().max()) < FLOAT64


def test_a_product_whose_rank_is_rounding_claims_no_decomposition():
    eye, ones = torch.eye(8).double(), torch.ones(8, 8).double()
    nothing = Separable((1, 8, 8), eye - ones / 8, eye) @ Separable((1, 8, 8), 0.1 * ones, eye)
    laplacian = KernelBlur((1, 8, 8), torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]))
    assert Capability.SVD not in nothing.capabilities
    assert Capability.SVD not in (laplacian @ GaussianBlur((1, 8, 8), 4.0, truncate=8.0)).capabilities
    sure = laplacian @ GaussianBlur((1, 8, 8), 0.5)
    assert Capability.SVD in sure.capabilities
    x = drawn(1, 1, 8, 8)
    assert float((sure.svd().forward(x) - sure(x)).abs().max()) < FLOAT64


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_noiseless_ddrm_does_not_divide_the_rounding_of_float32(sigma):
    """Singular values down to 1e-12: what float32 cannot resolve is left to the prior, what it can is met."""
    ramp = torch.linspace(0.2, 0.8, 32)
    x = (0.5 * (ramp[:, None] + ramp))[None, None].expand(1, 3, 32, 32).contiguous()
    problem = Problem.simulate(GaussianBlur((3, 32, 32), sigma=sigma), x, NoNoise(), generator=0)
    answer = DDRM(steps=5).solve(problem, load_prior("natural"), generator=0).x
    assert float(answer.min()) > 0
    assert float(answer.max()) < 1
    # Unresolved components have s < 4 eps / 0.002 = 2.4e-4 of y's mean square, so their misfit is 2.4e-4 times an image's error.
    assert float((problem.operator(answer) - problem.y).abs().max()) < 2.4e-4


def test_complex_noise_has_the_variance_that_its_likelihood_states():
    operator = Operator.from_function(torch.fft.fft2, (1, 16, 16))
    x, noise = drawn(64, 1, 16, 16), GaussianNoise(0.1)
    y = noise.sample(operator(x), Rng(0, range(64), purpose="test"))
    # nll sums 2 x 256 squares of standard normal numbers, halved: mean 256, standard deviation 16 an item; five standard errors of 64
    assert float(noise.nll(y, operator(x)).mean()) == pytest.approx(256, abs=5 * 16 / 8)
