"""Every class of deepinv.physics as an Operator: what is found of each, conformance, per-image parameters, complex data, stacks."""

import warnings
from dataclasses import dataclass
from typing import Any

import deepinv
import pytest
import torch
from deepinv import physics as P  # noqa: N812
from invsolve_deepinv import DeepinvOperator

from invsolve import Capability, CapabilityError, GaussianNoise, InputError, Problem, load_prior
from invsolve.operator.iterative import matrix
from invsolve.operator.measurement import parts
from invsolve.solvers import HQS
from invsolve.testing import failures, operator_checks

EPS = torch.finfo(torch.float64).eps
SHAPE = (3, 8, 9)
KERNEL = torch.tensor([[1.0, 2, 1], [2, 4, 1], [0, 1, 1]])[None, None] / 13
KERNELS = torch.cat([KERNEL, KERNEL.flip(-1)])
LINEAR = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
CLOSED = LINEAR | {Capability.PROX, Capability.PINV}
SVD = CLOSED | {Capability.SVD}
MASK = SVD | {Capability.MASK}
SMOOTH = {Capability.DIFFERENTIABLE}
LAMBDA = {"check_copies": "deepinv, or its user, keeps a function that cannot be pickled"}


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def mask(*shape):
    return (rand(*shape, seed=1) > 0.5).float()


def maps(*shape):
    return torch.complex(rand(*shape), rand(*shape, seed=1))


def rng():
    return torch.Generator().manual_seed(0)


def blur(**options):
    return P.Blur(KERNEL, padding="circular", **options)


def square(x, **_):
    return x**2


def scattering():
    circle = P.scattering.circular_sensors
    return P.Scattering(6, circle(3, 2.0)[0], circle(2, 2.0)[0], solver_config=P.Scattering.SolverConfig(tol=1e-12))


def ultrasound():
    elements = torch.stack([torch.linspace(-1e-3, 1e-3, 4), torch.zeros(4)], dim=-1)
    return P.UltrasoundPlaneWave((6, 5), [0.0, 0.1], elements, 30, 40e6)


@dataclass(frozen=True)
class Case:
    """A physics, the images it takes, what must be found of it, and what the conformance checks are known to miss."""

    make: Any
    in_shape: tuple[int, ...]
    found: set[Capability]
    batch: int | None = None
    pairs: str | None = None
    known: dict[str, str] | None = None


