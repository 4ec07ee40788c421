"""Light by pixel, kernels over the middle of blocks, ratios that are no whole numbers: against what they are defined as."""

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BlockMean, BlurDecimate, Gain, KernelBlur, Mask, Resize

from invsolve import InputError
from invsolve.cli import main
from invsolve.io.images import read_image, write_image

SHAPE = (2, 8, 12)
DRAW = torch.Generator().manual_seed(3)
X = torch.rand(2, *SHAPE, generator=DRAW, dtype=torch.float64)


def test_a_gain_multiplies_and_divides_where_it_is_not_0():
    g = torch.linspace(0, 2, 96, dtype=torch.float64).reshape(8, 12)
    operator = Gain(SHAPE, g)
    y = operator(X)
    assert torch.equal(y, g * X)
    back = operator.pinv(y)
    assert torch.allclose(back[..., 1:, :], X[..., 1:, :], rtol=1e-14)
    assert bool((back[..., 0, 0] == 0).all())
    # argmin |g x - y|^2 + |x - z|^2 / tau, pixel by pixel: x = (g y + z / tau) / (g^2 + 1 / tau)
    z = torch.full_like(X, 0.3)
    assert torch.allclose(operator.prox(z, y, 0.7), (g * y + z / 0.7) / (g**2 + 1 / 0.7), rtol=1e-13)
    assert operator.output_range == (0.0, 2.0)


def test_a_gain_per_image_and_its_products():
    several = torch.rand(2, 1, 8, 12, generator=DRAW, dtype=torch.float64)
    operator = Gain(SHAPE, several)
    assert torch.equal(operator[1:2](X[1:2]), several[1:2] * X[1:2])
    mask = Mask(SHAPE, keep=0.5)
    product = operator @ mask
    assert isinstance(product, Gain)
    assert torch.equal(product(X), several * mask.mask * X)
    assert isinstance(operator @ Gain(SHAPE, 0.5), Gain)
    assert not isinstance(Gain(SHAPE, torch.full((8, 12), 1e-9).fill_diagonal_(1)) @ Gain(SHAPE, torch.full((8, 12), 1e-9)), Mask)


@pytest.mark.parametrize("wrong", [torch.ones(7, 12), torch.ones(3, 8, 12), torch.full((8, 12), torch.nan), torch.ones(8, 12) * 1j, "x"])
def test_a_gain_that_is_none(wrong):
    with pytest.raises((InputError, TypeError), match=r"(?i)gain"):
        Gain(SHAPE, wrong)


@pytest.mark.parametrize(("factor", "shape"), [(2, (1, 8, 12)), (3, (1, 9, 12)), (4, (1, 8, 12))])
def test_a_block_is_its_own_kernel_over_its_middle(factor, shape):
    """Means of blocks are the flat kernel of a block's size over the block: nothing to interpolate, and no shift left."""
    x = torch.rand(1, *shape, generator=DRAW, dtype=torch.float64)
    flat = torch.full((factor, factor), 1 / factor**2, dtype=torch.float64)
    centred = BlurDecimate(shape, factor, kernel=flat, shift="centre")
    assert torch.allclose(centred(x), BlockMean(shape, factor)(x), atol=1e-14)
    if factor > 2:
        assert not torch.allclose(BlurDecimate(shape, factor, kernel=flat)(x), BlockMean(shape, factor)(x), atol=1e-2)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(3, 3), (4, 4), (5, 2), (1, 1)])
