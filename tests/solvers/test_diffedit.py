"""DiffEdit on mixtures with classes: its mask in closed form, its recursion by hand, and the way up and down again."""

import math
from itertools import pairwise

import pytest
import torch

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator.matrix import MatrixOperator
from invsolve.priors import GaussianPrior, Guided, LabelledMixturePrior
from invsolve.rng import Rng
from invsolve.solvers import DiffEdit
from invsolve.solvers.diffusion.common import estimate, generic_step
from invsolve.solvers.editing.diffedit import inverted
from invsolve.testing.subjects import Kept

DOUBLE, SHAPE, STD = torch.float64, (1, 3, 4), 0.2
ONE = MatrixOperator(torch.eye(12, dtype=DOUBLE), SHAPE, SHAPE)


def means(*values):
    """One image (1, 3, 4) for each row of 12 values."""
    return torch.tensor(values, dtype=DOUBLE).reshape(-1, *SHAPE)


FIRST = [0.3] * 12
SECOND = [0.3, 0.3, 0.3, 0.3, 0.9, 0.3, 0.8, 0.3, 0.3, 0.4, 0.3, 0.3]  # of which the mean difference is 1.2 / 12 = .1
TWO = LabelledMixturePrior(means(FIRST, SECOND), [0, 1], std=STD)


def problem(label, source=None, image=0.5, count=1):
    """An image to change, grey unless said."""
    context = {"label": torch.full((count,), label)}
    if source is not None:
        context["source"] = torch.full((count,), source)
    y = torch.as_tensor(image, dtype=DOUBLE).expand(count, *SHAPE).clone()
    return Problem(ONE, y, NoNoise(), context=context)


def test_the_mask_is_where_the_class_means_differ():
    """D_1 - D_0 = sigma^2 / (std^2 + sigma^2) (m_1 - m_0) whatever the noise: differences .6, .5 and .1, cut at .3, of which half is .15.

    With a threshold of .25 the cut's share is .075, and the third pixel is in.
    """
    for threshold, wanted in ((0.5, [4, 6]), (0.25, [4, 6, 9])):
        steps = DiffEdit(steps=3, draws=2, threshold=threshold).solve(problem(1, 0), TWO, generator=0, keep=1).trace
        assert steps[0].state["mask"].flatten().nonzero()[:, 0].tolist() == wanted


def test_outside_the_mask_the_image_is_the_image():
    """To the bit, under every condition; with one condition for both the mask is empty and nothing changes."""
    image = Rng(0, [0], purpose="simulate").uniform(SHAPE, torch.zeros(1, dtype=DOUBLE))
    found = DiffEdit(steps=3, draws=2).solve(problem(1, 0, image), TWO, generator=0).x
    same = found == image
    assert (~same).flatten().nonzero()[:, 0].tolist() == [4, 6]
    assert torch.equal(DiffEdit(steps=3, draws=2).solve(problem(1, 1, image), TWO, generator=0).x, image)


def expected(image, target, source, sigmas, mask):
    """Up under the source's Gaussian and down under the target's, pixel by pixel: D = m + a (x - m), a = std^2 / (std^2 + s^2)."""

    def denoised(x, mean, level):
        return mean + STD**2 / (STD**2 + level**2) * (x - mean)

    levels, z = sigmas[::-1], image
    states = [z]
    for low, high in pairwise(levels):
        at = low if low > 0 else high
        z = z + (high - low) * (z - denoised(z, source, at)) / at
        states.append(z)
    x = z
    for index in range(len(sigmas) - 1, 0, -1):
        high, low = levels[index], levels[index - 1]
        x0 = denoised(x, target, high)
        x = x0 + low / high * (x - x0) if low > 0 else x0
        x = torch.where(mask, x, states[index - 1])
    return x


def test_the_recursion_by_hand():
    """One Gaussian for the source and one for the target, five levels, a mask of two pixels."""
    solver, image = DiffEdit(steps=5, sigma=0.6, draws=2), Rng(1, [0], purpose="simulate").uniform(SHAPE, torch.zeros(1, dtype=DOUBLE))
    first, second = means(FIRST), means(SECOND)
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[4, 6]] = True
    wanted = expected(image, second, first, solver.sigmas(TWO), mask.reshape(1, *SHAPE))
    found = solver.solve(problem(1, 0, image), TWO, generator=0)
    assert torch.allclose(found.x, wanted, rtol=0, atol=1e-12)
    assert found.nfe == 2 * 2 + 2 * 5