CASES = {
    "Blur": Case(blur, SHAPE, LINEAR),
    "Blur zero": Case(lambda: P.Blur(KERNEL, padding="constant"), SHAPE, LINEAR),
    "Blur volume": Case(lambda: P.Blur(torch.ones(1, 1, 2, 3, 2) / 12, padding="circular"), (1, 5, 6, 4), LINEAR),
    "Blur per image": Case(lambda: P.Blur(KERNELS, padding="circular"), SHAPE, LINEAR, batch=2),
    # the half spectrum of a real FFT is no orthonormal basis of the image space
    "BlurFFT": Case(lambda: P.BlurFFT(SHAPE, filter=KERNEL), SHAPE, CLOSED),
    "BlurFFT per image": Case(lambda: P.BlurFFT(SHAPE, filter=KERNELS), SHAPE, CLOSED, batch=2),
    "BlurFFTMultiScaler": Case(lambda: P.BlurFFTMultiScaler(P.BlurFFT((3, 16, 16), filter=KERNEL), (3, 16, 16)), (3, 16, 16), LINEAR),
    "BlurMultiScaler": Case(lambda: P.BlurMultiScaler(blur(), (3, 16, 16)), (3, 16, 16), LINEAR),
    "ComposedLinearPhysics": Case(lambda: P.ComposedLinearPhysics(blur(), P.Decolorize()), SHAPE, LINEAR),
    "ComposedPhysics": Case(lambda: P.ComposedPhysics(P.Physics(A=square), P.Decolorize()), SHAPE, SMOOTH),
    "CompressedSensing": Case(lambda: P.CompressedSensing(20, SHAPE, rng=rng()), SHAPE, LINEAR),
    "CompressedSensing complex": Case(
        lambda: P.CompressedSensing(20, (1, 4, 5), dtype=torch.complex64, rng=rng()), (2, 4, 5), LINEAR, pairs="image"
    ),
    "CompressiveSpectralImaging": Case(lambda: P.CompressiveSpectralImaging((5, 8, 9), rng=rng()), (5, 8, 9), LINEAR),
    # V has one column a pixel, not a colour: no basis of the image space
    "Decolorize": Case(P.Decolorize, SHAPE, CLOSED),
    "DecomposablePhysics": Case(lambda: P.DecomposablePhysics(mask=rand(1, *SHAPE)), SHAPE, SVD),
    "Demosaicing": Case(lambda: P.Demosaicing((3, 8, 10)), (3, 8, 10), MASK),
    "Denoising": Case(P.Denoising, SHAPE, MASK),
    "Downsampling": Case(lambda: P.Downsampling((3, 8, 10), filter="gaussian", factor=2), (3, 8, 10), LINEAR),
    "Downsampling per image": Case(lambda: P.Downsampling((3, 8, 10), filter=KERNELS, factor=2), (3, 8, 10), LINEAR, batch=2),
    "DownsamplingMatlab": Case(lambda: P.DownsamplingMatlab(2), (3, 8, 10), LINEAR),
    "DynamicMRI": Case(lambda: P.DynamicMRI(mask=mask(1, 1, 3, 8, 9)), (2, 3, 8, 9), SVD),
    "HyperSpectralUnmixing": Case(lambda: P.HyperSpectralUnmixing(rand(4, 7), E=4, C=7), (4, 5, 6), LINEAR),
    "Inpainting": Case(lambda: P.Inpainting(SHAPE, mask=mask(*SHAPE)), SHAPE, MASK),
    "Inpainting per image": Case(lambda: P.Inpainting(SHAPE, mask=mask(3, *SHAPE)), SHAPE, MASK, batch=3),
    "InpaintingMultiScaler": Case(
        lambda: P.InpaintingMultiScaler(P.Inpainting((3, 16, 16), mask=mask(3, 16, 16)), (3, 16, 16)), (3, 16, 16), LINEAR
    ),
    "LinearPhysics": Case(lambda: P.LinearPhysics(A=lambda x, **_: x.flip(-1), img_size=SHAPE), SHAPE, LINEAR, known=LAMBDA),
    "LinearPhysicsMultiScaler": Case(lambda: P.LinearPhysicsMultiScaler(blur(), (3, 16, 16)), (3, 16, 16), LINEAR),
    "MRI": Case(lambda: P.MRI(mask=mask(8, 9)), (2, 8, 9), SVD),
    "MRI volume": Case(lambda: P.MRI(mask=mask(4, 8, 9), three_d=True), (2, 4, 8, 9), SVD),
    "MRI per image": Case(lambda: P.MRI(mask=mask(3, 1, 8, 9)), (2, 8, 9), SVD, batch=3),
    "MultiCoilMRI": Case(lambda: P.MultiCoilMRI(mask=mask(8, 9), coil_maps=maps(1, 3, 8, 9)), (2, 8, 9), LINEAR),
    "MultiCoilMRI per image": Case(lambda: P.MultiCoilMRI(mask=mask(2, 1, 8, 9), coil_maps=maps(2, 3, 8, 9)), (2, 8, 9), LINEAR, batch=2),
    "Pansharpen": Case(lambda: P.Pansharpen((3, 8, 8), factor=4), (3, 8, 8), LINEAR),
    "PhaseRetrieval": Case(lambda: P.PhaseRetrieval(blur()), (1, 4, 5), SMOOTH),
    "Physics": Case(lambda: P.Physics(A=square), SHAPE, SMOOTH),
    "PhysicsCropper": Case(lambda: P.PhysicsCropper(blur(), (1, 2)), SHAPE, LINEAR),
    "PhysicsMultiScaler": Case(lambda: P.PhysicsMultiScaler(P.Physics(A=square), (3, 16, 16)), (3, 16, 16), SMOOTH),
    "Ptychography": Case(lambda: P.Ptychography((1, 16, 16)), (1, 16, 16), SMOOTH),
    "PtychographyLinearOperator": Case(lambda: P.PtychographyLinearOperator((1, 16, 16)), (1, 16, 16), LINEAR),
    "PtychographyLinearOperator pairs": Case(lambda: P.PtychographyLinearOperator((1, 16, 16)), (2, 16, 16), LINEAR, pairs="image"),
    "RandomPhaseRetrieval": Case(lambda: P.RandomPhaseRetrieval(20, (1, 4, 5), rng=rng()), (2, 4, 5), SMOOTH, pairs="image"),
    "Scattering": Case(scattering, (1, 6, 6), SMOOTH, pairs="measurement"),
    "SequentialMRI": Case(lambda: P.SequentialMRI(mask=mask(1, 1, 3, 8, 9)), (2, 8, 9), LINEAR),
    "SinglePhotonLidar": Case(lambda: P.SinglePhotonLidar(bins=20), (3, 4, 5), SMOOTH),
    "SinglePixelCamera": Case(lambda: P.SinglePixelCamera(20, (1, 8, 8), rng=rng()), (1, 8, 8), SVD),
    "SpaceVaryingBlur": Case(lambda: P.SpaceVaryingBlur(rand(1, 3, 2, 3, 3), rand(1, 3, 2, 8, 9), padding="circular"), SHAPE, LINEAR),
    "SpaceVaryingBlur per image": Case(
        lambda: P.SpaceVaryingBlur(rand(2, 3, 2, 3, 3), rand(2, 3, 2, 8, 9), padding="circular"), SHAPE, LINEAR, batch=2
    ),
    "SpatialUnwrapping": Case(P.SpatialUnwrapping, SHAPE, SMOOTH, known=LAMBDA),
    "StackedLinearPhysics": Case(lambda: P.stack(P.Denoising(), P.Decolorize()), SHAPE, LINEAR),
    "StackedPhysics": Case(lambda: P.StackedPhysics([P.Denoising(), P.Physics(A=square)]), SHAPE, SMOOTH),
    "StructuredRandom": Case(lambda: P.StructuredRandom((1, 8, 8), (1, 8, 4), rng=rng()), (1, 8, 8), LINEAR),
    "StructuredRandomPhaseRetrieval": Case(
        lambda: P.StructuredRandomPhaseRetrieval((1, 8, 8), (1, 8, 4), 2), (2, 8, 8), SMOOTH, pairs="image"
    ),
    "TiledSpaceVaryingBlur": Case(lambda: P.TiledSpaceVaryingBlur(rand(1, 3, 4, 3, 3), patch_size=8, stride=4), (3, 12, 12), LINEAR),
    "Tomography": Case(lambda: P.Tomography(5, 8, normalize=False), (1, 8, 8), LINEAR),
    "Tomography fan": Case(lambda: P.Tomography(5, 8, fan_beam=True, normalize=False), (1, 8, 8), LINEAR),
    # its own adjoint is an approximation, which the dot test finds
    "Tomography normalised": Case(lambda: P.Tomography(5, 8, normalize=True, adjoint_via_backprop=False), (1, 8, 8), LINEAR),
    "Upsampling": Case(lambda: P.Upsampling((3, 8, 10), filter="gaussian", factor=2), (3, 4, 5), LINEAR),
    "VirtualLinearPhysics": Case(
        lambda: P.VirtualLinearPhysics(
            physics=P.Decolorize(),
            transform=deepinv.transform.Shift(),
            g_params={"x_shift": torch.tensor([1]), "y_shift": torch.tensor([2])},
        ),
        SHAPE,
        LINEAR,
        known=LAMBDA,
    ),
}
REFUSED = {
    "Haze": (P.Haze, SHAPE, "does not take images"),  # a list: picture, depth, light of the air
    "UltrasoundPlaneWave": (ultrasound, (1, 6, 5), "into torch.float32"),  # computes in single precision whatever it is given
}
NOT_TRIED = {
    "NonCartesianMRI": "needs mri-nufft",
    "PET": "needs parallelproj",
    "RadioInterferometry": "needs torchkbnufft",
    "TomographyWithAstra": "needs astra-toolbox and CUDA",
}


