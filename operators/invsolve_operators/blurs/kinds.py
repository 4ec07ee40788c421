"""Blurs by kind of kernel, circular unless said, but for the last: anisotropic Gaussians, a lens out of focus, a shaken camera, a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve_operators.blurs import kernels
from invsolve_operators.blurs.blur import KernelBlur
from invsolve_operators.blurs.kernel_files import read_kernels
from invsolve_operators.blurs.padded import PaddedBlur
from invsolve_operators.common import positive, select_arguments
from invsolve_operators.sampled import checked_count


class AnisotropicGaussianBlur(KernelBlur):
    """Blur with a Gaussian of two widths at an angle.

    Args:
        in_shape: (C, H, W).
        sigma: standard deviations in pixels along the angle and across it, (2,); (B, 2) for one pair per image.
        angle: degrees counter-clockwise from the horizontal, a number or (B,).
        truncate: the kernel ends at floor(truncate max sigma + 1/2) pixels from its centre.
        boundary: as in KernelBlur.

    Raises:
        InputError: widths that are not positive and finite, or sizes that differ.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        sigma: Sequence[float] | Tensor = (4.0, 1.0),
        angle: float | Tensor = 0.0,
        truncate: float = 4.0,
        boundary: str = "circular",
    ) -> None:
        try:
            widths, turn = torch.as_tensor(sigma, dtype=torch.float64), torch.as_tensor(angle, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"sigma must be two numbers, or (B, 2), angle a number or (B,); given {sigma!r} and {angle!r}") from None
        if widths.ndim not in (1, 2) or widths.shape[-1] != 2 or turn.ndim > 1 or not widths.numel():
            raise InputError(
                f"sigma must be two numbers, or (B, 2), angle a number or (B,); given {tuple(widths.shape)}, {tuple(turn.shape)}"
            )
        if turn.ndim == 1 and widths.ndim == 1:
            widths = widths.expand(len(turn), 2)
        if turn.ndim == 1 and len(turn) != len(widths):
            raise InputError(f"sigma is for {len(widths)} images, angle for {len(turn)}")
        if not bool((torch.isfinite(widths) & (widths > 0)).all()) or not bool(torch.isfinite(turn).all()):
            raise InputError(f"sigma must be positive and finite, angle finite; given {sigma} and {angle}")
        super().__init__(in_shape, kernels.anisotropic(widths, turn, positive(truncate, "truncate")), boundary)

    def select(self, items: range) -> Operator:
        """The items' blurs."""
        per_item = [name for name, rank in (("sigma", 2), ("angle", 1)) if torch.as_tensor(self.arguments.get(name, 0)).ndim == rank]
        return select_arguments(self, items, *per_item)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Along the rows, turned, one per image."""
        several = torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.7, 0.7]])
        return [cls((3, 8, 8), (1.5, 0.5)), cls((1, 9, 7), (2.0, 0.6), 30.0), cls((1, 6, 5), several, torch.tensor([0.0, 45.0, 90.0]))]


class DefocusBlur(KernelBlur):
    """Blur with the uniform disk of a lens out of focus.

    Args:
        in_shape: (C, H, W).
        radius: of the disk, in pixels.
        boundary: as in KernelBlur.

    Raises:
        InputError: radius is not a positive number.
    """

    def __init__(self, in_shape: Sequence[int], radius: float = 3.0, boundary: str = "circular") -> None:
        super().__init__(in_shape, kernels.disk(positive(radius, "radius")), boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Less than a pixel, and larger than the image."""
        return [cls((3, 8, 8), 1.5), cls((1, 5, 7), 0.3), cls((1, 5, 4), 4.2)]


