"""Complex data of real images: adjoints, chains, solvers, and what is said to somebody with complex numbers."""

import dataclasses

import pytest
import torch
from invsolve_deepinv.physics import DeepinvOperator
from invsolve_operators import MRI, SENSE, GaussianBlur, Mask
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator
from sweeps import thinned

from invsolve import (
    AsComplex,
    GaussianNoise,
    InputError,
    IterativeProx,
    KrylovSVD,
    NoNoise,
    Operator,
    PoissonNoise,
    Problem,
    Stack,
    load_prior,
    registry,
    which_solvers,
)
from invsolve.errors import CompatibilityError
from invsolve.operator import Capability
from invsolve.operator.complex_data import continued, continued_adjoint
from invsolve.operator.iterative import matrix
from invsolve.operator.measurement import flat, minus, parts
from invsolve.solver import asked_noise
from invsolve.testing import failures, operator_checks

EPS = torch.finfo(torch.float64).eps
SHAPE, PAIRS = (1, 6, 5), (2, 6, 5)
PIXELS = 30


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectrum(x):
    """At the top level of a file, so that it can be pickled."""
    return torch.fft.fft2(x, norm="ortho")


def half_spectrum(x):
    """Takes real images only."""
    return torch.fft.rfft2(x, norm="ortho")


def fourier():
    """F as a complex (30, 30) matrix, by its definition: kron of exp(-2 pi i k n / N) / sqrt N of rows and columns."""
    sides = [torch.arange(side, dtype=torch.float64) for side in SHAPE[1:]]
    waves = [torch.exp(-2j * torch.pi * side[:, None] * side / len(side)) / len(side) ** 0.5 for side in sides]
    return torch.kron(*waves)


def physics():
    import deepinv

    return DeepinvOperator(deepinv.physics.LinearPhysics(A=spectrum_of, A_adjoint=inverse_of, img_size=SHAPE), SHAPE)


def spectrum_of(x, **_):
    return spectrum(x)


def inverse_of(y, **_):
    return torch.fft.ifft2(y, norm="ortho")


DENSE = draw(20, PIXELS, dtype=torch.complex128) / PIXELS**0.5
F = Operator.from_function(spectrum, SHAPE)
HOLES = Mask(SHAPE, keep=0.6)
BLUR = GaussianBlur(SHAPE, sigma=0.8)


def blocks(wanted):
    """The real matrix of A on pairs (Re x, Im x): A [1, i]."""
    return torch.cat([wanted, 1j * wanted], dim=1)


def real(operator):
    return matrix(operator).to(torch.complex128)


# Each operator with its complex matrix on real images, derived apart from it.
CASES = {
    "fft2": (F, fourier),
    "rfft2": (Operator.from_function(half_spectrum, SHAPE), lambda: fourier().reshape(6, 5, PIXELS)[:, :3].reshape(18, PIXELS)),
    "own adjoint": (Operator.from_function(spectrum, SHAPE, adjoint=inverse_of), fourier),
    "a complex matrix": (Operator.from_matrix(DENSE, SHAPE), lambda: DENSE),
    "a complex sparse matrix": (Operator.from_matrix(csr_array(DENSE.numpy()), SHAPE), lambda: DENSE),
    "scipy": (Operator.from_scipy(aslinearoperator(DENSE.numpy()), SHAPE), lambda: DENSE),
    "deepinv": (physics(), fourier),
    "as complex": (AsComplex(PAIRS), lambda: blocks(torch.eye(PIXELS, dtype=torch.complex128))),
    "complex images": (F @ AsComplex(PAIRS), lambda: blocks(fourier())),
    "a mask of k-space": (HOLES @ F, lambda: real(HOLES) @ fourier()),
    "a real operator between": (HOLES @ F @ BLUR @ AsComplex(PAIRS), lambda: blocks(real(HOLES) @ fourier() @ real(BLUR))),
    "a matrix of complex images": (Operator.from_matrix(DENSE, SHAPE) @ AsComplex(PAIRS), lambda: blocks(DENSE)),
    "complex numbers of pairs": (AsComplex(PAIRS) @ MRI(PAIRS, 2.0), lambda: paired_rows(matrix(MRI(PAIRS, 2.0)))),
    "scaled": (-0.5 * F, lambda: -0.5 * fourier()),
    "sum with a real one": (F + BLUR, lambda: fourier() + real(BLUR)),
    "stack with a real one": (Stack(F, BLUR), lambda: torch.cat([fourier(), real(BLUR)])),
    "stack of complex images": (Stack(F, BLUR) @ AsComplex(PAIRS), lambda: blocks(torch.cat([fourier(), real(BLUR)]))),
    "back and forth": (AsComplex(PAIRS).T @ F @ AsComplex(PAIRS), lambda: both(blocks(fourier()))),
    "the normal matrix": (F.T @ F, lambda: (fourier().conj().T @ fourier()).real + 0j),
    "iterative prox": (IterativeProx(HOLES @ F, 1e-13), lambda: real(HOLES) @ fourier()),
    "krylov": (KrylovSVD(Operator.from_matrix(DENSE, SHAPE), PIXELS), lambda: DENSE),
    "scipy and back": (Operator.from_scipy((F @ AsComplex(PAIRS)).to_scipy(), PAIRS), lambda: blocks(fourier())),
}


