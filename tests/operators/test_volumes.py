"""Volumes (C, D, H, W): operators against dense matrices, posteriors in closed form, total variation with certificates, slices by loops."""

import pytest
import torch
from invsolve_operators import BlockMean, Identity, Mask, SeparableBlur, SeparableGaussianBlur
from invsolve_operators.blurs.separable import Separable

from invsolve import GaussianNoise, InputError, PoissonNoise, Problem, load_prior
from invsolve.errors import CompatibilityError
from invsolve.estimate import estimate_noise
from invsolve.operator.iterative import matrix
from invsolve.priors import GaussianPrior, Slicewise, TotalVariation, VectorialTV, WaveletL1
from invsolve.rng import Rng
from invsolve.solvers import ADMM, DDRM, HQS, MMPS, PDHGTV, RLTV, CoPaint, OneShot, Resampling
from invsolve.testing import failures, operator_checks

SHAPE = (1, 3, 4, 5)
EPS = torch.finfo(torch.float64).eps


def draw(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(kernel, side, boundary):
    """A of one axis by its definition: y[i] = sum_t k[t] x[i - t + len(k) // 2], outside as the boundary says."""
    a = torch.zeros(side, side, dtype=torch.float64)
    for i in range(side):
        for t, weight in enumerate(kernel):
            j = i - t + len(kernel) // 2
            if boundary == "symmetric":
                while not 0 <= j < side:
                    j = -1 - j if j < 0 else 2 * side - 1 - j
            if 0 <= j < side:
                a[i, j] += weight
    return a


def test_a_separable_blur_is_the_kronecker_product_of_its_sides():
    kernels = ([0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.4, 0.6])
    for boundary in ("zero", "symmetric"):
        blur = SeparableBlur(SHAPE, kernels[1], kernels[2], boundary, depth=kernels[0])
        sides = [dense(kernel, side, boundary) for kernel, side in zip(kernels, SHAPE[1:], strict=True)]
        whole = torch.kron(torch.kron(sides[0], sides[1]), sides[2])
        # sums of at most 27 products of numbers below 1
        assert torch.allclose(matrix(blur), whole, rtol=0, atol=30 * EPS)
        spread = torch.linalg.svdvals(whole)
        assert torch.allclose(blur.svd().s.flatten().sort(descending=True).values, spread, atol=1e-13)


def test_one_width_for_each_side_and_image():
    sigma = torch.tensor([[0.5, 1.0, 1.5], [1.0, 0.7, 0.4]])
    several = SeparableGaussianBlur((2, *SHAPE[1:]), sigma, "symmetric")
    x = draw(2, 2, *SHAPE[1:])
    for item, widths in enumerate(sigma.tolist()):
        sides = [SeparableGaussianBlur((1, 9, 9), torch.tensor([[one, one]]), "symmetric") for one in widths]
        assert len(sides) == 3
        alone = SeparableGaussianBlur((2, *SHAPE[1:]), torch.tensor([widths]), "symmetric")
        assert torch.allclose(several(x)[item], alone(x[item : item + 1])[0], atol=1e-15)
        along = [torch.as_tensor(gaussian(one, side)) for one, side in zip(widths, SHAPE[1:], strict=True)]
        by_hand = torch.einsum("ai,bj,ck,nijk->nabc", *along, x[item])
        assert torch.allclose(alone(x[item : item + 1])[0], by_hand, atol=1e-14)
    with pytest.raises(InputError, match=r"\(B, 3\)"):
        SeparableGaussianBlur(SHAPE, torch.ones(2, 2))


def gaussian(sigma, side):
    """exp(-t^2 / 2 sigma^2) to 4 sigma, mirrored at the faces."""
    reach = int(4 * sigma + 0.5)
    taps = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    return dense(list(taps / taps.sum()), side, "symmetric")


def test_a_block_mean_by_loops():
    x = draw(1, 2, 4, 6, 2)
    y = BlockMean((2, 4, 6, 2), 2)(x)
    assert y.shape == (1, 2, 2, 3, 1)
    for z in range(2):
        for i in range(3):
            assert torch.allclose(y[0, :, z, i, 0], x[0, :, 2 * z : 2 * z + 2, 2 * i : 2 * i + 2, :].mean((1, 2, 3)), atol=1e-15)


def random_matrix(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


OPERATORS = [
    Identity(SHAPE),
    Mask(SHAPE, mask=draw(*SHAPE[1:]) > 0.4),
    Mask((2, 2, 3, 4), mask=draw(3, 2, 2, 3, 4, seed=1) > 0.4),
    Separable(SHAPE, random_matrix(6, 4), random_matrix(2, 5), random_matrix(3, 2, 3)),
    BlockMean((1, 2, 4, 2), 2),
    BlockMean((1, 2, 4, 2), 2) @ SeparableGaussianBlur((1, 2, 4, 2), 0.7),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda one: f"{one.label}{one.in_shape}")
def test_the_kit_s_checks_of_operators_hold(operator):
    """Adjoint, SVD, pinv and prox, items of a batch, refusals; what the kit asks of every operator."""
    checks = [one for one in operator_checks(operator) if one[0] not in ("check_pickle", "check_state_dict")]
    assert failures(operator, checks) == {}


def test_a_mask_keeps_as_many_voxels_as_it_says():
    mask = Mask((3, 5, 6, 7), keep=0.3, seed=4)
    assert int(mask.mask.sum()) == round(0.3 * 210)
    with pytest.raises(InputError, match=r"\(D, H, W\), \(1, D, H, W\)"):
        Mask((1, 5, 6, 7), mask=torch.ones(6, 7))


def covariance(count):
    """Of neighbours along the flattened volume, exp(-|i - j| / 3) / 9: any positive definite matrix would do."""
    place = torch.arange(count, dtype=torch.float64)
    return torch.exp(-(place[:, None] - place).abs() / 3) / 9


def test_the_posterior_of_a_gaussian_prior_with_a_separable_blur():
    """Mean by a dense solve: m + C A^T (A C A^T + s^2 I)^-1 (y - A m)."""
    sigma, blur = 0.1, SeparableGaussianBlur(SHAPE, 0.8, "symmetric")
    a, c = matrix(blur), covariance(60)
    prior = GaussianPrior(0.4, cov=c)
    x = prior.sample(SHAPE, Rng(0, range(1), purpose="test"), torch.empty(1, dtype=torch.float64))
    problem = Problem.simulate(blur, x, GaussianNoise(sigma), generator=0)
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + sigma**2 * torch.eye(60, dtype=torch.float64))
    mean = 0.4 + gain @ (problem.y.flatten() - 0.4)
    # MMPS is exact for Gaussians: in the eigenvectors of the covariance its mean over 24 draws scatters by their deviations / sqrt(24)
    values, vectors = torch.linalg.eigh(c - gain @ a @ c)
    found = MMPS(steps=12).solve(problem, prior, generator=0, samples=24).mean.flatten()
    off = vectors.T @ (found - mean) / (values / 24).sqrt()
    # 60 squares of standard normal numbers: mean 60, deviation sqrt(120) = 11; 12 steps of a grid leave a tenth of a deviation more
    most = 60 + 5 * 11 + 24 * 60 * 0.1**2
    assert 20 < float(off.square().sum()) < most
    # what forgets the blur, or the prior, is found by the same numbers
    for wrong in (problem.y.flatten(), torch.full_like(mean, 0.4)):
        assert float((vectors.T @ (wrong - mean) / (values / 24).sqrt()).square().sum()) > most


def test_ddrm_and_the_mean_of_a_volume():
    """y = x + noise with a white prior about a mean volume: every pixel is a number of its own."""
    mean = draw(1, 1, 3, 4, 5)
    prior = GaussianPrior(mean, 0.2)
    assert prior.in_shape == SHAPE
    assert prior.batch is None
    problem = Problem.simulate(Identity(SHAPE), mean.expand(1, *SHAPE), GaussianNoise(0.1), generator=0)
    expected = mean + 0.04 / 0.05 * (problem.y - mean)
    # one evaluation is the posterior mean, exactly
    assert torch.allclose(OneShot().solve(problem, prior, generator=0).x, expected, atol=1e-12)
    drawn = DDRM(steps=20).solve(problem, prior, generator=0, samples=64).mean
    # 64 draws of std at most sqrt(.04 .01 / .05) = .09; 5 standard errors
    assert float((drawn - expected).abs().max()) < 5 * 0.09 / 8
    assert GaussianPrior(draw(3, *SHAPE), 0.2).batch == 3


def certified(prior, x, tau):
    """(u, gap) where gap bounds P(u) - min P from a dual point, all by einsum-free loops over the axes, independent of the prior's code."""
    u, p = prior.prox_with_dual(x, tau)
    adjoint, slope = torch.zeros_like(x), []
    for index, axis in enumerate((2, 3, 4)):
        count = x.shape[axis]
        step, one = torch.zeros_like(x), p[:, index]
        for k in range(count - 1):
            step.select(axis, k).copy_(u.select(axis, k + 1) - u.select(axis, k))
            adjoint.select(axis, k).sub_(one.select(axis, k))
            adjoint.select(axis, k + 1).add_(one.select(axis, k))
        assert float(one.select(axis, count - 1).abs().max()) == 0
        slope.append(step)
    joined = torch.stack(slope).square()
    size = {"tv": joined.sum(0).sqrt(), "vectorial": joined.sum((0, 2)).sqrt(), "anisotropic": joined.sqrt()}
    ball = {"tv": p.square().sum(1).sqrt(), "vectorial": p.square().sum((1, 2)).sqrt(), "anisotropic": p.abs()}
    kind = "vectorial" if isinstance(prior, VectorialTV) else "tv" if prior.isotropic else "anisotropic"
    assert float(ball[kind].max()) <= 1 + 1e-12
    primal = float(tau * size[kind].sum() + (u - x).square().sum() / 2)
    # min_u tau <p, Du> + |u - x|^2 / 2 is at u = x - tau D^T p
    lower = float(tau * (adjoint * x).sum() - tau**2 * adjoint.square().sum() / 2)
    return u, primal, primal - lower


@pytest.mark.parametrize("prior", [TotalVariation(tol=1e-9), TotalVariation(isotropic=False, tol=1e-9), VectorialTV(tol=1e-9)])
def test_the_prox_of_total_variation_is_certified_by_its_dual(prior):
    u, primal, gap = certified(prior, draw(1, 2, 4, 5, 6), 0.1)
    assert -1e-12 < gap <= 1.1e-9 * primal  # its own rule stops at 1e-9 of tau R + |u - x|^2 / 2
    assert float(prior.value(u)) == pytest.approx((primal - float((u - draw(1, 2, 4, 5, 6)).square().sum()) / 2) / 0.1, rel=1e-12)


@pytest.mark.parametrize("prior", [TotalVariation(tol=1e-12, max_iter=20_000), VectorialTV(tol=1e-12, max_iter=20_000)])
def test_one_slice_is_a_picture(prior):
    x = draw(2, 2, 5, 6)
    assert torch.equal(prior.value(x[:, :, None]), prior.value(x))
    u = prior.prox(x, 0.1)
    primal = 0.1 * prior.value(u) + (u - x).square().flatten(1).sum(1) / 2
    # both lie within sqrt(2 gap) of the minimiser (the objective is 1-strongly convex)
    assert float((prior.prox(x[:, :, None], 0.1)[:, :, 0] - u).norm()) <= float(2 * (2 * 1e-12 * primal.sum()).sqrt())
    turned = prior.value(x[:, :, None].movedim(2, 4))  # and so is one column
    assert torch.allclose(turned, prior.value(x), rtol=1e-13)


def test_solvers_of_total_variation_agree_on_a_volume():
    x = draw(1, 1, 4, 6, 6).round()
    problem = Problem.simulate(SeparableGaussianBlur((1, 4, 6, 6), 0.7, "symmetric"), x, GaussianNoise(0.05), generator=0)
    prior = TotalVariation(weight=8.0, tol=1e-7)
    found = PDHGTV(tol=1e-6, steps=4000).solve(problem, prior, generator=0)
    assert float(found.stats["gap"].max()) <= 1e-6
    other = ADMM(steps=300).solve(problem, prior, generator=0).x

    def objective(u):
        return float((problem.operator(u) - problem.y).square().sum() / (2 * 0.05**2) + 8 * prior.value(u).sum())

    # the proved minimum is within 1e-6 of the objective, and admm's answer nowhere below it
    assert objective(found.x) * (1 - 1e-6) <= objective(other) <= objective(found.x) * 1.001


def test_counts_of_a_volume():
    """rl-tv makes the objective smaller than plain Richardson-Lucy's at the same number of sweeps."""
    x = 0.2 + draw(1, 1, 3, 5, 5).round() * 0.6
    problem = Problem.simulate(SeparableGaussianBlur((1, 3, 5, 5), 0.7, "symmetric"), x, PoissonNoise(gain=0.02), generator=0)
    objectives = [
        float(RLTV(steps=20).solve(problem, TotalVariation(weight=weight), generator=0).x.sub(x).square().mean()) for weight in (0.0, 2.0)
    ]
    assert objectives[1] < objectives[0]


def test_slicewise_is_a_loop_over_slices():
    inner, x, sigma = load_prior("dncnn", channels=1), draw(2, 1, 3, 8, 7).float(), torch.tensor([0.05, 0.2])
    found = {axis: Slicewise(inner, axis, rows=2)(x, sigma) for axis in ("depth", "height", "width", "all")}
    loops = {}
    for name, axis in (("depth", 2), ("height", 3), ("width", 4)):
        slices = [torch.cat([inner(one[:, :, k] if axis == 2 else one.select(axis, k), float(level)) for one, level in pairs(x, sigma)])
                  for k in range(x.shape[axis])]  # fmt: skip
        loops[name] = torch.stack(slices, axis)
        # float32 networks on other batches: rounding of sums over 64 channels and 17 layers
        assert torch.allclose(found[name], loops[name], atol=2e-5)
    assert torch.allclose(found["all"], torch.stack(list(loops.values())).mean(0), atol=2e-5)
    picture = draw(1, 1, 8, 7).float()
    assert torch.equal(Slicewise(inner)(picture, 0.1), inner(picture, 0.1))


def pairs(x, sigma):
    return [(x[item : item + 1], sigma[item]) for item in range(len(x))]


def test_slicewise_counts_each_slice_and_solves():
    prior = Slicewise(GaussianPrior(0.5, 0.2), axis="all")
    problem = Problem.simulate(Mask(SHAPE, keep=0.5), draw(2, *SHAPE), GaussianNoise(0.05), generator=0)
    solution = OneShot().solve(Problem.simulate(Identity(SHAPE), draw(2, *SHAPE), GaussianNoise(0.05), generator=0), prior, generator=0)
    assert solution.nfe == 3 + 4 + 5
    plain = GaussianPrior(0.5, 0.2)
    for solver in (HQS(steps=4), DDRM(steps=4), CoPaint(steps=3), Resampling(steps=3, particles=2)):
        found, expected = (solver.solve(problem, one, generator=0).x for one in (prior, plain))
        # white noise has no neighbours: slice by slice it is the same prior, up to its mean over three axes, and what a solver knows of it
        assert torch.allclose(found, expected, atol=1e-9)


def test_what_has_no_volumes_says_so():
    problem = Problem.simulate(Identity(SHAPE), draw(1, *SHAPE), GaussianNoise(0.05), generator=0)
    with pytest.raises(CompatibilityError, match=r"for images \(C, H, W\), the operator's have shape"):
        HQS().solve(problem, WaveletL1(), generator=0)
    with pytest.raises(InputError, match="depth"):
        SeparableBlur((1, 4, 5), [0.2, 0.6, 0.2], depth=[1.0])
    with pytest.raises(InputError, match="did you mean depth"):
        Slicewise(GaussianPrior(), axis="depht")
    with pytest.raises(InputError, match="load_prior"):
        Slicewise(TotalVariation())  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="belongs to items"):
        Slicewise(GaussianPrior(draw(2, 1, 4, 5)))


def test_the_noise_of_a_volume():
    """sigma from slices: .05 within 5 % where there is texture, empty slices left out."""
    z, y, x = torch.meshgrid(*[torch.linspace(0, 1, side, dtype=torch.float64) for side in (12, 48, 48)], indexing="ij")
    clean = (0.5 + 0.3 * torch.sin(6 * x + 4 * y) * torch.cos(5 * z))[None, None]
    noise = 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = clean + noise
    y[:, :, :3] = 0
    assert float(estimate_noise(Identity((1, 12, 48, 48)), y).sigma) == pytest.approx(0.05, rel=0.05)
