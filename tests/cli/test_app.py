"""What is behind the page of `invsolve app`; none of it needs gradio."""

import shlex
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_app.answers import MEASURED
from invsolve_app.desk import Desk, pair, report, sentence
from invsolve_app.pictures import array, fitted, painted, preview, spread, write_mask
from invsolve_app.wish import HAPPENED, SUITS, Wish
from invsolve_benchmarks.datasets import quick_photos

from invsolve.cli import main
from invsolve.cli.photograph import restore_photograph, shell_line
from invsolve.errors import InputError
from invsolve.io.images import read_image, write_image


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A noisy photograph of 40 x 48 pixels in the current folder."""
    monkeypatch.chdir(tmp_path)
    clean = quick_photos()[2].image[:, 20:60, 30:78]
    write_image("photo.png", clean + 0.06 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))
    return tmp_path


def wished(here, **values):
    return Wish(str(here / "photo.png"), **values)


def test_the_page_does_what_the_shell_does(here):
    """To the bit, and the line that it shows is that shell's."""
    ((_, found),) = Desk(here).run(wished(here, noise=0.05, seed=3))
    words = shlex.split(found[0].line)
    assert words == ["invsolve", "restore", "photo.png", "--denoise", "--noise", "0.05", "--seed", "3"]
    done = CliRunner().invoke(main, [*words[1:], "--out", "shell.png"])
    assert done.exit_code == 0, done.output
    assert found[0].files[0].name == "photo_restored.png"
    assert torch.equal(read_image(found[0].files[0])[0], read_image("shell.png")[0])
    assert np.array_equal(found[0].pictures[found[0].name], array(read_image("shell.png")[0]))
    assert found[0].name == "one-shot with natural"
    assert "explains the picture" in found[0].words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "--denoise"),
        ({"happened": "blur", "sigma": 1.6}, "--blur 1.6"),
        ({"happened": "defocus", "radius": 4.0}, "--defocus 4"),
        ({"happened": "motion", "length": 9, "angle": -30}, "--motion 9,-30"),
        ({"happened": "kernel", "kernel": "/tmp/psf.png"}, "--kernel psf.png"),
        ({"happened": "scale", "factor": 2.5}, "--scale 2.5"),
        ({"happened": "jpeg"}, "--jpeg"),
        ({"happened": "jpeg", "quality": 30}, "--jpeg 30"),
        ({"samples": 4, "solvers": ("ddrm",), "prior": "natural"}, "--denoise --solver ddrm --prior natural --samples 4"),
    ],
)
def test_what_is_said_is_what_restore_takes(values, words):
    ((_, said),) = Wish("photo.png", **values).runs()
    assert sorted(shell_line("photo.png", said).split()[3:]) == sorted(words.split())
    options = {parameter.name for parameter in main.commands["restore"].params}
    assert set(said) <= options


def test_every_thing_that_happened_has_a_way_and_asks_for_what_it_lacks():
    for happened in HAPPENED:
        wish = Wish("photo.png", happened=happened)
        if happened in ("kernel", "mask"):
            with pytest.raises(InputError, match="kernel" if happened == "kernel" else "paint"):
                wish.said()
        else:
            assert len([name for name in wish.said() if name not in ("noise", "seed", "samples")]) == 1


def test_solvers_side_by_side_and_one_that_cannot(here):
    """Each is a row; the one that fails says why, without folders, and the next goes on."""
    wish = wished(here, solvers=("pf-ode", SUITS, "nearest"), noise=0.05)
    steps = list(Desk(here).run(wish, progress=lambda *told: None))
    assert [len(found) for _, found in steps] == [1, 2, 3]
    first, second, third = steps[-1][1]
    assert not first.worked
    assert "pf-ode" in first.words
    assert str(here) not in first.words
    assert 'role="alert"' in steps[0][0]
    assert second.worked
    assert third.facts["by"] == "nearest with gaussian"
    left, right = pair(steps[-1][1], second.name, "nearest")
    assert left.shape == right.shape == (40, 48, 3)
    assert pair(steps[-1][1], "no such", "nearest") == (None, None)
    assert report(steps[-1][1]).count('class="answer"') == 3