def paired_rows(pairs):
    """A real matrix whose rows are real parts, then imaginary parts, as a complex one."""
    return torch.complex(*pairs.chunk(2))


def both(values):
    """(Re A, Im A) one above the other."""
    return torch.cat([values.real, values.imag]) + 0j


@pytest.mark.parametrize("name", CASES)
def test_forward_and_adjoint_are_those_of_the_matrix(name):
    """H x = A x and H^T y = Re A^* y for real x: sums of 60 terms, |A| <= 2, so 60 eps |A| |x| with room for the FFT and for Krylov's."""
    operator, wanted = CASES[name][0], CASES[name][1]()
    x = draw(3, *operator.in_shape)
    y = torch.cat([part.flatten(1) + 0j for part in parts(operator(x))], dim=1)
    allowed = 100 * 60 * EPS * float(torch.linalg.matrix_norm(wanted))
    assert (y - (x.flatten(1) + 0j) @ wanted.mT).abs().max() <= allowed
    given = tuple(draw(3, *part.shape[1:], seed=5, dtype=part.dtype) for part in parts(operator(x)))
    back = operator.adjoint(given if operator.stacked else given[0])
    assert back.dtype == torch.float64  # a real image
    rows = torch.cat([part.flatten(1) + 0j for part in given], dim=1)
    assert (back.flatten(1) - (rows @ wanted.conj()).real).abs().max() <= allowed * float(rows.abs().max())


@pytest.mark.parametrize("name", CASES)
def test_they_conform(name):
    operator = CASES[name][0]
    assert failures(operator, operator_checks(operator)) == {}


def test_the_isometry():
    """|AsComplex x| = |x|; H^T H = 1; the prox is the mean of z and H^T y, weighted by 1 / tau and 1."""
    operator, x = AsComplex((4, 3, 2)), draw(3, 4, 3, 2)
    z = operator(x)
    assert torch.equal(z, torch.complex(x[:, :2], x[:, 2:]))
    assert torch.equal(operator.adjoint(z), x)
    assert torch.equal(operator.pinv(z), x)
    y = draw(3, 2, 3, 2, seed=1, dtype=torch.complex128)
    pairs = torch.cat([y.real, y.imag], dim=1)
    assert torch.allclose(operator.prox(x, y, 4.0), (x + 4 * pairs) / 5, rtol=0, atol=100 * EPS)
    assert torch.equal(operator.svd().s, torch.ones(4, 3, 2, dtype=torch.float64))
    assert torch.equal(registry().build("operator", "as-complex", in_shape=(4, 3, 2))(x), z)
    for wrong in ((3, 4, 4), (), (0, 4)):
        with pytest.raises(InputError, match="C real parts, then C imaginary parts"):
            AsComplex(wrong)


@pytest.mark.parametrize("operator", [F, BLUR, Operator.from_matrix(DENSE, SHAPE), Stack(F, BLUR), HOLES @ F], ids=lambda one: one.label)
def test_an_operator_of_real_images_is_continued(operator):
    """H (a + ib) = H a + i H b, and <H z, y> = <z, H^* y> with complex products, for complex z and y."""
    z = draw(2, *SHAPE, dtype=torch.complex128)
    image = parts(continued(operator, z))
    y = tuple(draw(*part.shape, seed=3, dtype=torch.complex128) for part in image)
    back = continued_adjoint(operator, y if operator.stacked else y[0])
    assert back.dtype == torch.complex128
    left = sum((a.conj() * b).sum() for a, b in zip(image, y, strict=True))
    # Sums of at most 60 terms of size about 1.
    assert (left - (z.conj() * back).sum()).abs() <= 1000 * 60 * EPS
    ahead, other = parts(operator(z.real)), parts(operator(z.imag))
    for part, a, b in zip(image, ahead, other, strict=True):
        assert torch.equal(part, a + 1j * b)


