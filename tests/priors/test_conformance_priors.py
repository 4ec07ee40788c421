"""Every registered prior against the public checks; a new entry is tested unasked. And the checks against planted faults."""

import pytest
import torch
from solver_turns import TURNS, Turn, in_turn
from turns import one_in

from invsolve.plugins import registry
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.priors.convert import rescale
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.tv import TotalVariation
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import NETWORK, noisy, prior_cases, prior_checks

PRIORS = [prior for entry in registry().of("prior") for prior in getattr(entry.load(), "examples", list)()]


# Half a minute with a network of 2 M weights: what runs do with codes is asked of LatentPrior's own example, and by
# `invsolve check prior faces64-latent` of this one.
LONG = {("Faces64Latent", "check_in_solvers")}
CASES = [case for case in prior_cases(*PRIORS) if (type(case.values[0]).__name__, case.values[1].__name__) not in LONG]


def large(prior):
    """A network that takes most of the time here; six of them are one architecture."""
    return sum(parameter.numel() for parameter in prior.parameters()) > 10**6


LARGE = [case for case in CASES if large(case.values[0])]
SMALL = [case for case in CASES if not large(case.values[0])]


@pytest.mark.parametrize(("prior", "check"), [*SMALL, *one_in(8, LARGE, lambda prior, check: (PRIORS.index(prior), check.__name__))])
def test_conformance(prior, check, pytestconfig):
    in_turn(check, prior, PRIORS.index(prior), pytestconfig)


def test_every_solver_has_its_turn():
    solvers = list(registry().of("solver"))
    assert sorted(entry.name for place in range(TURNS) for entry in Turn(place).of("solver")) == sorted(entry.name for entry in solvers)


def test_every_prior_class_brings_examples():
    """A factory (a function) has none: its module tests it."""
    classes = [entry.load() for entry in registry().of("prior") if isinstance(entry.load(), type)]
    assert classes
    assert all(isinstance(example, Prior) for cls in classes for example in cls.examples())


@pytest.mark.parametrize("name", ["natural", "dncnn"])
def test_batch_figures_of_the_shipped_networks(name, record_property):
    """Measured: what another batch size changes in float32; NETWORK is the derived limit."""
    prior = registry().build("prior", name)
    x = noisy(prior, 0.05, torch.float32, batch=4)[1]
    with torch.no_grad():
        whole = prior(x, 0.05)
        worst = max(float((prior(x[item : item + 1], 0.05)[0] - whole[item]).abs().max()) for item in range(4))
    record_property("largest_difference", worst)
    assert worst <= NETWORK


class Sound(Denoiser):
    """The closed form for N(1/2, 1/16), to be spoilt."""

    def forward(self, x, sigma):
        return GaussianPrior(0.5, 0.25)(x, sigma)


class MixesItems(Sound):
    def forward(self, x, sigma):
        return super().forward(x, sigma) - 1e-7 * (x - x.mean(0))


class FirstSigmaOnly(Sound):
    def forward(self, x, sigma):
        return super().forward(x, float(torch.as_tensor(sigma).reshape(-1)[0]))


class TooStrong(Sound):
    """A factor forgotten in sigma; one that leaves too much noise in no single run can tell from a weak prior."""

    def forward(self, x, sigma):
        return super().forward(x, 5 * torch.as_tensor(sigma))


class InPlace(Sound):
    def forward(self, x, sigma):
        return super().forward(x.detach().sub_(1e-3), sigma)


class NotDetermined(Sound):
    def forward(self, x, sigma):
        return super().forward(x, sigma) + 1e-9 * torch.randn_like(x)


class Detached(Sound):
    def forward(self, x, sigma):
        return super().forward(x, sigma).detach()


class WrongGradient(Sound):
    def forward(self, x, sigma):
        out = super().forward(x, sigma)
        return out.detach() + 0.5 * (out - out.detach())


class Shrinks(Sound):
    """Mean 0 where the data have 1/2: what a denoiser in [-1, 1] does when its range is forgotten."""

    def forward(self, x, sigma):
        return 0.97 * super().forward(x, sigma)


class Double(Sound):
    def forward(self, x, sigma):
        return super().forward(x.double(), sigma)


class RisingGrid(Sound):
    def sigmas(self, steps, grid="karras", sigma_max=None):
        return [*super().sigmas(steps, grid, sigma_max)[:-1][::-1], 0.0]


class NoZero(Sound):
    def sigmas(self, steps, grid="karras", sigma_max=None):
        return super().sigmas(steps, grid, sigma_max)[:-1]


class BlindUnsaid(Sound):
    def forward(self, x, sigma):
        return super().forward(x, 0.1)


class NaNAtTheTop(Sound):
    def forward(self, x, sigma):
        return super().forward(x, sigma) * torch.where(torch.as_tensor(sigma).max() > 50, torch.nan, 1.0)


