"""Problems and what they refuse: what single-line faults (benchmarks/studies/mutants.py) asked for."""

import pytest
import torch
from invsolve_operators import Identity

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import InputError
from invsolve.operator import Operator
from invsolve.problem import check_image, check_measurement, check_tensor

DOUBLE, SHAPE = torch.float64, (1, 3, 4)


def flat(value, batch=1, shape=SHAPE, dtype=DOUBLE):
    return torch.full((batch, *shape), value, dtype=dtype)


SPECTRUM = Operator.from_matrix(1j * torch.eye(12, dtype=DOUBLE), SHAPE, SHAPE)


def test_complex_data_are_taken_where_the_operator_gives_them_and_only_there():
    check_measurement(SPECTRUM, flat(0.5, dtype=torch.complex128), NoNoise(), check_range=True)
    with pytest.raises(InputError, match="gives complex y"):
        check_measurement(SPECTRUM, flat(0.5), NoNoise(), check_range=True)
    check_measurement(Identity(SHAPE), flat(0.5), NoNoise(), check_range=True)
    with pytest.raises(InputError, match="complex"):
        check_tensor("y", flat(0.5, dtype=torch.complex128))


def test_what_is_no_operator_is_named():
    with pytest.raises(InputError, match="expected an operator, given Tensor"):
        check_measurement(flat(0.5), Identity(SHAPE), NoNoise(), check_range=True)
    with pytest.raises(InputError, match="expected an operator, given Tensor"):
        check_image(flat(0.5), flat(0.5))


def test_a_range_is_checked_unless_that_is_declined():
    with pytest.raises(InputError, match="y spans"):
        Problem(Identity(SHAPE), flat(255.0), GaussianNoise(0.1))
    Problem(Identity(SHAPE), flat(255.0), GaussianNoise(0.1), check_range=False)


def test_one_picture_of_a_prior_by_default():
    problem = Problem.unconditional(SHAPE)
    assert problem.batch == 1
    assert problem.operator.out_shape == (0,)
    assert problem.y.shape == (1, 0)
    assert Problem(Identity(SHAPE), flat(0.5), NoNoise()).image.dtype == DOUBLE


@pytest.mark.parametrize(("context", "message"), [([1], "must be a dict"), ({1: torch.zeros(1)}, "must be text"), ({"a": 1}, "given int")])
def test_contexts_that_are_none(context, message):
    with pytest.raises(InputError, match=message):
        Problem(Identity(SHAPE), flat(0.5), NoNoise(), context=context)
    assert Problem(Identity(SHAPE), flat(0.5), NoNoise(), context={"a": torch.zeros(1)}).context.keys() == {"a"}
