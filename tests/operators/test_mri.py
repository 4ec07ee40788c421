"""Single- and multi-coil MRI against numpy's FFT and dense matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invsolve_operators import MRI, SENSE
from invsolve_operators.mri.sampling import PATTERNS, sampling_mask
from invsolve_operators.mri.sense import smooth_maps

from invsolve import CompatibilityError, GaussianNoise, InputError, IterativePinv, Problem, load_prior
from invsolve.operator.iterative import matrix
from invsolve.solvers import DDRM, DiffPIR

few = settings(max_examples=25, deadline=None, derandomize=True)
TOL = 1e-12  # float64 transforms of at most a hundred numbers of order one


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(image):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


@few
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_k_space_is_the_centred_transform(height, width, seed):
    x, mask = draw(2, 2, height, width, seed=seed), (draw(height, width, seed=seed + 1) > 0).double()
    wanted = centred((x[:, 0] + 1j * x[:, 1]).numpy()) * mask.numpy()
    y = MRI((2, height, width), mask=mask)(x)
    assert np.abs(torch.complex(y[:, 0], y[:, 1]).numpy() - wanted).max() <= TOL
    real = MRI((1, height, width), mask=mask)(x[:, :1])
    wanted = centred(x[:, 0].numpy()) * mask.numpy()
    assert np.abs(torch.complex(real[:, 0], real[:, 1]).numpy() - wanted).max() <= TOL


@few
@given(height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 99))
def test_singular_values_of_real_images(height, width, seed):
    """Of the dense matrix R^n -> R^2n, by LAPACK: 1, 1 / sqrt 2 and 0 as often as the pairs of frequencies say."""
    mask = (draw(height, width, seed=seed) > 0).double()
    operator = MRI((1, height, width), mask=mask)
    wanted = torch.linalg.svdvals(matrix(operator)).sort().values
    assert (operator.svd().s.flatten().sort().values - wanted).abs().max() <= 1e-7  # a zero comes out as sqrt(eps) at worst
    allowed = {0.0, 2**-0.5, 1.0}
    assert all(min(abs(float(s) - value) for value in allowed) < TOL for s in operator.svd().s.flatten())


@few
@given(
    height=st.integers(4, 24),
    width=st.integers(12, 40),
    pattern=st.sampled_from(PATTERNS),
    acceleration=st.floats(1, 8),
    seed=st.integers(0, 9),
)
def test_counts_of_the_patterns(height, width, pattern, acceleration, seed):
    mask = sampling_mask((height, width), pattern, acceleration, 0.08, seed)
    size = height * width if pattern == "gaussian" else width
    assert int(mask.sum()) == max(1, round(size / acceleration)) * (1 if pattern == "gaussian" else height)
    if round(0.08 * size):
        assert mask[height // 2, width // 2] == 1


def test_seeds_and_patterns():
    for pattern in PATTERNS:
        masks = [sampling_mask((16, 64), pattern, 4, 0.08, seed) for seed in range(4)]
        assert torch.equal(masks[0], sampling_mask((16, 64), pattern, 4, 0.08, 0))
        assert any(not torch.equal(masks[0], other) for other in masks[1:])
    gaps = sampling_mask((1, 200), "equispaced", 4, 0, 0)[0].nonzero().flatten().diff()
    assert set(gaps.tolist()) == {4}


@few
@given(height=st.integers(2, 7), width=st.integers(2, 7), seed=st.integers(0, 99))
def test_sense_is_mri_of_every_weighted_image(height, width, seed):
    x, mask = draw(2, 2, height, width, seed=seed), (draw(height, width, seed=seed + 1) > 0).double()
    maps = draw(3, 2, height, width, seed=seed + 2)
    y = SENSE((2, height, width), maps, mask=mask)(x)
    image, weights = torch.complex(x[:, 0], x[:, 1]), torch.complex(maps[:, 0], maps[:, 1])
    single = MRI((2, height, width), mask=mask)
    for coil in range(3):
        part = weights[coil] * image
        assert (y[:, coil] - single(torch.stack([part.real, part.imag], 1))).abs().max() <= 10 * TOL


def test_maps_as_complex_and_as_pairs():
    maps = smooth_maps(4, (6, 5))
    assert (maps.square().sum((0, 1)) - 1).abs().max() <= TOL
    x = draw(1, 1, 6, 5)
    complex_maps = torch.complex(maps[:, 0], maps[:, 1])
    assert torch.equal(SENSE((1, 6, 5), maps)(x), SENSE((1, 6, 5), complex_maps)(x))


@pytest.mark.parametrize("channels", [1, 2])
def test_cg_sense_recovers_the_image(channels):
    """Twofold undersampling, eight coils, no noise: the least-squares solution is the image, to the tolerance times the condition."""
    operator = SENSE((channels, 16, 16), acceleration=2.0)
    x = draw(2, channels, 16, 16)
    condition = torch.linalg.cond(matrix(operator)) ** 2
    found = IterativePinv(operator, tol=1e-10).pinv(operator(x))
    assert (found - x).norm() / x.norm() <= 1e-10 * condition
    assert condition < 1e6


@pytest.mark.parametrize("channels", [1, 2])
def test_diffusion_solvers_and_projection(channels):
    """DDRM, DiffPIR and the projection of DDNM-type solvers run, and end nearer to the data than where they start."""
    operator = MRI((channels, 16, 16), 2.0)
    prior = load_prior("gaussian", mean=0.5 if channels == 1 else 0.0, std=0.3)
    truth = 0.5 * (channels == 1) + 0.3 * draw(2, channels, 16, 16)
    problem = Problem.simulate(operator, truth, GaussianNoise(0.02), generator=0)
    for solver in (DDRM(steps=20), DiffPIR(steps=20)):
        x = solver.solve(problem, prior, generator=1).x
        # What is measured is known to the noise: 0.02 per number, and the prior cannot move it by more.
        residual = (operator(x) - problem.y)[operator.sampled.expand(problem.y.shape) > 0]
        assert residual.square().mean().sqrt() < 3 * 0.02
    projected = operator.prox(draw(2, channels, 16, 16, seed=5), operator(truth), float("inf"))
    assert (operator(projected) - operator(truth)).abs().max() <= 10 * TOL


def test_sense_says_what_would_work():
    operator = SENSE((1, 8, 8))
    problem = Problem.simulate(operator, draw(1, 1, 8, 8), GaussianNoise(0.1), generator=0)
    with pytest.raises(CompatibilityError, match=r"can: .*dps") as error:
        DDRM().solve(problem, load_prior("gaussian"))
    assert "svd" in str(error.value)


def test_what_is_not_measured_is_no_data():
    operator = SENSE((1, 8, 8), acceleration=4.0)
    problem = Problem.simulate(operator, draw(1, 1, 8, 8), GaussianNoise(0.1), generator=0)
    outside = operator.sampled.expand(8, 2, 8, 8)[None] == 0
    assert (problem.y[outside] == 0).all()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: MRI((3, 8, 8)), "real images"),
        (lambda: MRI((1, 8, 8), 4.0, mask=torch.ones(8, 8)), "not both"),
        (lambda: MRI((1, 8, 8), 0.5), "at least 1"),
        (lambda: MRI((1, 8, 8), 4.0, "spiral"), "no pattern"),
        (lambda: MRI((1, 8, 8), 8.0, centre=0.9), "centre alone"),
        (lambda: SENSE((1, 8, 8), torch.ones(2, 8, 8)), "complex"),
        (lambda: SENSE((2, 5, 4), torch.ones(3, 2, 2, 5, 4), mask=torch.ones(2, 1, 5, 4)), "maps are for 3"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()
