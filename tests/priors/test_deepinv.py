"""The deepinv plug-in: physics as operators, denoisers as priors, the networks and the shipped priors."""

import math
import subprocess
import sys

import deepinv
import pytest
import torch
from deepinv.physics import Blur, BlurFFT, Decolorize, Denoising, Downsampling, Inpainting, LinearPhysics, Physics
from invsolve_deepinv.denoisers import DeepinvDenoiser, DeepinvModel
from invsolve_deepinv.physics import DeepinvOperator, DeepinvPhysics
from invsolve_priors.shipped import DnCNNPrior, Natural
from invsolve_weights.networks import EDMDRUNet, NoiseMapDnCNN
from torch import nn
from turns import one_in

from invsolve import Capability, GaussianNoise, Problem, load_prior, registry
from invsolve.errors import ArgumentError, CapabilityError, CompatibilityError, InputError
from invsolve.solvers import DDRM, HQS
from invsolve.testing import denoiser_cases, operator_cases

SHAPE = (3, 8, 9)
KERNEL = deepinv.physics.functional.gaussian_blur(sigma=(1.0, 0.7))[..., :5, :5]
LINEAR = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
CLOSED = LINEAR | {Capability.PROX, Capability.PINV}
DRAWS = torch.Generator().manual_seed(0)


def rand(*shape, dtype=torch.float32):
    return torch.rand(*shape, generator=DRAWS, dtype=dtype)


# physics -> what must be found; more would be a promise it does not keep, less a loss
PHYSICS = {
    "inpainting": (lambda: Inpainting(SHAPE, mask=(rand(*SHAPE) > 0.5).float()), CLOSED | {Capability.SVD, Capability.MASK}),
    "weights": (lambda: Inpainting(SHAPE, mask=rand(*SHAPE)), CLOSED | {Capability.SVD}),
    "denoising": (lambda: Denoising(), CLOSED | {Capability.SVD, Capability.MASK}),
    # the half spectrum of a real FFT is no orthonormal basis of the image space
    "blur-fft": (lambda: BlurFFT(SHAPE, filter=KERNEL), CLOSED),
    # V has one column per pixel, not per colour: no basis of the image space either
    "decolorize": (lambda: Decolorize(), CLOSED),
    "downsampling": (lambda: Downsampling(SHAPE, filter="bicubic", factor=2, padding="reflect"), LINEAR),
    "blur-valid": (lambda: Blur(filter=KERNEL, padding="valid"), LINEAR),
    "blur-reflect": (lambda: Blur(filter=KERNEL, padding="reflect"), LINEAR),
}
OPERATORS = [DeepinvOperator(make(), SHAPE) for make, _ in PHYSICS.values()]


def cell(subject, check):
    return id(subject), check.__name__


# The examples of what is registered meet every check by turns in test_conformance_operators and test_conformance_priors.
@pytest.mark.parametrize(("operator", "check"), one_in(3, operator_cases(*OPERATORS, *DeepinvPhysics.examples()), cell))
def test_operator_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("name", PHYSICS)
def test_capabilities_are_what_holds(name):
    make, wanted = PHYSICS[name]
    assert DeepinvOperator(make(), SHAPE).capabilities == wanted


