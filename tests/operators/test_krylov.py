"""The explicit doors: preconditioned CG with its bound, the truncated SVD, exact draws."""

import math
import warnings

import pytest
import torch
from invsolve_operators import SENSE, GaussianBlur, Identity, KernelBlur, Mask, PaddedBlur, SeparableGaussianBlur
from turns import one_in

from invsolve import CapabilityError, GaussianNoise, InputError, IterativePinv, IterativeProx, KrylovSVD, Problem, Stack, load_prior
from invsolve.errors import ConvergenceError
from invsolve.operator.iterative import conjugate_gradients, matrix
from invsolve.operator.preconditioners import SPECTRA, circular_spectrum, convolved, divide
from invsolve.solvers import DDRM, DiffPIR
from invsolve.testing import operator_cases

SHAPE = (1, 8, 9)
MASKED = Mask(SHAPE, keep=0.6) @ GaussianBlur(SHAPE, 1.0)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("preconditioner", [None, "circular"])
@pytest.mark.parametrize("tau", [0.1, 10.0, 1e4])
def test_the_error_stays_below_its_bound(preconditioner, tau):
    """Against the dense solution; the bound holds and is not vacuous: it falls with the tolerance."""
    dense = matrix(MASKED)
    z, y = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    left = dense.mT @ dense + torch.eye(72, dtype=torch.float64) / tau
    exact = torch.linalg.solve(left, (dense.mT @ y.flatten(1).mT) + z.flatten(1).mT / tau).mT.reshape(z.shape)
    previous = math.inf
    for tol in (1e-2, 1e-5, 1e-9):
        found = IterativeProx(MASKED, tol, 2000, preconditioner).solve_prox(z, y, tau)
        assert found.converged.all()
        error = (found.x - exact).flatten(1).norm(dim=1)
        assert (error <= found.bound * (1 + 1e-6) + 1e-10 * tau).all()
        assert found.bound.max() < previous
        previous = float(found.bound.max())


def test_the_preconditioner_saves_iterations():
    shape = (1, 32, 32)
    z, y = draw(2, *shape), draw(2, *shape, seed=1)
    cases = ((SeparableGaussianBlur(shape, 2.0, "zero"), 0.75), (Mask(shape, keep=0.7) @ GaussianBlur(shape, 2.0), 0.2))
    for operator, part in cases:
        plain, helped = (IterativeProx(operator, 1e-6, 5000, kind).solve_prox(z, y, 1e3) for kind in (None, "circular"))
        assert (helped.iterations < part * plain.iterations).all()
        assert (helped.x - plain.x).abs().max() <= helped.bound.max() + plain.bound.max()


def test_a_circular_blur_is_its_own_preconditioner():
    operator = GaussianBlur((2, 6, 9), 1.0)
    spectrum = circular_spectrum(operator, draw(1))
    transfer = torch.view_as_complex(operator.get_buffer("transfer")).abs().square()
    assert (spectrum - transfer).abs().max() <= 1e-14
    z, y = draw(2, 2, 6, 9), draw(2, 2, 6, 9, seed=1)
    assert (IterativeProx(operator, 1e-10, 50, "circular").solve_prox(z, y, 1e6).iterations <= 2).all()


def dense_of(function, shape):
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return function(units).flatten(1).mT


KERNEL = [[0.05, 0.1, 0.05], [0.15, 0.3, 0.15], [0.05, 0.1, 0.05]]


