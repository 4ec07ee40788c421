"""The dot test on 15 draws of shapes and parameters for every linear operator in the registry (`pytest --whole`: 200, but for presets).

|<H x, y> - <x, H^T y>| relative to |H x| |y|, item by item: below 1e-6 in single and 1e-12 in double precision; the inner products
themselves are taken in double, their real parts where y is complex. Where H x is 0 the adjoint's product must be too.

An operator that needs no more than in_shape is drawn by its shape alone; any other has a line in `PARAMETERS`, and one without fails here.
"""

import inspect
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invsolve_operators import PaddedBlur
from invsolve_operators.preset import Preset

from invsolve import Capability, IterativePinv, IterativeProx, KrylovSVD, Operator, Stack, registry
from invsolve.errors import InvsolveError
from invsolve.operator.algebra import AdjointView, Composed, Scaled, Sum
from invsolve.operator.chain import chain, structured
from invsolve.operator.iterative import inner
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import flat, mapped

many = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
few = settings(many, max_examples=25)
plain, fewer = (settings(many, max_examples=count) for count in (15, 8))
LIMITS = {torch.float32: 1e-6, torch.float64: 1e-12}

sides = st.integers(1, 12)
channels = st.integers(1, 3)
seeds = st.integers(0, 99)
items = st.one_of(st.none(), st.integers(1, 3))
factors = st.integers(1, 4)


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def shapes(draw, channels=channels, sides=sides):
    return (draw(channels), draw(sides), draw(sides))


@st.composite
def multiples(draw, factor):
    """A shape whose sides `factor` divides."""
    return (draw(channels), factor * draw(st.integers(1, 4)), factor * draw(st.integers(1, 4)))


@st.composite
def kernels(draw, largest=5):
    lead = draw(st.sampled_from([(), (2,)]))
    return rand(*lead, draw(st.integers(1, largest)), draw(st.integers(1, largest)), seed=draw(seeds)) - draw(st.sampled_from([0.0, 0.3]))


def one(**strategies):
    """Arguments drawn independently."""
    return st.fixed_dictionaries(strategies)


@st.composite
def with_factor(draw, **strategies):
    factor = draw(factors)
    return {"in_shape": draw(multiples(factor)), "factor": factor, **draw(one(**strategies))}


@st.composite
def masked(draw):
    shape = draw(shapes())
    size = draw(st.sampled_from([shape[1:], shape, (2, *shape), (3, 1, *shape[1:])]))
    mask = rand(*size, seed=draw(seeds)) < draw(st.floats(0, 1))
    return {"in_shape": shape, "mask": mask}


@st.composite
def boxed(draw):
    shape = draw(shapes())
    return {"in_shape": shape, "box": (draw(st.integers(1, shape[1])), draw(st.integers(1, shape[2]))), "position": (0, 0)}


@st.composite
def random_boxes(draw):
    shape = draw(shapes(sides=st.integers(3, 12)))
    return {"in_shape": shape, "box": draw(st.integers(1, min(shape[1:]) - 2)), "margin": 1, "seed": draw(seeds), "items": draw(items)}


@st.composite
def separable(draw):
    shape, lead = draw(shapes()), draw(st.sampled_from([(), (2,)]))
    matrices = [rand(*lead, draw(sides), side, seed=draw(seeds)) - 0.5 for side in shape[1:]]
    return {"in_shape": shape, "vertical": matrices[0], "horizontal": matrices[1]}


@st.composite
def fourier(draw, coils=False):
    shape = draw(shapes(channels=st.integers(1, 2)))
    lead = draw(st.sampled_from([(), (2, 1)]))
    found = {"in_shape": shape, "mask": rand(*lead, *shape[1:], seed=draw(seeds)) < draw(st.floats(0, 1))}
    return {**found, "maps": rand(draw(st.integers(1, 3)), 2, *shape[1:], seed=draw(seeds)) - 0.5} if coils else found


@st.composite
def hadamard(draw):
    powers = st.integers(0, 4)
    shape = (draw(channels), 2 ** draw(powers), 2 ** draw(powers))
    return {"in_shape": shape, "ratio": draw(st.floats(0.05, 1)), "seed": draw(seeds)}


@st.composite
def blocks(draw):
    block = draw(factors)
    return {"in_shape": draw(multiples(block)), "block": block, "ratio": draw(st.floats(0.05, 1)), "seed": draw(seeds)}


@st.composite
def dense(draw):
    lead, shape = draw(st.sampled_from([(), (2,)])), draw(shapes(sides=st.integers(1, 5)))
    size = shape[0] * shape[1] * shape[2]
    return {"matrix": rand(*lead, draw(st.integers(1, 20)), size, seed=draw(seeds)) - 0.5, "in_shape": shape}


@st.composite
def sparse(draw):
    shape = draw(shapes(sides=st.integers(1, 5)))
    full = rand(draw(st.integers(1, 20)), shape[0] * shape[1] * shape[2], seed=draw(seeds)) - 0.5
    return {"matrix": (full * (full > 0.2)).to_sparse(), "in_shape": shape}


