"""Numbers of drawings, tables and prior reports by hand: what single-line faults (benchmarks/studies/mutants.py) asked for."""

import base64
import copy
import io
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bench_cases import tiny
from deepinv.loss.metric import HaarPSI as Reference
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from invsolve.bench import environment, prior_report, records, table
from invsolve.bench import prior_measures as measures
from invsolve.bench import suite as suites
from invsolve.bench.case_metrics import Coverage
from invsolve.bench.cells import canonical
from invsolve.bench.export import Spread, lines
from invsolve.bench.figures import decades, nice
from invsolve.bench.job import Job
from invsolve.bench.metrics import SSIM, HaarPSI
from invsolve.bench.progress import Bar
from invsolve.bench.state import state_hash
from invsolve.io.html import data_uri
from invsolve.plugins import registry
from invsolve.priors import Denoiser, GaussianPrior
from invsolve.rng import Rng
from invsolve.solution import Step

LIKE = torch.zeros(1, dtype=torch.float64)


# Drawings


@pytest.mark.parametrize(
    ("step", "expected"), [(0.3, 0.5), (0.011, 0.02), (1.0, 1.0), (1.4, 2.0), (4.0, 5.0), (7.0, 10.0), (31.0, 50.0), (600.0, 1000.0)]
)
def test_the_step_of_an_axis_is_the_next_of_1_2_5(step, expected):
    assert nice(step) == pytest.approx(expected, rel=1e-12)


def test_ticks_of_a_logarithmic_axis_are_1_2_5():
    assert decades(0.04, 3.0) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1.0, 2.0])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_in_a_page_is_the_picture(channels):
    image = Rng(0, [0], purpose="test").uniform((channels, 3, 5), LIKE)[0]
    kind, _, data = data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    wanted = (image * 255).round().numpy().astype("uint8")
    assert np.array_equal(seen, wanted[0] if channels == 1 else wanted.transpose(1, 2, 0))


@pytest.mark.parametrize("image", [torch.zeros(2, 3, 3), torch.zeros(3, 3), torch.zeros(3, 0, 2), torch.zeros(1, 2, 2, dtype=torch.cfloat)])
def test_what_is_no_picture_is_not_shown(image):
    assert data_uri(image) is None


# Tables


def test_the_spread_of_two_numbers():
    """Unbiased: the deviation of 1 and 4 is 3 / sqrt(2)."""
    assert Spread.of([1.0, 4.0]) == Spread(2.5, pytest.approx(3 / math.sqrt(2)), 2)
    assert Spread.of([1.0]) == Spread(1.0, None, 1)
    assert Spread.of([]) is None


def row(**changes):
    given = {"operator": "blur", "image": "one", "solver": "a", "prior": "p", "status": "finished", "reason": "", "metrics": {"psnr": 20.0}}
    return {**given, "nfe": 3, "seconds": 0.5, "network_seconds": 0.1, **changes}


def test_a_line_of_one_picture_and_one_of_two():
    one, two = lines([row(), row(solver="b"), row(solver="b", image="two", metrics={"psnr": 24.0}), row(operator="mask")], "blur")
    assert (one.operator, one.solver, one.prior, one.status, one.done, one.total) == ("blur", "a", "p", "finished", 1, 1)
    assert two.numbers["psnr"] == Spread(22.0, pytest.approx(math.sqrt(8)), 2)


# What a table shows of each metric: its decimals, and whether more is better (None: neither).
SHOWN = {
    "psnr": (2, True),
    "ssim": (3, True),
    "haarpsi": (3, True),
    "residual": (2, None),
    "consistency": (3, False),
    "null-space-error": (4, False),
    "coverage": (3, None),
}


def test_decimals_and_sense_of_every_metric():
    found = {name: registry().load("metric", name) for name in SHOWN}
    assert {name: (kind.digits, kind.higher) for name, kind in found.items()} == SHOWN


# Metrics


