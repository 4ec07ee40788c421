"""A guidance that a plug-in brings: registered, found by name, checked by the kit; and what the kit finds in faulty ones."""

import math
from types import SimpleNamespace

import pytest
import torch

from invsolve import InputError, Problem, hookimpl, load_prior, registry
from invsolve.cli.check import results
from invsolve.plugins import Entry
from invsolve.priors import ByClass, Denoiser, GaussianPrior, Guided
from invsolve.solvers import DDIM
from invsolve.testing import conditions
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import prior_checks

STD, SHAPE = 0.5, (1, 6, 7)


class Greys(ByClass):
    """Pixels N(.3 + .2 c, STD^2) for the classes 0, 1, 2; N(.5, STD^2) without."""

    classes, s0 = 3, STD

    def forward(self, x, sigma):
        return GaussianPrior(0.5, STD)(x, sigma)

    def of(self, labels):
        return GaussianPrior(0.3 + 0.2 * labels.double().reshape(-1, 1, 1, 1), STD)

    def unconditional(self):
        return GaussianPrior(0.5, STD)


class FadingGuided(Guided):
    """A guidance of one's own: the scale is that of `Guided` at high levels and falls to 1 with sigma.

    scale(sigma) = 1 + (scale - 1) sigma / (sigma + width)
    """

    def __init__(self, prior: Denoiser, scale: float = 2.0, width: float = 0.5) -> None:
        super().__init__(prior, scale)
        if not (math.isfinite(width) and width > 0):
            raise InputError(f"width must be positive; given {width}")
        self.width = width

    def given(self, problem):
        return Faded(self.conditional(problem), self.unconditional(), self.scale, self.width)

    @classmethod
    def examples(cls):
        return [cls(Greys(), 3.0)]


class Faded(Denoiser):
    s0 = STD

    def __init__(self, conditional, without, scale, width):
        super().__init__()
        self.conditional, self.without, self.scale, self.width = conditional, without, scale, width

    def forward(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        scale = 1 + (self.scale - 1) * level / (level + self.width)
        away = self.without(x, sigma)
        return away + scale * (self.conditional(x, sigma) - away)


class Plugin:
    @hookimpl
    def invsolve_register(self, registry):
        registry.add("prior", "lab-fading", f"{__name__}:FadingGuided", summary="a guidance that fades with the noise")


@pytest.fixture
def registered(monkeypatch):
    """The plug-in's entry, taken out afterwards."""
    monkeypatch.setattr(registry(), "entries", dict(registry().entries))
    monkeypatch.setattr(registry(), "plugins", list(registry().plugins))
    Plugin().invsolve_register(registry())
    return registry().entry("prior", "lab-fading")


@pytest.fixture
def few(monkeypatch):
    """The kit tries its solvers: three of them, for the time."""
    chosen = [registry().entry("solver", name) for name in ("ddim", "dps", "hqs")]
    monkeypatch.setattr(conditions, "registry", lambda: SimpleNamespace(of=lambda kind: chosen))


def test_it_is_found_by_its_name_and_leads(registered):
    prior = load_prior("lab-fading", prior=Greys(), scale=3.0)
    problem = Problem.unconditional(SHAPE, 3, dtype=torch.float64, context={"label": torch.tensor([0, 1, 2])})
    solution = DDIM(steps=40).solve(problem, prior, generator=0)
    assert solution.nfe == 80
    low, middle, high = solution.x.mean((1, 2, 3)).tolist()
    assert low < 0.3 < middle < 0.7 < high  # led beyond their classes on either side


def test_it_passes_the_checks_of_the_command_line(registered, few):
    found = list(results(registered, "cpu", "", alone=True))
    assert {name for name, *_ in found} >= {"check_given", "check_in_solvers", "check_gradient"}
    assert [(name, text) for name, outcome, text in found if outcome != "PASS"] == []


class FirstLabelOnly(Guided):
    """Every item is led to the first one's class."""

    def conditional(self, problem):
        return self.denoiser.of(problem.context["label"][:1].expand(problem.batch))


class SilentlyWithout(Guided):
    """Says nothing of a problem without labels, and fails in the run."""

    def gaps(self, problem):
        return []


@pytest.mark.parametrize("kind", [FirstLabelOnly, SilentlyWithout])
def test_a_faulty_one_is_found(kind, few):
    faulty = kind(Greys(), 2.0)
    assert "check_given" in failures(faulty, [one for one in prior_checks(faulty) if one[0] == "check_given"])


def test_an_entry_that_is_not_registered_is_checked_by_its_module(few):
    entry = Entry("prior", "own", f"{__name__}:FadingGuided", "your own code")
    assert [outcome for _, outcome, _ in results(entry, "cpu", "check_given", alone=True)] == ["PASS"]
