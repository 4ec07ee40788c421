"""What an index of a problem, an operator or a prior may be, and what is said of anything else."""

import numpy as np
import pytest
import torch

from invsolve import GaussianNoise, InputError, Problem
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior

SHAPE = (1, 2, 3)


@pytest.fixture
def three():
    operator = registry().build("operator", "gaussian-blur", in_shape=SHAPE, sigma=torch.tensor([0.5, 0.7, 0.9]))
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    prior = GaussianPrior(torch.rand(3, *SHAPE), 0.25)
    return Problem.simulate(operator, x, GaussianNoise(0.1), generator=0), operator, prior


@pytest.mark.parametrize("index", [1, -2, np.int64(1), slice(1, 3), slice(None, None, -1)])
def test_a_whole_number_and_a_slice_are_items(three, index):
    problem, operator, prior = three
    rows = list(range(3)[index]) if isinstance(index, slice) else [range(3)[index]]
    assert torch.equal(problem[index].y, problem.y[rows])
    assert torch.equal(problem[index].operator.arguments["sigma"], operator.arguments["sigma"][rows])
    assert torch.equal(operator[index].arguments["sigma"], operator.arguments["sigma"][rows])
    assert prior.batch == 3
    assert torch.equal(prior[index].mean, prior.mean[rows])


@pytest.mark.parametrize("index", [[2, 0, 1], torch.tensor([True, False, True]), np.array([0, 2]), (0, 1), 1.0, "1", None])
def test_anything_else_is_told_what_to_write(three, index):
    for one in three:
        with pytest.raises(InputError, match=r"a whole number or a slice.*given .*\.select\(\[2, 0, 1\]\)"):
            one[index]


@pytest.mark.parametrize("index", [3, -4])
def test_an_item_that_is_not_there_is_an_index_error(three, index):
    for one in three:
        with pytest.raises(IndexError, match=f"holds 3 items; there is no item {index}"):
            one[index]
