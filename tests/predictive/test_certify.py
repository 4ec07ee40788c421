"""The certificate: its first line, its numbers, its page, and the command line."""

import json
import re

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BoxMask, GaussianBlur, Identity

from invsolve import GaussianNoise, Problem, Rng
from invsolve.cli.app import main
from invsolve.errors import CompatibilityError, InputError
from invsolve.io.images import load_image, read_tensor
from invsolve.io.writing import write_image
from invsolve.predictive import certify
from invsolve.priors import GaussianPrior
from invsolve.solvers import HQS, DiffPIR

SHAPE = (1, 12, 12)
PRIOR = GaussianPrior(0.5, 0.2)


def measured(operator=None, batch=1, prior=PRIOR, seed=3):
    operator = operator or BoxMask(SHAPE, 6)
    x = prior.sample(operator.in_shape, Rng(seed, range(batch)), torch.zeros(1))
    return Problem.simulate(operator, x, GaussianNoise(0.05), generator=seed, check_range=False), x


@pytest.fixture(scope="module")
def found():
    problem, _ = measured(batch=2)
    return certify(problem, PRIOR, DiffPIR(steps=6), samples=5, draws=19)


def test_it_says_what_it_promises(found):
    assert found.certified
    assert found.said.startswith("CERTIFIED under the prior: the 90% intervals hold at least 90%")
    text = found.text()
    for words in ("coverage of 90% intervals", "where it hides it", "ranks of brightness", "distance from a reference", "H does not see"):
        assert words in text
    # left out one at a time: k is chosen on 18, so that the mean coverage lies between .9 and .9 + 1 / 19, and 19 draws judge
    assert 0.9 - 0.03 < sum(found.coverage) / 19 < 0.9 + 1 / 19 + 0.03


def test_regions_contrasts_and_edges(found):
    hidden = BoxMask(SHAPE, 6).supports[0].reshape(SHAPE) == 0
    mean, low, high = found.region(~hidden)
    inner, deep_low, deep_high = found.region(hidden)
    assert bool((low < mean).all())
    assert bool((mean < high).all())
    assert torch.allclose(mean, found.solution.mean[:, ~hidden].mean(1).double(), atol=1e-6)
    assert bool((deep_high - deep_low > high - low).all())  # less is known where nothing was measured
    gap, gap_low, gap_high = found.contrast(hidden, ~hidden)
    assert torch.allclose(gap, inner - mean, atol=1e-6)
    assert bool((gap_low < gap_high).all())
    same, _, _ = found.contrast(hidden, hidden)
    assert not same.any()
    size, doubt = found.edges()
    assert size.shape == doubt.shape == (2, 1, 12, 12)
    apart = found.apart(0, 1)
    assert apart.shape == (2, *SHAPE)
    assert torch.equal(apart, found.apart(1, 0))
    with pytest.raises(InputError, match="bool"):
        found.region(torch.ones(SHAPE))


def test_a_mismatch_takes_the_first_line():
    problem, _ = measured(Identity(SHAPE), prior=GaussianPrior(0.9, 0.4))
    found = certify(problem, PRIOR, DiffPIR(steps=4), samples=3, draws=9)
    assert not found.certified
    assert found.text().startswith("NOT CERTIFIED. THE MEASUREMENT DOES NOT LOOK LIKE THE DRAWS")