@st.composite
def padded(draw):
    boundary = draw(st.sampled_from(["reflect", "symmetric", "zero", "valid"]))
    shape = draw(shapes(sides=st.integers(5, 12) if boundary == "valid" else sides))
    return {"in_shape": shape, "kernel": draw(kernels()), "boundary": boundary}


@st.composite
def slices(draw):
    factor = draw(factors)
    return {
        "in_shape": (factor * draw(st.integers(1, 4)), draw(sides), draw(sides)),
        "factor": factor,
        "profile": draw(st.sampled_from(["box", "gaussian"])),
    }


@st.composite
def colours(draw):
    shape = draw(shapes(channels=st.integers(2, 4)))
    return {"in_shape": shape, "weights": (rand(shape[0], seed=draw(seeds)) - 0.4).tolist()}


@st.composite
def tomography(draw):
    side = draw(st.integers(2, 10))
    return {"in_shape": (draw(channels), side, side), "angles": draw(st.integers(1, 4)), "circle": draw(st.booleans())}


@st.composite
def of_deepinv(draw):
    """Its constructor probes for tens of milliseconds: one of its own examples each time, so that they stay affordable."""
    return draw(st.sampled_from(registry().load("operator", "deepinv").examples()))


@st.composite
def of_a_matrix(draw, make):
    """An operator made of a dense matrix, (m, n) or one for each of two images, and a number."""
    return make(MatrixOperator(**draw(dense())), draw(st.integers(1, 5)))


def turned(operator, count):
    """A rotation of what the operator gives, after it."""
    size = math.prod(operator.out_shape)
    return structured(MatrixOperator(torch.eye(size, dtype=torch.float64).roll(count, 0), operator.out_shape), operator)


def leading(operator, rank):
    return KrylovSVD(operator, min(rank, math.prod(operator.in_shape), math.prod(operator.out_shape)))


widths = st.floats(0.3, 3)
bayers = one(in_shape=shapes(channels=st.just(3)), pattern=st.sampled_from(["RGGB", "BGGR", "GRBG", "GBRG"]))
drawn = one(in_shape=shapes(), seed=seeds, items=items)
boundaries = st.sampled_from(["zero", "reflect", "symmetric", "circular"])
vectors = st.builds(lambda size, seed, lead: rand(*lead, size, seed=seed), st.integers(1, 6), seeds, st.sampled_from([(), (2,)]))
PARAMETERS = {
    "adjoint-view": of_a_matrix(lambda A, _: AdjointView(A)),
    "anisotropic-gaussian-blur": one(in_shape=shapes(), sigma=st.tuples(widths, widths), angle=st.floats(-90, 90)),
    "as-complex": one(in_shape=shapes(channels=st.sampled_from([2, 4]))),
    "bayer-mask": bayers,
    "bicubic": with_factor(boundary=st.sampled_from(["symmetric", "reflect", "circular"])),
    "block-mean": with_factor(),
    "block-orthogonal": blocks(),
    "blur-decimate": with_factor(kernel=kernels()),
    "box-mask": boxed(),
    "camera-shake-blur": one(in_shape=shapes(), size=st.sampled_from([3, 5]), intensity=st.floats(0, 1), seed=st.integers(0, 3)),
    "chain": of_a_matrix(lambda A, count: chain(*[A, AdjointView(A)] * count)),
    "composed": of_a_matrix(lambda A, _: Composed(AdjointView(A), A)),
    "daps-random-mask-70": drawn,
    "ddrm-super-resolution-4": one(in_shape=multiples(4)),
    "deepinv": of_deepinv(),
    "defocus-blur": one(in_shape=shapes(), radius=widths),
    "diffpir-gaussian-blur-61": drawn,
    "dps-box-mask": one(in_shape=shapes(sides=st.integers(2, 12)), seed=seeds, items=items),
    "dps-random-mask": drawn,
    "dps-super-resolution-4": one(in_shape=multiples(4)),
    "expand-mask": one(in_shape=shapes(), part=st.floats(0.1, 1)),
    "film-mask": one(in_shape=shapes(), density=st.floats(0, 3), seed=seeds, items=items),
    "gaussian-blur": one(in_shape=shapes(), sigma=st.one_of(widths, st.just(torch.tensor([0.5, 1.5])))),
    "grey": colours(),
    "grid-mask": one(in_shape=shapes(), factor=factors),
    "half-mask": one(in_shape=shapes(), known=st.sampled_from(["left", "right", "top", "bottom"])),
    "iterative-pinv": of_a_matrix(lambda A, _: IterativePinv(A)),
    "iterative-prox": of_a_matrix(lambda A, _: IterativeProx(A)),
    "kernel-blur": one(in_shape=shapes(), kernel=kernels()),
    "krylov-svd": of_a_matrix(leading),
    "line-mask": one(in_shape=shapes(), period=factors, axis=st.sampled_from(["rows", "columns"])),
    "mask": masked(),
    "matrix": dense(),
    "mosaic": bayers,
    "motion-blur": one(in_shape=shapes(), length=st.floats(0.5, 9), angle=st.floats(0, 180), bend=st.floats(0, 2)),
    "mri": fourier(),
    "padded-blur": padded(),
    "radon": tomography(),
    "random-box-mask": random_boxes(),
    "random-range-mask": drawn,
    "repaint-narrow-mask": one(in_shape=shapes(), seed=seeds),
    "repaint-wide-mask": drawn,
    "resize": one(in_shape=shapes(sides=st.integers(4, 12)), size=st.integers(1, 4)),
    "scaled": of_a_matrix(lambda A, factor: Scaled(A, -0.3 * factor)),
    "sense": fourier(coils=True),
    "separable": separable(),
    "separable-blur": one(in_shape=shapes(), vertical=vectors, boundary=boundaries),
    "separable-gaussian-blur": one(in_shape=shapes(), sigma=st.one_of(widths, st.just(torch.tensor([0.5, 1.5]))), boundary=boundaries),
    "sparse-matrix": sparse(),
    "stack": of_a_matrix(lambda A, count: Stack(*[A] * count)),
    "structured": of_a_matrix(turned),
    "stroke-mask": one(
        in_shape=shapes(sides=st.integers(6, 12)), style=st.sampled_from(["narrow", "medium", "wide"]), seed=seeds, items=items
    ),
    "sum": of_a_matrix(lambda A, factor: Sum(A, Scaled(A, factor))),
    "text-mask": one(in_shape=shapes(sides=st.integers(4, 16)), size=st.floats(0.2, 1)),
    "through-plane": slices(),
    "walsh-hadamard": hadamard(),
}


