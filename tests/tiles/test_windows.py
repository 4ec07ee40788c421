"""What an operator is on a part of the image."""

import math

import pytest
import torch
from invsolve_operators import JPEG, Bicubic, BlockMean, BlurDecimate, GaussianBlur, Mask, Mosaic, PaddedBlur, SeparableGaussianBlur

from invsolve import CapabilityError, InputError, IterativeProx
from invsolve.operator import Operator, Stack, Window
from invsolve.operator.algebra import Combined
from invsolve.operator.measurement import parts
from invsolve.operator.preconditioners import impulse_response
from invsolve.plugins import registry

SIDES = (96, 112)


def kernel(height, width):
    drawn = torch.rand(height, width, generator=torch.Generator().manual_seed(height))
    return drawn / drawn.sum()


LOCAL = [
    PaddedBlur((1, *SIDES), kernel(5, 4), "valid"),
    PaddedBlur((1, *SIDES), kernel(7, 2), "zero"),
    SeparableGaussianBlur((2, *SIDES), 1.2, "symmetric"),
    Mask((3, *SIDES), keep=0.3),
    Mosaic((3, *SIDES), "GRBG"),
    BlockMean((1, *SIDES), 4),
    Bicubic((1, *SIDES), 4),
    JPEG((3, *SIDES), 50, subsample=True),
    BlockMean((1, *SIDES), 2) @ PaddedBlur((1, *SIDES), kernel(3, 3), "symmetric"),
    IterativeProx(-2.0 * PaddedBlur((1, *SIDES), kernel(3, 5), "symmetric")),
    Stack(Mask((1, *SIDES), keep=0.3), BlockMean((1, *SIDES), 4) @ PaddedBlur((1, *SIDES), kernel(3, 3), "symmetric")),
    Stack(PaddedBlur((1, *SIDES), kernel(5, 4), "valid"), Bicubic((1, *SIDES), 2)),
    IterativeProx(0.5 * Stack(Mask((1, *SIDES), keep=0.3), BlockMean((1, *SIDES), 4))),
    BlurDecimate((1, *SIDES), 2, sigma=0.8, boundary="reflect"),
]


@pytest.mark.parametrize("operator", LOCAL, ids=lambda one: repr(one)[:28])
def test_a_window_measures_what_the_whole_image_does_but_within_reach_of_its_inner_edges(operator):
    """Of every window that lies on the operator's grid: y of the window is y's own, to rounding, where it holds all that is looked at."""
    step = math.lcm(operator.stride, operator.period)
    x = torch.rand(1, *operator.in_shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = operator(x)
    for top, left, height, width in ((0, 0, 64, 48), (32, 48, 64, 64), (16, 16, 64, 80), (0, 0, *operator.in_shape[1:])):
        assert not any(one % step for one in (top, left, height, width))
        window = Window(top, left, height, width)
        part = operator.window(window)
        assert (part.stride, part.period, part.reach) == (operator.stride, operator.period, operator.reach)
        for mine, known, stride in zip(parts(part(window.of(x))), parts(whole), operator.strides, strict=True):
            place = window.over(stride)
            expected = Window(place.top, place.left, *mine.shape[-2:]).of(known)
            near = -(-operator.reach // stride)
            inner = [near * (top > 0), near * (top + height < SIDES[0]), near * (left > 0), near * (left + width < SIDES[1])]
            rows, columns = slice(inner[0], mine.shape[-2] - inner[1]), slice(inner[2], mine.shape[-1] - inner[3])
            # 1e-12: float64 sums and transforms of a few thousand numbers of order 1.
            torch.testing.assert_close(mine[..., rows, columns], expected[..., rows, columns], rtol=0, atol=1e-12)


def test_reach_is_not_larger_than_what_is_looked_at():
    """One pixel of the image moves entries of y up to `reach` away and none beyond."""
    for operator in LOCAL:
        x = torch.full((1, *operator.in_shape), 0.5, dtype=torch.float64)
        moved = x.clone()
        moved[..., 48, 50] = 0.9
        for after, before, stride in zip(parts(operator(moved)), parts(operator(x)), operator.strides, strict=True):
            changed = (after - before).abs().amax((0, 1)) > 1e-9
            rows, columns = (found * stride for found in changed.nonzero(as_tuple=True))
            for found, place in ((rows, 48), (columns, 50)):
                away = torch.cat([found - place, place - found - stride + 1, torch.zeros(1)])  # an entry stands for stride pixels
                assert int(away.max()) <= operator.reach


def has_window(operator):
    own = operator.uniform or type(operator).window is not Operator.window
    return own and (not isinstance(operator, Combined) or all(map(has_window, operator.parts)))


def test_every_operator_of_the_registry_that_has_windows_is_its_own_whole_one():
    """The window that is the whole image; what mixes all pixels has none."""
    local = set()
    for name in registry().names("operator"):
        if name in ("structured", "scipy"):
            continue
        for operator in registry().load("operator", name).examples():
            shape = operator.in_shape
            if len(shape) != 3 or operator.complex_input or operator.batch is not None or not has_window(operator):
                continue
            part = operator.window(Window(0, 0, *shape[1:]))
            x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            torch.testing.assert_close(part(x), operator(x))
            local.add(name)
    assert {"identity", "mask", "gaussian-blur", "padded-blur", "block-mean", "bicubic", "mosaic", "jpeg", "box-mask", "hdr"} <= local
    assert not local & {"walsh-hadamard", "phase-retrieval", "mri", "separable", "matrix", "resize"}


def test_refusals():
    with pytest.raises(InputError, match="cuts through an entry of 4 x 4"):
        Window(0, 2, 8, 8).over(4)
    with pytest.raises(InputError, match="at least 1 pixel"):
        Window(0, 0, 0, 5)
    with pytest.raises(CapabilityError, match="does not say what it is on a part"):
        GaussianBlur((1, 8, 8)).T.window(Window(0, 0, 4, 4))


def test_the_response_to_an_impulse_is_found_on_a_small_window():
    """H^T H of an impulse in the middle of the large image, moved to the origin: the same to rounding."""
    operator = PaddedBlur((2, 150, 170), kernel(5, 4), "valid")
    impulse = torch.zeros(1, 2, 150, 170, dtype=torch.float64)
    impulse[:, :, 70, 80] = 1
    expected = operator.adjoint(operator(impulse)).roll((-70, -80), (-2, -1))
    torch.testing.assert_close(impulse_response(operator, torch.zeros(0, dtype=torch.float64)), expected, rtol=0, atol=1e-14)
