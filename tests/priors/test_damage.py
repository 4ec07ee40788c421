"""Finding damage: painted damage as stated, evidence against a closed-form likelihood, masks by hand, the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_damage import find_damage, outliers
from invsolve_damage import finding as finding_module
from invsolve_damage import segment as segment_module
from invsolve_damage.finding import evidence, tiled
from invsolve_damage.outliers import blurred
from invsolve_damage.reading import METHODS, Reading
from invsolve_damage.segment import segmented, shipped
from invsolve_operators import FilmMask

from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.io.images import read_image, write_image
from invsolve.priors import GaussianPrior, LabelledMixturePrior
from invsolve.rng import Rng
from invsolve.training.conditions import pairs_of
from invsolve.training.config import TrainConfig
from invsolve.training.damage import CLEAN, DAMAGED, Damaged, Paint

DOUBLE = torch.float64
NONE, ONE = dict.fromkeys(METHODS, 0.0), dict.fromkeys(METHODS, 1.0)
PLAIN = Reading((0.05, 0.1, 0.2, 0.4), (0.0,), ((0.0,) * 9,), 0.0, NONE, ONE, dict.fromkeys(METHODS, (0.5, 2)), ONE, "outlier")


@pytest.fixture
def _plain(monkeypatch):
    """No windows, and thresholds that do not depend on what was fitted."""
    monkeypatch.setattr(Reading, "load", staticmethod(lambda: PLAIN))


def sheet(*bad, side=8):
    """A mask with some pixels missing."""
    mask = torch.ones(side, side)
    for row, column in bad:
        mask[row, column] = 0
    return mask


def test_paint_covers_each_piece_with_one_colour():
    """Two pieces, one of two pixels that touch at a corner: x' = (1 - a) x + a v, dark or bright, nearly grey; elsewhere x to the bit."""
    x, keep = torch.full((3, 8, 8), 0.5), sheet((1, 1), (2, 2), (5, 6))
    for seed in range(6):
        out = Paint(cover=(0.8, 0.8), tint=0.02)(x, keep, np.random.default_rng(seed))
        assert torch.equal(out[:, keep > 0], x[:, keep > 0])
        assert torch.equal(out[:, 1, 1], out[:, 2, 2])
        assert not torch.equal(out[:, 1, 1], out[:, 5, 6])
        value = (out[:, keep == 0] - 0.2 * 0.5) / 0.8
        assert bool((((value > -1e-6) & (value < 0.17 + 1e-6)) | ((value > 0.83 - 1e-6) & (value < 1 + 1e-6))).all())
        assert float((value - value.mean(0)).abs().max()) <= 2 * 0.02 + 1e-6


def test_pairs_say_what_was_done():
    """Clean crops carry 0 and are untouched, damaged ones carry 1; the label 2 for a share of both."""
    x = torch.full((400, 3, 8, 8), 0.5)
    pairs = Damaged([sheet((3, 3), (4, 4))], share=0.5, drop=0.2)
    target, label = pairs(x, np.random.default_rng(0))
    touched = (target != 0.5).flatten(1).any(1)
    assert bool(touched[label == DAMAGED].all())
    assert not bool(touched[label == CLEAN].any())
    # binomial: 400 draws of .2 and .5, four standard errors
    assert abs(float((label == 2).double().mean()) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 400)
    assert abs(float(touched.double().mean()) - 0.5) < 4 * math.sqrt(0.25 / 400)
    assert pairs.fixed(x).tolist() == [CLEAN] * 400
    with pytest.raises(InputError, match="as large as the crops"):
        Damaged([torch.ones(4, 4)], share=1.0)(x, np.random.default_rng(0))


def condition(**more):
    """The [condition] table of a small training."""
    table = {"kind": "damage", "operator": {"name": "film-mask", "density": 3.0}, "side": 24, "draws": 2, **more}
    objective = {"kind": "conditional", "sigmas": {"kind": "uniform", "low": 0.1, "high": 1.0}}
    network = {"class": "invsolve_weights.networks:ClassDRUNet", "arguments": {"channels": 3, "classes": 2}}
    data = {"side": 8, "source": [{"path": "photographs"}]}
    config = {"name": "small", "network": network, "data": data, "objective": objective, "run": {"steps": 1}, "condition": table}
    return TrainConfig.model_validate(config).condition


def test_the_table_of_a_config(tmp_path):
    """Sheets are the registry's masks with the seeds that follow `seed`."""
    pairs = pairs_of(condition(seed=7), (3, 8, 8), tmp_path)
    assert isinstance(pairs, Damaged)
    assert [torch.equal(one, FilmMask((1, 24, 24), 3.0, seed=7 + index).mask[0]) for index, one in enumerate(pairs.sheets)] == [True, True]
    with pytest.raises(InputError, match="side, of the masks, must be at least that of the crops, 32"):
        pairs_of(condition(), (3, 32, 32), tmp_path)
    with pytest.raises(InputError, match="separable-gaussian-blur has none"):
        pairs_of(condition(operator={"name": "separable-gaussian-blur", "sigma": 1.0}), (3, 8, 8), tmp_path)


