"""Blur whose kernel changes over the image, against sums written out."""

from typing import Any

import numpy as np
import pytest
import torch
from invsolve_operators import PaddedBlur, TiledBlur

from invsolve import InputError, IterativeProx
from invsolve.operator import Window


def grid(rows, columns, height, width):
    drawn = torch.rand(rows, columns, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn / drawn.sum((-1, -2), keepdim=True)


def share(index, count, place, length):
    """The weight of a tile at a pixel: linear between the two middles that the pixel lies between."""
    at = min(max((place + 0.5) * count / length - 0.5, 0), count - 1)  # in tiles, from the first middle on
    return max(0.0, 1 - abs(at - index))


def test_an_entry_is_the_mean_of_the_nearest_kernels_sums():
    kernels, (height, width) = grid(2, 3, 3, 2), (6, 9)
    x = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = TiledBlur((1, height, width), kernels, boundary="zero")(x)
    for i in range(height):
        for j in range(width):
            total = 0.0
            for r in range(2):
                for s in range(3):
                    weight = share(r, 2, i, height) * share(s, 3, j, width)
                    for a in range(3):
                        for b in range(2):
                            row, column = i - (a - 1), j - (b - 1)  # centres at 3 // 2 and 2 // 2
                            if 0 <= row < height and 0 <= column < width:
                                total += weight * float(kernels[r, s, a, b] * x[0, 0, row, column])
            assert abs(total - float(y[0, 0, i, j])) < 1e-12


@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "zero", "circular"])
def test_one_kernel_everywhere_is_the_plain_blur_and_a_window_is_the_wholes_own(boundary):
    kernel = grid(1, 1, 5, 4)[0, 0]
    x = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    plain = PaddedBlur(x.shape[1:], kernel, boundary) if boundary != "circular" else None
    same = TiledBlur(x.shape[1:], kernel.expand(2, 3, 5, 4), boundary=boundary)
    if plain is not None:
        torch.testing.assert_close(same(x), plain(x), rtol=0, atol=1e-13)
    operator, window = TiledBlur(x.shape[1:], grid(3, 2, 5, 4), boundary=boundary), Window(4, 8, 12, 14)
    assert operator.reach == 2
    part = operator.window(window)(window.of(x))[..., 2:-2, 2:-2]
    torch.testing.assert_close(part, operator(x)[..., 6:14, 10:20], rtol=0, atol=1e-13)
    torch.testing.assert_close(operator.window(window).window(Window(1, 2, 5, 5)).down, operator.down[:, 5:10])


def test_its_prox_by_iteration_solves_the_normal_equations():
    """(H^T H + 1 / tau) x = H^T y + z / tau with H as a dense matrix, one column per pixel of y = H e."""
    operator = IterativeProx(TiledBlur((1, 6, 5), grid(2, 2, 3, 3)), tol=1e-12)
    matrix = torch.stack([operator(one.reshape(1, 1, 6, 5)).flatten() for one in torch.eye(30, dtype=torch.float64)], dim=1)
    z, y = (torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (3, 4))
    expected = torch.linalg.solve(matrix.T @ matrix + torch.eye(30, dtype=torch.float64) / 7, matrix.T @ y.flatten() + z.flatten() / 7)
    torch.testing.assert_close(operator.prox(z, y, 7.0).flatten(), expected, rtol=0, atol=1e-9)


def test_kernels_from_a_file(tmp_path):
    torch_kernels = grid(2, 2, 3, 3)
    named: dict[str, Any] = {f"k{index}": one.numpy() * 7 for index, one in enumerate(torch_kernels.flatten(0, 1))}
    np.savez(tmp_path / "k.npz", **named)
    read = TiledBlur((1, 8, 8), tmp_path / "k.npz", grid=(2, 2))
    torch.testing.assert_close(read.kernels, torch_kernels)
    with pytest.raises(InputError, match="holds 4 kernels; say how they lie"):
        TiledBlur((1, 8, 8), tmp_path / "k.npz")
    with pytest.raises(InputError, match="grid of kernels"):
        TiledBlur((1, 8, 8), torch.ones(3, 3))
    with pytest.raises(InputError, match="of an image that holds 8 x 8 from there"):
        TiledBlur((1, 8, 8), torch_kernels, part=(0, 1, 8, 8))
