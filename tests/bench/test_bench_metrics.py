"""Metrics of a whole case, options of super-resolution papers, SSIM's borders and set metrics, against independent sums."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import math

import numpy as np
import pytest
import torch
from bench_cases import GAUSSIAN, tiny
from invsolve_operators import BlockMean, BoxMask, GaussianBlur
from scipy import linalg

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.bench import run, write_report
from invsolve.bench.case_metrics import Consistency, Coverage, FrechetDistance, NullSpaceError, Residual
from invsolve.bench.metrics import PSNR, SSIM, Case, HaarPSI, Metric, residual
from invsolve.bench.score import gauges
from invsolve.errors import InputError
from invsolve.plugins import Entry, registry
from invsolve.rng import Rng
from invsolve.solution import Solution, Status
from invsolve.solvers.diffusion.ddrm import DDRM


def images(count, shape=(3, 32, 32), seed=0):
    return Rng(seed, range(count), purpose="test").uniform(shape, torch.zeros(1, dtype=torch.float64))


def case(operator, x, x_hat, noise=None, samples=None):
    """A case whose answer is given."""
    problem = Problem.simulate(operator, x, noise or NoNoise(), generator=3)
    count = None if samples is None else len(samples)
    answer = x_hat if samples is None else samples
    return Case(problem, x, Solution(answer, Status.FINISHED, 1, 0, 0.0, 0.0, 0, DDRM(), samples=count))


# --- two images --------------------------------------------------------------------------------------------------------------


def wang_ssim(a, b):
    """Wang's index as his code and scikit-image (gaussian_weights, sigma 1.5, use_sample_covariance=False) sum it: windows inside only."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    total, count = 0.0, 0
    for channel in range(a.shape[0]):
        for top in range(a.shape[1] - 10):
            for left in range(a.shape[2] - 10):
                p, q = (image[channel, top : top + 11, left : left + 11] for image in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq, cov = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum(), (window * (p - mp) * (q - mq)).sum()
                total += (2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
                count += 1
    return total / count


@pytest.mark.parametrize("shape", [(1, 17, 23), (3, 14, 12)])
def test_ssim_cropped_by_five_is_wangs_sum_over_windows_inside(shape):
    x = images(2, shape)
    x_hat = (x + 0.3 * images(2, shape, seed=1) - 0.15).clamp(0, 1)
    found = SSIM(crop=5)(x_hat, x)
    for index in range(2):
        # Float64 both; variances as differences of sums lose eps / c2 = 2e-13, times some ten operations.
        assert float(found[index]) == pytest.approx(wang_ssim(x_hat[index].numpy(), x[index].numpy()), abs=1e-10)
    assert not torch.allclose(found, SSIM()(x_hat, x), rtol=0, atol=1e-4)  # the border matters: that is why it is said


def test_ssim_says_what_it_does_at_the_border_and_by_which_library():
    assert "mirrored" in SSIM().settings
    assert "cropped by 5" in SSIM(crop=5).settings
    assert "mirrors" in SSIM.__doc__
    assert SSIM.libraries == ("torchmetrics",)


# MATLAB's rgb2ycbcr for doubles in [0, 1], by its documented matrix: white 235/255, black 16/255, and the pure colours.
@pytest.mark.parametrize(
    ("colour", "luma"), [((1, 1, 1), 235), ((0, 0, 0), 16), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)]
)
def test_luma_is_that_of_super_resolution_papers(colour, luma):
    flat = torch.tensor(colour, dtype=torch.float64)[None, :, None, None].expand(1, 3, 8, 8)
    black = torch.zeros_like(flat)
    expected = -20 * math.log10((luma - 16) / 255) if luma != 16 else math.inf
    assert float(PSNR(channel="y")(flat, black)) == pytest.approx(expected, abs=1e-9)


def test_shaved_borders_do_not_count():
    x, x_hat = images(2), images(2, seed=1)
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    for options in ({}, {"channel": "y"}):
        for kind in (PSNR, SSIM):
            whole = kind(shave=4, **options)(x_hat, x)
            assert torch.equal(whole, kind(**options)(x_hat[inside], x[inside]))
    assert "4 pixels shaved" in PSNR(shave=4).settings
    assert "BT.601" in PSNR(channel="y").settings


def test_luma_of_grey_images_is_themselves_and_other_channels_are_refused():
    x, x_hat = images(1, (1, 16, 16)), images(1, (1, 16, 16), seed=1)
    assert torch.equal(PSNR(channel="y")(x_hat, x), PSNR()(x_hat, x))
    with pytest.raises(InputError, match="1 or 3 channels"):
        PSNR(channel="y")(images(1, (2, 8, 8)), images(1, (2, 8, 8)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PSNR(channel="red"), 'must be "y"'),
        (lambda: PSNR(shave=-1), "at least 0"),
        (lambda: SSIM(crop=True), "whole number"),
        (lambda: PSNR(shave=8)(images(1, (3, 16, 16)), images(1, (3, 16, 16))), "leaves nothing"),
        (lambda: SSIM(crop=5)(images(1, (3, 10, 16)), images(1, (3, 10, 16))), "needs 11 pixels"),
        (lambda: SSIM()(images(1, (3, 5, 16)), images(1, (3, 5, 16))), "needs 6 pixels"),
        (lambda: Residual()(images(1), images(1)), "measure"),
        (lambda: Coverage(level=1.0), "between 0 and 1"),
        (lambda: FrechetDistance(), "needs features"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_metrics_that_compare_two_images_keep_working_and_need_a_truth():
    class MAE(Metric):
        label = "MAE"

        def compute(self, x_hat, x):
            return (x_hat - x).abs().flatten(1).mean(1)

    x, x_hat = images(2), images(2, seed=1)
    whole = case(GaussianBlur((3, 32, 32), 1.0), x, x_hat)
    assert torch.equal(MAE().measure(whole), (x_hat - x).abs().flatten(1).mean(1))
    nobody = Case(whole.problem, None, whole.solution)
    assert all(bool(metric.measure(nobody).isnan().all()) for metric in (MAE(), PSNR(), HaarPSI(), NullSpaceError(), Coverage()))


# --- the case ----------------------------------------------------------------------------------------------------------------


def test_residual_and_consistency_are_their_sums():
    operator, x, x_hat = GaussianBlur((3, 32, 32), 1.0), images(2), images(2, seed=1)
    noisy = case(operator, x, x_hat, GaussianNoise(0.1))
    off = (operator(x_hat) - noisy.problem.y).numpy().reshape(2, -1)
    y = noisy.problem.y.numpy().reshape(2, -1)
    assert np.allclose(Residual().measure(noisy).numpy(), np.linalg.norm(off, axis=1) / (0.1 * math.sqrt(off.shape[1])), rtol=1e-12)
    assert np.allclose(Consistency().measure(noisy).numpy(), np.linalg.norm(off, axis=1) / np.linalg.norm(y, axis=1), rtol=1e-12)
    assert torch.equal(Residual().measure(noisy), residual(noisy.problem, x_hat))
    assert bool(Residual().measure(case(operator, x, x_hat)).isnan().all())  # no noise, no unit
    assert torch.equal(Consistency().measure(case(operator, x, x)), torch.zeros(2, dtype=torch.float64))


def test_consistency_counts_what_a_mask_measures():
    operator, x, x_hat = BoxMask((3, 32, 32), 16), images(2), images(2, seed=1)
    elsewhere = torch.where(operator.mask == 0, x_hat, x)
    assert torch.equal(Consistency().measure(case(operator, x, elsewhere)), torch.zeros(2, dtype=torch.float64))


def test_the_error_is_made_of_a_part_in_the_null_space_and_one_in_the_range():
    operator, x, x_hat = BlockMean((3, 32, 32), 2), images(2), images(2, seed=1)
    found = NullSpaceError().measure(case(operator, x, x_hat))
    error = (x_hat - x).numpy()
    # A block mean sees the mean of a block: the null space is what is left when it is taken away.
    means = error.reshape(2, 3, 16, 2, 16, 2).mean((3, 5), keepdims=True)
    unseen = (error.reshape(2, 3, 16, 2, 16, 2) - means).reshape(2, -1)
    assert np.allclose(found.numpy(), np.sqrt((unseen**2).mean(1)), rtol=1e-12)
    seen = np.sqrt(np.broadcast_to(means, (2, 3, 16, 2, 16, 2)).reshape(2, -1).__pow__(2).mean(1))
    assert np.allclose(found.numpy() ** 2 + seen**2, (error.reshape(2, -1) ** 2).mean(1), rtol=1e-12)


def test_coverage_of_samples_from_the_right_law_is_what_it_says():
    shape, count = (1, 40, 40), 19
    draws = [images(1, shape, seed=seed) for seed in range(count + 1)]  # uniform, independent: the truth is one more of them
    metric = Coverage(level=0.8)
    found = float(metric.measure(case(BoxMask(shape, 4), draws[0], None, samples=torch.stack(draws[1:]))))
    assert metric.rank(count) == 2
    assert metric.expected(count) == pytest.approx(0.8)
    # A share of 1600 independent pixels: standard deviation sqrt(.8 * .2 / 1600) = .01, four of them.
    assert abs(found - 0.8) < 0.04
    narrow = 0.5 + 0.1 * (torch.stack(draws[1:]) - 0.5)
    assert float(metric.measure(case(BoxMask(shape, 4), draws[0], None, samples=narrow))) < 0.2
    assert bool(metric.measure(case(BoxMask(shape, 4), draws[0], draws[1])).isnan())


# --- sets --------------------------------------------------------------------------------------------------------------------


def corners(batch):
    """Features of the tests: means of four corners."""
    return torch.stack([batch[:, 0, :4, :4], batch[:, 0, -4:, :4], batch[:, 0, :4, -4:], batch[:, 0, -4:, -4:]], 1).mean((2, 3))


def test_frechet_distance_is_that_of_two_gaussians():
    many, others = images(12, (1, 8, 8)), 0.3 + 0.5 * images(12, (1, 8, 8), seed=1)
    found = FrechetDistance(corners).compute(list(many), list(others))
    a, b = corners(many).numpy(), corners(others).numpy()
    s, t = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    # The general root of a product of two well-conditioned 4 x 4 matrices against the symmetric one: both to some 1e-13.
    assert found == pytest.approx(expected, rel=1e-9)
    assert FrechetDistance(corners).compute(list(many), list(many)) == pytest.approx(0, abs=1e-9)
    assert math.isnan(FrechetDistance(corners).compute([many[0]], [others[0]]))


class CornerDistance(FrechetDistance):
    """A set metric as a plug-in brings it."""

    label = "corner distance"

    def features(self, images):
        return corners(images)


class SampleSpread(Metric):
    """Sees the samples."""

    label, higher = "spread", None

    def measure(self, case):
        return torch.full((case.problem.batch,), torch.nan) if case.samples is None else case.samples.std(0).flatten(1).mean(1)


class Broken(Metric):
    """Fails."""

    label = "broken"

    def measure(self, case):
        raise RuntimeError("no such number")


@pytest.fixture
def metrics(monkeypatch):
    for name, attribute in (("corner-distance", "CornerDistance"), ("spread", "SampleSpread"), ("broken", "Broken")):
        monkeypatch.setitem(registry().entries, ("metric", name), Entry("metric", name, f"{__name__}:{attribute}", "stranger 1.0"))


def test_a_suite_takes_metrics_of_cases_samples_and_sets_and_one_that_fails(metrics, tmp_path):
    entries = ["psnr", {"name": "psnr", "label": "PSNR-Y", "channel": "y", "shave": 2}, "coverage", "spread", "corner-distance", "broken"]
    solver = {"name": "ddrm", "steps": 2, "prior": GAUSSIAN}
    solvers = [solver, {**solver, "label": "four", "samples": 4}]
    suite = tiny(operator=[{"name": "gaussian-blur", "sigma": 1.0}], solver=solvers, metrics=entries)
    rows = run(suite, out=tmp_path, progress=False)
    plain, four = ([row for row in rows if row["solver"] == name] for name in ("ddrm", "four"))
    assert all(row["metrics"]["spread"] is None and row["metrics"]["coverage"] is None for row in plain)
    assert all(row["metrics"]["spread"] > 0 and 0 <= row["metrics"]["coverage"] <= 1 and row["samples"] == 4 for row in four)
    assert all(row["status"] == "finished" and row["metrics"]["broken"] is None for row in rows)  # an answer stays an answer
    assert all(row["faults"] == {"broken": "RuntimeError: no such number"} for row in rows)
    assert all(row["metrics"]["PSNR-Y"] != row["metrics"]["psnr"] for row in rows)
    page = write_report(tmp_path).read_text()
    assert "corner distance" in page
    assert "broken failed 4 times: RuntimeError: no such number" in page
    assert "PSNR-Y: Y of BT.601" in page


def test_the_set_metric_in_the_table_is_that_of_the_stored_images(metrics, tmp_path):
    from invsolve.bench.cells import Store
    from invsolve.bench.data import load_pictures
    from invsolve.bench.export import lines, read_run
    from invsolve.bench.table import format_plain

    suite = tiny(
        data={"shape": [3, 16, 16], "images": 3},
        operator=[{"name": "gaussian-blur", "sigma": 1.0}],
        solver=[{"name": "ddrm", "steps": 2, "prior": GAUSSIAN}],
        metrics=["corner-distance"],
    )
    rows = run(suite, out=tmp_path, progress=False)
    (line,) = lines(rows, "gaussian-blur", read_run(tmp_path))
    store = Store(tmp_path, "cells", "cell.json")
    answers = [store.tensors(row["key"])["x"].clamp(0, 1) for row in rows]
    truths = [picture.image for picture in load_pictures("synthetic", {"shape": [3, 16, 16], "images": 3})]
    value = line.numbers["corner-distance"]
    assert value.mean == CornerDistance().compute(answers, truths)
    assert (value.std, value.count) == (None, 3)
    assert "corner distance" in format_plain(read_run(tmp_path), rows)


def test_the_version_of_the_library_is_part_of_a_metric(monkeypatch):
    (one,) = gauges(tiny(metrics=["ssim"]))
    monkeypatch.setattr("invsolve.bench.score.version", lambda _: "0.0.1")
    (other,) = gauges(tiny(metrics=["ssim"]))
    assert one.libraries["torchmetrics"] != "0.0.1" == other.libraries["torchmetrics"]
    assert one.key != other.key
    assert gauges(tiny(metrics=[{"name": "ssim", "label": "mine"}]))[0].key == other.key  # a label is no input