@pytest.mark.parametrize("name", PHYSICS)
def test_forward_and_adjoint_are_deepinvs(name):
    physics = PHYSICS[name][0]()
    operator = DeepinvOperator(physics, SHAPE)
    x = rand(2, *SHAPE)
    y = physics.A(x.clone())
    # deepinv computes in float32 throughout, ours rounds buffers made in float64: a few units in the last place of sums of 25 terms
    torch.testing.assert_close(operator(x), y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(operator.adjoint(y), physics.A_adjoint(y.clone()), rtol=1e-5, atol=1e-6)


def test_the_physics_is_cloned_and_y_left_alone():
    physics = Inpainting(SHAPE, mask=torch.full(SHAPE, 0.5))
    operator = DeepinvOperator(physics, SHAPE)
    x = rand(2, *SHAPE)
    y = operator(x)
    kept = y.clone()
    physics.update(mask=torch.zeros(1, *SHAPE))
    assert torch.equal(operator(x), kept)
    problem = Problem(operator, y, GaussianNoise(0.05))
    prior = Natural()
    first = DDRM(steps=2, sigma_max=1.0).solve(problem, prior, generator=0).x
    # deepinv's DDRM divides y in place through the alias that U_adjoint gives back
    assert torch.equal(y, kept)
    assert torch.equal(DDRM(steps=2, sigma_max=1.0).solve(problem, prior, generator=0).x, first)


def test_a_wrong_adjoint_is_not_used():
    class Wrong(LinearPhysics):
        def A(self, x, **_):  # noqa: N802
            return 2 * x[..., ::2]

        def A_adjoint(self, y, **_):  # noqa: N802
            return y.repeat_interleave(2, -1)

    operator = DeepinvOperator(Wrong(), (1, 4, 4))
    assert operator.capabilities == LINEAR
    y = rand(1, 1, 4, 2, dtype=torch.float64)
    wanted = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    wanted[..., ::2] = 2 * y
    assert torch.equal(operator.adjoint(y), wanted)


def test_a_false_singular_system_is_not_claimed():
    class Skewed(deepinv.physics.DecomposablePhysics):
        def __init__(self):
            super().__init__(mask=torch.ones(1, 1, 4, 4))

        def V_adjoint(self, x):  # noqa: N802
            return x + x.roll(1, -1)

        def V(self, x):  # noqa: N802
            return x + x.roll(-1, -1)

    operator = DeepinvOperator(Skewed(), (1, 4, 4))
    assert operator.capabilities == LINEAR
    with pytest.raises(CapabilityError, match="has no svd"):
        operator.svd()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x**2, {Capability.DIFFERENTIABLE}),
        (lambda x: (8 * x).round() / 8, set()),  # a step function: its gradient is zero and says nothing
        (lambda x: x + 1, {Capability.DIFFERENTIABLE}),  # affine is not linear
    ],
)
def test_nonlinear_physics(function, found):
    assert DeepinvOperator(Physics(A=function), (1, 4, 4)).capabilities == found


def test_what_cannot_be_an_operator_is_refused():
    with pytest.raises(InputError, match="couples the items"):
        DeepinvOperator(Physics(A=lambda x: x - x.mean(0, keepdim=True)), SHAPE)
    with pytest.raises(InputError, match="random"):
        DeepinvOperator(Physics(A=lambda x: x + torch.rand(1)), SHAPE)
    with pytest.raises(InputError, match="does not take images"):
        DeepinvOperator(Decolorize(channels=3), (1, 8, 8))
    with pytest.raises(InputError, match="gives a dict"):
        DeepinvOperator(Physics(A=lambda x: {"y": x}), SHAPE)
    with pytest.raises(InputError, match=r"float64 into torch\.float32"):
        DeepinvOperator(Physics(A=lambda x: x.float()), SHAPE)
    for shape in ((), (3, 0, 4), 3, ("a",)):
        with pytest.raises(InputError, match="in_shape must be"):
            DeepinvOperator(Denoising(), shape)
    with pytest.raises(InputError, match="given int"):
        DeepinvOperator(3, SHAPE)


def test_physics_by_name():
    operator = registry().build(
        "operator", "deepinv", physics="Downsampling", in_shape=(3, 8, 8), options={"filter": "bicubic", "factor": 4}
    )
    assert operator.out_shape == (3, 2, 2)
    with pytest.raises(ArgumentError, match="Downsampling"):
        DeepinvPhysics("Downsamplin", (3, 8, 8))
    with pytest.raises(ArgumentError, match="did you mean factor"):  # deepinv would swallow it
        DeepinvPhysics("Downsampling", (3, 8, 8), {"filter": None, "facto": 4})