@pytest.mark.parametrize(("count", "level", "rank"), [(19, 0.9, 1), (39, 0.9, 2), (30, 0.9, 2), (10, 0.5, 3), (3, 0.9, 1)])
def test_the_rank_of_the_interval_of_a_coverage(count, level, rank):
    """n samples and the truth are n + 1 places; (1 - level) / 2 of them lie outside at either end, at least one."""
    metric = Coverage(level)
    assert metric.rank(count) == rank
    assert metric.expected(count) == pytest.approx(1 - 2 * rank / (count + 1))


def test_the_smallest_picture_of_ssim():
    flat = torch.full((1, 3, 6, 6), 0.4, dtype=torch.float64)
    assert float(SSIM()(flat, flat)) == pytest.approx(1.0)


def test_haarpsi_has_the_constants_that_it_names():
    a, b = (Rng(seed, [0], purpose="test").uniform((3, 32, 32), torch.zeros(1)) for seed in (0, 1))
    assert "C 30, alpha 4.2" in HaarPSI.settings
    assert float(HaarPSI().compute(a, b)) == float(Reference(C=30.0, alpha=4.2)(a, b))
    assert float(HaarPSI().compute(a, b)) != pytest.approx(float(Reference(C=30.0, alpha=8.4)(a, b)), abs=1e-3)


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "show", "drawn"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)])
def test_a_bar_is_drawn_on_a_terminal_and_when_asked_for(monkeypatch, stream, show, drawn):
    monkeypatch.setattr("sys.stderr", stream())
    with Bar(4, show) as bar:
        assert bar.bar.disable is not drawn


@pytest.mark.parametrize("show", [True, False])
def test_a_log_has_a_line_for_each_operator_and_solver(monkeypatch, show):
    seen = io.StringIO()
    monkeypatch.setattr("sys.stderr", seen)
    with Bar(4, show) as bar:
        for held, computed in ((1, 3), (4, 0), (0, 2)):
            bar.begin("blur, dps", held)
            bar.end(held, computed)
    found = [line.rpartition(",")[0] for line in seen.getvalue().splitlines()]
    assert found == (["blur, dps: 3 computed, 1 were there", "blur, dps: 2 computed"] if show else [])