@pytest.mark.parametrize(("kind", "most"), [("symmetric", 1.0), ("reflect", 4.0)])
@pytest.mark.parametrize("weight", [1.0, 1e-3])
def test_mirror_preconditioners_bound_the_condition(kind, most, weight):
    """M^-1 (H^T H + w) lies in [1, 1] for "symmetric" and in [1, 4] for "reflect", as the module derives; M is symmetric, positive."""
    shape = (2, 10, 11)
    operator = PaddedBlur(shape, KERNEL, kind)
    spectrum = SPECTRA[kind](operator, draw(1))
    inverse = dense_of(lambda r: divide(kind, spectrum, torch.tensor(weight, dtype=torch.float64), r), shape)
    assert (inverse - inverse.mT).abs().max() <= 1e-12 / weight
    assert torch.linalg.eigvalsh(inverse).min() > 0
    dense = matrix(operator)
    product = inverse @ (dense.mT @ dense + weight * torch.eye(len(dense.mT), dtype=torch.float64))
    values = torch.linalg.eigvals(product).real
    # Rounding: eps |M^-1| |H^T H| times a few hundred terms.
    assert values.min() >= 1 - 1e-12 / weight
    assert values.max() <= most + 1e-12 / weight


@pytest.mark.parametrize(("kind", "shape"), [("reflect", (1, 1, 6)), ("reflect", (1, 2, 5)), ("symmetric", (1, 1, 4))])
def test_mirror_preconditioners_take_thin_images(kind, shape):
    operator = SeparableGaussianBlur(shape, 0.7, "symmetric")
    z, y = draw(1, *shape), draw(1, *shape, seed=1)
    found = IterativeProx(operator, 1e-12, 200, kind).prox(z, y, 10.0)
    assert (found - operator.prox(z, y, 10.0)).abs().max() <= 1e-10


@pytest.mark.parametrize("shape", [(2, 10, 11), (1, 1, 6), (3, 7, 1), (1, 64, 64)])
def test_small_images_are_transformed_by_a_matrix_with_the_same_outcome(shape, monkeypatch):
    """Each output is a sum of n^2 products of numbers near 1 in size: a thousand roundings of eps at most."""
    spectrum, r, weight = (
        SPECTRA["symmetric"](SeparableGaussianBlur(shape, 0.7, "symmetric"), draw(1)),
        draw(2, *shape),
        torch.ones(2, 1, 1, 1),
    )
    small = divide("symmetric", spectrum, weight, r), convolved(r, spectrum)
    monkeypatch.setattr("invsolve.operator.preconditioners.DENSE", 0)
    for found, wanted in zip(small, (divide("symmetric", spectrum, weight, r), convolved(r, spectrum)), strict=True):
        assert (found - wanted).abs().max() <= 1e-12


def test_where_the_boundary_reflects_the_iterations_do_not_grow_with_tau():
    """Condition 4: CG's error falls by 3 an iteration, to 1e-6 in at most 14 + ln(4) / ln(3) in the norm of M; a few more in |r|."""
    shape = (1, 32, 30)
    operator = PaddedBlur(shape, KERNEL, "reflect")
    z, y = draw(2, *shape), draw(2, *shape, seed=1)
    for tau in (1.0, 1e3, 1e6):
        assert (IterativeProx(operator, 1e-6, 500, "reflect").solve_prox(z, y, tau).iterations <= 20).all()
    assert (IterativeProx(operator, 1e-6, 101).solve_prox(z, y, 1e6).iterations > 100).all()


def test_per_image_kernels_have_per_image_preconditioners():
    kernels = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = PaddedBlur((1, 12, 10), kernels / kernels.sum((1, 2), keepdim=True), "reflect")
    wrapped, z, y = IterativeProx(operator, 1e-10, 500, "reflect"), draw(3, 1, 12, 10), draw(3, 1, 12, 10, seed=1)
    together = wrapped.solve_prox(z, y, 100.0)
    for item in range(3):
        alone = wrapped[item].solve_prox(z[item : item + 1], y[item : item + 1], 100.0)
        assert (alone.x[0] - together.x[item]).norm() <= alone.bound[0] + together.bound[item]


