"""Sensitivity maps from the fully sampled middle of k-space (ESPIRiT), and the root of the sum of squares over coils."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve_operators.mri.cartesian import inverse_fourier, joined, paired


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """sqrt(sum_c |F^* y_c|^2): (B, coils, 2, H, W) -> (B, 1, H, W)."""
    return inverse_fourier(joined(kspace)).abs().square().sum(1, keepdim=True).sqrt()


@torch.no_grad()
def espirit(
    kspace: Tensor, calibration: int = 24, kernel: int = 6, threshold: float = 0.02, crop: float = 0.9, sides: tuple[int, int] | None = None
) -> Tensor:
    """Sensitivity maps of one image, (coils, 2, H, W), 0 where no coil sees anything; sum_c |S_c|^2 = 1 elsewhere.

    Every patch of the calibration region lies near a subspace of kernels; at each pixel the coil vector that these kernels keep
    unchanged (eigenvalue 1) is the sensitivity. Its free phase is chosen so that the maps, weighted by the low-resolution image of the
    calibration region, sum to a positive number: the image's own slow phase is then in the maps.

    Args:
        kspace: (coils, 2, H, W) or (1, coils, 2, H, W), zero frequency at (H // 2, W // 2); only the calibration region is read.
        calibration: side of the fully sampled square in the middle.
        kernel: side of the patches.
        threshold: singular values of the calibration matrix below this part of the largest are noise.
        crop: maps are set to 0 where the eigenvalue is below this.
        sides: (H, W) of the maps, if not those of k-space.

    Raises:
        InputError: another shape, or a region that is not fully sampled or does not fit.

    References:
        ESPIRiT: An Eigenvalue Approach to Autocalibrating Parallel MRI (Uecker et al., 2014), Magnetic Resonance in Medicine 71(3).
        Deviation: the phase, see above; one set of maps.
    """
    if kspace.ndim == 5 and len(kspace) == 1:
        kspace = kspace[0]
    if kspace.ndim != 4 or kspace.shape[1] != 2:
        raise InputError(f"k-space must be (coils, 2, H, W) of one image; given {tuple(kspace.shape)}")
    coils, _, height, width = kspace.shape
    if not kernel <= calibration <= min(height, width):
        raise InputError(f"need kernel <= calibration <= both sides; given {kernel}, {calibration} and {height} x {width}")
    top, left = height // 2 - calibration // 2, width // 2 - calibration // 2
    region = joined(kspace.double())[:, top : top + calibration, left : left + calibration]
    if bool((region == 0).all(0).any()):
        raise InputError(f"the middle {calibration} x {calibration} of k-space is not fully sampled; give a smaller calibration")
    rows, columns = (height, width) if sides is None else sides
    patches = region.unfold(1, kernel, 1).unfold(2, kernel, 1).permute(1, 2, 0, 3, 4).reshape(-1, coils * kernel * kernel)
    _, values, right = torch.linalg.svd(patches, full_matrices=False)
    kept = right[values > threshold * values[0]].reshape(-1, coils, kernel, kernel)
    operator = torch.zeros(rows, columns, coils, coils, dtype=torch.complex128)
    place = (rows // 2 - kernel // 2, columns // 2 - kernel // 2)
    for one in kept:
        canvas = torch.zeros(coils, rows, columns, dtype=torch.complex128)
        canvas[:, place[0] : place[0] + kernel, place[1] : place[1] + kernel] = one
        images = inverse_fourier(canvas).permute(1, 2, 0) * (rows * columns) ** 0.5 / kernel
        operator += images[..., :, None] * images[..., None, :].conj()
    eigenvalues, vectors = torch.linalg.eigh(operator)
    maps = vectors[..., -1].permute(2, 0, 1)
    low = torch.zeros(coils, rows, columns, dtype=torch.complex128)
    first = (rows // 2 - calibration // 2, columns // 2 - calibration // 2)
    low[:, first[0] : first[0] + calibration, first[1] : first[1] + calibration] = region * window(calibration)
    phase = (maps.conj() * inverse_fourier(low)).sum(0)
    maps = maps * torch.polar(torch.ones_like(phase.real), phase.angle()) * (eigenvalues[..., -1] > crop)
    return paired(maps)


def window(size: int) -> Tensor:
    """A Hann window on a square, so that the low-resolution image does not ring."""
    line = torch.hann_window(size + 2, periodic=False, dtype=torch.float64)[1:-1]
    return line[:, None] * line
