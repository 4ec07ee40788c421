"""Blurs by kind of kernel, boundaries, kernel files, thick slices, presets: against loops and dense matrices."""

import importlib.util
import math

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invsolve_operators import (
    AnisotropicGaussianBlur,
    CameraShakeBlur,
    DDRMGaussianBlur,
    DDRMUniformBlur,
    DefocusBlur,
    DiffPIRGaussianBlur,
    DPSGaussianBlur,
    FileBlur,
    GaussianBlur,
    PaddedBlur,
    SeparableBlur,
    SeparableGaussianBlur,
    ThroughPlane,
)
from invsolve_operators.blurs.kernel_files import read_kernels

from invsolve import Capability, InputError
from invsolve.operator.iterative import matrix

TOL = 1e-12
few = settings(max_examples=25, deadline=None, derandomize=True)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MODES = {"reflect": "reflect", "symmetric": "symmetric", "zero": "constant"}


@few
@given(
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    boundary=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 99),
)
def test_padded_blur_is_numpys_padding_and_a_loop(height, width, rows, columns, boundary, seed):
    k, x = draw(rows, columns, seed=seed), draw(1, 2, height, width, seed=seed + 1)
    # y[i] = sum_a k[a] x[i - (a - kh // 2)]: reaches kh - 1 - kh // 2 before and kh // 2 behind.
    before, behind = (rows - 1 - rows // 2, columns - 1 - columns // 2), (rows // 2, columns // 2)
    if boundary != "zero" and max(*before, *behind) >= min(height, width):
        return  # numpy folds more than once in another way than a mirror on both sides does
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (before[0], behind[0]), (before[1], behind[1])), mode=MODES[boundary])
    wanted = np.zeros(x.shape)
    for i in range(height):
        for j in range(width):
            patch = wide[..., i : i + rows, j : j + columns]
            wanted[..., i, j] = (patch * k.flip((0, 1)).numpy()).sum((-2, -1))
    found = PaddedBlur((2, height, width), k, boundary)(x)
    assert np.abs(found.numpy() - wanted).max() <= TOL * rows * columns


@few
@given(height=st.integers(3, 9), width=st.integers(3, 9), rows=st.integers(1, 3), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_valid_blur(height, width, rows, columns, seed):
    k, x = draw(rows, columns, seed=seed), draw(1, 1, height, width, seed=seed + 1)
    wanted = torch.nn.functional.conv2d(x, k.flip((0, 1))[None, None])
    assert (PaddedBlur((1, height, width), k, "valid")(x) - wanted).abs().max() <= TOL


@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "zero"])
def test_padded_and_separable_agree(boundary):
    k = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    x = draw(2, 1, 7, 9)
    padded, separable = PaddedBlur((1, 7, 9), k[:, None] * k, boundary), SeparableBlur((1, 7, 9), k, None, boundary)
    assert (padded(x) - separable(x)).abs().max() <= TOL
    assert (padded.adjoint(x) - separable.adjoint(x)).abs().max() <= TOL


def test_anisotropic_kernels():
    """Equal widths are the isotropic Gaussian; a quarter turn swaps the sides; the second moments are the covariance."""
    x = draw(1, 1, 16, 16)
    same = AnisotropicGaussianBlur((1, 16, 16), (1.2, 1.2), 20.0)
    assert (same(x) - GaussianBlur((1, 16, 16), 1.2)(x)).abs().max() <= TOL
    flat, upright = AnisotropicGaussianBlur((1, 16, 16), (2.0, 0.8)), AnisotropicGaussianBlur((1, 16, 16), (2.0, 0.8), 90.0)
    assert (flat.kernel - upright.kernel.T).abs().max() <= 1e-15
    kernel = AnisotropicGaussianBlur((1, 64, 64), (4.0, 2.0), 30.0, truncate=8.0).kernel
    index = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    up, right = -index[:, None], index
    covariance = [float((kernel * a * b).sum()) for a, b in ((right, right), (right, up), (up, up))]
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    wanted = [16 * c * c + 4 * s * s, (16 - 4) * c * s, 16 * s * s + 4 * c * c]
    assert np.allclose(covariance, wanted, rtol=1e-6)  # sampled and cut at 8 sigma: exact to far more