def test_held_pictures_that_are_not_held_take_the_first_line():
    problem, _ = measured()
    rough = (torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    found = certify(problem, PRIOR, DiffPIR(steps=4), samples=3, draws=12, held=rough)
    assert not found.certified
    assert "ON HELD PICTURES" in found.said
    like = PRIOR.sample(SHAPE, Rng(77, range(6)), torch.zeros(1))
    good = certify(problem, PRIOR, DiffPIR(steps=4), samples=3, draws=12, held=like)
    assert good.certified
    assert len(good.held) == 6


def test_plain_runs_have_intervals_but_no_ranks():
    problem, x = measured()
    found = certify(problem, PRIOR, HQS(), samples=None, draws=9)
    assert not found.ranks
    assert found.tarp is None
    low, high = found.interval()
    assert float(((x >= low) & (x <= high)).double().mean()) > 0.8
    with pytest.raises(InputError, match="samples"):
        found.apart(0, 1)


def test_a_large_picture_is_certified_by_windows():
    operator = GaussianBlur((1, 192, 64), 1.0)
    problem, x = measured(operator)
    found = certify(problem, PRIOR, DiffPIR(steps=4), samples=3, draws=9, side=16)
    assert max(found.calibration.draws.truths.shape[2:]) <= 32
    low, high = found.interval(0.8)
    assert low.shape == x.shape
    # windows of the same white field: .8 to .9 promised, of 9 draws with 256 pixels or more each
    assert 0.8 - 0.05 < float(((x >= low) & (x <= high)).double().mean()) < 0.95


def test_a_large_mask_keeps_its_groups():
    problem, _ = measured(BoxMask((1, 48, 48), 24))
    found = certify(problem, PRIOR, DiffPIR(steps=4), samples=3, draws=9, side=32)
    low, high = found.interval()
    hidden = BoxMask((1, 48, 48), 24).supports[0].reshape(1, 48, 48) == 0
    assert float((high - low)[0][hidden].mean()) > 3 * float((high - low)[0][~hidden].mean())


def test_what_is_refused_is_refused_at_once():
    problem, _ = measured()
    with pytest.raises(InputError, match="draws=9"):
        certify(problem, PRIOR, DiffPIR(), draws=5)
    with pytest.raises(InputError, match="between 0 and 1"):
        certify(problem, PRIOR, DiffPIR(), level=90)
    with pytest.raises(InputError, match="order"):
        certify(PRIOR, problem, DiffPIR())
    unfit = Problem(GaussianBlur(SHAPE, 1.0) @ BoxMask(SHAPE, 4), problem.y, problem.noise)
    with pytest.raises(CompatibilityError):
        certify(unfit, PRIOR, DiffPIR())


def test_the_page_needs_nothing_else(found, tmp_path):
    found.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert found.said.replace("'", "&#x27;") in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    assert "<script" not in page
    assert page.count("<img ") == page.count("alt=")
    assert page.count("Picture ") == 2
    assert "default-src 'none'" in page


def test_the_page_shows_names_as_text(found, tmp_path):
    from dataclasses import replace

    hostile = replace(found, calibration=replace(found.calibration, solver="<script>alert(1)</script>"))
    hostile.save(tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text()


PROBLEM = """
[data]
image = "photo.png"
simulate = true
[operator]
name = "gaussian-blur"
sigma = 1.0
[noise]
sigma = 0.05
[prior]
name = "gaussian"
std = 0.2
[solver]
name = "diffpir"
steps = 4
[run]
seed = 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_image(tmp_path / "photo.png", PRIOR.sample((3, 16, 16), Rng(0, [0]), torch.zeros(1))[0])
    (tmp_path / "p.toml").write_text(PROBLEM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoked(*words):
    return CliRunner().invoke(main, list(words))


def test_invsolve_certify(folder):
    result = invoked("certify", "p.toml", "--samples", "3", "--draws", "9")
    assert result.exit_code == 0, result.output
    assert "CERTIFIED under the prior" in result.output
    assert load_image(folder / "p_certificate/restored.png").shape == (3, 16, 16)
    low, high, half = (load_image(folder / f"p_certificate/{name}.tif") for name in ("low", "high", "half_width"))
    assert torch.allclose(high - low, 2 * half, atol=1e-5)
    assert (folder / "p_certificate/certificate.html").is_file()
    again = invoked("certify", "p.toml", "--samples", "3", "--draws", "9", "--json", "--out", "other")
    facts = json.loads(again.output)
    assert facts["certified"] is True
    assert read_tensor is not None
    assert len(facts["out"]) == 7


def test_invsolve_certify_says_no_with_an_exit_code(folder):
    write_image(folder / "photo.png", torch.ones(3, 16, 16))
    result = invoked("certify", "p.toml", "--samples", "3", "--draws", "9")
    assert result.exit_code == 1
    assert result.output.splitlines()[0].startswith("NOT CERTIFIED")
    assert invoked("certify", "p.toml", "--draws", "3").exit_code == 2
    assert "--draws 9" in invoked("certify", "p.toml", "--draws", "3").output


def test_invsolve_tune_of_a_problem(folder):
    result = invoked("tune", "p.toml", "--budget", "300 nfe", "--save", "mine.toml")
    assert result.exit_code == 0, result.output
    assert "as given" in result.output
    assert "predictive psnr" in (folder / "mine.toml").read_text()
    auto = invoked("tune", "p.toml", "--solver", "auto", "--budget", "100 nfe", "--draws", "2")
    assert auto.exit_code == 0, auto.output
    for wrong, words in ((["--budget", "soon"], "60s"), (["--by", "ssim"], "psnr, perception"), (["--pool", "nowhere"], "nowhere")):
        bad = invoked("tune", "p.toml", *wrong)
        assert bad.exit_code == 2, bad.output
        assert words in bad.output


def test_invsolve_run_with_a_budget(folder):
    result = invoked("run", "p.toml", "--tune", "200 nfe")
    assert result.exit_code == 0, result.output
    assert "tuned by psnr on 8 exact draws" in result.output
    (folder / "p.toml").write_text(PROBLEM + 'tune = "200 nfe"\n')
    assert "tuned by psnr" in invoked("run", "p.toml").output
    assert invoked("run", "p.toml", "--tune", "soon").exit_code == 2
