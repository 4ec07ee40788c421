"""Compressed sensing against dense matrices: Walsh-Hadamard, blocks."""

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invsolve_operators import BlockOrthogonal, WalshHadamard
from invsolve_operators.transforms.hadamard import sequency

from invsolve import InputError
from invsolve.operator.iterative import matrix

few = settings(max_examples=25, deadline=None, derandomize=True)
EPS = torch.finfo(torch.float64).eps


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@few
@given(rows=st.integers(0, 6), columns=st.integers(0, 6), seed=st.integers(0, 99))
def test_walsh_hadamard_is_the_matrix_of_the_flattened_image(rows, columns, seed):
    """Sylvester's matrix of the whole image over sqrt(n), by scipy; sums of n terms of order one over sqrt(n)."""
    height, width = 2**rows, 2**columns
    dense = torch.from_numpy(scipy.linalg.hadamard(height * width)).double() / (height * width) ** 0.5
    x = draw(2, 2, height, width, seed=seed)
    found = WalshHadamard((2, height, width), 1.0)(x)
    assert (found.flatten(2) - x.flatten(2) @ dense).abs().max() <= 8 * EPS * height * width


@few
@given(rows=st.integers(0, 5), columns=st.integers(0, 5), ratio=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_the_count_is_exact_and_the_mean_is_there(rows, columns, ratio, seed):
    operator = WalshHadamard((1, 2**rows, 2**columns), ratio, seed)
    assert int(operator.sampled.sum()) == max(1, round(ratio * 2 ** (rows + columns)))
    assert operator.sampled[0, 0, 0] == 1


@pytest.mark.parametrize("side", [1, 2, 8, 32])
def test_sequency_counts_sign_changes(side):
    dense = torch.from_numpy(scipy.linalg.hadamard(side)).double()
    assert torch.equal(sequency(side), (dense.diff(dim=1) != 0).sum(1))


def test_the_lowest_sequencies_are_always_measured():
    operator = WalshHadamard((1, 8, 4), 0.25, always=8)
    low = (sequency(8)[:, None] + sequency(4)).flatten()
    kept = low[operator.sampled.flatten() > 0]
    assert kept.max() <= low[operator.sampled.flatten() == 0].min()


def test_block_orthogonal_is_one_matrix_for_every_block():
    operator = BlockOrthogonal((2, 6, 9), 0.5, 3, seed=1)
    q = operator.matrix
    assert (q @ q.mT - torch.eye(9)).abs().max() <= 100 * EPS
    x = draw(1, 2, 6, 9)
    y = operator(x)
    for row in range(2):
        for column in range(3):
            block = x[..., 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].flatten(2)
            wanted = (block @ q.mT).clone()
            wanted[..., 4:] = 0  # round(0.5 * 9) = 4
            found = y[..., 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].flatten(2)
            assert (found - wanted).abs().max() <= 100 * EPS


@pytest.mark.parametrize("operator", [WalshHadamard((1, 4, 8), 0.3), BlockOrthogonal((1, 4, 6), 0.5, 2)], ids=lambda one: one.label)
def test_rows_are_orthonormal(operator):
    dense = matrix(operator)
    count = int(operator.sampled.expand(operator.in_shape).sum())
    s = torch.linalg.svdvals(dense)
    assert (s[:count] - 1).abs().max() <= 100 * EPS
    assert s[count:].abs().max() <= 100 * EPS if count < len(s) else True


def test_seeds_differ():
    assert not torch.equal(WalshHadamard((1, 8, 8), seed=0).sampled, WalshHadamard((1, 8, 8), seed=1).sampled)
    assert not torch.equal(BlockOrthogonal((1, 4, 4), block=4).matrix, BlockOrthogonal((1, 4, 4), block=4, seed=1).matrix)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: WalshHadamard((1, 6, 8)), "4 or 8"),
        (lambda: WalshHadamard((1, 8, 8), 0.0), "ratio"),
        (lambda: WalshHadamard((1, 8, 8), "a"), "ratio"),
        (lambda: WalshHadamard((1, 8, 8), 0.1, always=9), "always"),
        (lambda: WalshHadamard((1, 8, 8), 0.1, mask=torch.ones(8, 8)), "not both"),
        (lambda: BlockOrthogonal((1, 8, 8), block=3), "divides"),
        (lambda: BlockOrthogonal((1, 256, 256), block=128), "at most 64"),
        (lambda: BlockOrthogonal((1, 8, 8), block=2.5), "whole number"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()
