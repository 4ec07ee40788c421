"""Our operators through deepinv: its own tests of adjoint and norm on every one of them, its optimisers and samplers."""

import math

import deepinv
import pytest
import torch
from deepinv import physics as P  # noqa: N812
from invsolve_deepinv import DeepinvOperator, to_deepinv
from invsolve_deepinv.recast import theirs
from invsolve_operators import BoxMask, GaussianBlur, Grey, KernelBlur, Mask, SeparableGaussianBlur
from turns import by_turns

from invsolve import Capability, GaussianNoise, InputError, Operator, PoissonNoise, Stack, registry
from invsolve.noise import NoiseModel
from invsolve.operator.iterative import matrix
from invsolve.operator.measurement import parts

EPS = torch.finfo(torch.float64).eps
EVERY = [
    pytest.param(operator, id=f"{entry.name}-{index}")
    for entry in registry().of("operator")
    for index, operator in enumerate(entry.load().examples())
]
LINEAR = [case for case in EVERY if case.values[0].has(Capability.LINEAR)]
KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 1], [0, 1, 1]]) / 13


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded():
    """deepinv draws from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("operator", by_turns(LINEAR, first=1))
def test_deepinv_finds_the_adjoint(operator):
    """deepinv's adjointness_test: relative mismatch of A and its adjoint by random vectors; sums of n terms round to n eps.

    An operator with parameters per image gets as many vectors. One that measures nothing has no norm to be relative to: there the
    two products must be 0. deepinv's product of complex numbers is complex; that of complex data of real images is its real part.
    """
    physics, count = to_deepinv(operator), operator.batch or 20
    x = draw(count, *operator.in_shape)
    y = operator(x)
    if not any(bool(part.any()) for part in parts(y)):
        assert not operator.adjoint(draw(*y.shape)).any()
        return
    size = max(x[0].numel(), sum(part[0].numel() for part in parts(y)))
    if operator.complex_output:
        given = y if isinstance(y, tuple) else (y,)
        back = physics.A_adjoint(theirs(y))
        norm = sum(float(part.abs().square().sum()) for part in given)
        assert abs(float((x * back).sum()) - norm) <= 8 * EPS * size * norm  # <A x, A x> = <x, A^T A x>
        return
    assert float(physics.adjointness_test(x, num_samples=count)) <= 8 * EPS * size


@pytest.mark.filterwarnings("ignore:Power iteration")
@pytest.mark.parametrize("operator", by_turns(LINEAR, step=2))
def test_deepinv_finds_the_norm(operator):
    """deepinv's power method against the largest singular value of the dense matrices; over a batch it is the largest item's.

    It is never above. After k steps it is low by at most 0.87 log(n) / k of it whatever the spectrum (Kuczynski and Wozniakowski,
    1992), and it stops at changes below tol, about log(n) / k^2: low by sqrt(tol log n), or log(n) / max_iter.
    """
    count, tol, most = operator.batch or 1, 1e-9, 5_000
    dense = [matrix(operator[item]) for item in range(count)]
    dense = [torch.cat([one.real, one.imag], dim=-2) if one.is_complex() else one for one in dense]  # what real images see
    exact = max((float(torch.linalg.svdvals(one.reshape(-1, one.shape[-1]))[0]) ** 2 for one in dense if one.numel()), default=0.0)
    if exact == 0:
        return
    found = float(to_deepinv(operator).compute_sqnorm(draw(count, *operator.in_shape), max_iter=most, tol=tol, verbose=False))
    logarithm = math.log(count * math.prod(operator.in_shape))
    assert found <= exact * (1 + 1e-9)
    assert found >= exact * (1 - logarithm / most) - math.sqrt(tol * logarithm * exact)


@pytest.mark.parametrize("operator", by_turns(EVERY, first=2))
def test_there_and_back(operator):
    """DeepinvOperator(to_deepinv(H)) is H, with all that it could, for all its items."""
    again = DeepinvOperator(to_deepinv(operator), operator.in_shape)
    x = draw(operator.batch or 2, *operator.in_shape).abs().clamp_max(1)
    for found, wanted in zip(parts(again(x)), parts(operator(x)), strict=True):
        assert not wanted.numel() or (found - wanted).abs().max() <= 100 * EPS * wanted.abs().max()
    assert again.capabilities - {Capability.MASK} == operator.capabilities - {Capability.MASK}
    assert again.batch == operator.batch
    assert again.has(Capability.MASK) >= operator.has(Capability.MASK)
    if operator.has(Capability.PROX):
        y = operator(x)
        gap = (again.prox(0 * x, y, 2.0) - operator.prox(0 * x, y, 2.0)).abs().max()
        assert gap <= 1e-10 * operator.prox(0 * x, y, 2.0).abs().max()


def test_classes_and_names():
    svd, linear = to_deepinv(GaussianBlur((1, 4, 4))), to_deepinv(Mask((1, 4, 4)) @ GaussianBlur((1, 4, 4)))
    assert isinstance(svd, deepinv.physics.DecomposablePhysics)
    assert isinstance(linear, deepinv.physics.LinearPhysics)
    assert not isinstance(linear, deepinv.physics.DecomposablePhysics)
    nonlinear = to_deepinv(registry().build("operator", "hdr", in_shape=(1, 4, 4)))
    assert not isinstance(nonlinear, deepinv.physics.LinearPhysics)
    x = draw(1, 1, 4, 4).abs()
    assert torch.equal(nonlinear.A(x), registry().build("operator", "hdr", in_shape=(1, 4, 4))(x))


def test_prox_and_pinv_are_ours():
    operator = SeparableGaussianBlur((1, 6, 5))
    physics, z, y = to_deepinv(operator), draw(2, 1, 6, 5), draw(2, 1, 6, 5, seed=1)
    assert torch.equal(physics.prox_l2(z, y, 3.0), operator.prox(z, y, 3.0))
    gamma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert torch.equal(physics.prox_l2(z, y, gamma.reshape(2, 1, 1, 1)), operator.prox(z, y, gamma))
    assert torch.equal(physics.A_dagger(y), operator.pinv(y))
    # deepinv's own solver where we have none. Its tol is on the square of the relative residual, so |r| <= 1e-5 |b|, and the
    # matrix is at least 1/3: an error of 3e-5 |b|.
    composed = Mask((1, 6, 5)) @ operator
    dense = matrix(composed)
    left = dense.mT @ dense + torch.eye(30, dtype=torch.float64) / 3
    wanted = torch.linalg.solve(left, dense.mT @ y.flatten(1).mT + z.flatten(1).mT / 3).mT
    found = to_deepinv(composed).prox_l2(z, y, 3.0, tol=1e-10, max_iter=500)
    assert (found.flatten(1) - wanted).norm() <= 3e-5 * (y.norm() + z.norm())


def test_a_stack_is_a_tensor_list():
    operator = Stack(GaussianBlur((1, 4, 4)), Mask((1, 4, 4)))
    physics, x = to_deepinv(operator), draw(2, 1, 4, 4)
    y = physics.A(x)
    assert isinstance(y, deepinv.utils.TensorList)
    assert torch.equal(physics.A_adjoint(y), operator.adjoint(operator(x)))


class Unknown(NoiseModel):
    """A noise that deepinv does not know."""

    def sample(self, clean, rng):
        return clean

    def nll(self, y, clean):
        return torch.zeros(len(clean))


def test_noise_goes_along():
    operator = BoxMask((1, 64, 64))
    x, kept = torch.full((2, 1, 64, 64), 0.5), operator(torch.ones(2, 1, 64, 64)) > 0
    assert float(to_deepinv(operator, GaussianNoise(0.3)).noise_model.sigma) == pytest.approx(0.3)
    # The sample standard deviation of n > 4000 draws is good to 1 / sqrt(2 n) = 1.1 %; five of those, and Poisson's rounds off.
    each = to_deepinv(operator, GaussianNoise(torch.tensor([0.1, 0.3])))(x) - operator(x)
    assert each[0].std() == pytest.approx(0.1, rel=0.06)
    assert each[1].std() == pytest.approx(0.3, rel=0.06)
    counts = to_deepinv(operator, PoissonNoise(0.01))(x)[kept]
    assert counts.var() == pytest.approx(0.01 * 0.5, rel=0.12)
    assert (counts / 0.01 - (counts / 0.01).round()).abs().max() < 1e-3
    assert torch.equal(to_deepinv(operator)(x), operator(x))
    with pytest.raises(InputError, match="same law"):
        to_deepinv(operator, Unknown())
    with pytest.raises(InputError, match="Operator"):
        to_deepinv(torch.nn.Identity())


def test_noise_on_a_stack():
    operator = Stack(GaussianBlur((1, 4, 4)), Mask((1, 4, 4)))
    y = to_deepinv(operator, GaussianNoise(0.1))(draw(2, 1, 4, 4))
    assert isinstance(y, deepinv.utils.TensorList)
    assert [tuple(part.shape) for part in parts(tuple(y.x))] == [(2, 1, 4, 4)] * 2


class Halving(torch.autograd.Function):
    """x^2 / 2, in the form that torch.func refuses."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    def backward(context, gradient):
        return context.saved_tensors[0] * gradient