def test_a_kernel_over_the_middle_by_hand(factor, kernel):
    """y_i = sum_t k[t] x(r i + (r - 1) / 2 + (k - 1) / 2 - t), x between two pixels being their mean."""
    k = torch.rand(kernel, generator=DRAW, dtype=torch.float64)
    k = k / k.sum()
    height, width = 12, 24
    x = torch.rand(1, 1, height, width, generator=DRAW, dtype=torch.float64)
    y = BlurDecimate((1, height, width), factor, kernel=k, shift="centre")(x)

    def read(row, column):
        total = 0.0
        for at, weight in ((int(row // 1), 1 - row % 1), (int(row // 1) + 1, row % 1)):
            for over, share in ((int(column // 1), 1 - column % 1), (int(column // 1) + 1, column % 1)):
                total += weight * share * float(x[0, 0, at % height, over % width])
        return total

    for i, j in ((0, 0), (1, 2), (height // factor - 1, width // factor - 1)):
        top, left = factor * i + (factor - 1) / 2 + (kernel[0] - 1) / 2, factor * j + (factor - 1) / 2 + (kernel[1] - 1) / 2
        wanted = sum(float(k[a, b]) * read(top - a, left - b) for a in range(kernel[0]) for b in range(kernel[1]))
        assert abs(float(y[0, 0, i, j]) - wanted) < 1e-12


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_ramp_is_seen_at_the_middle_of_its_blocks(factor):
    """Symmetric kernels leave a ramp as it is: y_i is the place of the middle of block i, far from where the torus closes."""
    ramp = torch.arange(48, dtype=torch.float64).expand(1, 1, 48, 48)
    middle = factor * torch.arange(48 // factor) + (factor - 1) / 2
    inner = slice(16 // factor, 32 // factor)
    given = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    for operator in (
        BlurDecimate((1, 48, 48), factor, sigma=1.5, shift="centre"),
        BlurDecimate((1, 48, 48), factor, kernel=given.T @ given, shift="centre"),
    ):
        assert torch.allclose(operator(ramp)[0, 0, 5, inner], middle[inner].double(), atol=1e-9)
    corner = BlurDecimate((1, 48, 48), factor, sigma=1.5)
    assert torch.allclose(corner(ramp)[0, 0, 5, inner], (middle - (factor - 1) / 2)[inner].double(), atol=1e-9)


def test_a_shift_that_is_none():
    with pytest.raises(InputError, match="centre"):
        BlurDecimate((1, 8, 8), 2, shift="center")


def test_the_shift_stays_when_items_are_taken_and_blurs_go_before():
    several = torch.rand(2, 3, 3, generator=DRAW, dtype=torch.float64)
    several = several / several.sum((1, 2), keepdim=True)
    operator = BlurDecimate((2, 8, 12), 2, kernel=several, shift="centre")
    assert torch.allclose(operator[1:2](X[1:2]), operator(X)[1:2], atol=1e-14)
    blur = KernelBlur(SHAPE, [[0.5, 0.3, 0.2]])
    assert torch.allclose((operator @ blur)(X), operator(blur(X)), atol=1e-12)


@pytest.mark.parametrize(("side", "factor", "sides"), [((3, 10, 15), 2.5, (4, 6)), ((1, 9, 7), 1.0, (9, 7)), ((1, 11, 8), 1.6, (7, 5))])
def test_a_factor_that_is_no_whole_number(side, factor, sides):
    operator = Resize(side, factor=factor)
    assert operator.out_shape == (side[0], *sides)
    x = torch.rand(1, *side, generator=DRAW, dtype=torch.float64)
    assert torch.equal(operator(x), Resize(side, sides)(x))


@pytest.mark.parametrize("wrong", [{}, {"size": 4, "factor": 2.0}, {"factor": 0.9}, {"factor": 17.0}, {"factor": "2"}, {"factor": True}])
def test_a_factor_that_is_none(wrong):
    with pytest.raises((InputError, TypeError), match="factor"):
        Resize((1, 8, 9), **wrong)


def test_the_shell_finds_the_size_of_the_larger_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("small.png", torch.rand(3, 12, 17, generator=torch.Generator().manual_seed(0)))
    options = ("--operator", "resize", "--set", "operator.factor=2.5", "--solver", "adam-tv", "--prior", "tv", "--set", "solver.steps=2")
    done = CliRunner().invoke(main, ["restore", "small.png", *options, "--out", "large.png"])
    assert done.exit_code == 0, done.output
    assert read_image("large.png")[0].shape == (3, 30, 42)