FAULTS = {
    MixesItems: "check_batch_independence",
    FirstSigmaOnly: "check_sigma_forms",
    TooStrong: "check_denoises",
    InPlace: "check_untouched",
    NotDetermined: "check_untouched",
    Detached: "check_gradient",
    WrongGradient: "check_gradient",
    Shrinks: "check_near_identity",
    Double: "check_shape_dtype",
    RisingGrid: "check_grid",
    NoZero: "check_grid",
    BlindUnsaid: "check_sigma_matters",
    NaNAtTheTop: "check_finite",
}


@pytest.mark.parametrize("prior", [Sound(), rescale(GaussianPrior(0.0, 0.5), (-1.0, 1.0))], ids=["sound", "rescaled"])
def test_a_sound_denoiser_passes(prior):
    assert failures(prior, prior_checks(prior)) == {}


def found_by(prior, name):
    """What a check finds."""
    return failures(prior, [one for one in prior_checks(prior) if one[0] == name])


@pytest.mark.parametrize("faulty", FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found(faulty):
    assert found_by(faulty(), FAULTS[faulty])


class Ridge(Regulariser):
    """R(x) = |x|^2 / 2, prox x / (1 + tau), to be spoilt."""

    def value(self, x):
        return x.flatten(1).square().sum(1) / 2

    def prox(self, x, tau):
        return x / (1 + torch.as_tensor(tau, dtype=x.dtype).reshape(-1, 1, 1, 1))


class WrongTau(Ridge):
    def prox(self, x, tau):
        return super().prox(x, 1.01 * torch.as_tensor(tau))


class SumOverBatch(Ridge):
    def value(self, x):
        return super().value(x) + 0 * x[0].sum() + 1e-6 * x.mean()


class MixedProx(Ridge):
    def prox(self, x, tau):
        return super().prox(x, tau) - 1e-8 * x.mean(0)


class Expanding(Ridge):
    def prox(self, x, tau):
        return 1.2 * x


class NegativeValue(Ridge):
    def value(self, x):
        return super().value(x) - 1e3


REGULARISER_FAULTS = {
    WrongTau: "check_prox",
    SumOverBatch: "check_value",
    MixedProx: "check_prox_forms",
    Expanding: "check_prox_contracts",
    NegativeValue: "check_value",
}


@pytest.mark.parametrize("prior", [Ridge(), TotalVariation(tol=1e-7, max_iter=4000)], ids=["ridge", "tv-tight"])
def test_a_sound_regulariser_passes(prior):
    assert failures(prior, prior_checks(prior)) == {}


@pytest.mark.parametrize("faulty", REGULARISER_FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_in_a_regulariser_is_found(faulty):
    assert found_by(faulty(), REGULARISER_FAULTS[faulty])


class ByLabel(Sound):
    """Pixels about a grey of each item's label, to be spoilt."""

    def gaps(self, problem):
        return [] if "label" in problem.context else ["context={'label': labels} is missing"]

    def given(self, problem):
        return GaussianPrior(0.3 + 0.2 * problem.context["label"].double().reshape(-1, 1, 1, 1), 0.25)

    def example_context(self, batch):
        return {"label": torch.arange(batch) % 3}


class IgnoresLabel(ByLabel):
    def given(self, problem):
        return GaussianPrior(0.5 + 0 * problem.context["label"].double().reshape(-1, 1, 1, 1), 0.25)


class FirstLabel(ByLabel):
    def given(self, problem):
        greys = 0.3 + 0.2 * problem.context["label"].double().reshape(-1, 1, 1, 1)
        return GaussianPrior(greys + 0.01 * greys[:1], 0.25)


class NeedsUnsaid(ByLabel):
    def gaps(self, problem):
        return []


class Remembers(ByLabel):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def given(self, problem):
        self.seen += 1
        return super().given(problem)


def test_a_sound_conditional_prior_passes(pytestconfig):
    wide = GaussianPrior(torch.rand(3, 1, 6, 7, dtype=torch.float64))
    (codes,) = LatentPrior.examples()
    for place, prior in enumerate((ByLabel(), wide, codes)):
        for _, check in prior_checks(prior):
            in_turn(check, prior, place, pytestconfig)


@pytest.mark.parametrize("faulty", [IgnoresLabel, FirstLabel, NeedsUnsaid, Remembers], ids=lambda cls: cls.__name__)
def test_a_planted_fault_in_a_conditional_prior_is_found(faulty):
    assert found_by(faulty(), "check_given")


def test_a_coupling_between_the_conditions_of_items_is_seen_in_solvers_too():
    assert "alone and in a batch" in found_by(FirstLabel(), "check_in_solvers")["check_in_solvers"]