def test_defocus_is_a_disk():
    kernel = DefocusBlur((1, 32, 32), 5.0).kernel
    assert kernel.sum() == pytest.approx(1)
    flat = kernel[kernel > 0.99 * kernel.max()]
    assert len(flat) * float(flat.mean()) == pytest.approx(1, abs=0.25)  # all but the rim
    assert (1 / float(kernel.max())) == pytest.approx(math.pi * 25, rel=0.01)  # 16 x 16 samples a pixel


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_camera_shake(intensity):
    several = CameraShakeBlur((1, 8, 8), 21, intensity, seed=3, items=4)
    kernels = several.kernel
    assert kernels.shape == (4, 21, 21)
    assert (kernels >= 0).all()
    assert (kernels.sum((1, 2)) - 1).abs().max() <= TOL
    assert torch.equal(kernels[0], CameraShakeBlur((1, 8, 8), 21, intensity, seed=3).kernel)
    assert not torch.equal(kernels[0], kernels[1])
    index = torch.arange(21, dtype=torch.float64) - 10
    for kernel in kernels:  # centred, and three quarters of the way to the edge
        assert abs(float((kernel.sum(1) * index).sum())) < 1e-6
        assert abs(float((kernel.sum(0) * index).sum())) < 1e-6
        reach = max(abs(int(i) - 10) for i in kernel.nonzero().flatten())
        assert reach in (7, 8)
    if intensity == 0:  # a straight line: the spread across it is that of the pixels
        for kernel in kernels:
            moments = torch.stack([torch.stack([(kernel * a * b).sum() for b in (index[:, None], index)]) for a in (index[:, None], index)])
            assert torch.linalg.eigvalsh(moments)[0] < 0.5


def test_kernel_files(tmp_path):
    kernels = [np.random.default_rng(seed).random((3 + seed, 5)) for seed in range(3)]
    cells = np.empty((1, 3), dtype=object)
    for index, kernel in enumerate(kernels):
        cells[0, index] = kernel
    scipy.io.savemat(tmp_path / "cells.mat", {"kernels": cells})
    np.savez(tmp_path / "several.npz", a=kernels[0], b=kernels[1])
    np.save(tmp_path / "one.npy", kernels[2])
    for index, kernel in enumerate(kernels):
        found = FileBlur((1, 8, 8), str(tmp_path / "cells.mat"), index).kernel
        assert np.allclose(found.numpy(), kernel / kernel.sum(), atol=1e-15)
    assert len(read_kernels(tmp_path / "several.npz")) == 2
    raw = FileBlur((1, 8, 8), str(tmp_path / "one.npy"), normalise=False).kernel
    assert np.array_equal(raw.numpy(), kernels[2])
    for path, index, word in (("cells.mat", None, "say which"), ("cells.mat", 3, "counted from 0"), ("nothing.mat", None, "no")):
        with pytest.raises(InputError, match=word):
            FileBlur((1, 8, 8), str(tmp_path / path), index)
    (tmp_path / "damaged.mat").write_bytes(b"not a matlab file at all" * 9)
    np.savez(tmp_path / "empty.npz", a=np.zeros(3))
    for path in ("damaged.mat", "empty.npz"):
        with pytest.raises(InputError, match=path):
            FileBlur((1, 8, 8), str(tmp_path / path))


@pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="h5py is not installed: it reads MATLAB 7.3 files")
def test_matlab_7_3(tmp_path):
    import h5py

    kernel = np.random.default_rng(0).random((4, 3))
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["#refs#/a"] = kernel.T  # MATLAB's order
        table = file.create_dataset("kernels", (1, 1), dtype=h5py.ref_dtype)
        table[0, 0] = file["#refs#/a"].ref
    with open(tmp_path / "new.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM")
    assert np.array_equal(read_kernels(tmp_path / "new.mat")[0].numpy(), kernel)


def test_thick_slices():
    x = draw(2, 12, 3, 4)
    assert (ThroughPlane((12, 3, 4), 3)(x) - x.reshape(2, 4, 3, 3, 4).mean(2)).abs().max() <= TOL
    gaussian = ThroughPlane((32, 1, 1), 8, "gaussian").matrix
    assert (gaussian.sum(1) - 1).abs().max() <= TOL
    middle = gaussian[1]
    assert float(middle[12 - 4] / middle[11:13].max()) == pytest.approx(math.exp(-0.5 * (3.5**2 - 0.5**2) * 8 * math.log(2) / 64))
    dense = matrix(ThroughPlane((8, 1, 2), 2, "gaussian"))
    values = torch.linalg.svdvals(dense).sort().values
    assert (ThroughPlane((8, 1, 2), 2, "gaussian").svd().s.flatten().sort().values[-len(values) :] - values).abs().max() <= TOL


