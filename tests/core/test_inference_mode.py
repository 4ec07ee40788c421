"""Inside torch.inference_mode() no gradient can be taken; a solve leaves it for its own duration."""

import pytest
import torch
from invsolve_operators import Mask

from invsolve import GaussianNoise, PoissonNoise, Problem, load_prior
from invsolve.errors import CompatibilityError
from invsolve.priors import as_denoiser
from invsolve.solvers import DPS, AdamTV, DiffPIR
from invsolve.testing.settings import Kept, truth

SHAPE = (3, 8, 9)
NOISE = GaussianNoise(0.1)


@pytest.mark.parametrize("noise", [NOISE, PoissonNoise(0.05)], ids=["gaussian", "poisson"])
@pytest.mark.parametrize(("solver", "prior"), [(AdamTV(steps=3), "tv"), (DPS(steps=3), "gaussian")], ids=["adam-tv", "dps"])
def test_the_result_is_the_same(solver, prior, noise):
    def made():
        return Problem.simulate(Mask(SHAPE, keep=0.5), truth(SHAPE, 2, torch.float32), noise, generator=0)

    wanted, modes = solver.solve(made(), load_prior(prior), generator=0).x, []
    with torch.inference_mode():
        problem = made()
        inside = solver.solve(problem, load_prior(prior), generator=0, callback=lambda _: modes.append(torch.is_grad_enabled())).x
        assert torch.is_inference_mode_enabled()
    assert torch.equal(inside, wanted)
    assert set(modes) == {False}
    assert torch.equal(solver.solve(problem, load_prior(prior), generator=0).x, wanted)


def test_weights_made_in_it_are_refused_where_a_gradient_is_needed():
    """A module of one's own keeps what it was made in; what load_prior reads is made outside."""
    with torch.inference_mode():
        layer, shipped = torch.nn.Conv2d(3, 3, 1), load_prior("natural")
        prior = as_denoiser(lambda x, sigma: layer(x), channels=3)
        prior.layer = layer
    problem = Problem(Kept(SHAPE), truth(SHAPE, 2, torch.float32), NOISE)
    with pytest.raises(CompatibilityError, match=r"made under torch\.inference_mode\(\)"):
        DPS(steps=2).solve(problem, prior)
    assert DiffPIR(steps=2).solve(problem, prior, generator=0).steps == 2
    assert DPS(steps=2).solve(problem, shipped, generator=0).steps == 2