class CameraShakeBlur(KernelBlur):
    """Blur by the random path of a hand-held camera.

    Args:
        in_shape: (C, H, W).
        size: side of the kernel in pixels, odd.
        intensity: 0 a straight line, 1 wild.
        seed: of the path.
        items: a path per image: image i's is keyed by (seed, i) and does not depend on their number.
        boundary: as in KernelBlur.

    Raises:
        InputError: an even size, intensity outside [0, 1].

    References:
        Modeling the Performance of Image Restoration from Motion Blur (Boracchi, Foi, 2012), IEEE TIP 21(8); see `kernels.shake`.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        size: int = 21,
        intensity: float = 0.5,
        seed: int = 0,
        items: int | None = None,
        boundary: str = "circular",
    ) -> None:
        super().__init__(in_shape, shaken(size, intensity, seed, items), boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One path, and one per image."""
        return [cls((3, 8, 8), 5), cls((1, 9, 7), 7, 1.0, seed=1, items=3)]


def shaken(size: int, intensity: float, seed: int, items: int | None) -> Tensor:
    """(size, size), or (items, size, size)."""
    if checked_count(size, "size", 1) % 2 == 0:
        raise InputError(f"size must be odd, so that the kernel has a centre; given {size}")
    if isinstance(intensity, bool) or not isinstance(intensity, int | float) or not 0 <= intensity <= 1:
        raise InputError(f"intensity must be a number in [0, 1]; given {intensity!r}")
    count = 1 if items is None else checked_count(items, "items", 1)
    found = torch.stack([kernels.shake(size, float(intensity), seed, item) for item in range(count)])
    return found[0] if items is None else found


class FileBlur(KernelBlur):
    """Blur with a kernel from a file.

    Args:
        in_shape: (C, H, W).
        path: .mat (MATLAB 5 by scipy, MATLAB 7.3 by h5py), .npy, .npz, .safetensors or an image; None for no blur. In a file
            of tables a relative path starts from its folder.
        index: which of several kernels in the file, counted from 0; None where there is one.
        normalise: divide by the sum, as a picture of a kernel needs.
        boundary: as in KernelBlur.

    Raises:
        InputError: no such file, not readable, no such index, or an index is needed.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        path: str | Path | None = None,
        index: int | None = None,
        normalise: bool = True,
        boundary: str = "circular",
    ) -> None:
        super().__init__(image_shape(in_shape), file_kernel(path, index, normalise), boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Without a file."""
        return [cls((3, 4, 4)), cls((1, 5, 3), normalise=False)]


class PaddedFileBlur(PaddedBlur):
    """Blur with a kernel from a file and a boundary of one's choice: what a photograph needs, whose scene goes on beyond its frame.

    `IterativeProx(H)` adds the prox that most solvers want: `iterative-prox/padded-file-blur` in the shell.

    Args:
        in_shape: (C, H, W).
        path, index, normalise: as in FileBlur.
        boundary: "valid" (the image is larger than y by the kernel, and nothing is said of what lies beyond), "reflect", "symmetric" or
            "zero".

    Raises:
        InputError: as FileBlur and PaddedBlur.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        path: str | Path | None = None,
        index: int | None = None,
        normalise: bool = True,
        boundary: str = "valid",
    ) -> None:
        super().__init__(image_shape(in_shape), file_kernel(path, index, normalise), boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Without a file."""
        return [cls((3, 4, 4)), cls((1, 5, 3), normalise=False, boundary="reflect")]


def file_kernel(path: str | Path | None, index: int | None, normalise: bool) -> Tensor:
    """The kernel of a file, as FileBlur wants it."""
    kernel = torch.ones(1, 1, dtype=torch.float64) if path is None else chosen(path, index)
    total = float(kernel.sum())
    if normalise and not total > 0:
        raise InputError(f"{path}: the kernel sums to {total:g} and cannot be normalised; pass normalise=False")
    return kernel / total if normalise else kernel


def chosen(path: str | Path, index: int | None) -> Tensor:
    """One kernel of a file."""
    found = read_kernels(path)
    if index is None and len(found) > 1:
        raise InputError(f"{path} holds {len(found)} kernels; say which by index=0 .. {len(found) - 1}")
    place = 0 if index is None else index
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(found):
        raise InputError(f"{path} holds {len(found)} kernels, counted from 0; given index={index!r}")
    return found[place]