def made(name):
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv's, on defaults
        return DeepinvOperator(case.make(), case.in_shape, case.pairs)


@pytest.fixture(scope="module")
def operators():
    return {name: made(name) for name in CASES}


def test_every_class_is_in_one_table():
    classes = {name for name, value in vars(P).items() if isinstance(value, type) and issubclass(value, P.Physics)}
    named = [name.split()[0] for name in (*CASES, *REFUSED, *NOT_TRIED)]
    if unknown := classes - set(named):
        pytest.skip(f"deepinv {deepinv.__version__} has physics that 0.5.0 had not: {sorted(unknown)}")
    assert set(named) == classes
    assert not {name.split()[0] for name in CASES} & {*REFUSED, *NOT_TRIED}


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name, operators):
    assert operators[name].capabilities == CASES[name].found
    assert operators[name].batch == CASES[name].batch


@pytest.mark.parametrize("name", CASES)
def test_conformance(name, operators, pytestconfig):
    """Every sixth check, beginning with another by turns; all with --whole."""
    checks = operator_checks(operators[name], CASES[name].known)
    assert failures(operators[name], checks if pytestconfig.getoption("--whole") else checks[list(CASES).index(name) % 6 :: 6]) == {}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, in_shape, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason):
        DeepinvOperator(make(), in_shape)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.pairs])