def test_an_adjoint_that_gives_complex_images_is_taken_as_real():
    """Whoever writes y -> A^* y has the adjoint on real images in its real part."""

    class Own(Operator):
        traits = F.capabilities
        complex_output = True

        def __init__(self):
            super().__init__()
            self.in_shape = self.out_shape = SHAPE

        def forward(self, x):
            return spectrum(x)

        def adjoint(self, y):
            return inverse_of(y)

        def pinv(self, y):
            return inverse_of(y)

    y = draw(2, *SHAPE, dtype=torch.complex128)
    assert torch.equal(Own().adjoint(y), inverse_of(y).real)
    with pytest.raises(InputError, match=r"gave a complex image.*real images"):  # of a pinv the real part is another matter
        Own().pinv(y)


# --- solvers -----------------------------------------------------------------------------------------------------------------

SOLVED = {name: CASES[name][0] for name in CASES if CASES[name][0].complex_output and name not in ("rfft2", "scipy and back", "as complex")}
PRIORS = {"tv": lambda: load_prior("tv", weight=2.0), "gaussian": lambda: load_prior("gaussian", mean=0.5, std=0.2)}


def off(problem, x):
    """|H x - y| per item."""
    return flat(minus(problem.operator(x), problem.y)).abs().square().sum(1).sqrt()


def short(name):
    solver = registry().load("solver", name).examples()[0]  # few particles and inner steps
    return dataclasses.replace(solver, steps=5) if hasattr(solver, "steps") else solver


# Those few with an SVD or a prox come first, with more of the solvers: in a plain run, too, every solver that needs one meets one.
ORDERED = sorted(SOLVED, key=lambda name: (not SOLVED[name].has(Capability.SVD), not SOLVED[name].has(Capability.PROX)))
FEW, PARTS = sum(SOLVED[name].has(Capability.PROX) for name in ORDERED), 8
CELLS = [(name, prior, part) for name in ORDERED for prior in PRIORS for part in range(PARTS)]


def in_turn(place):
    """Every operator with both priors and an eighth of the solvers (a quarter those with a prox), and the same the other way round."""
    row, part = divmod(place, PARTS)
    return (sum(divmod(row, len(PRIORS))) - part) % (4 if row < FEW * len(PRIORS) else PARTS) == 0


@pytest.mark.parametrize(("name", "prior", "part"), thinned(CELLS, in_turn))
def test_which_solvers_and_reality_agree(name, prior, part):
    """Every solver that is said to fit gives a real, finite image nearer to the data than grey is; every other one is refused so."""
    operator, prior = SOLVED[name], PRIORS[prior]()
    x = 0.5 + 0.2 * draw(2, *operator.in_shape)
    problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
    assert not problem.image.is_complex()
    fits = which_solvers(problem, prior)
    assert any(one.fits for one in fits)
    for one in sorted(fits, key=lambda one: one.solver)[part::PARTS]:
        if not one.fits:
            with pytest.raises(CompatibilityError) as refused:
                short(one.solver).solve(problem, prior, generator=0)
            assert all(reason in str(refused.value) for reason in one.reasons)
            continue
        found = short(one.solver).solve(problem, prior, generator=0).x
        assert (found.dtype, found.shape) == (torch.float64, x.shape)
        assert bool(torch.isfinite(found).all())
        assert (off(problem, found) < off(problem, torch.full_like(x, 0.5))).all()


