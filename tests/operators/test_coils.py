"""Sensitivity maps from k-space, against the maps it was made with."""

import pytest
import torch
from invsolve_operators import SENSE
from invsolve_operators.mri.cartesian import joined
from invsolve_operators.mri.coils import espirit, root_sum_of_squares
from invsolve_operators.mri.sense import smooth_maps

from invsolve import InputError

SIDE = 40


def head():
    """A textured disk, real and positive within 0.4 of the middle."""
    grid = (torch.arange(SIDE, dtype=torch.float64) - SIDE / 2) / SIDE
    texture = 0.6 + 0.3 * (9 * grid).cos()[:, None] * (7 * grid + 1).sin()
    return (grid[:, None].square() + grid.square() < 0.16) * texture


def kspace(noise=0.0):
    operator = SENSE((1, SIDE, SIDE), smooth_maps(6, (SIDE, SIDE)), mask=torch.ones(SIDE, SIDE))
    y = operator(head()[None, None])
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_maps_are_found_up_to_phase(noise):
    """The correlation |<S, S'>| of unit coil vectors: smooth maps are near the subspace of 5 x 5 kernels, not in it."""
    truth, found = joined(smooth_maps(6, (SIDE, SIDE))), joined(espirit(kspace(noise), 20, 5))
    inside = head() > 0
    together = (truth.conj() * found).sum(0).abs()[inside]
    assert together.min() > 0.98
    assert together.mean() > 0.998
    assert (found.abs().square().sum(0)[inside] - 1).abs().max() < 1e-9


def test_the_phase_makes_the_image_real():
    """The combination sum conj(S) F^* y of the found maps is real and positive but for the low resolution of the phase."""
    maps = espirit(kspace(), 20, 5)
    image = SENSE((2, SIDE, SIDE), maps, mask=torch.ones(SIDE, SIDE)).adjoint(kspace())
    middle = head()[12:28, 12:28]
    real, imaginary = image[0, :, 12:28, 12:28]
    assert imaginary.abs().max() < 0.1 * middle.max()
    assert ((real - middle).abs() < 0.1).all()


def test_root_sum_of_squares():
    """With sum |S|^2 = 1 it is the image."""
    assert (root_sum_of_squares(kspace())[0, 0] - head()).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: espirit(torch.zeros(3, 8, 8)), "coils, 2"),
        (lambda: espirit(kspace(), 48), "both sides"),
        (lambda: espirit(kspace() * (torch.arange(SIDE) % 2)), "not fully sampled"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()
