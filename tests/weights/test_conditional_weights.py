"""Weight files of networks with a condition: what is said of them, and what verify does with them."""

import json

import pytest
import torch
from click.testing import CliRunner
from invsolve_priors.export import export_run
from invsolve_weights.conditional import CardedConditional
from invsolve_weights.places import file_of
from train_cases import TOY

from invsolve import InputError, load_prior
from invsolve.cli import main
from invsolve.training.config import TrainConfig

CONFIG = TOY.replace("EDMDRUNet", "ConditionalDRUNet").replace("channels = 3, nc", "channels = 3, condition = 3, nc")
CONDITION = '[condition]\noperator = { name = "block-mean", factor = 4 }\n[run]'


def files(folder, kind, sigmas='{ kind = "uniform", low = 0.002, high = 80.0 }'):
    """A weight file of a network that was not trained, as `invsolve train` would write it."""
    from invsolve_priors.train import network_of

    text = CONFIG.replace("[objective]", f'[objective]\nkind = "{kind}"').replace("[run]", CONDITION)
    text = text.replace('{ kind = "uniform", low = 0.05, high = 0.3 }', sigmas)
    (folder / "config.toml").write_text(text)
    config = TrainConfig.load(folder / "config.toml")
    kept = {"ema": network_of(config).state_dict(), "step": 1, "seconds": 1.0, "loss": 1.0, "streams": [0], "bf16": False}
    torch.save(kept, folder / "checkpoint.pt")
    return export_run(folder, config)[0]


@pytest.mark.parametrize("kind", ["conditional", "partial", "regression"])
def test_a_file_comes_back_as_the_prior_it_is(tmp_path, kind):
    sigmas = '{ kind = "uniform", low = 0.002, high = 0.46 }' if kind == "partial" else '{ kind = "uniform", low = 0.002, high = 80.0 }'
    prior = load_prior(str(files(tmp_path, kind, sigmas)))
    assert isinstance(prior, CardedConditional)
    assert "block-mean(factor=4), no noise, images of shape (3, 16, 16)" in prior.made_for.words
    assert (prior.moving is not None) == (kind == "partial")
    assert prior.blind == (kind == "regression")
    wide = {"conditional": 80.0, "partial": 10.919136, "regression": 80.0}[kind]  # sigma_24 / w_24 of 25 of 100 steps
    assert prior.sigma_range == pytest.approx((0.002, wide), rel=1e-5)


def test_verify_shows_them_a_picture_with_its_measurement(tmp_path):
    """A network that was not trained knows nothing where x_t is noise; the shipped one is told what the picture is."""
    found = CliRunner().invoke(main, ["weights", "verify", str(files(tmp_path, "conditional"))])
    assert found.exit_code == 1
    assert "a grey image has" in found.output
    if not file_of("sr3-faces").is_file():
        pytest.skip("the weights lie outside the package")
    found = CliRunner().invoke(main, ["weights", "verify", "sr3-faces"])
    assert found.exit_code == 0, found.output
    assert "whose measurement it sees" in found.output


def test_a_card_that_does_not_say_what_for_is_named(tmp_path):
    file = files(tmp_path, "conditional")
    card = json.loads(file.with_suffix(".json").read_text())
    del card["training"]["condition"]["noise"]
    file.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"training\.condition cannot be read"):
        load_prior(str(file))
    with pytest.raises(InputError, match="without a condition"):
        CardedConditional("natural")
