"""Resizing to any smaller size: the map that torch and Pillow compute."""

import numpy as np
import pytest
import torch
from invsolve_operators import Resize
from PIL import Image
from torch.nn.functional import interpolate

from invsolve import InputError


@pytest.mark.parametrize("size", [7, (10, 13), (3, 23), (19, 23)], ids=str)
def test_it_is_antialiased_bicubic_interpolation(size):
    x = torch.rand(2, 3, 19, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sides = (size, size) if isinstance(size, int) else size
    assert torch.allclose(Resize((3, 19, 23), size)(x), interpolate(x, size=sides, mode="bicubic", antialias=True), atol=1e-12)


def test_it_is_pillows():
    """In floats, which Pillow computes in single precision."""
    x = np.random.default_rng(0).random((20, 16), dtype=np.float32)
    wanted = np.asarray(Image.fromarray(x).resize((5, 9), Image.Resampling.BICUBIC))
    found = Resize((1, 20, 16), (9, 5))(torch.from_numpy(x)[None, None])[0, 0].numpy()
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("size", [0, 9, (8, 9), (4,), 2.5, True, "4"], ids=str)
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(InputError, match="size"):
        Resize((1, 8, 8), size)
