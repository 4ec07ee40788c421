"""restore --blind: what nobody says is found, said and taken away."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_benchmarks.datasets import quick_photos
from PIL import Image

from invsolve.cli import main
from invsolve.io.images import read_image, write_image
from invsolve.plugins import registry


def photo(name="coffee", side=96):
    return next(one.image for one in quick_photos() if one.id == name)[:, :side, :side]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restore(*words):
    done = CliRunner().invoke(main, ["restore", *map(str, words), "--blind", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def psnr(name, truth):
    return float(-10 * (read_image(name)[0].double() - truth)[:, 8:-8, 8:-8].square().mean().log10())


def test_a_photograph_out_of_focus(here):
    blur = registry().build("operator", "defocus-blur", in_shape=(3, 108, 108), radius=3.0, boundary="valid")
    y = blur(photo(side=108)[None])[0]
    margin = (108 - y.shape[-1]) // 2
    truth = photo(side=108)[:, margin:-margin, margin:-margin]
    write_image("photo.png", y + 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0)))
    facts = restore("photo.png", "--save-config", "f.toml")
    assert "found: out of focus, a disk of radius" in facts["notes"][0]
    assert "give or take" in facts["notes"][0]
    assert facts["out"] == ["photo_restored.png"]
    assert facts["sigma"][0] == pytest.approx(0.01, rel=0.1)
    assert psnr("photo_restored.png", truth) > psnr("photo.png", truth) + 1
    assert 'name = "defocus-blur"' in (here / "f.toml").read_text()


def test_a_clean_photograph_is_left_alone(here):
    write_image("clean.png", photo())
    facts = restore("clean.png")
    assert facts["out"] == []
    assert facts["verdict"].startswith("nothing to restore")
    assert "found: nothing to restore; no blur" in facts["notes"][0]
    assert [one.name for one in here.iterdir()] == ["clean.png"]


def test_an_enlarged_photograph_is_made_small_and_large_again(here):
    write_image("sharp.png", photo())
    small = Image.open("sharp.png").resize((48, 48), Image.Resampling.BICUBIC)
    small.resize((96, 96), Image.Resampling.BICUBIC).save("large.png")
    facts = restore("large.png")
    assert "found: enlarged 2 times" in facts["notes"][0]
    assert facts["image"] == [1, 3, 96, 96]
    assert psnr("large_restored.png", photo()) > psnr("large.png", photo())
    assert float((read_image("large_small.tif")[0] - torch.from_numpy(np.asarray(small) / 255).movedim(-1, 0)).abs().mean()) < 1 / 255


def test_a_jpeg_that_is_none_any_more(here):
    write_image("sharp.png", photo())
    Image.open("sharp.png").save("photo.jpg", quality=25)
    Image.open("photo.jpg").save("photo.png")
    facts = restore("photo.png")
    assert "once a JPEG of quality 25" in facts["notes"][0]
    assert psnr("photo_restored.png", photo()) > psnr("photo.png", photo()) + 0.2


def test_a_damaged_film_and_its_mask(here):
    pytest.importorskip("invsolve_damage")
    from invsolve_operators import FilmMask

    from invsolve.training.damage import Paint

    x = photo()
    mask = FilmMask(tuple(x.shape), density=2.0, seed=4).mask.reshape(x.shape[1:])
    write_image("film.png", Paint()(x, mask, np.random.default_rng(0)))
    facts = restore("film.png")
    assert "scratches and dust on" in facts["notes"][0]
    assert read_image("film_mask.png")[0].shape == (1, 96, 96)
    assert psnr("film_restored.png", x) > psnr("film.png", x) + 5


def test_tiny_even_and_transparent_pictures_have_an_answer(here):
    write_image("tiny.png", photo(side=8))
    Image.new("RGBA", (100, 90), (200, 100, 50, 128)).save("even.png")
    for name in ("tiny.png", "even.png"):
        done = CliRunner().invoke(main, ["restore", name, "--blind"])
        assert done.exit_code in (0, 2), done.output
        assert "too small" in done.output
        assert "Traceback" not in done.output


def test_what_cannot_be_is_refused(here):
    write_image("sharp.png", photo())
    for words, said in (
        (("--blur", "1"), "--blur and --blind"),
        (("--operator", "mask"), "in place of"),
        (("--simulate",), "takes a picture as it is"),
    ):
        done = CliRunner().invoke(main, ["restore", "sharp.png", "--blind", *words])
        assert done.exit_code == 2
        assert said in done.stderr