class Energy(Operator):
    """y = x^2 / 2 by a function of its own."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self):
        super().__init__()
        self.in_shape = self.out_shape = (1, 3, 4)

    def forward(self, x):
        return Halving.apply(x)


def test_gradients():
    x, v = draw(2, 1, 3, 4), draw(2, 1, 3, 4, seed=1)
    view = to_deepinv(Energy())
    assert torch.equal(view.A_vjp(x, v), x * v)
    with pytest.raises(RuntimeError):
        P.Physics.A_vjp(view, x, v)
    operator = Grey((3, 4, 5))
    z, w = draw(2, 3, 4, 5), draw(2, 1, 4, 5)
    assert torch.equal(to_deepinv(operator).A_vjp(z, w), operator.adjoint(w))


def test_precision_and_items():
    """Images in single precision stay so, whatever s is held in; a view of some items is that of their operator."""
    operator = SeparableGaussianBlur((1, 6, 5))
    physics, x = to_deepinv(operator), draw(2, 1, 6, 5).float()
    for name in ("A", "A_adjoint", "A_dagger", "A_adjoint_A", "A_A_adjoint", "U_adjoint", "V_adjoint"):
        assert getattr(physics, name)(x).dtype == torch.float32
    assert physics.mask.dtype == torch.float32
    z = draw(2, 1, 6, 5)
    assert torch.equal(physics.prox_l2(None, z, 2.0), operator.prox(0 * z, z, 2.0))
    masks = Mask((1, 6, 5), mask=(draw(3, 1, 6, 5) > 0).double())
    assert torch.equal(to_deepinv(masks).select(range(1, 2)).A(z), masks[1](z))


@pytest.mark.parametrize("algorithm", ["PGD", "HQS", "ADMM"])
def test_deepinv_optimisers_run_on_ours(algorithm):
    """Least squares with a quadratic (Tikhonov) prior: every algorithm ends at the closed-form minimiser."""
    operator = GaussianBlur((1, 8, 8), 0.8)
    y = operator(draw(1, 1, 8, 8)) + 0.1 * draw(1, 1, 8, 8, seed=1)
    prior = deepinv.optim.Tikhonov()
    model = getattr(deepinv.optim, algorithm)(
        data_fidelity=deepinv.optim.L2(), prior=prior, lambda_reg=0.1, stepsize=0.9, max_iter=3000, thres_conv=1e-12, early_stop=True
    )
    found = model(y, to_deepinv(operator))
    dense = matrix(operator)
    wanted = torch.linalg.solve(dense.mT @ dense + 0.1 * torch.eye(64, dtype=torch.float64), dense.mT @ y.flatten())
    gap = (found.flatten() - wanted).norm() / wanted.norm()
    # HQS with a fixed split is another objective (its Moreau envelope), a tenth away here; the others are exact to their stop.
    assert gap <= (0.2 if algorithm == "HQS" else 1e-4)


class Shrink(deepinv.models.Denoiser):
    """The posterior mean for N(1/2, 0.1^2) pixels."""

    def forward(self, x, sigma, **_options):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return 0.5 + (x - 0.5) * 0.01 / (0.01 + level**2)


def tv(algorithm):
    prior = deepinv.optim.TVPrior(n_it_max=20)
    return algorithm(data_fidelity=deepinv.optim.L2(), prior=prior, lambda_reg=0.02, stepsize=0.9, max_iter=10)


ALGORITHMS = {
    "PGD with TV": lambda: tv(deepinv.optim.PGD),
    "ADMM with TV": lambda: tv(deepinv.optim.ADMM),
    "DPIR": lambda: deepinv.optim.DPIR(sigma=0.05, denoiser=Shrink()),
    "DDRM": lambda: deepinv.sampling.DDRM(Shrink(), sigmas=[1.0, 0.5, 0.2, 0.1, 0.05, 0.02]),
    "DiffPIR": lambda: deepinv.sampling.DiffPIR(Shrink(), deepinv.optim.L2(), sigma=0.05, max_iter=10),
    "DPS": lambda: deepinv.sampling.DPS(Shrink(), num_steps=10),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("kind", ["mask", "blur"])
def test_deepinvs_algorithms_give_what_they_give_on_its_own_physics(name, kind):
    """Same seed, same y, single precision: ours and deepinv's physics of the same map agree to what rounding does in ten steps.

    Not DDRM on a blur: deepinv's V is the half spectrum of a real FFT, not orthonormal, so its noise there is not white; ours is.
    """
    shape, noise = (3, 16, 16), P.GaussianNoise(0.05)
    kept = (draw(*shape, seed=1) > 0).float()
    if kind == "mask":
        own, foreign = Mask(shape, mask=kept), P.Inpainting(shape, mask=kept, noise_model=noise)
    else:
        own, foreign = KernelBlur(shape, KERNEL), P.BlurFFT(shape, filter=KERNEL[None, None], noise_model=noise)
    x = (0.5 + 0.1 * draw(1, *shape)).float()
    y = foreign(x)
    results = []
    for physics in (to_deepinv(own, GaussianNoise(0.05)), foreign):
        torch.manual_seed(0)
        results.append(ALGORITHMS[name]()(y, physics))
    found, wanted = results
    assert torch.isfinite(found).all()
    if (name, kind) == ("DDRM", "blur"):
        assert (found - x).square().mean() < 2 * (wanted - x).square().mean()
    else:
        assert (found - wanted).abs().max() <= 1e-4


def test_deepinvs_least_squares_ends_at_our_pinv():
    """deepinv's gradient descent on 1/2 |A x - y|^2 from 0, and its conjugate gradients, against our closed form.

    s is 1 or 0 for a mask and above 0.2 here for the blur, so 800 steps of 0.9 leave (1 - 0.9 * 0.04)^800 = 2e-13 of the error.
    """
    for operator in (BoxMask((1, 8, 8)), GaussianBlur((1, 8, 8), 0.5)):
        s = operator.svd().s
        assert float(s[s > 0].min()) > 0.2
        y, physics = draw(1, 1, 8, 8), to_deepinv(operator)
        descent = deepinv.optim.GD(data_fidelity=deepinv.optim.L2(), prior=deepinv.optim.ZeroPrior(), stepsize=0.9, max_iter=800)
        wanted = operator.pinv(y)
        assert (descent(y, physics) - wanted).norm() <= 1e-8 * wanted.norm()
        solved = deepinv.optim.utils.least_squares(
            physics.A, physics.A_adjoint, y, AAT=physics.A_A_adjoint, ATA=physics.A_adjoint_A, max_iter=200, tol=1e-10, solver="lsqr"
        )
        assert (solved - wanted).norm() <= 1e-6 * wanted.norm()
