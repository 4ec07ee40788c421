"""boundary= of every blur, against an independent convolution of the continued picture."""

import numpy as np
import pytest
import torch
from invsolve_operators import (
    AnisotropicGaussianBlur,
    BlurDecimate,
    CameraShakeBlur,
    DefocusBlur,
    FileBlur,
    GaussianBlur,
    KernelBlur,
    MotionBlur,
    PaddedBlur,
    SaturatingBlur,
    SeparableBlur,
)
from invsolve_operators.blurs import separable
from scipy.ndimage import convolve

from invsolve import CapabilityError, InputError, IterativeProx
from invsolve.operator import Capability
from invsolve.operator.iterative import matrix

# scipy's names: its "reflect" repeats the edge pixel.
MODES = {"symmetric": "reflect", "reflect": "mirror", "zero": "constant", "circular": "wrap"}
KINDS = {
    "gaussian": lambda shape, **more: GaussianBlur(shape, 0.9, **more),
    "anisotropic": lambda shape, **more: AnisotropicGaussianBlur(shape, (1.2, 0.6), 30.0, **more),
    "motion": lambda shape, **more: MotionBlur(shape, 4.0, 20.0, 0.5, 1, **more),
    "defocus": lambda shape, **more: DefocusBlur(shape, 1.7, **more),
    "shake": lambda shape, **more: CameraShakeBlur(shape, 5, **more),
    "any": lambda shape, **more: KernelBlur(shape, [[0.1, 0.2, 0.0], [0.3, 0.1, 0.05], [0.0, 0.15, 0.1]], **more),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_blur_continues_the_picture_as_it_is_told(kind):
    x = torch.rand(1, 1, 17, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = KINDS[kind]((1, 17, 14)).kernel.numpy()
    rows, columns = (side // 2 for side in kernel.shape)
    assert all(side % 2 for side in kernel.shape)  # scipy's centre is the same one then
    for boundary, mode in MODES.items():
        made = KINDS[kind]((1, 17, 14), boundary=boundary)(x)
        np.testing.assert_allclose(made[0, 0].numpy(), convolve(x[0, 0].numpy(), kernel, mode=mode), atol=1e-12)
    inside = KINDS[kind]((1, 17, 14), boundary="valid")
    whole = convolve(x[0, 0].numpy(), kernel, mode="constant")[rows : 17 - rows, columns : 14 - columns]
    np.testing.assert_allclose(inside(x)[0, 0].numpy(), whole, atol=1e-12)
    assert inside.out_shape == (1, 17 - 2 * rows, 14 - 2 * columns)


def test_a_boundary_takes_the_closed_forms_and_a_door_gives_the_prox_back():
    blur = KINDS["any"]((1, 8, 7), boundary="valid")
    assert not blur.capabilities & {Capability.SVD, Capability.PROX, Capability.PINV}
    assert blur.has(Capability.LINEAR)
    y = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = torch.full((1, 1, 8, 7), 0.5, dtype=torch.float64)
    for call in (lambda: blur.pinv(y), lambda: blur.prox(z, y, 1.0), lambda: blur.svd()):
        with pytest.raises(CapabilityError):
            call()
    dense = matrix(blur)
    right = dense.mT @ y.flatten() + z.flatten() / 50
    exact = torch.linalg.solve(dense.mT @ dense + torch.eye(56, dtype=torch.float64) / 50, right)
    found = IterativeProx(blur, tol=1e-10, preconditioner="circular").prox(z, y, 50.0)
    # |error| <= tau |residual| <= 50 x 1e-10 |H^T (y - H z)|, and that norm is below |H| sqrt(30) < 6
    assert float((found.flatten() - exact).norm()) < 50 * 1e-10 * 6


def test_blurs_with_a_boundary_compose_by_one_after_the_other_and_select_their_kernels():
    kernels = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.rand(2, 1, 9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    outer, inner = KernelBlur((1, 9, 8), kernels, "reflect"), KernelBlur((1, 9, 8), kernels[0])
    assert torch.allclose((outer @ inner)(x), outer(inner(x)), atol=1e-14)
    assert torch.allclose((inner @ outer)(x), inner(outer(x)), atol=1e-14)
    assert torch.allclose(outer.select(range(1, 2))(x[1:]), outer(x)[1:], atol=1e-14)
    bright = SaturatingBlur((1, 9, 8), gain=3.0, boundary="symmetric")
    assert torch.equal(bright(x), (3 * GaussianBlur((1, 9, 8), boundary="symmetric")(x)).clamp(0, 1))
    with pytest.raises(InputError, match="no boundary 'mirror'"):
        FileBlur((1, 9, 8), boundary="mirror")


@pytest.mark.parametrize(("vertical", "horizontal"), [([0.1, 0.2, 0.3, 0.4], [0.5, 0.3, 0.2]), ([0.2, 0.5, 0.3], [0.1, 0.4, 0.4, 0.1])])
def test_a_separable_blur_of_whole_neighbourhoods_is_the_padded_ones(vertical, horizontal):
    kernel = torch.tensor(vertical, dtype=torch.float64)[:, None] * torch.tensor(horizontal, dtype=torch.float64)
    closed, other = SeparableBlur((2, 11, 9), vertical, horizontal, "valid"), PaddedBlur((2, 11, 9), kernel, "valid")
    x = torch.rand(2, 2, 11, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(closed(x), other(x), rtol=0, atol=1e-14)
    assert (closed.reach, closed.out_shape) == (other.reach, other.out_shape)
    z, y = 0.5 * x, other(x) + 0.1
    exact = IterativeProx(other, tol=1e-12, max_iter=500).prox(z, y, 3.0)
    torch.testing.assert_close(closed.prox(z, y, 3.0), exact, rtol=0, atol=1e-10)  # of which the iteration misses 1e-12
    with pytest.raises(InputError, match="at least as long as the kernel; given 3 and 4"):
        SeparableBlur((1, 3, 9), [0.1, 0.2, 0.3, 0.4], None, "valid")


def test_a_separable_blur_is_decomposed_when_its_spectrum_is_asked_for(monkeypatch):
    """H of a photograph that is solved in pieces is measured with, and never decomposed as a whole."""
    sides = []
    monkeypatch.setattr(separable, "decomposed", lambda matrix, count, own=separable.decomposed: sides.append(count) or own(matrix, count))
    operator = SeparableBlur((1, 40, 30), [0.2, 0.5, 0.3], None, "valid")
    operator.adjoint(operator(torch.rand(1, 1, 40, 30)))
    assert sides == []
    operator.prox(torch.rand(1, 1, 40, 30), torch.rand(1, 1, 38, 28), 1.0)
    assert sides == [38, 28]
    operator.svd()
    assert sides == [38, 28]


@pytest.mark.parametrize("boundary", ["reflect", "zero", "valid"])
def test_sides_that_a_transform_is_slow_on_change_nothing(boundary):
    """A padded side of 67 = prime is computed on 72: the answer is that of scipy's sums."""
    kernel = torch.rand(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    side = 67 if boundary == "valid" else 63
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    operator = PaddedBlur((1, side, side), kernel / kernel.sum(), boundary)
    assert operator.grid == [72, 72]
    mode = {"reflect": "mirror", "zero": "constant", "valid": "constant"}[boundary]
    expected = convolve(x[0, 0].numpy(), (kernel / kernel.sum()).numpy(), mode=mode)
    expected = expected[2:-2, 2:-2] if boundary == "valid" else expected
    np.testing.assert_allclose(operator(x)[0, 0].numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "zero", "valid"])
@pytest.mark.parametrize("shift", ["corner", "centre"])
def test_a_decimated_blur_with_a_boundary_is_that_blur_and_every_factor_th_pixel(boundary, shift):
    """On a scene that is far from its edges the boundary is nothing: there the circular one, in closed form, says the same."""
    x = torch.zeros(1, 1, 24, 30, dtype=torch.float64)
    x[..., 9:15, 11:19] = torch.rand(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = torch.rand(2, 1, 24, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    operator = BlurDecimate((1, 24, 30), 3, sigma=0.7, shift=shift, boundary=boundary)
    circular = BlurDecimate((1, 24, 30), 3, sigma=0.7, shift=shift)
    blur = PaddedBlur((1, 24, 30), operator.kernel, boundary)
    torch.testing.assert_close(operator(wide), blur(wide)[..., ::3, ::3], rtol=0, atol=0)
    before = circular.kernel.shape[-1] // 2 if boundary == "valid" else 0
    if not before % 3:  # the first whole neighbourhood is a block's own
        seen = circular(x)[..., before // 3 :, before // 3 :]
        torch.testing.assert_close(operator(x), seen[..., : operator.out_shape[1], : operator.out_shape[2]], rtol=0, atol=1e-12)
    assert not operator.has(Capability.PROX)
    z, y, tau = 0.5 * wide, operator(wide), 2.0
    found = IterativeProx(operator, tol=1e-10, max_iter=500).prox(z, y, tau)
    back = operator.adjoint(operator(found) - y) + (found - z) / tau
    assert back.abs().max() < 1e-8


def test_a_cast_takes_no_digits_from_the_decomposition():
    """float32's rounding of the matrices would be taken for singular values; nor does a half-precision type have a decomposition."""
    exact, cast = (SeparableBlur((1, 40, 30), [0.25, 0.5, 0.25], None, "symmetric").to(dtype) for dtype in (torch.float64, torch.float32))
    assert torch.equal(cast.svd().s.double(), exact.svd().s)
    y = torch.rand(1, 1, 40, 30, generator=torch.Generator().manual_seed(0))
    assert (cast.prox(y, y, 1e4) - exact.prox(y.double(), y.double(), 1e4)).abs().max() < 1e-4
    half = SeparableBlur((1, 40, 30), [0.25, 0.5, 0.25], None, "symmetric").to(torch.bfloat16)
    assert torch.equal(half.svd().s.double(), exact.svd().s)
    cast.load_state_dict(SeparableBlur((1, 40, 30), [0.0, 1.0, 0.0], None, "symmetric").state_dict())
    assert (cast.svd().s == 1).all()
