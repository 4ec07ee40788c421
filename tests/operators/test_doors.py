"""What solves with which operator: DDRM, DiffPIR and the projection on everything with an SVD; the doors and the refusals for the rest.

Parametrised over the registry, so that a new operator joins unasked.
"""

import math

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Grey, KernelBlur, Mask, PaddedBlur, SeparableGaussianBlur, WalshHadamard
from sweeps import thinned
from turns import one_in

from invsolve import Capability, CompatibilityError, GaussianNoise, IterativeProx, KrylovSVD, Problem, load_prior, registry
from invsolve.operator.iterative import matrix
from invsolve.operator.measurement import flat, minus
from invsolve.priors import GaussianPrior
from invsolve.solvers import DDRM, DiffPIR, ScoreALD
from invsolve.testing.oracle import DenseOperator

OURS = ("invsolve_operators", "invsolve.operator.matrix")
COLOUR = (3, 4, 8)
COMPOSED = {
    "a factor": -2 * GaussianBlur((1, 5, 6), 0.8),
    "mask @ transform": Mask(COLOUR, keep=0.4) @ WalshHadamard(COLOUR, 1.0),
    "transform @ blur": WalshHadamard(COLOUR, 1.0) @ SeparableGaussianBlur(COLOUR, 0.7),
    "grey @ blur": Grey(COLOUR) @ GaussianBlur(COLOUR, 0.7),
    "grey @ super-resolution": Grey((3, 2, 4)) @ BlockMean(COLOUR, 2),
    "super-resolution @ grey": BlockMean((1, 4, 8), 2) @ Grey(COLOUR),
    "super-resolution @ blur": BlockMean(COLOUR, 2) @ SeparableGaussianBlur(COLOUR, 0.7),
    "blur @ blur": GaussianBlur(COLOUR, 0.7) @ KernelBlur(COLOUR, [[0.1, 0.6, 0.3]]),
    "mask @ mask": Mask(COLOUR, keep=0.7) @ Mask(COLOUR, keep=0.7, seed=1),
}


def built():
    """(name, operator): the first plain example of every entry, one with parameters per image, and compositions."""
    found = []
    for entry in registry().of("operator"):
        if entry.target.startswith(OURS):
            examples = entry.load().examples()
            chosen = [next((one for one in examples if (one.batch is None) == plain), None) for plain in (True, False)]
            found += [pytest.param(one, id=f"{entry.name}{'' if one.batch is None else '-per-image'}") for one in chosen if one is not None]
    return found + [pytest.param(one, id=name) for name, one in COMPOSED.items()]


EVERY = built()
EXACT = [one for one in EVERY if one.values[0].has(Capability.SVD)]
LINEAR = [one for one in EVERY if not one.values[0].has(Capability.SVD) and one.values[0].has(Capability.LINEAR)]
OTHER = [one for one in EVERY if not one.values[0].has(Capability.LINEAR)]


