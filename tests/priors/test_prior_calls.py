"""Priors made of networks: their types, their levels, and calls that are refused."""

import copy

import deepinv
import pytest
import torch
from invsolve_deepinv.denoisers import DeepinvDenoiser
from invsolve_weights.own import load_weights
from weight_cases import X, drunet, network, weight_file

from invsolve import InputError, load_prior
from invsolve.priors import DiffusionPrior, GaussianPrior, NetworkDenoiser, as_denoiser, rescale
from invsolve.priors.convert import precision_of
from invsolve.schedule import DiscreteVP

HALVES = (torch.float64, torch.float16, torch.bfloat16)
SIZES = {"img_resolution": 16, "model_channels": 32, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (8,)}


class Convolution(torch.nn.Module):
    """A network called with (x, sigma)."""

    def __init__(self):
        super().__init__()
        self.layer = network()

    def forward(self, x, sigma):
        assert x.dtype == sigma.dtype == self.layer.weight.dtype
        return self.layer(x)


PRIORS = {
    "natural": lambda folder, **options: load_prior("natural", **options),
    "grey": lambda folder, **options: load_prior("dncnn", channels=1, **options),
    "mnist": lambda folder, **options: load_prior("mnist", **options),
    "file": lambda folder, **options: load_weights(weight_file(folder / "a.safetensors", drunet), check=False, **options),
    "adm": lambda folder, **options: load_weights(
        weight_file(folder / "b.safetensors", lambda: deepinv.models.ADMUNet(pretrained=None, **SIZES)),
        arguments=SIZES,
        check=False,
        **options,
    ),
    "module": lambda folder, **options: as_denoiser(Convolution(), **options),
    "times": lambda folder, **options: as_denoiser(Convolution(), "eps", range=(-1, 1), schedule=DiscreteVP(), **options),
}


@pytest.mark.parametrize("name", PRIORS)
def test_precision_float64_computes_in_float64(tmp_path, name):
    """The same estimate to float32's rounding but not beyond it, images of either type, and a copy that does the same."""
    prior, single = PRIORS[name](tmp_path, precision="float64"), PRIORS[name](tmp_path)
    x = X[:, : prior.channels or 3].double()
    out = prior(x, 0.1)
    assert out.dtype == torch.float64
    assert prior(x.float(), 0.1).dtype == torch.float32
    assert 0 < float((out - single(x, 0.1)).abs().max()) < 1e-3
    assert torch.equal(copy.deepcopy(prior)(x, 0.1), out)
    assert precision_of(prior, "cpu") == "float64"
    assert precision_of(single, "cpu") == "float32"


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_prior_that_is_cast_is_called_in_its_type(tmp_path, name, dtype):
    prior = PRIORS[name](tmp_path)
    x = X[:, : prior.channels or 3]
    wanted = prior(x, 0.1)
    out = prior.to(dtype)(x, 0.1)
    assert out.dtype == torch.float32
    assert precision_of(prior, "cpu") == str(dtype).removeprefix("torch.")
    assert 0 < float((out - wanted).abs().max()) < 0.3
    assert torch.equal(prior.float()(x, 0.1) if dtype == torch.float64 else wanted, wanted)


def test_what_is_loaded_in_inference_mode_serves_autograd_later(tmp_path):
    for name in ("natural", "grey", "file"):
        with torch.inference_mode():
            prior = PRIORS[name](tmp_path)
            prior(X[:, : prior.channels], 0.1)
        x, sigma = X[:, : prior.channels].clone().requires_grad_(), torch.tensor(0.1, requires_grad=True)
        slope, change = torch.autograd.grad(prior(x, sigma).square().sum(), (x, sigma))
        assert float(slope.abs().max()) > 0
        assert float(change.abs()) > 0


NONSENSE = [(0, 0), (-1, 1), (1, 0.1), (float("nan"), 1), (1,), (0.1, float("inf")), "ab", 5, ("0.1", "0.2"), (0.1, 10**400), (False, True)]


@pytest.mark.parametrize("given", NONSENSE, ids=str)
def test_sigma_range_is_checked_wherever_it_is_taken(tmp_path, given):
    path = weight_file(tmp_path / "a.safetensors", drunet)
    for build in (
        lambda: NetworkDenoiser(Convolution(), sigma_range=given),
        lambda: as_denoiser(Convolution(), sigma_range=given),
        lambda: DeepinvDenoiser(drunet(), given),
        lambda: as_denoiser(Convolution(), "eps", schedule=DiscreteVP(), sigma_range=given),
        lambda: load_weights(path, sigma_range=given, check=False),
        lambda: load_weights(path, sigma_range=given, schedule="linear", check=False),
    ):
        with pytest.raises(InputError, match=r"sigma_range must be .* 0 < low < high; given"):
            build()


def test_sigma_range_cuts_the_levels_of_a_schedule():
    whole = as_denoiser(Convolution(), "eps", range=(-1, 1), schedule=DiscreteVP())
    part = as_denoiser(Convolution(), "eps", range=(-1, 1), schedule=DiscreteVP(), sigma_range=(0.1, 2))
    assert len(whole.sigmas(1000, "vp-respaced")) == 1001
    assert 0.05 <= part.sigma_range[0] < 0.051
    assert 0.99 < part.sigma_range[1] <= 1.0
    assert [sigma for sigma in whole.sigmas(1000, "vp-respaced") if 0.05 <= sigma <= 1.0] == part.sigmas(1000, "vp-respaced")[:-1]
    wide = as_denoiser(Convolution(), "eps", range=(0, 255), schedule=DiscreteVP())
    assert len(wide.sigmas(1000, "vp-respaced")) == 1001
    with pytest.raises(InputError, match="leaves 0 levels"):
        as_denoiser(Convolution(), "eps", schedule=DiscreteVP(), sigma_range=(1000, 2000))
    assert DiffusionPrior(GaussianPrior(), DiscreteVP()).sigma_range == whole.sigma_range


@pytest.mark.parametrize("given", [(1, -1), 5, "ab", (0, float("inf")), None, (1, 1)], ids=str)
def test_range_is_checked(given):
    for build in (lambda: as_denoiser(Convolution(), range=given), lambda: rescale(GaussianPrior(), given)):
        with pytest.raises(InputError, match=r"range must be .* low < high; given"):
            build()


def test_images_and_levels_that_no_network_takes():
    prior = as_denoiser(Convolution(), channels=3)
    for x, said in (
        (X[:, :1], r"\(B, 3, H, W\); given \(2, 1, 16, 16\)"),
        (X[None], "given"),
        (X[0], "given"),
        ((255 * X).byte(), "uint8"),
        ("picture", "str"),
    ):
        with pytest.raises(InputError, match=said):
            prior(x, 0.1)
    for sigma in (torch.full((2, 1, 1, 1), 0.1), torch.full((2, 1), 0.1), torch.full((3,), 0.1), "a", [0.1, 0.2, 0.3], None):
        with pytest.raises(InputError, match=r"sigma must be (one number|a number)"):
            prior(X, sigma)
    for sigma in (float("nan"), -0.1, float("inf"), torch.tensor([0.1, -0.1]), torch.tensor(float("nan"))):
        with pytest.raises(InputError, match="finite and not negative"):
            prior(X, sigma)
    for sigma in (0.1, torch.tensor(0.1), torch.tensor([0.1]), torch.tensor([0.1, 0.1]), [0.1, 0.1], 0):
        assert prior(X, sigma).shape == X.shape