def test_without_a_source_the_image_goes_up_under_none():
    """The source is the whole mixture, which `unconditional()` gives: the same bits as the label for none."""
    image = Rng(2, [0], purpose="simulate").uniform(SHAPE, torch.zeros(1, dtype=DOUBLE))
    plain, none = (DiffEdit(steps=4, draws=2).solve(problem(1, source, image), TWO, generator=0).x for source in (None, 2))
    assert torch.allclose(plain, none, rtol=0, atol=1e-12)


def test_guidance_leads_away_from_the_source():
    """At scale s the estimate is D_0 + s (D_1 - D_0), that of a class whose mean is m_0 + s (m_1 - m_0)."""
    image, scale = Rng(3, [0], purpose="simulate").uniform(SHAPE, torch.zeros(1, dtype=DOUBLE)), 2.5
    solver = DiffEdit(steps=4, draws=1)
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[4, 6]] = True  # the map is s times as large, and so is its mean
    led = means(FIRST) + scale * (means(SECOND) - means(FIRST))
    wanted = expected(image, led, means(FIRST), solver.sigmas(TWO), mask.reshape(1, *SHAPE))
    found = solver.solve(problem(1, 0, image), Guided(TWO, scale), generator=0).x
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


def test_up_and_down_under_one_condition_returns_the_image_to_the_order_of_the_grid():
    """A Gaussian's factor is prod (1 + h g(s_i)) (1 - h g(s_{i+1})), g(s) = s / (std^2 + s^2), h a step: its logarithm is at most

        h_max (sum |g(s_{i+1}) - g(s_i)| + 2 integral g^2) <= h_max (1 / std + pi / (2 std)),

    g having one maximum, 1 / (2 std). Twice the steps halve it: between 1.7 and 2.3 times, as the next order is a tenth of the first here.
    """
    prior, image = GaussianPrior(0.5, STD), torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    gaps = []
    for steps in (40, 80, 160):
        sigmas = [0.4 * (1 - index / steps) for index in range(steps + 1)]
        x = inverted(image, prior, sigmas)[:, 0]
        for high, low in pairwise(sigmas):
            x = generic_step(x, estimate(prior, x, high), high, low, 0, Rng(0, [0]))
        gap = abs(math.log(float((x - 0.5)[0, 0, 0, 0]) / 0.4))
        assert gap <= 0.4 / steps * (1 / STD + math.pi / (2 * STD))
        gaps.append(gap)
    assert all(1.7 < before / after < 2.3 for before, after in pairwise(gaps))


def test_a_mask_does_not_depend_on_the_batch():
    """Two items whose maps differ by a factor of 6: a mean over both would leave the second one's mask empty."""
    small = [0.3 + (value - 0.3) / 6 for value in SECOND]
    prior = LabelledMixturePrior(means(FIRST, SECOND, small), [0, 1, 2], std=STD)
    y = torch.full((2, *SHAPE), 0.5, dtype=DOUBLE)
    both = Problem(ONE, y, NoNoise(), context={"label": torch.tensor([1, 2]), "source": torch.tensor([0, 0])})
    mask = DiffEdit(steps=2, draws=1).solve(both, prior, generator=0, keep=1).trace[0].state["mask"]
    assert mask.flatten(1).sum(1).tolist() == [2, 2]


def test_what_it_refuses():
    masked = Problem(Kept(SHAPE), torch.zeros(1, *SHAPE, dtype=DOUBLE), NoNoise(), context={"label": torch.tensor([1])})
    with pytest.raises(CompatibilityError, match="not a multiple of the identity"):
        DiffEdit().solve(masked, TWO)
    with pytest.raises(CompatibilityError, match="unconditional"):
        DiffEdit().solve(Problem(ONE, torch.zeros(1, *SHAPE, dtype=DOUBLE), GaussianNoise(0.1)), GaussianPrior(0.5, 0.2))
    with pytest.raises(CompatibilityError, match=r'context=\{"source": .*given 7'):
        DiffEdit().solve(problem(1, 7), TWO)
    with pytest.raises(CompatibilityError, match="mask_sigma must lie in the prior's range"):
        DiffEdit(mask_sigma=1e3).solve(problem(1, 0), TWO)
    with pytest.raises(InputError, match=r'context=\{"label"'):
        TWO.given(Problem(ONE, torch.zeros(1, *SHAPE, dtype=DOUBLE), NoNoise()))


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("sigma", (0, -1.0, math.inf, math.nan)),
        ("mask_sigma", (0, -1.0, math.inf)),
        ("clip", (0, math.inf)),
        ("threshold", (0, 1, math.nan)),
        ("draws", (0, 1.5)),
    ],
)
def test_the_ends_of_every_range(name, outside):
    for value in outside:
        with pytest.raises(InputError, match=name):
            DiffEdit(**{name: value})