def test_forward_is_deepinvs(name, operators):
    """In single precision, as its user has it: a few hundred eps for transforms, filters and matrices made in float32."""
    case, operator = CASES[name], operators[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        physics = case.make()
    x = rand(case.batch or 1, *case.in_shape, seed=3)
    wanted = physics.A(x.clone())
    wanted = wanted.x if isinstance(wanted, deepinv.utils.TensorList) else [wanted]
    for found, part in zip(parts(operator(x)), wanted, strict=True):
        assert (found - part).abs().max() <= 300 * torch.finfo(torch.float32).eps * part.abs().max().clamp_min(1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if Capability.SVD in case.found])
def test_singular_values(name, operators):
    """Those of the dense matrix, of every item: LAPACK's are good to n eps |H|."""
    operator = operators[name]
    for item in range(operator.batch or 1):
        dense = matrix(operator[item])
        exact = torch.linalg.svdvals(dense.reshape(-1, dense.shape[-1]))
        found = operator[item].svd().s.flatten().sort(descending=True).values
        assert (found[: len(exact)] - exact).abs().max() <= 8 * EPS * max(dense.shape) * exact[0]
        assert not found[len(exact) :].any()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.batch])
def test_items_of_a_batch(name, operators):
    """The first item's physics alone does what the batch does for it, and no other number of images is taken."""
    operator, count = operators[name], CASES[name].batch
    x = rand(count, *operator.in_shape).double()
    assert operator[0].batch is None
    assert (operator[0](x[:1]) - operator(x)[:1]).abs().max() <= 100 * EPS * operator(x).abs().max()
    assert (operator[0](x[:1]) - operator[1](x[:1])).abs().max() > 1e-3  # the items do differ


