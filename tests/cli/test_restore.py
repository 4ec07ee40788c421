"""restore: a photograph's boundary, notes and doubts in words, and a result that is never thrown away."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BlockMean, GaussianBlur, Mask, PaddedBlur, SeparableGaussianBlur

from invsolve import GaussianNoise, InputError, IterativeProx, Problem, Solution
from invsolve.cli import main
from invsolve.cli.doubts import boundary_doubt, doubts, residual_doubt, wraps
from invsolve.cli.output import noting
from invsolve.errors import Note
from invsolve.io.images import read_image, read_tensor, write_image
from invsolve.operator import Operator

SIGMA, NOISE = 1.5, 0.01
SYMMETRIC = ("--set", f"operator.sigma={SIGMA}", "--set", "operator.boundary=symmetric")


def scene(rows=60, columns=70):
    """A smooth picture with edges, brighter towards the lower right: what lies beyond a frame cut from it differs on each side."""
    down, across = torch.linspace(0, 1, rows)[:, None], torch.linspace(0, 1, columns)
    blobs = ((9 * down).sin() * (11 * across).cos() > 0.2).float() * 0.25
    return torch.stack([0.15 + 0.3 * down + 0.3 * across + (0.8 + 0.1 * k) * blobs for k in range(3)]).double().clamp(0, 1)


def photograph():
    """(truth, y): a scene blurred as a camera does, then cropped, with noise."""
    blurred = SeparableGaussianBlur((3, 60, 70), SIGMA, "reflect")(scene()[None])[0]
    noise = NOISE * torch.randn(3, 40, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    crop = np.s_[:, 10:50, 11:59]
    return scene()[crop], blurred[crop] + noise


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth, y = photograph()
    write_image("truth.npy", truth)
    write_image("photo.tif", y)
    taps = np.exp(-(np.arange(-6, 7) ** 2) / (2 * SIGMA**2))
    kernel = np.outer(taps, taps)
    write_image("kernel.png", torch.from_numpy(kernel / kernel.max())[None], bits=16)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def restore(operator, *arguments, noise=NOISE, steps=8):
    rest = ("--solver", "hqs", "--prior", "tv", "--set", f"solver.steps={steps}", "--noise", noise, "--json")
    return call("restore", "photo.tif", "--operator", operator, *rest, *arguments)


def rmse(name):
    """Against the truth, of the middle of what is larger."""
    x, truth = read_image(name)[0].double(), read_tensor("truth.npy")
    top, left = ((more - less) // 2 for more, less in zip(x.shape[1:], truth.shape[1:], strict=True))
    return float((x[:, top : top + truth.shape[1], left : left + truth.shape[2]] - truth).square().mean().sqrt())


def test_a_photograph_is_restored_with_a_boundary_and_the_circular_one_is_warned_of(here):
    circular = json.loads(restore("gaussian-blur", "--set", f"operator.sigma={SIGMA}", "--out", "c.tif").output)
    bounded = json.loads(restore("separable-gaussian-blur", *SYMMETRIC, "--out", "s.tif").output)
    padded = json.loads(restore("iterative-prox/padded-file-blur", "--set", "operator.operator.path=kernel.png", "--out", "p.tif").output)
    assert any("periodic" in note and "ringing" in note for note in circular["notes"])
    assert any("residual" in note for note in circular["notes"])
    assert "boundary = valid" in circular["notes"][0]
    assert "iterative-prox" in circular["notes"][0]
    for facts in (bounded, padded):
        assert not any("periodic" in note or "residual" in note for note in facts["notes"])
    assert padded["image"] == [1, 3, 52, 60]  # larger by the kernel's 13 - 1
    assert rmse("s.tif") < 0.6 * rmse("c.tif")
    assert rmse("p.tif") < 0.6 * rmse("c.tif")


def test_the_operator_is_a_table_too(here):
    table = f'{{ name = "separable-gaussian-blur", sigma = {SIGMA}, boundary = "symmetric" }}'
    assert restore(table, "--out", "a.tif").exit_code == 0
    restore("separable-gaussian-blur", *SYMMETRIC, "--out", "b.tif")
    assert torch.equal(read_image("a.tif")[0], read_image("b.tif")[0])
    for wrong, words in (("{ name = ", "no table"), ("iterative-prox/", "outer/inner"), ("/mask", "outer/inner")):
        done = restore(wrong)
        assert done.exit_code == 2
        assert words in done.output


def test_what_nobody_named_is_written_and_overwrites_nothing(here):
    first, second = (json.loads(restore("separable-gaussian-blur", steps=2).output)["out"] for _ in range(2))
    assert (first, second) == (["photo_restored.png"], ["photo_restored_2.png"])
    assert read_image("photo_restored.png")[0].shape == (3, 40, 48)


@pytest.mark.parametrize(
    ("out", "more", "words"),
    [
        ("r.gif", (), "suffix must be"),
        ("r.jpg", ("--bits", 16), "a .jpg has 8 bits"),
        ("r.npy", ("--bits", 16), "leave bits out"),
        ("folder", ("--bits", 16), "not with the folder"),
        ("truth.npy/r.png", (), "cannot make the folder"),
        ("kernel", (), "is a file"),
    ],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(here, monkeypatch, out, more, words):
    (here / "kernel").write_text("x")
    monkeypatch.setattr("invsolve.solver.Solver.solve", lambda *given, **named: pytest.fail("it went to work"))
    done = restore("separable-gaussian-blur", "--out", out, *more)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert sorted(os.listdir(here)) == ["kernel", "kernel.png", "photo.tif", "truth.npy"]


def test_a_disk_without_room_is_refused_before_the_work(here, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10}))
    done = restore("separable-gaussian-blur", "--out", "r.png")
    assert done.exit_code == 2
    assert "10 bytes left" in done.output


def test_a_result_that_cannot_be_written_after_all_is_saved_somewhere(here, tmp_path_factory, monkeypatch):
    shelter = tmp_path_factory.mktemp("shelter")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(shelter))

    def full(*given, **named):
        raise InputError("cannot write r.png: No space left on device")

    monkeypatch.setattr("invsolve.cli.results.put", full)
    done = restore("separable-gaussian-blur", "--out", "r.png", steps=2)
    assert done.exit_code != 0
    assert "No space left" in done.output
    (saved,) = shelter.iterdir()
    assert f"saved as {saved}" in done.output
    assert read_tensor(saved).shape == (1, 3, 40, 48)


def test_a_folder_holds_pictures_too(here):
    words = ("restore", "photo.tif", "--operator", "mask", "--solver", "ddrm", "--prior", "gaussian", "--set", "solver.steps=3")
    done = call(*words, "--samples", 2, "--out", "all", "--json")
    assert done.exit_code == 0, done.output
    solution = Solution.load("all")
    assert torch.equal(read_image("all/std.tif")[0], solution.std[0].float())
    assert torch.equal(read_image("all/mean.png")[0], ((255 * solution.mean[0].double().clamp(0, 1) + 0.5).floor() / 255).float())
    with pytest.raises(InputError, match="would be a folder"):
        solution.save("sol.png")


def test_bits(here):
    for name, bits in (("a.tif", 16), ("b.tif", 32), ("c.png", 8), ("d.png", 16), ("e.jpg", 8)):
        assert restore("separable-gaussian-blur", "--out", name, "--bits", bits, steps=2).exit_code == 0
        assert read_image(name)[1].bits == bits


@pytest.mark.parametrize(("out", "bits"), [("r.tif", 16), ("r.tif", 8), ("r.tif", 32), ("r.png", 8), (None, 16)])
def test_a_saved_file_gives_the_same_file_with_its_bits(here, out, bits):
    """Byte for byte; without a name it is another file, of the same kind and content."""
    named = () if out is None else ("--out", out)
    first = restore("separable-gaussian-blur", *SYMMETRIC, *named, "--bits", bits, "--save-config", "f.toml", steps=2)
    (written,) = json.loads(first.output)["out"]
    made = Path(written).read_bytes()
    if out is not None:
        os.remove(written)
    again = call("run", "f.toml", "--json")
    assert again.exit_code == 0, again.output
    (rewritten,) = json.loads(again.output)["out"]
    assert os.path.basename(rewritten) == (out or "f_restored.png")
    assert Path(rewritten).read_bytes() == made
    assert read_image(rewritten)[1].bits == bits
    other = call("run", "f.toml", "--bits", 32, "--out", "other.tif", "--json")
    assert read_image(json.loads(other.output)["out"][0])[1].bits == 32


def test_bits_that_no_picture_has_are_refused(here):
    for done in (restore("separable-gaussian-blur", "--bits", 12), restore("separable-gaussian-blur", "--set", "run.bits=12")):
        assert done.exit_code == 2
        assert "run.bits: Input should be 8, 16 or 32 (given 12)" in done.output


def test_bits_that_the_result_has_not_are_said(here):
    facts = json.loads(restore("separable-gaussian-blur", "--out", "a.png", steps=2).output)
    assert facts["notes"][0].startswith("photo.tif has 32 bits, the result in a.png 8; --out a.tif")
    for more in (("--out", "b.tif"), ("--bits", 16), ("--out", "c.png", "--bits", 8)):
        assert not any("bits" in note for note in json.loads(restore("separable-gaussian-blur", *more, steps=2).output)["notes"])
    assert read_image("photo_restored.png")[1].bits == 16


def test_notes_are_on_stderr_and_in_json(here):
    np.save("hwc.npy", (255 * np.moveaxis(photograph()[1].numpy(), 0, -1)).clip(0, 255).astype(np.uint8))
    words = ("restore", "hwc.npy", "--operator", "separable-gaussian-blur", "--solver", "hqs", "--prior", "tv", "--set", "solver.steps=2")
    facts = json.loads(call(*words, "--json").output)
    assert facts["image"] == [1, 3, 40, 48]
    assert sum("taken as (C, H, W)" in note for note in facts["notes"]) == 1
    assert sum("divided by 255" in note for note in facts["notes"]) == 1
    plain = call(*words)
    assert plain.stderr.count("taken as (C, H, W)") == 1
    assert "taken as" not in plain.stdout


@pytest.mark.parametrize("noise", [10, 1e-4])
def test_a_noise_level_far_off_is_said(here, noise):
    facts = json.loads(restore("separable-gaussian-blur", "--set", f"operator.sigma={SIGMA}", noise=noise).output)
    assert any("residual" in note for note in facts["notes"])


def test_nothing_measured_is_refused(here):
    done = restore('{ name = "mask", keep = 0 }')
    assert done.exit_code == 2
    assert "nothing is measured" in done.output


def test_a_wrong_parameter_is_no_question_of_the_shape(here):
    done = restore("gaussian-blur", "--set", "operator.sigma=-1")
    assert done.exit_code == 2
    assert "a Gaussian needs sigma > 0" in done.output
    assert "no image shape" not in done.output


CIRCLES = [GaussianBlur((3, 40, 48), SIGMA), GaussianBlur((3, 40, 48), 0.6), IterativeProx(GaussianBlur((3, 40, 48), SIGMA))]
LINES = [
    SeparableGaussianBlur((3, 40, 48), SIGMA),
    PaddedBlur((3, 40, 48), torch.ones(3, 5) / 15, "zero"),
    BlockMean((3, 40, 48), 2),
    Operator.from_function(lambda x: torch.fft.fft2(x, norm="ortho").real, in_shape=(3, 40, 48)),
]


@pytest.mark.parametrize(("operator", "expected"), [*((one, True) for one in CIRCLES), *((one, False) for one in LINES)])
def test_what_wraps(operator, expected):
    for axis in (-1, -2):
        assert wraps(operator, torch.zeros(1, *operator.out_shape), axis) == expected


def test_the_boundary_is_doubted_for_photographs_and_not_for_periodic_data():
    truth, y = photograph()
    for sigma, noise in ((SIGMA, NOISE), (1.0, 0.05), (3.0, 0.02)):
        operator = GaussianBlur((3, 40, 48), sigma)
        simulated = Problem.simulate(operator, truth[None], GaussianNoise(noise), generator=0)
        assert boundary_doubt(simulated) == []
        assert len(boundary_doubt(Problem(operator, y[None], GaussianNoise(noise)))) == 1
    assert boundary_doubt(Problem(SeparableGaussianBlur((3, 40, 48), SIGMA), y[None], GaussianNoise(NOISE))) == []
    assert boundary_doubt(Problem(Mask((3, 40, 48)), y[None], GaussianNoise(NOISE))) == []


def test_residuals_in_words():
    assert residual_doubt(None) == residual_doubt(torch.tensor([0.6, 1.3])) == []
    assert "1.7" in residual_doubt(torch.tensor([1.0, 1.7]))[0]
    assert "too high" in residual_doubt(torch.tensor([1.0, 0.01]))[0]
    truth, y = photograph()
    problem = Problem(SeparableGaussianBlur((3, 40, 48), SIGMA, "reflect"), y[None], GaussianNoise(NOISE))
    assert len(doubts(problem, torch.zeros(1, *truth.shape, dtype=torch.float64))) == 1


def test_warnings_of_others_are_left_alone(here, capsys):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with noting() as told:
            warnings.warn("one", Note, stacklevel=1)
            warnings.warn("one", Note, stacklevel=1)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert [str(one.message) for one in caught] == ["old"]
    assert told == ["one"]
    assert capsys.readouterr().err == "note: one\n"
