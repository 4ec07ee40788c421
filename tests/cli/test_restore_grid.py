"""restore --grid: several solvers on one photograph, in one picture."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from invsolve_benchmarks.datasets import quick_photos
from PIL import Image

from invsolve.cli import main
from invsolve.cli.grid import liveliest
from invsolve.io.images import write_image


def restore(*words):
    return CliRunner().invoke(main, ["restore", "photo.png", *map(str, words), "--json"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = next(one.image for one in quick_photos() if one.id == "chelsea")[:, 8:56, 8:56]
    write_image("photo.png", photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)))
    return tmp_path


def test_answers_stand_side_by_side_each_its_own(here, monkeypatch):
    seen = {}

    def compare(images, truth=None, **options):
        seen.update(images)
        return real(images, truth, **options)

    from invsolve import plot

    real = plot.compare
    monkeypatch.setattr(plot, "compare", compare)
    done = restore("--denoise", "--grid", "hqs/tv, ddrm/gaussian,psld,repaint,one-shot")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["out"] == ["photo_restored.png", "photo_grid.png"]
    assert [name.splitlines()[0] for name in seen] == ["given", "one-shot, natural", "hqs, tv", "ddrm, gaussian"]
    # psld asks for a latent prior, repaint for a mask; one-shot with its own prior is the result itself, and stands there once
    assert [note.split(" is not in the grid: ")[0] for note in facts["notes"] if "grid" in note] == ["psld", "repaint"]
    images = list(seen.values())
    assert all(not torch.equal(one, other) for index, one in enumerate(images) for other in images[:index])
    with Image.open("photo_grid.png") as picture:
        assert picture.width > picture.height  # four columns, two rows


def test_what_is_misspelt_is_said_before_the_work(here, monkeypatch):
    monkeypatch.setattr("invsolve.solver.Solver.solve", lambda *given, **named: pytest.fail("it went to work"))
    for text, words in (("hsq", "did you mean hqs"), ("hqs/tvv", "did you mean tv"), ("hqs,,admm", "SOLVER/PRIOR"), ("", "SOLVER/PRIOR")):
        done = restore("--denoise", "--grid", text)
        assert done.exit_code == 2, (text, done.output)
        assert words in done.output


def test_a_result_larger_than_the_photograph_has_a_grid_too(here):
    done = restore("--scale", 2, "--grid", "bicubic")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["out"][1] == "photo_grid.png"


def test_a_saved_problem_draws_the_same_grid(here):
    assert restore("--denoise", "--grid", "hqs/tv", "--save-config", "saved.toml").exit_code == 0
    done = CliRunner().invoke(main, ["run", "saved.toml", "--json"])
    assert json.loads(done.stdout)["out"] == ["saved_restored.png", "saved_grid.png"]
    with Image.open("photo_grid.png") as one, Image.open("saved_grid.png") as other:
        assert one.size == other.size
    Path("saved.toml").write_text(Path("saved.toml").read_text().replace("hqs/tv", "hsq"))
    wrong = CliRunner().invoke(main, ["run", "saved.toml"])
    assert wrong.exit_code == 2
    assert "did you mean hqs" in wrong.output


def test_settings_are_chosen_before_as_run_does(here):
    """`--tune` is `run.tune`: a saved problem says it, what suits can be drawn from, and a prior that draws no pictures is refused."""
    with Image.open("photo.png") as photo:
        photo.crop((8, 8, 32, 32)).save("photo.png")
    done = restore("--denoise", "--solver", "diffpir", "--tune", "60 nfe", "--set", "solver.steps=2", "--save-config", "saved.toml")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["why"].startswith("tuned by psnr on")
    assert 'tune = "60 nfe"' in Path("saved.toml").read_text()
    usual = restore("--blur", 1, "--tune", "20 nfe", "--set", "solver.steps=2")
    assert json.loads(usual.stdout)["why"].startswith("tuned by psnr on")
    refused = restore("--blur", 1, "--tune", "60 nfe", "--solver", "hqs", "--prior", "dncnn")
    assert refused.exit_code == 2
    assert "to draw pictures from" in refused.output


def test_the_square_that_is_shown_larger_is_where_something_is():
    image = torch.full((3, 64, 80), 0.5)
    image[:, 40:48, 60:68] = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    found = liveliest(image)
    assert found is not None
    top, left, side = found
    assert side == 16
    assert top <= 40
    assert top + side >= 48
    assert left <= 60
    assert left + side >= 68
    assert liveliest(image[:, :20, :20]) is None