def test_evidence_is_a_likelihood_ratio():
    """One pixel: sum over levels of r times the step of log s is log p(x | 1) - log p(x | 0) of the mixture.

    40 levels from .02 to 20 times the spread; beyond them r is below (.02)^2 and (1 / 20)^2 of its scale, and the sum is that of a smooth
    function: together below .02. The mean over 400 draws of noise is held to 4 standard errors besides.
    """
    means = torch.tensor([0.5, 0.5, 0.9], dtype=DOUBLE).reshape(3, 1, 1, 1)
    prior = LabelledMixturePrior(means, [0, 1, 1], std=0.1, weights=torch.tensor([1.0, 0.8, 0.2], dtype=DOUBLE))
    levels = (0.1 * torch.logspace(math.log10(0.02), math.log10(20), 40, dtype=DOUBLE)).tolist()
    step = math.log(levels[1] / levels[0])
    for value in (0.45, 0.65, 0.85):
        photo = torch.full((400, 1, 1, 1), value, dtype=DOUBLE)
        found = step * sum(part[:, 0, 0, 0] for part in evidence(photo, prior, levels, 1, Rng(0, range(400))))
        near, far = (math.exp(-0.5 * ((value - mean) / 0.1) ** 2) for mean in (0.5, 0.9))
        wanted = math.log(0.8 * near + 0.2 * far) - math.log(near)
        assert isinstance(found, torch.Tensor)
        assert abs(float(found.mean()) - wanted) < 4 * float(found.std()) / 20 + 0.02


def test_tiles_agree_with_the_whole(monkeypatch):
    """A denoiser that looks at one pixel gives the same by tiles; items and places stay where they are."""
    x = Rng(0, [0, 1]).uniform((1, 23, 37), torch.zeros(1, dtype=DOUBLE))
    prior = LabelledMixturePrior.examples()[0].whole
    local = lambda image, sigma: prior.std**2 / (prior.std**2 + sigma**2) * image  # noqa: E731
    monkeypatch.setattr(finding_module, "TILE", 10)
    monkeypatch.setattr(finding_module, "MARGIN", 3)
    assert torch.equal(tiled(local, x, 0.3), local(x, 0.3))  # pyright: ignore[reportArgumentType]


def test_outliers_by_hand():
    """A flat picture with one pixel .4 off: the median around it is flat, the spread 0, so that its score is .4 / (1 / 255) = 102."""
    photo = torch.full((1, 3, 9, 9), 0.5)
    photo[0, 1, 4, 4] = 0.9
    score = outliers(photo)
    assert abs(float(score[0, 4, 4]) - 102) < 0.01
    assert float(score.sum()) == float(score[0, 4, 4])
    window = blurred(score.double(), 1.0)
    assert abs(float(window.sum()) - float(score.sum())) < 1e-9
    assert abs(float(window[0, 4, 4] / window[0, 4, 5]) - math.exp(0.5)) < 1e-9


def planted(side=24):
    """A smooth photograph with a dark spot and a bright line, and the truth."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    photo = (0.5 + 0.1 * torch.sin(rows / 9) * torch.cos(columns / 11)).float().repeat(3, 1, 1)
    bad = torch.zeros(side, side, dtype=torch.bool)
    bad[5:7, 8:10], bad[:, 17] = True, True
    photo[:, 5:7, 8:10], photo[:, :, 17] = 0.05, 0.95
    return photo, bad


@pytest.mark.usefixtures("_plain")
def test_outliers_find_what_stands_out():
    photo, bad = planted()
    found = find_damage(photo, method="outlier", threshold=6.0)
    assert torch.equal(~found.keep[0], bad)
    wide = find_damage(photo, method="outlier", threshold=6.0, grow=1).keep
    assert int((~wide).sum()) == (2 + 2) ** 2 + 3 * 24
    generous = find_damage(photo, method="outlier", threshold=6.0, generous=True).keep
    assert int((~generous).sum()) == (2 + 4) ** 2 + 5 * 24
    batch = find_damage(torch.stack([photo, photo.flip(-1)]), method="outlier", threshold=6.0)
    assert batch.keep.shape == (2, 1, 24, 24)
    assert torch.equal(batch.keep[0], found.keep)


@pytest.mark.usefixtures("_plain")
def test_a_prior_of_two_classes_finds_what_only_the_damaged_one_explains():
    """Pixels of the mixture's second component belong to class 1 alone; each method sees them, whatever else is in the batch."""
    means = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.5)]).double()
    means[1, :, 1, 2] = 0.95
    prior = LabelledMixturePrior(means, [0, 1], std=0.1)
    for method, threshold in (("evidence", 1.0), ("difference", 1.5)):
        both = find_damage(means.flip(0), prior, method=method, threshold=threshold)
        if method == "evidence":
            assert (~both.keep[0, 0]).nonzero().tolist() == [[1, 2]]
            assert bool(both.keep[1].all())
        alone = find_damage(means[0], prior, method=method, threshold=threshold)
        assert torch.allclose(alone.score, both.score[1], rtol=0, atol=1e-9)