def test_samples_have_a_spread_and_stop_ends_a_run(here):
    desk, told = Desk(here), []
    wish = wished(here, happened="blur", sigma=1.0, noise=0.06, solvers=("diffpir",), samples=2, middle=24)
    ((word, found),) = desk.run(wish, progress=lambda *steps: told.append(steps))
    assert found[0].worked, found[0].words
    assert set(found[0].pictures) == {MEASURED, "diffpir", "diffpir: spread"}
    assert found[0].pictures["diffpir"].shape == (24, 24, 3)
    assert [path.name for path in found[0].files] == ["photo_restored_diffpir.png", "photo_restored_diffpir_std.png"]
    assert "--set data.crop=24" in found[0].line
    stopped = list(desk.run(wish, progress=lambda *steps: desk.stop()))
    assert "Stopped" in stopped[-1][0]
    assert "Stopped" not in word


def test_a_clean_picture_is_left_alone(here):
    write_image("photo.png", quick_photos()[2].image)
    ((_, found),) = Desk(here).run(wished(here))
    assert found[0].words.startswith("nothing to restore")
    assert "--" not in found[0].words  # nobody types on a page
    assert set(found[0].pictures) == {MEASURED}


def test_holes_are_painted(here):
    layer = np.zeros((20, 24, 4), np.uint8)  # half as large as the photograph: what is shown may be smaller
    layer[5:10, 6:12, 3] = 255
    holes = painted([layer], (40, 48))
    assert holes[12:18, 14:22].all()
    assert 10 * 12 * 0.7 < holes.sum() < 10 * 12 * 1.3  # an edge is blurred by a pixel
    assert painted([np.zeros((20, 24, 4), np.uint8)], (40, 48)) is None
    assert np.array_equal(painted([layer], (40, 48), 30), holes[5:35, 9:39])
    mask = write_mask(holes, here / "m.png")
    assert torch.equal(read_image(mask)[0][0] == 0, torch.from_numpy(holes))
    desk = Desk(here)
    ((word, found),) = desk.run(wished(here, happened="mask"), [layer])
    assert found[0].worked, word
    assert [path.name for path in found[0].files] == ["photo_restored.png", "photo_mask.png"]
    kept = torch.from_numpy(~holes)
    assert torch.equal(read_image(found[0].files[0])[0][:, kept], read_image("photo.png")[0][:, kept])
    ((word, _),) = desk.run(wished(here, happened="mask"))
    assert "paint over" in word


def test_what_cannot_be_opened_or_is_too_large_is_said_in_words(here):
    desk = Desk(here)
    (here / "bad.png").write_text("no picture")
    shown, word = desk.opened(str(here / "bad.png"))
    assert shown is None
    assert 'role="alert">bad.png is not an image' in word
    assert "Put in" in desk.opened(None)[1]
    ((word, _),) = desk.run(Wish(None))
    assert "Put in" in word
    write_image("large.png", torch.full((1, 1, 2_000_001), 0.5))
    assert "middle" in desk.opened(str(here / "large.png"))[1]
    with pytest.raises(InputError, match=r"the shell cuts it into pieces: invsolve restore photo.png --scale 3 --noise 0.1"):
        restore_photograph("photo.png", {"scale": 3.0, "noise": 0.1}, most=10_000)
    with pytest.raises(InputError, match="no option --blurr"):
        restore_photograph("photo.png", {"blurr": 1.0})
    assert sentence("<b>", bad=True) == '<div class="said bad" role="alert">&lt;b&gt;</div>'


def test_pictures():
    grey = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    shown = array(grey)
    assert shown.shape == (3, 4, 3)
    assert np.array_equal(shown[..., 2].ravel(), (grey.ravel() * 255).round().byte().numpy())
    assert fitted(shown, np.zeros((6, 8, 3), np.uint8)).shape == (6, 8, 3)
    picture, most = spread(torch.stack([torch.full((2, 2), 0.3), torch.full((2, 2), 0.4)]))
    assert most == pytest.approx(0.125**0.5)  # sqrt((.09 + .16) / 2)
    assert picture.min() == 255


def test_a_large_picture_is_shown_smaller(here):
    write_image("wide.png", torch.rand(3, 10, 2000, generator=torch.Generator().manual_seed(0)))
    picture, size = preview("wide.png")
    assert (picture.shape, size) == ((8, 1600, 3), (10, 2000))


def test_without_the_library_the_command_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = CliRunner().invoke(main, ["app"])
    assert done.exit_code == 3
    assert done.output.strip() == "Error: the page needs gradio, which is not installed: pip install 'invsolve[app]'"


def test_a_line_for_the_shell_keeps_a_zero():
    assert shell_line("photo.jpg", {"denoise": True, "noise": 0.0}) == "invsolve restore photo.jpg --denoise --noise 0"
