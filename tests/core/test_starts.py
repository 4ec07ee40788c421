"""Where solvers begin: one smooth regularised image for every linear operator, in its right place and continuous in H."""

import functools
import math

import pytest
import torch
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import (
    HDR,
    BlockMean,
    BlurDecimate,
    BoxMask,
    GaussianBlur,
    Grey,
    Identity,
    KernelBlur,
    Mosaic,
    PaddedBlur,
    PhaseRetrieval,
    Quantise,
    SeparableBlur,
    SeparableGaussianBlur,
)
from sweeps import thinned

from invsolve import GaussianNoise, NoNoise, Operator, Problem, Stack, load_prior
from invsolve.operator.iterative import matrix
from invsolve.priors import TotalVariation
from invsolve.solvers import ADMM, HQS, AdamTV
from invsolve.solvers.start import LEVELS, MEAN, SLOPE, WIDTH, convolution, first_image, rough
from invsolve.solvers.variational.common import objective
from invsolve.testing.oracle import DenseOperator

SIGMA = 0.05


def photo(side, channels=3, dtype=torch.float64, top=40):
    x = torch.stack([picture.image for picture in quick_photos()[:2]])[:, :channels, top : top + side, top : top + side]
    return x.contiguous().to(dtype)


def psnr(x, truth):
    return -10 * (x - truth).square().flatten(1).mean(1).log10()