DRAW_Y = ("daps", "pnp-dm", "mgdm")  # they draw noise of y, which its twin has in another order: the same law, other numbers
SOLVERS = [
    name
    for name in registry().names("solver")
    if (asked := registry().load("solver", name).requires).measurement and not asked_noise(asked, GaussianNoise(0.05))
]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_complex_problem_is_its_real_twin(name, prior):
    """y = A x with complex A, and (Re y, Im y) = [Re A; Im A] x: the same numbers, so the same answer, to rounding in 5 steps."""
    operator = Operator.from_matrix(DENSE, SHAPE)
    problem = Problem.simulate(operator, 0.5 + 0.2 * draw(2, *SHAPE), GaussianNoise(0.05), generator=0)
    twin = Operator.from_matrix(torch.cat([DENSE.real, DENSE.imag]), SHAPE)
    other = Problem(twin, torch.cat([problem.y.real, problem.y.imag], dim=1), GaussianNoise(0.05))
    solver, prior = short(name), PRIORS[prior]()
    said, also = ([gap.replace(one.operator.label, "H") for gap in solver.mismatches(one, prior)] for one in (problem, other))
    assert [gap.partition(" (it has")[0] for gap in said] == [gap.partition(" (it has")[0] for gap in also]
    if not solver.mismatches(problem, prior) and name not in DRAW_Y:
        first, second = (solver.solve(one, prior, generator=1).x for one in (problem, other))
        assert (first - second).abs().max() <= 1e-9


def test_noise_free_complex_data_are_met():
    """Without noise DDRM in the spectrum of a complex operator answers with H x = y (40 real numbers of 30 pixels)."""
    operator = Operator.from_matrix(DENSE, SHAPE)
    x = 0.5 + 0.1 * draw(2, *SHAPE)
    problem = Problem.simulate(operator, x, NoNoise(), generator=0)
    found = registry().load("solver", "ddrm")(steps=8).solve(problem, PRIORS["gaussian"](), generator=0).x
    assert (found - x).abs().max() <= 1e-10  # 40 equations, 30 unknowns, a condition number of about 10: only x solves them


# --- what is said ------------------------------------------------------------------------------------------------------------


def cplx(*shape):
    return torch.complex(draw(*shape), draw(*shape, seed=1))


@pytest.mark.parametrize(
    ("operator", "y"),
    [
        (MRI(PAIRS, 2.0), cplx(2, 1, 6, 5)),
        (MRI(PAIRS, 2.0), cplx(2, 6, 5)),
        (MRI(PAIRS, 2.0), cplx(3, 6, 5)),
        (MRI(PAIRS, 2.0), cplx(6, 5)),
        (MRI(PAIRS, 2.0), cplx(1, 6, 5)),
        (MRI(PAIRS, 2.0), torch.view_as_real(cplx(3, 6, 5))),
        (MRI(PAIRS, 2.0), torch.view_as_real(cplx(3, 1, 6, 5))),
        (MRI(SHAPE, 2.0), cplx(3, 6, 5)),
        (SENSE(PAIRS), cplx(2, 8, 6, 5)),
        (SENSE(PAIRS), cplx(8, 6, 5)),
        (SENSE(PAIRS), torch.view_as_real(cplx(2, 8, 6, 5))),
        (AsComplex(PAIRS), torch.cat([cplx(3, 1, 6, 5).real, cplx(3, 1, 6, 5).imag], dim=1)),
    ],
    ids=lambda value: value.label if isinstance(value, Operator) else f"{'complex ' * value.is_complex()}{tuple(value.shape)}",
)
def test_the_way_that_is_named_leads_to_a_problem(operator, y):
    """The message ends in code for y; run, it gives the measurement of the same numbers."""
    with pytest.raises(InputError, match=r"real pairs|real and imaginary") as refused:
        Problem(operator, y, GaussianNoise(0.1))
    message = str(refused.value)
    code = message[max(message.rfind(word) for word in ("torch.cat", "torch.stack", "torch.complex", "y.movedim")) :]
    taken = eval(code.partition(" makes")[0], {"torch": torch, "y": y})
    problem = Problem(operator, taken, GaussianNoise(0.1))
    measured = problem.y if operator.supports[0] is None else taken
    assert measured.abs().square().sum().item() == pytest.approx(y.abs().square().sum().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("operator", "x", "words"),
    [
        (MRI(PAIRS), cplx(2, 1, 6, 5), r"torch\.cat\(\[x\.real, x\.imag\], dim=1\)"),
        (MRI(PAIRS), cplx(3, 6, 5), r"torch\.stack\(\[x\.real, x\.imag\], dim=1\)"),
        (MRI(SHAPE), cplx(2, 1, 6, 5), r"for MRI\(\(2, H, W\), \.\.\.\)"),
        (SENSE(SHAPE), cplx(2, 1, 6, 5), r"for SENSE\(\(2, H, W\), \.\.\.\)"),
        (F, cplx(2, 1, 6, 5), r"for H @ AsComplex\(\(2, 6, 5\)\); if its imaginary part is 0, pass x\.real"),
        (BLUR, cplx(2, 1, 6, 5), r"takes real images.*AsComplex"),
    ],
)
def test_complex_images_are_refused_with_the_way_to_give_them(operator, x, words):
    for call in (lambda: operator(x), lambda: Problem.simulate(operator, x, GaussianNoise(0.1))):
        with pytest.raises(InputError, match=words):
            call()


