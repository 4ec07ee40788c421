"""Our operators through deepinv: its own tests of adjoint and norm on every one of them, its optimisers and samplers."""

import deepinv
import pytest
import torch
from invsolve_deepinv import DeepinvDenoiser, DeepinvOperator, to_deepinv
from invsolve_operators import BoxMask, GaussianBlur, Grey, Mask, SeparableGaussianBlur, WalshHadamard

from invsolve import Capability, GaussianNoise, InputError, Operator, PoissonNoise, Stack, registry
from invsolve.linalg import matrix
from invsolve.measurement import parts

del DeepinvDenoiser
EPS = torch.finfo(torch.float64).eps
LINEAR = [
    pytest.param(operator, id=f"{entry.name}-{index}")
    for entry in registry().of("operator")
    for index, operator in enumerate(entry.load().examples())
    if operator.has(Capability.LINEAR) and not operator.complex_output
]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def for_any_number(operator):
    """The first item's operator for all items, since deepinv draws as many as it likes."""
    if operator.batch is None:
        return operator
    one = operator[0]

    def applied(x):
        return torch.cat([one(part) for part in x.split(1)])

    def back(y):
        return torch.cat([one.adjoint(part) for part in y.split(1)])

    return Operator.from_function(applied, one.in_shape, adjoint=back)


@pytest.mark.parametrize("operator", LINEAR)
def test_deepinv_finds_the_adjoint(operator):
    """deepinv's adjointness_test: relative mismatch of A and its adjoint by random vectors; sums of n terms round to n eps.

    An operator that measures nothing has no norm to be relative to: there the two products must be 0.
    """
    operator = for_any_number(operator)
    physics = to_deepinv(operator)
    x = draw(2, *operator.in_shape)
    y = operator(x)
    if not any(bool(part.any()) for part in parts(y)):
        assert not operator.adjoint(draw(*y.shape)).any()
        return
    size = max(x[0].numel(), sum(part[0].numel() for part in parts(y)))
    assert float(physics.adjointness_test(x, num_samples=20)) <= 8 * EPS * size


@pytest.mark.parametrize("operator", LINEAR)
def test_deepinv_finds_the_norm(operator):
    """deepinv's power method against the largest singular value of the dense matrix, one item at a time.

    It stops when the estimate changes by less than tol of itself in a step; where values lie close together that leaves it low by
    some thousand times tol, and it is never above.
    """
    one = operator[0]
    exact = float(torch.linalg.svdvals(matrix(one).reshape(-1, matrix(one).shape[-1]))[0]) ** 2
    if exact == 0:
        return
    found = float(to_deepinv(one).compute_sqnorm(draw(1, *one.in_shape).abs(), max_iter=20_000, tol=1e-9, verbose=False))
    assert (1 - 1e-4) * exact <= found <= exact * (1 + 1e-9)


def test_classes_and_names():
    svd, linear = to_deepinv(GaussianBlur((1, 4, 4))), to_deepinv(Mask((1, 4, 4)) @ GaussianBlur((1, 4, 4)))
    assert isinstance(svd, deepinv.physics.DecomposablePhysics)
    assert isinstance(linear, deepinv.physics.LinearPhysics)
    assert not isinstance(linear, deepinv.physics.DecomposablePhysics)
    nonlinear = to_deepinv(registry().build("operator", "hdr", in_shape=(1, 4, 4)))
    assert not isinstance(nonlinear, deepinv.physics.LinearPhysics)
    x = draw(1, 1, 4, 4).abs()
    assert torch.equal(nonlinear.A(x), registry().build("operator", "hdr", in_shape=(1, 4, 4))(x))


@pytest.mark.parametrize(
    "operator", [GaussianBlur((2, 6, 5)), Mask((2, 6, 5)), Grey((2, 6, 5)), WalshHadamard((1, 4, 8))], ids=lambda one: one.label
)
def test_there_and_back(operator):
    """DeepinvOperator(to_deepinv(H)) is H, with all that it could."""
    again = DeepinvOperator(to_deepinv(operator), operator.in_shape)
    assert (matrix(again) - matrix(operator)).abs().max() <= 100 * EPS
    assert again.capabilities >= operator.capabilities - {Capability.MASK}


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


def test_noise_goes_along():
    operator = BoxMask((1, 8, 8))
    physics = to_deepinv(operator, GaussianNoise(0.3))
    assert float(physics.noise_model.sigma) == pytest.approx(0.3)
    with pytest.raises(InputError, match="only GaussianNoise"):
        to_deepinv(operator, PoissonNoise(0.1))
    with pytest.raises(InputError, match="Operator"):
        to_deepinv(torch.nn.Identity())


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


def test_deepinv_ddrm_runs_on_ours():
    """deepinv's DDRM takes the view: finite, and the known pixels end near the data."""
    operator = BoxMask((3, 8, 8), 4)
    x = (0.5 + 0.1 * draw(1, 3, 8, 8)).float()  # deepinv's DDRM computes in single precision

    class Shrink(deepinv.models.Denoiser):
        def forward(self, x, sigma, **_options):
            level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
            return 0.5 + (x - 0.5) * 0.01 / (0.01 + level**2)

    physics = to_deepinv(operator, GaussianNoise(0.01))
    y = operator(x)
    ddrm = deepinv.sampling.DDRM(Shrink(), sigmas=[1.0, 0.5, 0.2, 0.1, 0.05, 0.02])
    found = ddrm(y, physics, seed=0)
    assert torch.isfinite(found).all()
    assert (operator(found) - y).abs().mean() < 0.1