def test_a_solver_runs_on_a_wrapped_physics_or_says_why_not():
    x = rand(2, 3, 16, 16)
    operator = DeepinvOperator(Downsampling((3, 16, 16), filter="bicubic", factor=2), (3, 16, 16))
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0)
    with pytest.raises(CompatibilityError, match=r"lacks 'prox'[\s\S]*IterativeProx"):
        HQS().solve(problem, load_prior("dncnn"))
    blurred = Problem.simulate(DeepinvOperator(BlurFFT((3, 16, 16), filter=KERNEL), (3, 16, 16)), x, GaussianNoise(0.05), generator=0)
    with pytest.raises(CompatibilityError, match="lacks 'svd'"):
        DDRM().solve(blurred, load_prior("natural"))
    assert bool(torch.isfinite(HQS(steps=2).solve(blurred, load_prior("dncnn")).x).all())


# --- denoisers


DENOISERS = (*DeepinvDenoiser.examples(), *Natural.examples(), *DnCNNPrior.examples())


@pytest.mark.parametrize(("denoiser", "check"), one_in(3, denoiser_cases(*DENOISERS), cell))
def test_denoiser_conformance(denoiser, check):
    check(denoiser)


def test_state_and_coupling_are_found_and_undone():
    model = deepinv.models.TVDenoiser(n_it_max=30)
    x = rand(2, 3, 16, 16)
    # as it comes: it warm-starts from the last call, so the same question has two answers
    assert not torch.equal(model(x, 0.1), model(x, 0.1))
    denoiser = DeepinvDenoiser(deepinv.models.TVDenoiser(n_it_max=30), (0.01, 0.5))
    both = denoiser(x, 0.1)
    assert torch.equal(denoiser(x, 0.1), both)
    assert torch.equal(denoiser(x[1:], 0.1)[0], both[1])


def test_denoisers_by_name():
    assert registry().entry("prior", "deepinv-denoiser").load() is DeepinvModel
    denoiser = load_prior("deepinv-denoiser", model="DnCNN", options={"pretrained": None, "depth": 3, "nf": 4})
    assert denoiser(rand(1, 3, 8, 8), 0.1).shape == (1, 3, 8, 8)
    with pytest.raises(ArgumentError, match=r'say options=.*"pretrained"'):
        DeepinvModel("DnCNN")
    with pytest.raises(ArgumentError, match="did you mean DRUNet"):
        DeepinvModel("DRUnet")
    with pytest.raises(ArgumentError, match="did you mean depth"):
        DeepinvModel("DnCNN", {"pretrained": None, "dept": 3})
    with pytest.raises(InputError, match="sigma_range"):
        DeepinvDenoiser(nn.Identity(), (0.2, 0.1))


# --- networks


def small_drunet():
    torch.manual_seed(0)
    return EDMDRUNet(3, nc=(4, 4, 4, 4), nb=1).double().eval()


def test_no_seam_at_sizes_that_are_no_multiple_of_eight():
    """The top left of a padded picture equals that of a larger one, beyond the reach of the padding.

    Reach of DRUNet with one block a scale: 1 + 2 + 2*2 + 2*4 + 2*8 + 2*4 + 2*2 + 2 + 1 = 46 pixels of 3x3 convolutions, and at
    most 1 + 2 + 4 on either way through the strides.
    """
    reach = 46 + 2 * 7
    network = small_drunet()
    picture = rand(1, 3, 136, 144, dtype=torch.float64)
    sigma = torch.tensor([0.1], dtype=torch.float64)
    with torch.no_grad():
        large, cut = network(picture, sigma), network(picture[..., :125, :117], sigma)
        own = network.net(picture[..., :125, :117], 0.1)
        plain = network.net(picture, 0.1)
    inside = (..., slice(0, 125 - reach), slice(0, 117 - reach))
    # float64: about 30 layers of rounding of values of order one
    torch.testing.assert_close(cut[inside], large[inside], rtol=0, atol=1e-12)
    # deepinv's own way with such sizes (four pieces) fails the same comparison: the test can see a seam
    assert float((own[inside] - plain[inside]).abs().max()) > 1e-6


@pytest.mark.parametrize("size", [(45, 61), (70, 61), (5, 3), (1, 1)])
@pytest.mark.parametrize("name", ["natural", "dncnn"])
def test_shipped_priors_take_any_size(name, size):
    x = rand(2, 3, *size)
    out = load_prior(name)(x, torch.tensor([0.02, 0.2]))
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all())