def test_a_bar_shows_a_step_at_most_ten_times_a_second(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    times = iter([0.0, 10.0, 10.05, 10.2])  # the beginning, three steps
    monkeypatch.setattr("invsolve.bench.progress.time.perf_counter", lambda: next(times))
    with Bar(4, True) as bar:
        told = []
        monkeypatch.setattr(bar.bar, "set_postfix_str", told.append)
        bar.begin("blur, dps", 0)
        for index in range(3):
            bar.step(Step(index, 5, LIKE, LIKE))
    assert told == ["step 1/5", "step 3/5"]


# Priors


class Off(Denoiser):
    """`at` is where its error is least, as a multiple of the level of the noise; the error is a parabola in the level."""

    def __init__(self, image, level, at):
        super().__init__()
        self.image, self.level, self.at = image, level, at

    def forward(self, x, sigma):
        return self.image + (float(sigma) / self.level - self.at)


@pytest.mark.parametrize("at", [0.83, 0.97, 1.06, 1.2])
def test_the_best_level_is_the_vertex_of_the_parabola(at):
    """Three values of a parabola give it exactly; float32 estimates leave 1e-7 of errors of at least 1e-3."""
    image = torch.full((1, 1, 8, 8), 0.5)
    assert measures.best_ratio(Off(image, 0.1, at), [image], 0.1) == pytest.approx(at, abs=1e-4)


class Mean(Denoiser):
    """The mean of each picture that it is given."""

    def forward(self, x, sigma):
        return x.mean((-3, -2, -1), keepdim=True).expand_as(x)


def test_what_tiles_cost_by_hand():
    """50 x 90 pixels hold 1 x 2 tiles of 40; 8 x 8 pixels in the middle of a tile are 16 or more from a cut."""
    image = Rng(3, [0], purpose="test").uniform((1, 50, 90), torch.zeros(1))
    (found,) = measures.measure_tiles(Mean(), [image], 0.1, sides=(40, 64))
    x = measures.noisy(image, 0.1, 0)[0, 0].double().numpy()
    truth, whole = image[0, 0].double().numpy()[:40, :80], (x.mean() - image[0, 0].double().numpy()[:40, :80]) ** 2
    cut = np.concatenate([(x[:40, start : start + 40].mean() - truth[:, start : start + 40]) ** 2 for start in (0, 40)], axis=1)
    inside = np.concatenate([whole[16:24, 16:24], whole[16:24, 56:64]]), np.concatenate([cut[16:24, 16:24], cut[16:24, 56:64]])
    assert found.side == 40
    # Means of float32 numbers near 0.1: 1e-6 of them, times 10 / ln 10.
    assert found.whole == pytest.approx(10 * math.log10(whole.mean() / cut.mean()), abs=1e-4)
    assert found.inside == pytest.approx(10 * math.log10(inside[0].mean() / inside[1].mean()), abs=1e-4)


@pytest.mark.parametrize(("shape", "sides"), [((40, 40), ()), ((40, 41), (40,)), ((41, 40), (40,)), ((39, 80), ())])
def test_a_tile_as_large_as_the_picture_is_left_out(shape, sides):
    found = measures.measure_tiles(Mean(), [Rng(3, [0], purpose="test").uniform((1, *shape), torch.zeros(1))], 0.1, sides=(40,))
    assert [one.side for one in found] == list(sides)


class OfChannels(Mean):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels


def test_pictures_in_the_channels_of_a_prior():
    colour, grey = (Rng(5, [0], purpose="test").uniform((channels, 4, 6), torch.zeros(1))[0] for channels in (3, 1))
    for channels, given, wanted in (
        (1, colour, colour.mean(0, keepdim=True)),
        (3, grey, grey.expand(3, 4, 6)),
        (3, colour, colour),
        (None, grey, grey),
        (2, colour, colour.mean(0, keepdim=True).expand(2, 4, 6)),
    ):
        (found,) = measures.fitting_images(OfChannels(channels), [given])
        assert torch.equal(found, wanted[None])


def test_a_call_on_a_card_is_waited_for_before_and_after(monkeypatch):
    told, pretended = [], SimpleNamespace(is_cuda=True, device="cuda:1")
    monkeypatch.setattr("torch.cuda.synchronize", told.append)
    assert measures.timed(lambda x, sigma: told.append(sigma), pretended, 0.3) >= 0
    assert told == ["cuda:1", 0.3, "cuda:1"]


def test_what_is_said_while_a_prior_is_measured_and_of_what_parts(monkeypatch):
    monkeypatch.setattr(prior_report, "measure_speed", lambda *_: [])
    images = [Rng(3, [index], purpose="test").uniform((3, 24, 80), torch.zeros(1))[0] for index in range(2)]
    said = []
    facts = prior_report.measure("grey", GaussianPrior(0.5, 0.2), images, side=16, count=2, say=said.append)
    parts = ["accuracy and calibration", "symmetry of the Jacobian", "tiles", "speed", "samples"]
    assert said == [f"grey: {part}" for part in parts]
    assert facts.real is not None
    assert [one.images.shape for one in facts.drawn] == [(2, 3, 16, 16)] * 2


# Records and suites


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (records.Count, [0, 3, 10**12], [-1, 10**12 + 1]),
        (records.Seconds, [0.0, 0.5, 1e12], [-0.5, 1.1e12, math.inf, math.nan]),
        (suites.Name, ["tiny"], ["", "Tiny", b"tiny", 3]),
    ],
)
def test_ends_of_what_records_and_suites_hold(kind, taken, refused):
    checked = TypeAdapter(kind).validate_python
    assert [checked(value) for value in taken] == taken
    for value in refused:
        with pytest.raises(ValidationError):
            checked(value)


