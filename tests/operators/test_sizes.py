"""How large an image an operator is made for: what takes more memory than anything read is refused before it is taken."""

import resource

import pytest
import torch
from invsolve_operators import KernelBlur, PaddedBlur, PhaseRetrieval

from invsolve import InputError, Problem
from invsolve.io.images import MAX_PIXELS
from invsolve.operator import image_shape
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of

LARGE = (3, 12000, 12000)  # 144 million pixels: the buffers of a circular blur would take 3.5 GB


def made_of_a_shape(name):
    """Whether an image's shape is all that it must be told."""
    required = [one.name for one in signature_of(registry().load("operator", name)).parameters.values() if one.default is one.empty]
    return required == ["in_shape"] and name not in ("no-measurement", "as-complex")  # which hold nothing, whatever the shape


@pytest.mark.parametrize("name", list(filter(made_of_a_shape, registry().names("operator"))))
def test_an_image_larger_than_any_that_is_read_is_refused_before_memory_is_taken(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=f"at most {MAX_PIXELS} pixels; given 12000 x 12000"):
        registry().build("operator", name, in_shape=LARGE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB, imports included


@pytest.mark.parametrize("make", [lambda s: KernelBlur(s, torch.ones(1, 1)), lambda s: PaddedBlur(s, torch.ones(1, 1)), PhaseRetrieval])
def test_so_is_one_that_is_told_more(make):
    with pytest.raises(InputError, match="cut it into parts"):
        make(LARGE)


def test_the_largest_is_taken():
    """As many pixels as a picture may have that is read, in any shape and any number of channels."""
    assert image_shape((3, 1, MAX_PIXELS)) == (3, 1, MAX_PIXELS)
    with pytest.raises(InputError, match="given 1 x 89478486"):
        image_shape((3, 1, MAX_PIXELS + 1))
    with pytest.raises(InputError, match="shape: an image has at most"):
        Problem.unconditional(LARGE)