def linear_names():
    return [entry.name for entry in registry().of("operator") if entry.load().examples()[0].has(Capability.LINEAR)]


def strategy_of(name):
    """The line in the table; where there is none, in_shape alone if the constructor needs no more."""
    if name in PARAMETERS:
        return PARAMETERS[name]
    needed = [
        parameter.name
        for parameter in inspect.signature(registry().load("operator", name).__init__).parameters.values()
        if parameter.default is parameter.empty and parameter.name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert needed == ["in_shape"], f"operator '{name}' needs {needed}: add a line to PARAMETERS"
    return one(in_shape=shapes())


CLASSES = {name: registry().load("operator", name) for name in registry().names("operator")}
PRESETS = [name for name, made in CLASSES.items() if isinstance(made, type) and issubclass(made, Preset)]


@pytest.mark.parametrize("name", linear_names())
def test_dot_product(name, pytestconfig):
    """A preset has half of the draws: its base has its own."""
    strategy = strategy_of(name)
    refused = []
    whole = pytestconfig.getoption("--whole")

    @((few if whole else fewer) if name in PRESETS else (many if whole else plain))
    @given(given=strategy, seed=seeds)
    def dot_test(given, seed):
        try:
            operator = given if isinstance(given, Operator) else registry().build("operator", name, **given)
        except InvsolveError as error:
            refused.append(f"{given}: {error}")
            return
        for dtype, limit in LIMITS.items():
            dot_product_holds(operator, dtype, limit, seed)

    dot_test()
    assert not refused, f"{len(refused)} draws were refused, the last: {refused[-1]}"


def dot_product_holds(operator, dtype, limit, seed):
    """Both inner products of every item, from the operator's own precision, summed in double."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(operator.batch or 2, *operator.in_shape, generator=generator, dtype=dtype)
    made = operator(x)
    y = mapped(lambda part: torch.randn(part.shape, generator=generator, dtype=part.dtype), made)
    image, rows = (flat(value).to(torch.promote_types(flat(value).dtype, torch.float64)) for value in (made, y))
    returned = operator.adjoint(y).double()
    left, right = inner(image, rows), inner(x.double(), returned)
    scale = image.norm(dim=1) * rows.norm(dim=1)
    back = returned.flatten(1).norm(dim=1) * x.double().flatten(1).norm(dim=1)
    scale = torch.maximum(scale, back)
    if isinstance(operator, PaddedBlur):  # its FFT rounds relative to the whole kernel, of which a small image sees a corner
        transfer = operator.get_buffer("transfer").norm(dim=-1).flatten(1).amax(1)
        scale = torch.maximum(scale, transfer * x.double().flatten(1).norm(dim=1) * rows.norm(dim=1))
    assert ((left - right).abs() <= limit * scale).all(), (operator, dtype)


def test_the_dot_test_can_fail():
    """An adjoint off by 1e-5 of itself is seen in single precision, one off by 1e-11 in double."""
    from invsolve_operators import Identity

    for dtype, limit in LIMITS.items():

        class Off(Identity):
            def adjoint(self, y, limit=limit):
                return y * (1 + 10 * limit)

        def often(off=Off, dtype=dtype, limit=limit):
            for seed in range(20):
                dot_product_holds(off((1, 2, 2)), dtype, limit, seed)

        with pytest.raises(AssertionError):
            often()