def test_dncnn_with_a_noise_map():
    with pytest.raises(RuntimeError):  # deepinv adds its 4-channel input to 3 channels
        deepinv.models.DnCNN(4, 3, depth=3, nf=4, pretrained=None)(rand(1, 4, 8, 8))
    network = NoiseMapDnCNN(3, depth=3, nf=4)
    x = rand(2, 3, 8, 8)
    assert network(x, 0.1).shape == x.shape
    assert not torch.equal(network(x, 0.1), network(x, 0.2))
    mixed = network(x, torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(mixed[1:], network(x[1:], 0.2), rtol=1e-5, atol=1e-6)


def test_the_preconditioning_keeps_its_limits():
    """D -> x as sigma -> 0 and D -> m + s0 F as sigma -> inf, whatever the weights."""
    network, x = small_drunet(), rand(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        near = network(x, 1e-5)
        far = [network(0.5 + sigma * (x - 0.5), sigma) for sigma in (1e5, 1e5 * (1 + 1e-9))]
    # |D - x| = sigma |F| + O(sigma^2), |F| of order one on random weights
    assert float((near - x).abs().max()) < 1e-3
    assert bool(torch.isfinite(far[0]).all())
    assert float((far[0] - 0.5).abs().max()) < 100 * 0.25


# --- the shipped priors


@pytest.mark.parametrize(("name", "kind"), [("natural", Natural), ("dncnn", DnCNNPrior)])
def test_shipped_priors_say_what_they_are(name, kind):
    prior = load_prior(name)
    assert isinstance(prior, kind)
    assert prior.clip == (0.0, 1.0)
    assert prior.s0 == 0.25
    assert prior.channels == 3
    assert len(prior.weights_sha256) == 64
    low, high = prior.sigma_range
    assert low <= 0.002
    assert high >= (40 if name == "natural" else 49 / 255)
    assert load_prior(name, channels=1).sigma_range[1] == pytest.approx(high / math.sqrt(3))
    with pytest.raises(InputError, match="channels must be"):
        load_prior(name, channels=2)
    with pytest.raises(ArgumentError, match="precision"):
        load_prior(name, precison="bfloat16")


@pytest.mark.parametrize("name", ["natural", "dncnn"])
@pytest.mark.parametrize("channels", [3, 1])
def test_shipped_priors_denoise(name, channels):
    """On a smooth picture, away from the data, the mean square error falls by more than half at sigma 0.1."""
    ramp = torch.linspace(0.2, 0.8, 32)
    x = (0.5 * ramp[:, None] + 0.5 * ramp[None, :]).expand(2, channels, 32, 32)
    noisy = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    error = (load_prior(name, channels=channels)(noisy, 0.1) - x).square().mean()
    assert float(error) < 0.5 * 0.1**2


def test_bfloat16_agrees_with_float32():
    """bfloat16 has 8 bits: an error of some 2^-8 of the correction, which at sigma 0.1 is of size 0.1."""
    x = rand(1, 3, 32, 32)
    gap = (load_prior("natural", precision="bfloat16")(x, 0.1) - load_prior("natural")(x, 0.1)).abs()
    assert 0 < float(gap.square().mean().sqrt()) < 8 * 2**-8 * 0.1


def test_loading_draws_nothing_and_the_plugin_imports_neither_torch_nor_deepinv():
    before = torch.random.get_rng_state()
    load_prior("natural")
    assert torch.equal(before, torch.random.get_rng_state())
    code = "import invsolve_deepinv, sys; assert not {'torch', 'deepinv'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_names_of_the_readme_can_be_imported_from_the_package():
    import invsolve_deepinv

    assert {name: getattr(invsolve_deepinv, name) for name in invsolve_deepinv.__all__}.items() >= {
        "DeepinvDenoiser": DeepinvDenoiser,
        "DeepinvOperator": DeepinvOperator,
        "DnCNNPrior": DnCNNPrior,
        "Natural": Natural,
    }.items()
    with pytest.raises(AttributeError, match="DeepinvPhysic"):
        _ = invsolve_deepinv.DeepinvPhysic