@pytest.mark.parametrize("kind", [None, "circular"])
@pytest.mark.parametrize("tau", [1.0, 1e3, 1e6])
def test_the_bound_holds_in_single_precision(kind, tau):
    """The recursion's residual alone would promise 4 eps; the bound is from x itself. Its own rounding is eps (|r0| + |H|^2 |d|)."""
    dense = matrix(MASKED)
    z, y = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    left = dense.mT @ dense + torch.eye(72, dtype=torch.float64) / tau
    z32, y32 = z.float(), y.float()
    wanted = torch.linalg.solve(left, (dense.mT @ y32.double().flatten(1).mT) + z32.double().flatten(1).mT / tau).mT.reshape(z.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rounding level counts as converged
        found = IterativeProx(MASKED, 1e-7, 5000, kind).solve_prox(z32, y32, tau)
    assert found.converged.all()
    error = (found.x.double() - wanted).flatten(1).norm(dim=1)
    rounding = 8 * torch.finfo(torch.float32).eps * tau * ((wanted - z).flatten(1).norm(dim=1) + y.flatten(1).norm(dim=1) * 2)
    assert (error <= found.bound + rounding).all()


def test_stalled_items_start_again():
    """A is ill-conditioned in float32: the recursion says 1e-6, b - A x more; after new starts both agree, or it is rounding."""
    a = torch.diag(torch.logspace(0, -4, 40))
    b = draw(3, 40, seed=1).float()
    found = conjugate_gradients(lambda x: x @ a, b, torch.zeros_like(b), tol=1e-6, max_iter=20_000)
    true = (b - found.x @ a).norm(dim=1)
    assert (found.residual - true / b.norm(dim=1)).abs().max() <= 1e-7
    level = 8 * torch.finfo(torch.float32).eps * (b.norm(dim=1) + found.x.norm(dim=1))
    assert ((true <= 1e-6 * b.norm(dim=1)) | (true <= level)).all()
    assert found.converged.all()


def test_items_stop_alone():
    """An item's answer and count are those it has alone."""
    z, y = draw(3, *SHAPE), draw(3, *SHAPE, seed=1)
    tau = torch.tensor([0.1, 10.0, 1e3], dtype=torch.float64)
    for kind in (None, "circular"):
        wrapped = IterativeProx(MASKED, 1e-6, 500, kind)
        together = wrapped.solve_prox(z, y, tau)
        assert len(set(together.iterations.tolist())) == 3
        for item in range(3):
            alone = wrapped.solve_prox(z[item : item + 1], y[item : item + 1], tau[item : item + 1])
            assert alone.iterations[0] == together.iterations[item]
            # Rounding differs between batches and CG carries it on: the two agree within what each may be off.
            assert (alone.x[0] - together.x[item]).norm() <= alone.bound[0] + together.bound[item]


def test_an_early_end_is_said():
    z, y = draw(1, *SHAPE), draw(1, *SHAPE, seed=1)
    with pytest.warns(RuntimeWarning, match="max_iter = 2"):
        IterativeProx(MASKED, 1e-8, 2).prox(z, y, 1e4)
    with pytest.warns(RuntimeWarning, match="max_iter = 2"):
        IterativePinv(MASKED, 1e-8, 2).pinv(y)
    for call in (IterativeProx(MASKED, 1e-8, 2, strict=True).prox, IterativePinv(MASKED, 1e-8, 2, strict=True).pinv):
        with pytest.raises(ConvergenceError, match="stopped after 2 iterations"):
            call(z, y, 1e4) if "prox" in call.__name__ else call(y)
    assert not IterativePinv(MASKED, 1e-8, 2).solve_pinv(y).converged.any()
    assert IterativeProx(MASKED, 1e-8, 2, strict=True)[0].strict
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IterativeProx(MASKED, 1e-30, 500).prox(z.float(), y.float(), 1.0)  # an impossible tolerance counts as 4 eps


def test_projection_is_the_solution_nearest_to_z():
    dense = matrix(MASKED)
    z, y = draw(2, *SHAPE), MASKED(draw(2, *SHAPE, seed=1))
    for kind in (None, "circular"):
        found = IterativeProx(MASKED, 1e-12, 5000, kind).prox(z, y, math.inf)
        wanted = z.flatten(1).mT + torch.linalg.pinv(dense) @ (y.flatten(1).mT - dense @ z.flatten(1).mT)
        condition = torch.linalg.svdvals(dense)
        condition = float(condition[0] / condition[condition > 1e-12].min()) ** 2
        assert (found.flatten(1).mT - wanted).abs().max() <= 1e-12 * condition


def test_conjugate_gradients_solve():
    a = draw(5, 5)
    a = a @ a.mT + torch.eye(5, dtype=torch.float64)
    b = draw(3, 5, seed=1)
    found = conjugate_gradients(lambda x: x @ a, b, torch.zeros_like(b), tol=1e-12)
    assert (found.x @ a - b).abs().max() <= 1e-11
    assert (found.iterations <= 7).all()


KERNELS = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PER_IMAGE = [
    KrylovSVD(PaddedBlur((1, 4, 5), KERNELS, "zero"), 9),
    KrylovSVD(Mask((1, 4, 5), keep=0.6) @ KernelBlur((1, 4, 5), KERNELS), 20),
    KrylovSVD(PaddedBlur((1, 4, 5), KERNELS, "valid"), 6),
]


@pytest.mark.parametrize("operator", PER_IMAGE)
def test_an_item_of_a_batch_has_its_own_factors(operator):
    """As alone, and the item's largest values by LAPACK (to the subspace's convergence, as in `test_truncated_svd`)."""
    inner = operator.arguments["operator"]
    rank, exact = operator.values.shape[1], torch.linalg.svdvals(matrix(inner))
    for item in range(3):
        alone = KrylovSVD(inner[item], rank)
        assert (alone.values[0] - operator.values[item]).abs().max() <= 1e-12
        assert (matrix(alone)[0] - matrix(operator)[item]).abs().max() <= 1e-10
        assert (operator.values[item] - exact[item, :rank]).abs().max() <= 1e-9
    gaps = torch.linalg.matrix_norm(matrix(inner) - matrix(operator), 2)
    assert gaps.max() <= max(operator.residual, 1e-12)


KRYLOV = [MASKED, SENSE((1, 6, 5), acceleration=2.0), SeparableGaussianBlur(SHAPE, 1.0, "reflect")]


@pytest.mark.parametrize("operator", KRYLOV, ids=lambda one: one.label)
@pytest.mark.parametrize("rank", [5, 20])
def test_truncated_svd(operator, rank):
    """The largest values of the dense matrix, and a residual that bounds the truth (but for one seed in 1e10) within a factor 30."""
    found = KrylovSVD(operator, rank)
    dense = matrix(operator)
    exact = torch.linalg.svdvals(dense)
    # Subspace iteration: the error of the k-th value falls with (s_{k+10} / s_k)^{2 (2 q + 1)}.
    rate = float(exact[min(rank + 10, len(exact) - 1)] / exact[rank - 1]) ** 18
    assert ((found.values - exact[:rank]).abs() <= 10 * max(rate, 1e-12) * exact[0]).all()
    gap = float(torch.linalg.matrix_norm(dense - matrix(found), 2))
    following = float(exact[rank]) if rank < len(exact) else 0.0
    assert gap <= 1.01 * following + 1e-9  # what is left out begins with the next singular value
    assert gap <= found.residual <= 30 * max(gap, 1e-12) * math.sqrt(dense.shape[1])


@pytest.mark.parametrize(
    ("operator", "check"),
    one_in(2, operator_cases(KrylovSVD(MASKED, 12), KrylovSVD(Identity((1, 3, 4)), 12), *PER_IMAGE), lambda one, check: (id(one), check)),
)
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("operator", KRYLOV, ids=lambda one: one.label)
def test_the_door_to_ddrm(operator):
    x = 0.5 + 0.3 * draw(2, *operator.in_shape)
    door = KrylovSVD(operator, 20)
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0, check_range=False)
    opened = Problem(door, problem.y, problem.noise, check_range=False)
    prior = load_prior("gaussian", mean=0.5, std=0.3)
    for solver in (DDRM(steps=20), DiffPIR(steps=20)):
        found = solver.solve(opened, prior, generator=0).x
        # Nearer to the data than the prior's mean is.
        assert ((operator(found) - problem.y).norm() < 0.8 * (operator(torch.full_like(x, 0.5)) - problem.y).norm()).all()


