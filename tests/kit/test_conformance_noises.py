"""Every registered noise model against the public checks; a new entry is tested unasked. And the checks against planted faults."""

from unittest import SkipTest

import numpy as np
import pytest
import torch

from invsolve.noise import GaussianNoise, NoiseModel, PoissonNoise
from invsolve.operator.measurement import flat, mapped, minus
from invsolve.plugins import registry
from invsolve.testing import failures, noise_cases, noise_checks

NOISES = [noise for entry in registry().of("noise") for noise in entry.load().examples()]


@pytest.mark.parametrize(("noise", "check"), noise_cases(*NOISES, GaussianNoise(torch.tensor([0.05, 0.1, 0.2]))))
def test_conformance(noise, check):
    check(noise)


class Laplace(NoiseModel):
    """y = clean + Laplace noise, to be spoilt."""

    def __init__(self, width=0.05):
        super().__init__()
        self.width = width

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.width * self.unit(part, rng), clean)

    def unit(self, part, rng):
        u = rng.uniform(part.shape[1:], part) - 0.5
        return -u.sign() * (1 - 2 * u.abs()).clamp_min(1e-12).log()

    def nll(self, y, clean):
        return flat(minus(y, clean)).abs().sum(1) / self.width

    def variance(self, clean):
        return mapped(lambda part: torch.full_like(part, 2 * self.width**2), clean)

    def scaled(self, factor):
        return type(self)(factor * self.width)


class ForgetsTwo(Laplace):
    """The variance of a Laplace law is twice its width squared."""

    def variance(self, clean):
        return mapped(lambda part: torch.full_like(part, self.width**2), clean)


class NarrowDensity(Laplace):
    def nll(self, y, clean):
        return 1.2 * super().nll(y, clean)


class ShiftedDensity(Laplace):
    def nll(self, y, clean):
        return super().nll(y, mapped(lambda part: part + 0.1 * self.width, clean))


class SumOverBatch(Laplace):
    def nll(self, y, clean):
        return super().nll(y, clean) + 1e-6 * flat(clean).mean()


class Detached(Laplace):
    def nll(self, y, clean):
        return super().nll(y, clean.detach()) + 0.9 * (super().nll(y, clean) - super().nll(y, clean.detach()))


class OwnUnit(Laplace):
    def scaled(self, factor):
        return type(self)(self.width)


class ScaledOtherWay(Laplace):
    def scaled(self, factor):
        return type(self)(self.width / factor)


class GlobalNoise(Laplace):
    def unit(self, part, rng):
        return torch.from_numpy(np.random.laplace(size=tuple(part.shape))).to(part)


class SetsSeed(Laplace):
    def unit(self, part, rng):
        torch.manual_seed(0)
        return super().unit(part, rng)


class OneStream(Laplace):
    def unit(self, part, rng):
        return super().unit(part, rng)[:1].expand_as(part)


class Frozen(Laplace):
    def unit(self, part, rng):
        return torch.ones_like(part)


class Doubles(Laplace):
    def sample(self, clean, rng):
        return mapped(torch.Tensor.double, super().sample(clean, rng))


class WritesClean(Laplace):
    def sample(self, clean, rng):
        return mapped(lambda part: part.add_(self.width * self.unit(part, rng)).clone(), clean)


class Held(Laplace):
    """A tensor that .to() would not move."""

    def __init__(self, width=0.05):
        super().__init__(width)
        self.table = torch.ones(3)


class WrongSigma(GaussianNoise):
    def sample(self, clean, rng):
        return mapped(lambda part: part + 1.1 * self.sigma * rng.normal_like(part), clean)


class Fixed(Laplace):
    scaled = NoiseModel.scaled


class NoPickle(Laplace):
    def __init__(self, width=0.05):
        super().__init__(width)
        self.hook = lambda x: x


class NoLevel(Laplace):
    """A spread that is 0, and nothing else that says how strong it is."""

    variance = NoiseModel.variance

    def spread(self):
        return 0.0


class WordSigma(GaussianNoise):
    """A sigma that no solver can compute with."""

    def __init__(self, sigma):
        super().__init__(sigma)
        del self.sigma
        self.sigma = Word()

    def sample(self, clean, rng):
        return mapped(lambda part: part + 0.1 * rng.normal_like(part), clean)


class Word:
    def __float__(self):
        return 0.1


FAULTS = {
    NoLevel: "check_level",
    WordSigma: "check_solved",
    ForgetsTwo: "check_variance",
    NarrowDensity: "check_likelihood",
    ShiftedDensity: "check_likelihood",
    SumOverBatch: "check_nll",
    Detached: "check_nll",
    OwnUnit: "check_scaled",
    ScaledOtherWay: "check_scaled",
    GlobalNoise: "check_streams",
    SetsSeed: "check_unmoved",
    OneStream: "check_streams",
    Frozen: "check_streams",
    Doubles: "check_sample",
    WritesClean: "check_streams",
    Held: "check_buffers",
    WrongSigma: "check_sigma",
    NoPickle: "check_copies",
}


def test_a_sound_model_passes():
    assert failures(Laplace(), noise_checks(Laplace())) == {}


@pytest.mark.parametrize("faulty", FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found(faulty):
    noise = faulty(0.1) if issubclass(faulty, GaussianNoise) else faulty()
    assert FAULTS[faulty] in failures(noise, [one for one in noise_checks(noise) if one[0] == FAULTS[faulty]])


def test_every_check_catches_something():
    assert {name for noise in (Laplace(), GaussianNoise(0.1)) for name, _ in noise_checks(noise)} == set(FAULTS.values())


def test_a_model_that_does_not_say_how_it_scales_is_skipped_with_the_reason():
    check = dict(noise_checks(Fixed()))["check_scaled"]
    with pytest.raises(SkipTest, match="Fixed does not say what it is in another unit"):
        check(Fixed())
    assert failures(Fixed(), noise_checks(Fixed())) == {}


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), GaussianNoise(torch.tensor([0.1, 0.2])), PoissonNoise(0.01)], ids=repr)
def test_a_model_in_another_unit_has_the_numbers_of_that_unit(noise):
    other = noise.scaled(4.0)
    if isinstance(noise, PoissonNoise):
        assert other.gain == 0.04
    else:
        assert torch.equal(other.sigma, 4 * noise.sigma)