def test_masks_of_columns():
    columns = torch.tensor([1, 0, 1, 1, 0])
    for kind in (MRI, SENSE):
        made = kind(PAIRS, mask=columns)
        assert torch.equal(made.sampled, kind(PAIRS, mask=columns[None, :].expand(6, 5)).sampled)
        for other in (columns[None, None, :, None], columns[None], columns[:, None]):
            with pytest.raises(InputError, match=r"a mask of columns is \(W,\) = \(5,\): mask.reshape\(-1\)"):
                kind(PAIRS, mask=other)
        with pytest.raises(InputError, match="a mask of k-space must be"):
            kind(PAIRS, mask=torch.ones(6))


def test_kinds_that_do_not_meet():
    with pytest.raises(InputError, match=r"y is complex.*pass y\.real"):
        Problem(BLUR, cplx(2, *SHAPE), GaussianNoise(0.1))
    for call in (lambda: Problem(F, cplx(2, *SHAPE), PoissonNoise(0.1)), lambda: Problem.simulate(F, draw(2, *SHAPE), PoissonNoise(0.1))):
        with pytest.raises(InputError, match="counts, which are real"):
            call()
    with pytest.raises(InputError, match=r"gives complex y; given torch.float64.*y \+ 0j"):
        Problem(F, draw(2, *SHAPE), GaussianNoise(0.1))
    with pytest.raises(InputError, match=r"takes complex images.*@ AsComplex\(\(2, 6, 5\)\)"):
        Problem(F.T, draw(2, *SHAPE), GaussianNoise(0.1))
    with pytest.raises(InputError, match=r"is not linear; with AsComplex\(\(2, 6, 5\)\)\.T between"):
        _ = Operator.from_function(torch.square, SHAPE, linear=False) @ F
    power = Operator.from_function(lambda p: p[:, :1] ** 2 + p[:, 1:] ** 2, PAIRS, linear=False)
    x = draw(2, *SHAPE)
    assert torch.allclose((power @ AsComplex(PAIRS).T @ F)(x), spectrum(x).abs().square(), rtol=0, atol=100 * EPS)
    with pytest.raises(InputError, match=r"compose from the right, A @ \(B @ C\)"):
        _ = (AsComplex(PAIRS).T @ F + AsComplex(PAIRS).T @ F) @ AsComplex(PAIRS)
    with pytest.raises(InputError, match="AsComplex stands between"):
        _ = F.T @ BLUR
    with pytest.raises(InputError, match="some take complex images, some real ones"):
        Stack(F.T, BLUR)
    with pytest.raises(InputError, match="takes x of shape"):
        AsComplex(PAIRS)(draw(2, 4, 6, 5))


def test_channels_are_recommended_only_where_they_can_be_had():
    """natural serves 3 channels or 1; two (a complex image) are refused without advice that fails."""
    problem = Problem.simulate(MRI(PAIRS), 0.5 + 0.1 * draw(1, *PAIRS).float(), GaussianNoise(0.1), generator=0)
    reasons = {one.solver: one.reasons for one in which_solvers(problem, load_prior("natural"))}["diffpir"]
    assert "prior Natural takes 3-channel images, the operator 2-channel ones" in reasons
    grey = Problem.simulate(BLUR, 0.5 + 0.1 * draw(1, *SHAPE).float(), GaussianNoise(0.1), generator=0)
    (reason,) = {one.solver: one.reasons for one in which_solvers(grey, load_prior("natural"))}["diffpir"]
    assert reason.endswith("make it with channels=1")
    assert load_prior("natural", channels=1).channels == 1