def gaussian(sigma=1.5, side=13):
    row = torch.exp(-((torch.arange(side, dtype=torch.float64) - side // 2) ** 2) / (2 * sigma**2))
    kernel = row[:, None] * row
    return kernel / kernel.sum()


# ---- the minimiser it is meant to be ----


def wanted(problem, sigma_x):
    """The minimiser by dense algebra, (B, n)."""
    H = matrix(problem.operator) / problem.gain[0]
    size = H.shape[1]
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *problem.operator.in_shape)
    bent = rough(basis).flatten(1)
    means = torch.zeros(basis.shape[1], *basis.shape[1:], dtype=torch.float64)
    means[range(len(means)), range(len(means))] = 1 / math.prod(basis.shape[2:])
    means = means.flatten(1)  # x -> the mean of each channel
    A = H.T @ H + sigma_x**2 * (bent / SLOPE**2 + torch.eye(size, dtype=torch.float64) / WIDTH**2 + means.T @ means / MEAN**2)
    grey = torch.full((size,), 0.5, dtype=torch.float64)
    right = (problem.y.flatten(1) / problem.gain[0]) @ H + sigma_x**2 * (grey / WIDTH**2 + means.T @ (means @ grey) / MEAN**2)
    return torch.linalg.solve(A, right.T).T


@pytest.mark.parametrize("operator", [GaussianBlur((1, 8, 9), 1.0), BlockMean((1, 8, 8), 2), Mosaic((3, 6, 6)), BoxMask((1, 9, 8), 4)])
@pytest.mark.parametrize("sigma_x", [0.05, 0.3])
def test_it_is_the_minimiser(operator, sigma_x):
    """60 steps of Chebyshev on the eigenvalues above 1/200 of the largest: 2 / T_30(1.01) = 2 exp(-30 acosh(1.01)) = 3 % a level of what
    they hold, and 1e-3 after both; below them, which is a hole's inside and grey itself, less comes in: 1e-2 of the range is asked for."""
    x = 0.5 + 0.3 * torch.randn(2, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem.simulate(operator, x, NoNoise(), check_range=False)
    noisy = Problem(operator, problem.y, GaussianNoise(sigma_x * float(problem.gain[0])), check_range=False)
    assert (first_image(noisy, None).flatten(1) - wanted(noisy, sigma_x)).abs().max() < 1e-2


MIRRORED = [
    SeparableGaussianBlur((1, 8, 9), 1.0, "symmetric"),
    -3.0 * SeparableGaussianBlur((1, 20, 18), 1.2, "symmetric"),
    Identity((3, 7, 6)),
]


@pytest.mark.parametrize("operator", MIRRORED, ids=["blur", "scaled", "identity"])
@pytest.mark.parametrize("sigma_x", [0.05, 0.3])
def test_a_blur_of_the_mirrored_image_is_inverted_at_once(operator, sigma_x):
    """The preconditioner is the inverse: 4 steps made for a spread of 1.5 leave 1 / T_4(5) = 2.1e-4 of what grey misses, at most 2."""
    x = 0.5 + 0.3 * torch.randn(2, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = GaussianNoise(sigma_x * float(Problem.simulate(operator, x, NoNoise(), check_range=False).gain[0]))
    problem = Problem(operator, operator(x), noise, check_range=False)
    assert convolution(problem) is not None
    assert (first_image(problem, None).flatten(1) - wanted(problem, sigma_x)).abs().max() < 5e-4


def test_other_edges_and_kernels_that_are_no_mirror_images_are_not_taken_for_it():
    lopsided = torch.rand(5, 7, generator=torch.Generator().manual_seed(1))
    for operator in (
        SeparableGaussianBlur((1, 40, 30), 1.6, "zero"),
        GaussianBlur((1, 40, 30), 1.6),
        PaddedBlur((1, 40, 30), lopsided / lopsided.sum(), "symmetric"),
        BlockMean((1, 40, 30), 2),
        SeparableBlur((1, 64, 64), [0.6, 0.0, 0.4], None, "valid"),  # its response is even, and at the frame it sees more than the mirrored
        SeparableBlur((1, 64, 64), [1.0, -0.7], None, "valid"),
        SeparableGaussianBlur((1, 400, 400), 0.6, "reflect"),  # hardly a share of so large an image, and 4 times as much at its edges
        1e12 * SeparableGaussianBlur((1, 40, 30), 1.6, "zero").to(torch.float32),
    ):
        assert (
            convolution(Problem(operator, operator(torch.rand(1, *operator.in_shape)), GaussianNoise(SIGMA), check_range=False)) is None
        ), operator


def test_rough_is_minus_the_laplacian():
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    energy = (x.diff(dim=-1).square().sum() + x.diff(dim=-2).square().sum()) / 2
    (gradient,) = torch.autograd.grad(energy, x)
    assert torch.allclose(rough(x.detach()), gradient, atol=1e-14)


def test_it_is_affine_in_y_and_an_item_is_alone_in_its_batch():
    """The coefficients do not look at y: only rounding differs, also for matrix products, which round by the size of a batch."""
    A = torch.randn(10, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 4
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for operator in (DenseOperator(A, (1, 4, 4)), GaussianBlur((1, 4, 4), 1.0)):
        problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
        whole = first_image(problem, None)
        for item in range(3):
            assert (first_image(problem[item], None)[0] - whole[item]).abs().max() < 1e-12
        middle = Problem(operator, problem.y[:1] + 0.5 * (problem.y[1:2] - problem.y[:1]), GaussianNoise(0.02))
        assert (first_image(middle, None)[0] - (whole[0] + whole[1]) / 2).abs().max() < 1e-12


def test_constants_stay_and_nothing_seen_is_grey():
    constant = torch.full((1, 3, 16, 16), 0.3, dtype=torch.float64)
    for operator in (GaussianBlur((3, 16, 16), 1.0), BlockMean((3, 16, 16), 4), BoxMask((3, 16, 16), 6), Grey((3, 16, 16))):
        found = first_image(Problem.simulate(operator, constant, NoNoise()), None)
        # grey pulls by (g / s)^2 = 1e-4 of what a neighbour does
        assert (found - constant).abs().max() < 1e-2, operator
    dark = Operator.from_matrix(torch.zeros(3, 16, dtype=torch.float64), (1, 4, 4))
    assert (first_image(Problem(dark, torch.zeros(1, 3, dtype=torch.float64), GaussianNoise(0.1)), None) == 0.5).all()


def test_images_without_neighbours_and_stacks():
    A = torch.randn(8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    problem = Problem(Operator.from_function(lambda x: x @ A.T, (12,)), torch.randn(2, 8, dtype=torch.float64), GaussianNoise(0.1))
    found = first_image(problem, None)
    assert found.shape == (2, 12)
    assert (found @ A.T - problem.y).norm() < 0.1 * problem.y.norm()
    x = photo(16)
    stack = Problem.simulate(Stack(GaussianBlur((3, 16, 16), 1.0), BlockMean((3, 16, 16), 2)), x, GaussianNoise(SIGMA), generator=0)
    both = psnr(first_image(stack, None), x)
    one = psnr(first_image(Problem.simulate(BlockMean((3, 16, 16), 2), x, GaussianNoise(SIGMA), generator=0), None), x)
    assert (both > one).all()


# ---- where H is not linear ----


def test_y_itself_where_it_is_an_image():
    x = photo(16)
    for operator, expected in ((Quantise((3, 16, 16), bits=3), 1.0), (-0.001 * Quantise((3, 16, 16), bits=3), 1.0)):
        y = operator(x)
        found = first_image(Problem(operator, y, GaussianNoise(0.001), check_range=False), None)
        # levels of 1 / 7, rounded
        assert (found - expected * x).abs().max() <= 1 / 14 + 1e-9
    hdr = HDR((3, 16, 16))
    assert torch.allclose(first_image(Problem(hdr, hdr(x), GaussianNoise(0.01)), None), hdr(x))
    phase = PhaseRetrieval((1, 8, 8))
    modulus = Operator.from_function(phase, (1, 8, 8), linear=False)  # y is no image, and nothing is known of where to begin
    y = modulus(photo(8, 1))
    assert (first_image(Problem(modulus, y, GaussianNoise(0.01)), None) == 0.5).all()


# ---- its place (K3) ----


def centre(x):
    mass = (x - 0.2).mean((0, 1))
    rows, columns = (torch.arange(side, dtype=x.dtype) for side in mass.shape)
    return float((mass.sum(1) * rows).sum() / mass.sum()), float((mass.sum(0) * columns).sum() / mass.sum())


@pytest.mark.parametrize("kind", ["decimate", "valid"])
def test_a_blob_stays_where_it_is(kind):
    """It was 1.5 pixels off behind a decimation by 4, and stretched behind a border that is lost."""
    rows, columns = torch.meshgrid(*[torch.arange(64, dtype=torch.float64)] * 2, indexing="ij")
    x = 0.2 + 0.7 * torch.exp(-((rows - 29) ** 2 + (columns - 37) ** 2) / 50)[None, None]
    shape = (1, 64, 64)
    operator = BlurDecimate(shape, 4) if kind == "decimate" else PaddedBlur(shape, gaussian(2.0, 13), "valid")
    found = centre(first_image(Problem.simulate(operator, x, NoNoise()), None))
    # the prior is the same everywhere but at the edges, six widths of the blob away: a tenth of a pixel, where 1.5 was the fault
    assert found == pytest.approx((29.0, 37.0), abs=0.1)


# ---- continuous in H (K1) ----


def twins(shape):
    """Operators that a user would call the same blur, with the factor that their y has."""
    kernel = gaussian()
    chipped = kernel.clone()
    chipped[0, 0] = -1e-4
    return {
        "half": (0.5 * KernelBlur(shape, kernel), 0.5),
        "sum .99": (KernelBlur(shape, 0.99 * kernel), 1.0),
        "a negative tap": (KernelBlur(shape, chipped), 1.0),
        "four digits": (KernelBlur(shape, (kernel * 1e4).round() / 1e4), 1.0),
    }


LABELS = list(twins((1, 16, 16)))


def matrix_twins(shape):
    """Matrices of blurs, and the built-in blurs that they are."""
    side = shape[-1]
    steps = torch.arange(side, dtype=torch.float64)
    band = torch.exp(-((steps[:, None] - steps) ** 2) / (2 * 2.0**2))
    rows = torch.kron(torch.eye(side, dtype=torch.float64), band / band.sum(1, keepdim=True))
    whole = GaussianBlur(shape, sigma=1.5)
    return {"rows": (Operator.from_matrix(rows, shape), None), "whole": (Operator.from_matrix(matrix(whole), shape), whole)}


def measured(operator, x, factor=1.0):
    noise = torch.randn(operator(x).shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return Problem(operator, operator(x) + SIGMA * factor * noise, GaussianNoise(SIGMA * factor))


CONVEX = {"adam-tv": AdamTV(), "hqs": HQS(), "admm": ADMM()}


def each_twin(names, kept):
    """Every solver with every twin; in a plain run one solver with every one."""
    return thinned([(name, label) for name in names for label in LABELS], lambda place: place in kept)


@functools.cache
def of_the_clean(name, side, with_network):
    """(the answer for the blur itself, its objective) of a solver."""
    x = photo(side, dtype=torch.float32 if with_network else torch.float64)
    clean = measured(KernelBlur(x.shape[1:], gaussian()), x)
    prior = load_prior("dncnn") if with_network else TotalVariation(6.0)
    best = CONVEX[name].solve(clean, prior).x
    return best, None if with_network else objective(clean, prior, best)


@pytest.mark.parametrize(("name", "label"), each_twin(CONVEX, (0, 3, 5, 10)))
def test_a_blur_that_is_not_quite_clean_has_the_same_minimum(name, label):
    """Unit sum or not: .3 dB and, the objective to 1e-3; from the pseudo-inverse the rmse was 3 to 1.5e6."""
    x = photo(24)
    prior = TotalVariation(6.0)
    best, lowest = of_the_clean(name, 24, with_network=False)
    operator, factor = twins(x.shape[1:])[label]
    problem = measured(operator, x, factor)
    found = CONVEX[name].solve(problem, prior).x
    assert ((psnr(found, x) - psnr(best, x)).abs() < 0.3).all()
    assert (objective(problem, prior, found) / lowest - 1).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "label"), each_twin(["hqs", "admm"], (0, 2, 5, 7)))
def test_a_blur_that_is_not_quite_clean_with_a_denoiser(name, label):
    x = photo(32, dtype=torch.float32)
    best, _ = of_the_clean(name, 32, with_network=True)
    operator, factor = twins(x.shape[1:])[label]
    found = CONVEX[name].solve(measured(operator, x, factor), load_prior("dncnn")).x
    assert ((psnr(found, x) - psnr(best, x)).abs() < 0.3).all()


@functools.cache
def minimum():
    """Total variation's for the matrix of rows, by the solver with the tightest rule."""
    x = photo(16, 1)
    return ADMM(tol=1e-3).solve(measured(matrix_twins(x.shape[1:])["rows"][0], x), TotalVariation(6.0)).x


MATRICES = [(name, label) for name in CONVEX for label in ("rows", "whole")]


@pytest.mark.parametrize(("name", "label"), thinned(MATRICES, lambda place: place in (1, 2, 4)))
def test_matrices_of_blurs(name, label):
    """The first thing that a newcomer tries; from the pseudo-inverse it ended at an rmse of 2e4."""
    x = photo(16, 1)
    prior = TotalVariation(6.0)
    operator, built_in = matrix_twins(x.shape[1:])[label]
    problem = measured(operator, x)
    found = CONVEX[name].solve(problem, prior).x
    reference = minimum() if built_in is None else CONVEX[name].solve(measured(built_in, x), prior).x
    assert ((psnr(found, x) - psnr(reference, x)).abs() < 0.3).all()
    assert (objective(problem, prior, found) / objective(problem, prior, reference) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("solver", [HQS(), ADMM()], ids=["hqs", "admm"])
def test_matrices_of_blurs_with_a_denoiser(solver):
    x = photo(16, 1, torch.float32)
    prior = load_prior("dncnn-gray")
    operator, built_in = matrix_twins(x.shape[1:])["whole"]
    found, reference = (solver.solve(measured(one, x), prior).x for one in (operator, built_in))
    assert ((psnr(found, x) - psnr(reference, x)).abs() < 0.3).all()


def test_the_floor_regularises_without_noise():
    x = photo(16, 1)
    blur = measured(GaussianBlur(x.shape[1:], 3.0), x)
    bare = Problem(blur.operator, blur.y, NoNoise())
    told = Problem(blur.operator, blur.y, GaussianNoise(LEVELS[-1] * float(blur.gain[0])))
    assert torch.equal(first_image(bare, None), first_image(told, None))
    assert first_image(bare, None).abs().max() < 3


def test_it_is_made_once_for_a_problem_and_anew_after_somebody_wrote_into_it():
    calls = []

    class Seen(GaussianBlur):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    problem = Problem.simulate(Seen((1, 8, 8), 1.0), photo(8, 1), GaussianNoise(SIGMA), generator=0)
    first = first_image(problem, None)
    made = len(calls)
    again = first_image(problem, None)
    assert len(calls) == made
    assert torch.equal(again, first)
    first.zero_()  # a caller's own: nobody else's is changed
    assert torch.equal(first_image(problem, None), again)
    problem.y.mul_(0.5)
    moved = first_image(problem, None)
    assert len(calls) > made
    fresh = Problem(problem.operator, problem.y, problem.noise)
    assert torch.equal(moved, first_image(fresh, None))
    assert not torch.equal(moved, again)
    before = next(iter(problem.operator.buffers()))
    before.mul_(1.0)
    made = len(calls)
    first_image(problem, None)
    assert len(calls) > made