def test_a_width_per_image():
    several = SeparableGaussianBlur((1, 9, 7), torch.tensor([0.5, 1.5]))
    x = draw(2, 1, 9, 7)
    for item, width in enumerate((0.5, 1.5)):
        assert (several(x)[item] - SeparableGaussianBlur((1, 9, 7), width)(x)[item]).abs().max() <= TOL
    sides = SeparableGaussianBlur((1, 9, 7), torch.tensor([[0.5, 1.5]]), "zero")
    wanted = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), (0.5, 1.5), mode="constant")
    assert np.abs(sides(x[:1])[0, 0].numpy() - wanted).max() <= TOL


def test_dps_blur_is_scipys_filter_of_an_impulse():
    """The authors filter a unit impulse of 61 x 61; 25 x 25 of it is not 0."""
    impulse = np.zeros((61, 61))
    impulse[30, 30] = 1
    wanted = scipy.ndimage.gaussian_filter(impulse, 3.0)
    assert (wanted > 0).sum() == 25 * 25
    x = torch.zeros(1, 1, 61, 61, dtype=torch.float64)
    x[0, 0, 30, 30] = 1
    assert np.abs(DPSGaussianBlur((1, 61, 61))(x)[0, 0].numpy() - wanted).max() <= TOL


def test_ddrm_blurs_apply_one_tap_less():
    """As the authors' loop: row i has taps at i - 4 .. i + 3 (uniform), i - 2 .. i + 1 (Gaussian)."""
    x = torch.zeros(1, 1, 1, 12, dtype=torch.float64)
    x[..., 6] = 1
    response = DDRMUniformBlur((1, 1, 12)).horizontal @ x.flatten()
    assert response.nonzero().flatten().tolist() == list(range(3, 11))
    assert response.sum() == pytest.approx(8 / 9)
    pdf = [math.exp(-0.5 * (place / 10) ** 2) for place in (-2, -1, 0, 1, 2)]
    row = DDRMGaussianBlur((1, 1, 12)).horizontal[6]
    assert np.allclose(row[4:8].numpy(), np.array(pdf[:4]) / sum(pdf), atol=1e-15)
    assert row.nonzero().flatten().tolist() == [4, 5, 6, 7]


def test_diffpir_widths_are_drawn_per_image():
    kernels = DiffPIRGaussianBlur((1, 64, 64), items=20).kernel
    index = torch.arange(61, dtype=torch.float64) - 30
    widths = (kernels.sum(1) * index.square()).sum(1).sqrt()
    assert 3 - 1e-3 <= widths.min() < 4.5
    assert 7 < widths.max() <= 9
    assert torch.equal(kernels[:2], DiffPIRGaussianBlur((1, 64, 64), items=2).kernel)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: AnisotropicGaussianBlur((1, 8, 8), 2.0), "two numbers"),
        (lambda: AnisotropicGaussianBlur((1, 8, 8), "a"), "two numbers"),
        (lambda: AnisotropicGaussianBlur((1, 8, 8), (1.0, -1.0)), "positive"),
        (lambda: DefocusBlur((1, 8, 8), 0), "radius"),
        (lambda: CameraShakeBlur((1, 8, 8), 4), "odd"),
        (lambda: CameraShakeBlur((1, 8, 8), 5, 2.0), "intensity"),
        (lambda: PaddedBlur((1, 8, 8), torch.ones(3, 3), "circular"), "no boundary"),
        (lambda: PaddedBlur((1, 4, 4), torch.ones(5, 3), "valid"), "at least as large"),
        (lambda: ThroughPlane((9, 2, 2), 2), "crop to 8"),
        (lambda: ThroughPlane((8, 2, 2), 2, "bx"), "did you mean box"),
        (lambda: SeparableGaussianBlur((1, 8, 8), torch.ones(2, 3)), "must be a number"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()


def test_what_padded_blur_offers():
    assert not PaddedBlur((1, 4, 4), torch.ones(3, 3)).has(Capability.PROX)
    assert PaddedBlur((1, 4, 4), torch.ones(3, 3)).has(Capability.ADJOINT)