def test_a_solver_takes_a_kernel_an_image(operators):
    operator = operators["BlurFFT per image"]
    problem = Problem.simulate(operator, rand(2, *SHAPE), GaussianNoise(0.02), generator=0)
    prior = load_prior("tv", weight=0.02)
    together = HQS(steps=3).solve(problem, prior).x
    alone = torch.cat([HQS(steps=3).solve(problem[item], prior).x for item in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_complex_images_as_pairs(operators):
    """y = A x with A complex: real and imaginary part apart; the phase of x is lost in |B x|^2."""
    physics = CASES["CompressedSensing complex"].make()
    x = maps(2, 1, 4, 5)
    y = physics.A(x)
    found = operators["CompressedSensing complex"](torch.cat([x.real, x.imag], dim=1))
    assert found.shape == (2, 2, 20)
    torch.testing.assert_close(torch.complex(found[:, 0], found[:, 1]), y, rtol=1e-5, atol=1e-5)
    turned = x * torch.exp(torch.tensor(0.7j))
    retrieval = operators["RandomPhaseRetrieval"]
    once, again = (retrieval(torch.cat([z.real, z.imag], dim=1)) for z in (x, turned))
    torch.testing.assert_close(once, again, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(once, CASES["RandomPhaseRetrieval"].make().A(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_pairs_are_checked():
    with pytest.raises(InputError, match='"measurement"'):
        DeepinvOperator(P.Denoising(), SHAPE, "both")
    with pytest.raises(InputError, match="real parts first"):
        DeepinvOperator(P.Denoising(), SHAPE, "image")
    with pytest.raises(InputError, match=r'pairs="image" and in_shape=\(2, 4, 5\)'):  # takes no real images
        DeepinvOperator(CASES["CompressedSensing complex"].make(), (1, 4, 5))


def test_complex_data_of_real_images():
    """y = (1 + 2i) x: the adjoint is Re (1 - 2i) y, a real image, with deepinv's own adjoint or without."""
    y = torch.complex(rand(2, *SHAPE), rand(2, *SHAPE, seed=1))
    own = P.LinearPhysics(A=lambda x, **_: torch.complex(x, 2 * x), A_adjoint=lambda y, **_: (1 - 2j) * y)
    for physics in (own, P.Physics(A=lambda x: torch.complex(x, 2 * x))):
        operator = DeepinvOperator(physics, SHAPE)
        assert operator.complex_output
        torch.testing.assert_close(operator.adjoint(y), y.real + 2 * y.imag)


class Careless(torch.autograd.Function):
    """x -> 2 x with a backward pass that is not its own."""

    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    def backward(context, gradient):
        return 1.9 * gradient


def test_a_wrong_gradient_is_no_adjoint():
    operator = DeepinvOperator(P.Physics(A=Careless.apply), SHAPE)
    assert operator.capabilities == {Capability.LINEAR}
    with pytest.raises(CapabilityError, match="no adjoint"):
        operator.adjoint(rand(1, *SHAPE))


def test_parameters_that_are_not_one_an_image():
    physics = P.Physics(A=lambda x: x - x.mean(0, keepdim=True))
    physics.register_buffer("mask", torch.ones(2, 3))
    with pytest.raises(InputError, match="couples the items"):
        DeepinvOperator(physics, SHAPE)


def test_stacks_are_tuples(operators):
    operator, x = operators["StackedLinearPhysics"], rand(2, *SHAPE).double()
    y = operator(x)
    assert operator.out_shape == (SHAPE, (1, 8, 9))
    assert isinstance(y, tuple)
    grey = operators["Decolorize"]
    assert torch.equal(operator.adjoint(y), x + grey.adjoint(grey(x)))
    with pytest.raises(CapabilityError, match="no svd"):
        operator.svd()


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (blur, (0.0, 1.0)),
        (lambda: P.Downsampling(SHAPE, filter=None, factor=1), (0.0, 1.0)),
        (P.Decolorize, (0.0, 1.00002)),
        (lambda: P.Inpainting(SHAPE, mask=rand(*SHAPE)), (0.0, 1.0)),
        (lambda: P.Inpainting(SHAPE, mask=2 * rand(*SHAPE)), None),
        (lambda: P.Blur(KERNEL - 0.1, padding="circular"), None),  # negative weights
        (lambda: P.Blur(2 * KERNEL, padding="circular"), None),
        (lambda: P.DownsamplingMatlab(2), None),
    ],
)
def test_range_where_it_is_sure(make, wanted):
    shape = (3, 8, 10) if isinstance(make(), P.DownsamplingMatlab) else SHAPE
    found = DeepinvOperator(make(), shape).output_range
    assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-5))


class Halved(P.Blur):
    """A subclass may compute something else: nothing is known of its range."""

    def A(self, x, **options):  # noqa: N802
        return super().A(x, **options) - 0.5 * x


def test_no_range_for_strangers():
    assert DeepinvOperator(Halved(KERNEL, padding="circular"), SHAPE).output_range is None
