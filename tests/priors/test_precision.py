"""precision="auto": bfloat16 where the device multiplies it natively, else float32, and results say which it was."""

import logging

import pytest
import torch

from invsolve import InputError, precision
from invsolve.bench.plan import Workshop
from invsolve.bench.suite import Suite
from invsolve.priors import GaussianPrior, NetworkDenoiser, rescale
from invsolve.priors.convert import precision_of
from invsolve.training.config import Run

NAMES = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@pytest.fixture
def processor(monkeypatch):
    """Pretend that the processor has, or lacks, bfloat16 instructions."""

    def pretend(native):
        for name in NAMES:
            monkeypatch.setattr(torch.cpu, name, lambda: native, raising=False)
        precision.multiplies_bfloat16.cache_clear()
        precision.warn_of_emulation.cache_clear()

    yield pretend
    precision.multiplies_bfloat16.cache_clear()
    precision.warn_of_emulation.cache_clear()


def used(wanted):
    """The type that a convolution inside the denoiser computes in."""
    layer, seen = torch.nn.Conv2d(1, 1, 1), []

    def net(x, sigma):
        out = layer(x)
        seen.append(out.dtype)
        return out

    out = NetworkDenoiser(net, precision=wanted)(torch.zeros(1, 1, 8, 8), 0.1)
    assert out.dtype == torch.float32
    return seen[0]


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_what_the_processor_has(processor, native, dtype):
    processor(native)
    assert used("auto") == dtype
    assert used("bfloat16") == torch.bfloat16
    assert used("float32") == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_emulation_is_said_once(processor, caplog, native):
    processor(native)
    with caplog.at_level(logging.WARNING, logger="invsolve"):
        for _ in range(3):
            used("bfloat16")
    said = [record.message for record in caplog.records if "emulates bfloat16" in record.message]
    assert len(said) == (0 if native else 1)


def test_other_devices_are_taken_not_to():
    assert precision.resolved("auto", "meta") == "float32"


def test_a_precision_that_does_not_exist():
    with pytest.raises(InputError, match="one of float32, float64, bfloat16, auto; given 'half'"):
        NetworkDenoiser(lambda x, sigma: x, precision="half")


@pytest.mark.parametrize(("native", "name"), [(True, "bfloat16"), (False, "float32")])
def test_precision_of_a_prior(processor, native, name):
    processor(native)
    held = NetworkDenoiser(lambda x, sigma: x, precision="auto")
    assert precision_of(held, "cpu") == precision_of(rescale(held), "cpu") == name
    assert precision_of(GaussianPrior(), "cpu") is None


def test_cells_of_two_precisions_are_two(processor):
    """A run that is continued on another processor must not mix the two under one key."""
    suite = Suite.load("quick")
    entry = next(one for one in suite.solver if one.label == "DiffPIR")
    found = []
    for native in (True, False):
        processor(native)
        found.append(Workshop(suite, torch.device("cpu")).cell(suite.operator[0], entry, "m", 0)["prior"])
    assert [one["computed_in"] for one in found] == ["bfloat16", "float32"]
    assert {key: value for key, value in found[0].items() if key != "computed_in"} == {
        key: value for key, value in found[1].items() if key != "computed_in"
    }


@pytest.mark.parametrize("given", [True, False, "auto"])
def test_training_says_its_precision(given):
    assert Run(steps=1, bf16=given).bf16 == given


def test_training_takes_no_other_word():
    with pytest.raises(ValueError, match="bf16"):
        Run.model_validate({"steps": 1, "bf16": "yes"})
