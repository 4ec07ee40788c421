"""The shipped weights of digits by class: cards, names and paths, what is refused, and that the two networks agree on what a digit is."""

import hashlib
from pathlib import Path

import invsolve_classes
import pytest
import torch
from click.testing import CliRunner
from invsolve_classes import digit_classifier, mnist_by_classifier, mnist_classes
from invsolve_weights.cards import load_network, read_card
from invsolve_weights.classes import CardedClasses, load_classifier, tried_labels

from invsolve import CompatibilityError, InputError, Problem, load_prior, registry
from invsolve.cli import main
from invsolve.solvers import DDIM
from invsolve.testing.oracle import normal

FOLDER = Path(invsolve_classes.__file__).parent / "weights"
NAMES = ("mnist-classes", "mnist-noised-classifier")


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_they_must(name):
    card, file = read_card(FOLDER / f"{name}.json"), FOLDER / f"{name}.safetensors"
    assert card.size == file.stat().st_size < 1_500_000
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card.parameters == sum(value.numel() for value in load_network(name)[0].parameters())
    assert {"steps", "images", "hours", "condition", "kind"} <= card.training.keys()
    assert all((card.data, card.licence, card.reproduce, card.weaknesses))


def test_they_are_found_by_name_and_by_path():
    assert {"mnist-classes", "mnist-by-classifier"} <= set(registry().names("prior"))
    assert {"fid-mnist-classifier", "kid-mnist-classifier", "recognised-digit"} <= set(registry().names("metric"))
    by_path = load_prior(str(FOLDER / "mnist-classes.safetensors"), label=4)
    assert isinstance(by_path, CardedClasses)
    x = normal(2, 1, 32, 32, seed=0).float()
    problem = Problem.unconditional((1, 32, 32), 2, context={"label": torch.tensor([4, 4])})
    with torch.no_grad():
        assert torch.equal(by_path.given(problem)(x, 0.5), load_prior("mnist-classes").given(problem)(x, 0.5))


def test_they_are_listed_and_verified():
    run = CliRunner().invoke
    assert set(NAMES) <= {line.split()[0] for line in run(main, ["weights", "list"]).output.splitlines() if line.strip()}
    done = run(main, ["weights", "verify", *NAMES])
    assert done.exit_code == 0, done.output
    assert "on a black picture at most this part of the noise is left" in done.output
    assert "surest class of noise alone" in done.output


def test_a_network_that_leaves_the_noise_is_found():
    network, card = load_network("mnist-classes")
    with pytest.raises(InputError, match="do not denoise a black picture"):
        tried_labels(Leaves(), card)
    assert "is left" in tried_labels(network, card)


class Leaves(torch.nn.Module):
    def forward(self, x, sigma, labels):
        return 1.1 * x


def test_weights_of_another_kind_are_refused():
    with pytest.raises(InputError, match="weights 'mnist' are of a network without labels"):
        mnist_classes(weights="mnist")
    with pytest.raises(InputError, match="weights 'mnist' are of the network 'edm-drunet', which tells no classes"):
        load_classifier("mnist")


@pytest.mark.parametrize(
    ("prior", "words"), [(mnist_classes, "0 to 9, or 10 for none; given 11"), (mnist_by_classifier, "0 to 9; given 11")]
)
def test_a_digit_that_is_none_is_refused(prior, words):
    problem = Problem.unconditional((1, 32, 32), 2, context={"label": torch.tensor([3, 11])})
    with pytest.raises(CompatibilityError, match=f"whole numbers from {words}"):
        DDIM(steps=2).solve(problem, prior(), generator=0)
    with pytest.raises(InputError, match=r"label must be a whole number from 0 to 9.*given 11"):
        prior(label=11)


def test_digits_led_to_their_class_are_read_as_that():
    """One of each digit, drawn without a classifier and read by it; by chance one in ten would be right."""
    labels = torch.arange(10)
    problem = Problem.unconditional((1, 32, 32), 10, context={"label": labels})
    solution = DDIM(steps=20).solve(problem, load_prior("mnist-classes", scale=2.0), generator=0)
    assert solution.nfe == 40
    with torch.no_grad():
        read = digit_classifier()(solution.x.clamp(0, 1), torch.full((10,), 0.002)).argmax(1)
    assert int((read == labels).sum()) >= 8