@pytest.mark.parametrize(
    "values",
    [
        [np.arange(3.0), np.arange(3.0) + 1, np.arange(3.0).astype("float32"), np.arange(3.0)[None], np.array(["a", "b", "c"])],
        [np.float64(1.0), np.float64(2.0), np.int64(1)],
        [torch.arange(3.0), -torch.arange(3.0), torch.arange(3.0)[None], torch.arange(3)],
        [torch.tensor([1 + 2j]), torch.tensor([1 - 2j])],
        [torch.tensor([0.0, 1.0]).to_sparse(), torch.tensor([0.0, 2.0]).to_sparse()],
        [SimpleNamespace(a=[1, {"b": np.zeros(2)}]), SimpleNamespace(a=[1, {"b": np.ones(2)}]), SimpleNamespace(a=[1, {"c": np.zeros(2)}])],
        [{1, 2}, {1, 3}, (1, 2), [1, 2]],
    ],
    ids=["arrays", "numbers", "tensors", "complex", "sparse", "inside", "plain"],
)
def test_every_number_is_in_the_state_of_an_object(values):
    assert len({state_hash(value) for value in values}) == len(values)
    assert state_hash(values[0]) == state_hash(copy.deepcopy(values[0]))


def test_the_values_of_a_suite_are_those_of_json():
    plain = tiny(metrics=["psnr", {"name": "ssim", "crop": 5}]).plain()
    assert json.loads(json.dumps(plain)) == plain


def test_the_text_that_keys_are_made_of():
    """Another text, and what earlier runs computed is not found again."""
    assert canonical({"b": "é", "a": [1, 0.1, None, True]}) == '{"a":[1,0.1,null,true],"b":"é"}'


def test_a_folder_that_others_may_write_to_is_not_tidied(tmp_path):
    """Only who knows to be alone removes what looks like the rest of a killed run: it may be what another is writing."""
    for alone, kept in (({}, True), ({"alone": False}, True), ({"alone": True}, False)):
        rest = tmp_path / "cells" / ".a.1234-0123abcd.tmp"
        rest.mkdir(parents=True, exist_ok=True)
        Job(tiny(), tmp_path, 0, torch.device("cpu"), 1, False).prepare(**alone)
        assert rest.exists() is kept


def test_a_table_on_a_terminal_has_a_line_a_solver_and_one_blank_line():
    metric = {"label": "PSNR", "unit": "dB", "digits": 2, "settings": "data range 1", "libraries": {}}
    told = {"metrics": {"psnr": metric}, "sets": [], "cells": [0, 1, 2], "hardware": "a machine", "device": "cpu"}
    stream = Terminal()
    table._rich(told, [row(faults={}), row(solver="b", metrics={"psnr": 24.0}, faults={}), row(solver="b", image="two", faults={})], stream)
    lines_of = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in stream.getvalue().splitlines()]
    assert [line.split() for line in lines_of[:6]] == [
        ["blur"],
        ["solver", "PSNR", "dB", "NFE", "s/image"],
        ["─" * len(lines_of[2].strip())],
        ["a", "20.00", "3", "0.50"],
        ["b", "22.00±2.83", "3", "0.50±0.00"],
        [],
    ]


def test_real_patches_are_as_wide_as_the_samples(monkeypatch):
    sides, prior = [], GaussianPrior(0.5, 0.2)
    prior.in_shape = (3, 16, 20)
    monkeypatch.setattr(prior_report, "measure_speed", lambda *_: [])
    monkeypatch.setattr(prior_report, "patches", lambda images, side: sides.append(side))
    images = [Rng(3, [0], purpose="test").uniform((3, 24, 32), torch.zeros(1))[0]]
    assert prior_report.measure("grey", prior, images, side=16, count=1).real is None
    assert sides == [20]


# Where it was computed


def test_the_name_of_a_processor_with_bytes_that_are_no_text(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_bytes(b"vendor\t: x\nmodel name\t: Caf\xe9 9000\nmodel name\t: other\n")
    monkeypatch.setattr(environment, "Path", lambda _: tmp_path / "cpuinfo")
    assert environment.hardware(torch.device("cpu")).startswith("Caf\ufffd 9000, ")
