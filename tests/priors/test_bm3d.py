"""BM3D as a prior: it denoises, says what is missing, and is slow."""

import sys

import pytest
import torch
from invsolve_conditional import BM3D

from invsolve import CapabilityError, InputError


def test_it_removes_noise():
    """A step edge: the error is at least halved."""
    pytest.importorskip("bm3d")
    clean = torch.full((1, 1, 16, 16), 0.3)
    clean[..., 8:] = 0.7
    x = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    prior = BM3D("hard")
    out = prior(x, torch.tensor([0.1]))
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert (out - clean).square().mean() < 0.25 * (x - clean).square().mean()
    with pytest.raises(InputError, match="all"):
        BM3D("some")


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(CapabilityError, match=r"pip install 'invsolve\[bm3d\]'"):
        BM3D()