def test_saved_and_loaded(tmp_path):
    door = KrylovSVD(MASKED, 12)
    x = draw(1, *SHAPE)
    Problem.simulate(door, x, GaussianNoise(0.1), generator=0).save(tmp_path / "problem")
    assert torch.equal(Problem.load(tmp_path / "problem").operator(x), door(x))


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: KrylovSVD(MASKED, 0), InputError, "from 1 to 72"),
        (lambda: KrylovSVD(MASKED, 2.5), InputError, "whole number"),
        (lambda: KrylovSVD(GaussianBlur((3, 2048, 2048)), 10**6), InputError, "GiB"),
        (lambda: KrylovSVD(KernelBlur((3, 512, 512), torch.ones(8, 3, 3)), 50), InputError, "for 8 items takes"),
        (lambda: KrylovSVD(Stack(MASKED, MASKED), 3), InputError, "one by one"),
        (lambda: KrylovSVD("blur", 3), InputError, "takes an operator"),
        (lambda: IterativeProx(MASKED, preconditioner="fft"), InputError, "circular"),
        (lambda: Identity(SHAPE).prox_sample(draw(1, *SHAPE), draw(1, *SHAPE), -1.0, 1.0), InputError, "sigma_y >= 0"),
        (lambda: MASKED.prox_sample(draw(1, *SHAPE), draw(1, *SHAPE), 0.1, 1.0), CapabilityError, "prox"),
    ],
)
def test_refusals(make, error, word):
    with pytest.raises(error, match=word):
        make()