def measured(operator, sigma=0.02):
    """A problem with images x ~ N(1/2, 0.3^2), and the residual of the prior's mean, (B,)."""
    count = operator.batch or 2
    x = 0.5 + 0.3 * torch.randn(count, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem.simulate(operator, x, GaussianNoise(sigma), generator=0, check_range=False)
    return problem, residual(problem, torch.full_like(x, 0.5))


def fallen(problem, x, before):
    """The residual is at most 0.7 of what it was, or of the noise's own size: |n|^2 is sigma^2 m, with twice that for chance."""
    noise = 0.02 * math.sqrt(2 * problem.y[0].numel()) if isinstance(problem.y, torch.Tensor) else 0.0
    return bool((residual(problem, x) <= (0.7 * before).clamp_min(noise)).all())


def residual(problem, x):
    return flat(minus(problem.operator(x), problem.y)).norm(dim=1)


def test_the_families_that_must_be_exact_are():
    """Super-resolution with any kernel, colour, compressed sensing, MRI, separable and circular blur, masks, and compositions."""
    names = {one.id for one in EXACT}
    wanted = {"blur-decimate", "bicubic", "block-mean", "grey", "mosaic", "walsh-hadamard", "block-orthogonal", "mri", "separable-blur"}
    assert wanted | {"separable-gaussian-blur", "gaussian-blur", "kernel-blur", "mask", "through-plane", "matrix"} <= names
    assert set(COMPOSED) <= names
    assert {"padded-blur", "sense"} <= {one.id for one in LINEAR}


@pytest.mark.parametrize("operator", EXACT)
def test_samplers_run_and_come_nearer_to_the_data(operator):
    problem, before = measured(operator)
    prior = load_prior("gaussian", mean=0.5, std=0.3)
    for solver in (DDRM(steps=10), DiffPIR(steps=10)):
        x = solver.solve(problem, prior, generator=0).x
        assert torch.isfinite(x).all()
        assert fallen(problem, x, before), solver


@pytest.mark.parametrize("operator", EXACT)
def test_projection_is_the_least_squares_solution_nearest_to_z(operator):
    """The DDNM-type step: H^T (y - H x) = 0 and x - z in the row space, to rounding, in terms of the spectrum.

    eps max(m, n) per product of order |H| |.|; pinv enlarges by 1 / s_min at most once in x.
    """
    problem, _ = measured(operator)
    z = torch.rand(problem.image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = operator.prox(z, problem.y, math.inf)
    s = operator.svd().s
    least = s[s > 0].min()
    unit = 64 * torch.finfo(torch.float64).eps * max(problem.y[0].numel(), z[0].numel())
    size = 1 + flat(x).norm(dim=1).max() + flat(problem.y).norm(dim=1).max()
    gap = operator.adjoint(minus(problem.y, operator(x)))
    assert flat(gap).norm(dim=1).max() <= unit * size * s.max() * (s.max() + 1)
    assert flat(operator.svd().null(x - z)).norm(dim=1).max() <= unit * size * (1 + s.max() / least)
    assert (residual(problem, x) <= residual(problem, z) * (1 + 1e-9)).all()


def correlated(shape):
    """A Gaussian prior whose covariance no operator's basis diagonalises."""
    n = math.prod(shape)
    root = torch.randn(n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / math.sqrt(n)
    return GaussianPrior(torch.full(shape, 0.5, dtype=torch.float64), cov=0.05 * root @ root.mT + 0.01 * torch.eye(n, dtype=torch.float64))


SPECTRAL = [
    pytest.param(solver, one.values[0], id=f"{name}-{one.id}")
    for name, solver in (("score-ald", ScoreALD(steps=8)), ("ddrm", DDRM(steps=8)))
    for one in EXACT
]


@pytest.mark.parametrize(("solver", "operator"), one_in(2, SPECTRAL, lambda solver, operator: (type(solver), id(operator))))
def test_spectral_samplers_are_those_of_the_dense_matrix(solver, operator):
    """The run on H's own SVD is the run on LAPACK's SVD of its matrix.

    Noise is drawn in the image space and components weigh it by functions of s only, so the two bases must not matter. Rounding: the
    two spectra differ by eps |H|, and y / s enters by at most 1 / s_min of what counts at this noise level: s > 1e-6 s_max here or s = 0.
    """
    operator = operator if operator.batch is None else operator[0]
    problem, _ = measured(operator, sigma=0.05)
    problem = problem[0]
    s = operator.svd().s
    tiny = (s > 0) & (s < 1e-6 * s.max())
    if bool(tiny.any()):
        pytest.skip(f"{int(tiny.sum())} singular values between 0 and 1e-6 of the largest: the rank itself is a matter of rounding")
    dense = matrix(operator)
    twin = DenseOperator(dense if dense.ndim == 2 else dense[0], operator.in_shape)
    prior = correlated(operator.in_shape)
    answers = []
    for one in (operator, twin):
        y = problem.y if one is operator else flat(problem.y)
        answers.append(solver.solve(Problem(one, y, problem.noise, check_range=False), prior, generator=0).x)
    assert (answers[0] - answers[1]).abs().max() <= 1e-9
    assert (answers[0] - 0.5).abs().max() > 0.05


@pytest.mark.parametrize("operator", thinned(LINEAR, lambda place: place % 2 == 0))
def test_what_has_no_closed_form_names_its_doors_and_they_open(operator):
    problem, before = measured(operator)
    prior = load_prior("gaussian", mean=0.5, std=0.3)
    with pytest.raises(CompatibilityError, match=r"lacks 'svd'[\s\S]*solvers that can: .*dps[\s\S]*KrylovSVD\(H, rank="):
        DDRM(steps=5).solve(problem, prior)
    if not operator.has(Capability.PROX):
        with pytest.raises(CompatibilityError, match=r"lacks 'prox'[\s\S]*solvers that can: .*dps[\s\S]*IterativeProx\(H"):
            DiffPIR(steps=5).solve(problem, prior)
        door = Problem(IterativeProx(operator, 1e-4, 5000), problem.y, problem.noise, check_range=False)
        assert (residual(problem, DiffPIR(steps=10).solve(door, prior, generator=0).x) < 0.7 * before).all()
    rank = min(math.prod(operator.in_shape), problem.y[0].numel())
    door = Problem(KrylovSVD(operator, rank), problem.y, problem.noise, check_range=False)
    assert (residual(problem, DDRM(steps=10).solve(door, prior, generator=0).x) < 0.7 * before).all()


@pytest.mark.parametrize("operator", OTHER)
def test_what_is_not_linear_names_the_solvers_that_can(operator):
    x = torch.rand(operator.batch or 2, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem, prior = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0, check_range=False), load_prior("gaussian")
    for solver, lacks in ((DDRM(steps=5), "svd"), (DiffPIR(steps=5), "prox")):
        with pytest.raises(CompatibilityError, match=rf"lacks '{lacks}'[\s\S]*solvers that can: .*dps") as refusal:
            solver.solve(problem, prior)
        assert "in place of H" not in str(refusal.value)  # no door leads there
    assert "dps" in registry().solvers_for(problem, prior)


@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "zero"])
def test_the_truncated_door_and_the_whole_one_agree(boundary):
    """A padded blur that is separable: KrylovSVD of full rank runs DDRM as the closed form does, with the same noise."""
    shape = (1, 7, 8)
    closed = SeparableGaussianBlur(shape, 0.6, boundary)
    kernel = matrix_kernel(closed)
    padded = PaddedBlur(shape, kernel, boundary)
    assert (matrix(padded) - matrix(closed)).abs().max() <= 1e-14
    problem, _ = measured(closed)
    z = torch.rand(problem.image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    door = KrylovSVD(padded, 56)
    for tau in (0.1, 10.0):
        assert (door.prox(z, problem.y, tau) - closed.prox(z, problem.y, tau)).abs().max() <= 1e-11
        found = IterativeProx(padded, 1e-12, 500, boundary if boundary != "zero" else "symmetric").prox(z, problem.y, tau)
        assert (found - closed.prox(z, problem.y, tau)).abs().max() <= 1e-9


def matrix_kernel(operator):
    """The kernel of a blur: its response to a pixel in the middle, cut to 5 x 5."""
    image = torch.zeros(1, *operator.in_shape, dtype=torch.float64)
    row, column = operator.in_shape[1] // 2, operator.in_shape[2] // 2
    image[0, 0, row, column] = 1
    return operator(image)[0, 0, row - 2 : row + 3, column - 2 : column + 3]
