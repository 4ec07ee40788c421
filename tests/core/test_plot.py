"""What a notebook shows: short names, pictures as HTML, figures that show what they say, a bar where somebody looks."""

import math
import sys
import types

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Mask

from invsolve import GaussianNoise, InputError, NoNoise, Problem, Progress, load_image, load_prior, plot, write_image
from invsolve.callbacks import in_notebook
from invsolve.priors import GaussianPrior
from invsolve.solvers import DDRM, HQS

SHAPE = (3, 12, 15)


@pytest.fixture(scope="module")
def solved():
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    problem = Problem.simulate(Mask(SHAPE, keep=0.5), x, GaussianNoise(0.05), generator=0)
    drawn = DDRM(steps=6).solve(problem, GaussianPrior(), generator=0, samples=20)
    return problem, HQS(steps=4).solve(problem, GaussianPrior(), generator=0, keep=1), drawn, x


def test_names_are_a_line_long(solved):
    problem, _, _, _ = solved
    assert repr(problem) == "Problem(Mask (3, 12, 15) -> (3, 12, 15), y (2, 3, 12, 15), float32, GaussianNoise(sigma=0.05))"
    assert repr(load_prior("natural")) == f"Natural({sum(one.numel() for one in load_prior('natural').parameters()):,} parameters)"
    assert repr(load_prior("tv", weight=2.0)) == "TotalVariation(weight=2.0)"


def test_html_has_pictures_and_says_names_as_text(solved):
    problem, answer, drawn, _ = solved
    assert problem._repr_html_().count('<img src="data:image/png;base64,') == 2
    assert answer._repr_html_().count("<img") == 2
    assert drawn._repr_html_().count("<img") == 4  # mean and spread of two items

    odd = type("<script>alert(1)</script>", (GaussianBlur,), {})
    assert "<script>" not in Problem.simulate(odd(SHAPE, sigma=1.0), torch.rand(1, *SHAPE), NoNoise())._repr_html_()
    assert "(0.002, 80.0)" in load_prior("natural")._repr_html_()
    kspace = Problem.simulate(Mask((1, 4, 4), keep=0.5), torch.rand(9, 1, 4, 4), NoNoise(), generator=0)
    assert "and 5 more" in kspace._repr_html_()


def test_psnr_and_pictures_of_an_answer(solved, tmp_path):
    _, answer, drawn, x = solved
    by_hand = [10 * math.log10(1 / float((answer.x[item] - x[item]).square().mean())) for item in range(2)]
    assert answer.psnr(x).tolist() == pytest.approx(by_hand, rel=1e-5)
    assert drawn.psnr(x)[1] == pytest.approx(-10 * math.log10(float((drawn.x.mean(0)[1] - x[1]).square().mean())), rel=1e-5)
    assert answer.psnr(x, peak=2.0)[0] == pytest.approx(by_hand[0] + 20 * math.log10(2), rel=1e-5)
    with pytest.raises(InputError, match="truth must have the shape"):
        answer.psnr(x[:, :1])
    answer.save_image(tmp_path / "x.png", 1)
    assert (load_image(tmp_path / "x.png") - answer.x[1].clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(InputError, match="below 2"):
        answer.save_image(tmp_path / "x.png", 2)


def test_a_problem_of_a_picture(tmp_path):
    y = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(1))
    write_image(tmp_path / "y.png", y)
    problem = Problem.from_image(tmp_path / "y.png", lambda shape: BlockMean((3, 2 * shape[1], 2 * shape[2]), factor=2), 0.02)
    assert problem.operator.in_shape == (3, 12, 14)
    assert float(problem.sigma) == pytest.approx(0.02)
    assert torch.equal(torch.as_tensor(problem.y)[0], load_image(tmp_path / "y.png"))
    noisy = 0.5 + 0.1 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    found = Problem.from_image(noisy, lambda shape: GaussianBlur(shape, sigma=0.5))
    assert float(found.sigma) == pytest.approx(0.1, rel=0.1)  # some thousand patches: about 2 %, and the blur's bias
    with pytest.raises(InputError, match="image must be"):
        Problem.from_image(y[0], lambda shape: Mask(shape))


def data(picture, panel):
    return picture.figure.axes[panel].images[0].get_array()


def test_figures_show_what_they_say(solved, tmp_path):
    problem, answer, drawn, x = solved
    shown = plot.show(problem, answer, x, item=1)
    titles = [axis.get_title() for axis in shown.figure.axes]
    assert titles[0] == "y"
    assert titles[1] == f"HQS, {float(answer.psnr(x)[1]):.2f} dB"
    assert torch.equal(torch.from_numpy(data(shown, 1).data.copy()), answer.x[1].clamp(0, 1).permute(1, 2, 0))
    errors = (answer.x[1] - x[1]).abs().square().mean(0).sqrt()
    assert torch.allclose(torch.from_numpy(data(shown, 2).data.copy()), errors, atol=1e-6)
    assert len(plot.show(problem).figure.axes) == 1
    low, high = drawn.interval(0.9)
    outside = float(((x[0] < low[0]) | (x[0] > high[0])).float().mean())
    assert f"outside: {outside:.1%} of the values" in [axis.get_title() for axis in plot.uncertainty(drawn, x).figure.axes]
    compared = plot.compare({"a": answer.x, "b": drawn.mean}, x, zoom=(2, 3, 5))
    assert data(compared, 3).shape[:2] == (5, 5)
    compared.save(tmp_path / "c.png")
    assert compared._repr_png_().startswith(b"\x89PNG")
    steps = [axis.get_title() for axis in plot.trajectory(answer, count=3).figure.axes]
    assert [title.split(",")[1] for title in steps[:3]] == [" step 1", " step 3", " step 4"]
    front = plot.front([("a", 1, 20.0), ("b", 5, 24.0), ("c", 10, 23.0), ("d", 20, 25.0)])
    assert front.figure.axes[0].lines[0].get_xdata().tolist() == [1, 5, 20]


def test_a_wave_has_its_power_at_its_frequency():
    """cos of 4 periods in 32 pixels: amplitude 1/2 in two bins, power n / 4 in each, on the ring 4 / 32."""
    wave = torch.cos(2 * math.pi * 4 * torch.arange(32, dtype=torch.float64) / 32).expand(1, 32, 32)
    radius, power = plot.radial(wave)
    assert radius[max(range(len(power)), key=power.__getitem__)] == 4 / 32
    assert sum(value > 1e-9 for value in power) == 1


def test_what_cannot_be_shown_is_refused(solved):
    problem, answer, drawn, x = solved
    for wrong, match in (
        (lambda: plot.show(problem, answer, item=2), "2 items; there is no item 2"),
        (lambda: plot.show(problem, answer, x[:, :, :5]), "truth must have the shape"),
        (lambda: plot.compare({}), "by name"),
        (lambda: plot.compare({"a": x}, zoom=(8, 0, 5)), "inside the 12 x 15 pixels"),
        (lambda: plot.uncertainty(answer), "at least 20 samples"),
        (lambda: plot.trajectory(drawn), "keep=1"),
        (lambda: plot.front([("a", 0, 1.0)]), "above 0"),
        (lambda: plot.show(problem).save("x.nothing"), "cannot be written"),
    ):
        with pytest.raises(InputError, match=match):
            wrong()


def test_a_bar_in_a_notebook(monkeypatch):
    assert not in_notebook()
    assert Progress().hidden is None
    kernel = types.ModuleType("IPython")
    kernel.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    assert in_notebook()
    assert Progress().hidden is False
    assert Progress(disable=True).hidden is True
