"""`Denoiser.unconditional`: the same prior without its condition, through whatever wraps it."""

import pytest
import torch

from invsolve import CapabilityError, InputError, Operator
from invsolve.operator.measurement import column
from invsolve.priors import Denoiser, DiffusionPrior, GaussianPrior, LatentPrior
from invsolve.priors.convert import rescale
from invsolve.run.counted import Counted
from invsolve.schedule import DiscreteVP
from invsolve.testing.subjects import Watched

CODES, SHAPE = (1, 3, 7), (1, 6, 7)
PAIRS = torch.eye(21, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5


class Labelled(GaussianPrior):
    """N(label / 10, .5^2) by context["label"], N(.5, .5^2) without."""

    def given(self, problem):
        return GaussianPrior(problem.context["label"].double()[:, None, None, None] / 10, 0.5)

    def unconditional(self):
        return GaussianPrior(0.5, 0.5)


def decoder():
    return Operator.from_matrix(PAIRS, CODES, SHAPE)


# How the state and the level of the one inside follow from those of the wrapper.
WRAPPERS = {
    "schedule": (lambda prior: DiffusionPrior(prior, DiscreteVP()), 1.0),
    "latent": (lambda prior: LatentPrior(prior, decoder()), 1.0),
    "range": (rescale, 2.0),
    "range of a schedule": (lambda prior: rescale(DiffusionPrior(prior, DiscreteVP())), 2.0),
    "latent of a schedule": (lambda prior: LatentPrior(DiffusionPrior(prior, DiscreteVP()), decoder()), 1.0),
    "of a run": (Counted, 1.0),
    "watched": (Watched, 1.0),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_pass_it_on(name):
    wrap, width = WRAPPERS[name]
    whole = wrap(Labelled(0.1, 0.5))
    x = torch.linspace(-1, 2, 42, dtype=torch.float64).reshape(2, *CODES)
    found = whole.unconditional()
    assert type(found) is type(whole)
    own = (x if width == 1 else 2 * x - 1) - 0.5
    sigma = torch.tensor([0.3, 0.4], dtype=torch.float64)
    wanted = 0.5 + own * column(0.25 / (0.25 + (width * sigma) ** 2), x)
    wanted = wanted if width == 1 else (wanted + 1) / 2
    assert torch.allclose(found(x, sigma), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", WRAPPERS)
def test_one_without_says_what_it_is(name):
    with pytest.raises(CapabilityError, match=r"GaussianPrior has no unconditional\(\): the same prior without its condition"):
        WRAPPERS[name][0](GaussianPrior(0.5, 0.5)).unconditional()


def test_it_is_a_denoiser():
    class Nothing(Denoiser):
        def forward(self, x, sigma):
            return x

        def unconditional(self):
            return None

    with pytest.raises(InputError, match=r"Nothing: .*unconditional\(\) must return a Denoiser; it returned NoneType"):
        Counted(Nothing()).unconditional()
