"""JPEG, enlargement and blur, each done to a shipped photograph by another library or operator, and found again."""

import io

import numpy as np
import pytest
import torch
from invsolve_benchmarks.datasets import quick_photos
from PIL import Image
from scipy.ndimage import gaussian_filter

from invsolve import InputError
from invsolve.blind import Diagnosis, identify
from invsolve.blind.compression import find_compression, table
from invsolve.blind.enlarged import find_enlargement, reduced
from invsolve.operator import Capability
from invsolve.plugins import registry


def photo(name="chelsea"):
    return next(one.image for one in quick_photos() if one.id == name).double()


def as_picture(x):
    return Image.fromarray((255 * x.movedim(0, -1).clamp(0, 1)).round().byte().numpy())


def as_tensor(picture):
    return torch.from_numpy(np.asarray(picture).copy()).movedim(-1, 0).double() / 255


def eight_bits(x):
    return (255 * x.clamp(0, 1)).round() / 255


def noisy(x, level, seed=0):
    return eight_bits(x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype))


def psnr(x, truth):
    return float(-10 * (x.double() - truth)[..., 8:-8, 8:-8].square().mean().log10())


@pytest.mark.parametrize("quality", [20, 50, 75, 90])
@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_the_quality_of_a_jpeg_that_was_cut(name, quality):
    """By the library's encoder and decoder; the steps are those in the file's header."""
    stream = io.BytesIO()
    as_picture(photo(name)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as file:
        assert table(quality).flatten().tolist() == list(file.quantization[0])  # pyright: ignore[reportAttributeAccessIssue]
        y = as_tensor(file)[:, 3:, 2:]
    found = find_compression(y)
    assert found is not None
    assert (found.quality, found.corner) == (quality, (5, 6))


def test_what_never_was_a_jpeg_or_is_one_no_more():
    smooth = eight_bits(torch.nn.functional.interpolate(photo()[None], scale_factor=0.9, mode="bicubic", antialias=True)[0])
    for y in (smooth, noisy(photo(), 0.02), torch.full((3, 64, 64), 0.5), torch.rand(3, 12, 12)):
        assert find_compression(y) is None


@pytest.mark.parametrize(("factor", "way"), [(2, "BICUBIC"), (3, "BICUBIC"), (4, "BICUBIC"), (3, "BILINEAR"), (4, "BILINEAR")])
def test_an_enlarged_picture_and_the_smaller_one(factor, way):
    """The least squares solution has no more error than the rounding of 8 bits, .29 grey levels, in each of fewer pixels; .7 bounds its
    amplification by U^+, 1 / s_min of the interpolation, and the frame."""
    side = 120 // factor
    small = as_picture(photo()[:, :120, :120]).resize((side, side), Image.Resampling.BICUBIC)
    large = as_tensor(small.resize((120, 120), Image.Resampling[way]))[:, factor - 1 :, 1:]
    found = find_enlargement(large)
    assert found is not None
    assert (found.factor, found.kernel, found.corner) == (factor, way.lower(), (1, factor - 1))
    back = reduced(large, found)
    inner = as_tensor(small)[:, 1 : 1 + back.shape[1], 1 : 1 + back.shape[2]]
    assert float((back - inner)[:, 2:-2, 2:-2].square().mean().sqrt()) < 0.7 / 255


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
def test_sharp_and_blurred_pictures_were_not_enlarged(name):
    blurred = torch.from_numpy(gaussian_filter(photo(name).numpy(), (0, 2, 2)))
    for y in (photo(name), eight_bits(blurred), noisy(blurred, 0.02)):
        assert find_enlargement(y) is None


@pytest.mark.parametrize(
    ("name", "family", "given", "level"),
    [
        ("chelsea", "gaussian", {"sigma": 1.6}, 0.01),
        pytest.param("astronaut", "gaussian", {"sigma": 2.2}, 0.02, marks=pytest.mark.whole),
        ("coffee", "defocus", {"radius": 3.0}, 0.01),
        ("chelsea", "motion", {"length": 9.0, "angle": 30.0}, 0.01),
    ],
)
def test_a_blur_and_its_noise(name, family, given, level):
    """The width within 15 % and the noise within 10 %, as the table of benchmarks/results/blind.md has nine of ten."""
    from invsolve.blind.diagnosis import NAMES

    x = photo(name)
    blur = registry().build("operator", NAMES[family][0], in_shape=tuple(x.shape), boundary="valid", **given).double()
    found = identify(noisy(blur(x[None])[0], level))
    assert found.family == family
    width = NAMES[family][1]
    assert found.parameters[width] == pytest.approx(given[width], rel=0.15)
    assert found.noise == pytest.approx(level, rel=0.1)
    assert 0 < found.spread < 0.3
    assert found.task == "blur"
    if family == "motion":
        assert found.parameters["angle"] == pytest.approx(30, abs=6)


def test_what_is_found_makes_the_picture_better():
    """By a decibel, with the solver and prior that are taken where none is named, and by no more than the truth does.

    Half a decibel behind that is reached on two of three photographs (benchmarks/results/blind.md), and not on this one.
    """
    x = photo("coffee")[:, :84, :84]
    blur = registry().build("operator", "defocus-blur", in_shape=tuple(x.shape), radius=3.0, boundary="valid").double()
    y = noisy(blur(x[None])[0], 0.01).float()
    margin = (84 - y.shape[-1]) // 2
    truth = x[:, margin:-margin, margin:-margin]
    found, known = identify(y).restore().mean[0], Diagnosis(y, 0.01, "defocus", {"radius": 3.0}).restore().mean[0]
    assert found.shape == y.shape
    assert psnr(y, truth) + 1 < psnr(found, truth) < psnr(known, truth) + 0.1


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut", "camera"])
def test_clean_pictures_are_left_alone(name):
    found = identify(photo(name))
    assert found.nothing
    assert found.words()[0] == "nothing to restore"
    with pytest.raises(InputError, match="nothing to restore"):
        found.restore()


def test_noise_alone_and_jpeg_alone():
    found = identify(noisy(photo("coffee"), 0.05))
    assert (found.family, found.task) == ("none", "noise")
    assert found.noise == pytest.approx(0.05, rel=0.1)
    stream = io.BytesIO()
    as_picture(photo()).save(stream, "JPEG", quality=30)
    y = as_tensor(Image.open(stream))
    found = identify(y)
    assert (found.task, found.compression.quality) == ("jpeg", 30)
    assert 0.7 < found.lost / float((y - photo()).square().mean().sqrt()) < 1.3  # restore --jpeg's own bounds
    assert "quality 30" in str(found)


def test_pictures_that_say_little():
    flat = identify(torch.full((3, 100, 100), 0.5))
    assert flat.nothing
    assert "too even" in str(flat)
    tiny = identify(photo()[:, :8, :8])
    assert tiny.family == "none"
    assert "too small" in str(tiny)
    grey = identify(photo().mean(0, keepdim=True))
    assert grey.nothing
    assert identify(grey.y.expand(3, -1, -1)).nothing  # the same three times: not the noise of none
    loud = identify(noisy(photo() / 4 + 0.4, 0.3))
    assert loud.family == "none"
    assert loud.task == "noise"
    for wrong in (torch.rand(2, 64, 64), torch.rand(2, 3, 64, 64), torch.full((3, 64, 64), float("nan")), torch.zeros(3, 0, 5), 5):
        with pytest.raises(InputError, match="photograph"):
            identify(wrong)


def test_damage_of_film_where_the_plug_in_is():
    from invsolve_operators import FilmMask

    from invsolve.training.damage import Paint

    x = photo().float()
    mask = FilmMask(tuple(x.shape), density=2.0, seed=4).mask.reshape(x.shape[1:])
    found = identify(Paint()(x, mask, np.random.default_rng(0)))
    assert found.task == "damage"
    assert found.operator == {"name": "mask"}
    assert float((found.keep[0] == (mask > 0)).double().mean()) > 0.95
    y = found.problem().y[0]
    assert bool((y[:, ~found.keep[0]] == 0).all())
    assert identify(x, damage=True).keep is None


@pytest.mark.parametrize(
    ("family", "parameters"), [("gaussian", {"sigma": 1.2}), ("defocus", {"radius": 2.0}), ("motion", {"length": 5.0})]
)
def test_every_family_has_its_operator_and_its_answer_in_the_frame(family, parameters):
    """The image is larger than the photograph by the kernel, whether the data step has a closed form or an iteration."""
    y = quick_photos()[0].image[:1, :48, :60]
    found = Diagnosis(y, 0.01, family, parameters)
    operator = found.build()
    assert operator.out_shape == (1, 48, 60)
    assert min(operator.in_shape[1:]) > 48
    assert operator.has(Capability.PROX)
    assert found.restore().mean.shape == (1, 1, 48, 60)
