"""What is accepted and asked about: noise levels in other units, kernels that are none of a blur; each at the line that gave it."""

import warnings

import pytest
import torch
from invsolve_operators import MRI, BlurDecimate, GaussianBlur, KernelBlur, Mask, PaddedBlur, SeparableBlur

from invsolve import GaussianNoise, Problem
from invsolve.errors import Note

SHAPE = (1, 8, 9)
X = torch.linspace(0, 1, 72).reshape(1, *SHAPE)


def asked(make):
    """What is asked while it is made, each with this file as its place."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        make()
    assert all(issubclass(one.category, Note) and one.filename == __file__ for one in found), found
    return [str(one.message) for one in found]


def simulated(operator, sigma):
    return lambda: Problem.simulate(operator, X.expand(1, *operator.in_shape).contiguous(), GaussianNoise(sigma), generator=0)


def test_a_noise_level_of_another_scale_is_asked_about():
    y = GaussianBlur(SHAPE)(X)
    (told,) = asked(lambda: Problem(GaussianBlur(SHAPE), y, GaussianNoise(12.75)))
    assert told.startswith("noise sigma = 12.75 is above the whole range [0, 1]")
    assert told.endswith("take a 255th, 0.05")
    assert asked(simulated(GaussianBlur(SHAPE), 12.75)) == [told]
    assert asked(lambda: Problem(GaussianBlur(SHAPE), y, GaussianNoise(torch.tensor([1.01])))) != []
    assert asked(lambda: Problem(GaussianBlur(SHAPE), 255 * y, GaussianNoise(12.75), check_range=False)) == []


def test_where_no_range_is_known_y_itself_says_so():
    operator = MRI((2, 16, 16), acceleration=2)
    k_space = Problem.simulate(operator, torch.rand(1, 2, 16, 16), GaussianNoise(0.1), generator=0).y
    size = float(k_space[k_space != 0].square().mean().sqrt())
    (told,) = asked(lambda: Problem(operator, k_space, GaussianNoise(2.01 * size)))
    assert "they are in different units" in told
    assert asked(lambda: Problem(operator, k_space, GaussianNoise(1.99 * size))) == []
    assert asked(lambda: Problem(operator, 0 * k_space, GaussianNoise(0.1))) == []


@pytest.mark.parametrize("sigma", [0.0, 0.05, 1.0])
def test_other_levels_pass_also_where_little_is_measured(sigma):
    assert asked(simulated(Mask(SHAPE, keep=0.02), sigma)) == []
    assert asked(simulated(GaussianBlur(SHAPE), sigma)) == []


KERNELS = {
    "negative values, down to -0.111": -torch.ones(3, 3) / 9,
    "is 0 everywhere": torch.zeros(3, 3),
    "sums to 9, so that pictures come out 9 times as bright": torch.ones(3, 3),
    "sums to 2": torch.stack([torch.ones(2, 2) / 4, torch.ones(2, 2) / 2]),
}


@pytest.mark.parametrize("words", KERNELS)
def test_kernels_that_no_blur_has_are_asked_about(words):
    kernel = KERNELS[words]
    for make in (
        lambda: KernelBlur(SHAPE, kernel),
        lambda: PaddedBlur(SHAPE, kernel),
        lambda: BlurDecimate((1, 8, 8), 2, kernel=kernel),
    ):
        (told,) = asked(make)
        assert words in told


def test_of_two_vectors_the_product_counts():
    assert asked(lambda: SeparableBlur(SHAPE, [2.0, 2.0], [0.125, 0.125])) == []
    assert "sums to 4" in asked(lambda: SeparableBlur(SHAPE, [1.0, 1.0]))[0]


def test_a_blur_is_not_asked_about():
    blur = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert asked(lambda: KernelBlur(SHAPE, blur) @ GaussianBlur(SHAPE)) == []
    assert asked(lambda: KernelBlur(SHAPE, blur - 0.0001)) == []