def test_what_is_refused():
    photo, _ = planted()
    for wrong, words in (
        ({"method": "other"}, "method must be one of segment, reading, evidence, difference, outlier"),
        ({"draws": 0}, "draws must be a whole number from 1 to 64"),
        ({"grow": 33}, "grow must be a whole number from 0 to 32"),
        ({"threshold": math.nan}, "threshold must be a finite number"),
    ):
        with pytest.raises(InputError, match=words):
            find_damage(photo, **{"method": "outlier", **wrong})
    for wrong in (photo[:2], 255 * photo, photo[0], photo * math.nan):
        with pytest.raises(InputError, match="photo must"):
            find_damage(wrong, method="outlier")


def test_a_reading_is_kept_and_read_back(tmp_path):
    """Saved and loaded it is the same; its score is the weighted sum, by hand on one pixel."""
    reading = Reading(
        (0.1,), (0.0, 1.0), ((1.0, 2.0, 3.0), (0.5, 0.0, 0.0)), -1.0, {}, {}, {"outlier": (2.0, 1)}, {"outlier": 0.2}, "outlier"
    )
    reading.save(tmp_path / "reading.json")
    assert Reading.load(tmp_path / "reading.json") == reading
    maps = torch.tensor([0.3, 0.7, 4.0], dtype=DOUBLE).reshape(1, 3, 1, 1).expand(1, 3, 6, 6)
    wanted = -1 + 1.5 * math.asinh(0.3) + 2 * math.asinh(0.7) + 3 * math.asinh(4.0)
    assert torch.allclose(reading(maps), torch.full((1, 6, 6), wanted, dtype=DOUBLE), rtol=0, atol=1e-9)
    shipped = Reading.load()
    assert shipped.best in METHODS
    assert {"segment", "outlier"} <= set(shipped.rated)
    assert all(name in shipped.thresholds and name in shipped.generous and name in shipped.blur for name in shipped.rated)
    assert replace(shipped) == shipped


def test_a_method_that_nothing_was_fitted_for_says_so(monkeypatch):
    """Rather than a mask without damage; a threshold of one's own is enough where there are no weights to fit."""
    monkeypatch.setattr(Reading, "load", staticmethod(lambda: replace(PLAIN, rated={"outlier": 0.2}, thresholds={"outlier": 5.0})))
    photo, _ = planted()
    for method in ("reading", "evidence"):
        with pytest.raises(InputError, match="nothing was fitted for method"):
            find_damage(photo, method=method)
    prior = LabelledMixturePrior(torch.stack([photo, 0.5 * photo]), [0, 1], std=0.1)
    assert bool(find_damage(photo, prior, method="evidence", threshold=1.0).keep.all())


def test_the_segmenter_sees_the_same_by_tiles(monkeypatch):
    """Tiles of 40 with the margin that it needs, on odd sides: the whole's logits to rounding, the frame's last pixels going on beyond."""
    whole = Rng(0, [0]).uniform((3, 91, 73), torch.zeros(1))
    margin = segment_module.MARGIN
    wanted = shipped()(torch.nn.functional.pad(whole, [margin] * 4, mode="replicate"))[:, margin:-margin, margin:-margin]
    monkeypatch.setattr(segment_module, "SIDE", 40)
    assert torch.allclose(segmented(whole), wanted, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("_plain")
def test_the_command_writes_a_mask(tmp_path):
    """invsolve mask, by outliers: white where it is sound; the share is told."""
    photo, bad = planted()
    write_image(tmp_path / "photo.png", photo)
    arguments = ["mask", str(tmp_path / "photo.png"), "--method", "outlier", "--threshold", "6", "--strict", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    mask, _ = read_image(told["out"])
    assert told["out"] == str(tmp_path / "photo_mask.png")
    assert torch.equal(mask[0] < 0.5, bad)
    assert abs(told["damaged"] - float(bad.double().mean())) < 1e-9


def test_a_prior_is_asked_or_refused():
    """With a prior it is its evidence that counts; methods that look at none refuse one."""
    photo, asked = torch.full((3, 8, 8), 0.5), []

    class Noting(GaussianPrior):
        def given(self, problem):
            asked.append(int(problem.context["label"]))
            return super().given(problem)

    assert not find_damage(photo, Noting(), threshold=1e9).keep.logical_not().any()
    assert asked == [0, 1]
    for method in ("segment", "outlier"):
        with pytest.raises(InputError, match=f"'{method}' asks no prior"):
            find_damage(photo, Noting(), method=method)


@pytest.mark.usefixtures("_plain")
def test_the_mask_does_not_take_the_photographs_place(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0)))
    held = path.read_bytes()
    ended = CliRunner().invoke(main, ["mask", str(path), "--out", str(tmp_path / "." / "a.png")])
    assert ended.exit_code == 2, ended.output
    assert "is the photograph itself" in ended.output
    assert path.read_bytes() == held


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_picture_of_one_grey_has_no_damage(grey):
    assert bool(find_damage(torch.full((3, 50, 61), grey), method="segment", generous=True).keep.all())
