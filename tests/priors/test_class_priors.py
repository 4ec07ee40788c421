"""Networks that are told a class, as priors: labels of the context or of an argument, none, guidance, weight files."""

import pytest
import torch
from invsolve_weights.networks import ClassDRUNet, NoisedClassifier
from torch import nn

from invsolve import CompatibilityError, InputError, Problem
from invsolve.priors import ClassifierGuided, DiffusionPrior, GaussianPrior, Guided
from invsolve.priors.class_network import ClassPrior
from invsolve.schedule import DiscreteVP
from invsolve.solvers import DDIM
from invsolve.testing.conditions import check_given
from invsolve.testing.oracle import normal

SHAPE, STD = (1, 4, 4), 0.2


class Greys(nn.Module):
    """The closed form of pixels N(.2 + .2 c, STD^2), c = 0, 1, 2, and about .9 without a label, in float64."""

    def __init__(self):
        super().__init__()
        self.register_buffer("greys", torch.tensor([0.2, 0.4, 0.6, 0.9], dtype=torch.float64))

    def forward(self, x, sigma, labels):
        grey = self.greys[labels].reshape(-1, 1, 1, 1)
        return grey + (x - grey) * (STD**2 / (STD**2 + sigma.reshape(-1, 1, 1, 1) ** 2))


def prior(**options):
    return ClassPrior(Greys(), 3, s0=STD, **options)


def asked(labels, shape=SHAPE):
    return Problem.unconditional(shape, len(labels), dtype=torch.float64, context={"label": torch.as_tensor(labels)})


def estimate(grey, x, sigma):
    return GaussianPrior(grey, STD)(x, sigma)


def test_every_item_has_its_own_class():
    x, sigma = normal(4, *SHAPE, seed=0), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = prior().given(asked([2, 0, 3, 1]))(x, sigma)
    for item, grey in enumerate((0.6, 0.2, 0.9, 0.4)):
        assert torch.allclose(found[item], estimate(grey, x[item : item + 1], sigma[item])[0], rtol=0, atol=1e-14)


def test_one_label_for_all_needs_no_context_and_rules_it():
    x = normal(2, *SHAPE, seed=0)
    for problem in (Problem.unconditional(SHAPE, 2, dtype=torch.float64), asked([0, 0])):
        assert torch.allclose(prior(label=1).given(problem)(x, 0.3), estimate(0.4, x, 0.3), rtol=0, atol=1e-14)
    assert prior(label=1).gaps(Problem.unconditional(SHAPE, 2)) == []


def test_without_a_label_it_is_the_network_without():
    x = normal(2, *SHAPE, seed=0)
    wanted = estimate(0.9, x, 0.3)
    for without in (prior(), prior().unconditional(), prior().given(asked([0, 1])).unconditional(), prior(label=3).given(asked([0, 0]))):
        assert torch.allclose(without(x, 0.3), wanted, rtol=0, atol=1e-14)


def test_led_it_counts_what_it_calls():
    x, problem = normal(2, *SHAPE, seed=0), asked([0, 2])
    found = Guided(prior(), 3.0).given(problem)(x, 0.3)
    wanted = 3 * prior().given(problem)(x, 0.3) - 2 * estimate(0.9, x, 0.3)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-13)
    counts = [DDIM(steps=4).solve(problem, Guided(prior(), scale), generator=0).nfe for scale in (0.0, 1.0, 3.0)]
    assert counts == [4, 4, 8]


def test_a_schedule_around_it_passes_the_labels_on():
    x = normal(2, *SHAPE, seed=0)
    found = DiffusionPrior(prior(), DiscreteVP()).given(asked([0, 2]))(x, 0.3)
    assert torch.allclose(found, prior().given(asked([0, 2]))(x, 0.3), rtol=0, atol=1e-14)


def test_items_in_any_order_and_number():
    held = prior().given(asked([2, 0, 1]))
    x = normal(2, *SHAPE, seed=0)
    assert torch.equal(held.select([2, 0])(x, 0.3), prior().given(asked([1, 2]))(x, 0.3))


def test_it_is_conditional_as_the_kit_asks():
    check_given(ClassPrior(Greys(), 3, s0=STD, channels=1))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0, 4]), "whole numbers from 0 to 2, or 3 for none; given 4"),
        (torch.tensor([-1, 4]), "given -1, 4"),
        (torch.tensor([0.0, 1.0]), r"given torch.float32 of shape \(2,\)"),
        (torch.tensor([[0], [1]]), r"given torch.int64 of shape \(2, 1\)"),
        (torch.tensor([True, False]), "given torch.bool"),
    ],
)
def test_labels_that_are_none_are_refused(labels, words):
    problem = Problem.unconditional(SHAPE, 2, dtype=torch.float64, context={"label": labels})
    with pytest.raises(CompatibilityError, match=words):
        DDIM(steps=2).solve(problem, prior(), generator=0)


def test_no_labels_and_wrong_arguments_are_refused():
    with pytest.raises(CompatibilityError, match=r'prior ClassPrior needs context=\{"label": tensor.*given none'):
        DDIM(steps=2).solve(Problem.unconditional(SHAPE, 2, dtype=torch.float64), prior(), generator=0)
    for label in (4, -1, 1.5, True):
        with pytest.raises(InputError, match="label must be a whole number from 0 to 2, or 3 for none; given"):
            prior(label=label)
    with pytest.raises(InputError, match="classes must be a whole number"):
        ClassPrior(Greys(), 0)


def test_the_networks_of_the_weight_files():
    """One call of each, led: a class changes the answer, and the classifier's number of classes is the guidance's."""
    torch.manual_seed(0)
    small = ClassPrior(ClassDRUNet(1, 3, (4, 4, 4, 4), 1), 3, channels=1)
    x = normal(2, 1, 8, 8, seed=0)
    problem = asked([0, 2], (1, 8, 8))
    assert not torch.allclose(small.given(problem)(x, 0.3), small(x, 0.3), atol=1e-4)
    led = ClassifierGuided(small.unconditional(), NoisedClassifier(1, 3, (4, 8), 6), 2.0)
    assert led.classes == 3
    shift = led.given(problem)(x, 0.3) - small(x, 0.3)
    assert bool((shift.flatten(1).norm(dim=1) > 0).all())
    with pytest.raises(CompatibilityError, match="whole numbers from 0 to 2; given 3"):
        DDIM(steps=2).solve(asked([0, 3], (1, 8, 8)), led, generator=0)