@pytest.mark.parametrize(
    ("operator", "sigma_y"),
    [
        (GaussianBlur((1, 2, 3), 0.7), 0.3),
        (Mask((1, 2, 3), keep=0.5), 0.3),
        (Mask((1, 2, 3), keep=0.5), 0.0),
        (IterativeProx(Mask((1, 2, 3), keep=0.5) @ GaussianBlur((1, 2, 3), 0.7), 1e-10), 0.3),
    ],
    ids=["blur", "mask", "exact data", "iterative"],
)
def test_exact_draws(operator, sigma_y):
    """Mean and covariance of 20,000 draws against the closed form, within four standard errors (six for the largest of 21 entries)."""
    count, r = 20_000, 0.7
    z, y = draw(1, 1, 2, 3), operator(draw(1, 1, 2, 3, seed=1))
    dense = matrix(operator)
    if sigma_y:
        covariance = torch.linalg.inv(dense.mT @ dense / sigma_y**2 + torch.eye(6, dtype=torch.float64) / r**2)
        mean = covariance @ (dense.mT @ y.flatten() / sigma_y**2 + z.flatten() / r**2)
    else:
        null = torch.eye(6, dtype=torch.float64) - torch.linalg.pinv(dense) @ dense
        covariance, mean = r**2 * null, z.flatten() + torch.linalg.pinv(dense) @ (y.flatten() - dense @ z.flatten())
    draws = operator.prox_sample(z.expand(count, 1, 2, 3), y.expand(count, *y.shape[1:]), sigma_y, r, 0).flatten(1)
    spread = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() <= 4 * spread / math.sqrt(count) + 1e-9).all()
    deviation = ((spread[:, None] * spread) ** 2 + covariance**2).sqrt() / math.sqrt(count)
    assert ((torch.cov(draws.mT) - covariance).abs() <= 6 * deviation + 1e-9).all()


def test_draws_of_an_item_are_its_own():
    operator, z, y = Identity(SHAPE), draw(3, *SHAPE), draw(3, *SHAPE, seed=1)
    widths = torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64)
    together = operator.prox_sample(z, y, 0.1, widths, 5)
    assert torch.equal(together, operator.prox_sample(z, y, 0.1, widths, 5))
    assert torch.equal(together[:1], operator.prox_sample(z[:1], y[:1], 0.1, 0.1, 5))
