"""Published rows with a checkpoint of one's own: reproduced, within noise, or not, and which erratum explains it."""

import statistics
from pathlib import Path

import invsolve_priors
import pytest
from click.testing import CliRunner

from invsolve.bench import run
from invsolve.bench.own import own_suite
from invsolve.bench.reproduce import judged, load, reproduce
from invsolve.bench.suite import Suite
from invsolve.cli import main
from invsolve.errors import InputError, UnknownNameError
from invsolve.plugins import registry
from invsolve.recipe import check

CHECKPOINT = str(Path(invsolve_priors.__file__).parent / "weights" / "mnist.safetensors")  # under 1 MB
TABLE = """title = "Digits"
source = "nobody, table 0"
wants = "a network of digits"
tolerance = {tolerance}
data = {{ label = "digits", name = "quick-digits", first = 4 }}
noise = {{ sigma = 0.1 }}
[[row]]
label = "half"
operator = "half-mask"
solver = {{ name = "ddrm", steps = 2 }}
value = "{value}"
images = {images}
[[row.erratum]]
name = "E0"
says = "nothing that can be run"
[[row.erratum]]
name = "E1"
says = "half of the noise is added"
noise = {{ sigma = 0.05 }}
[[row.erratum]]
name = "E2"
says = "all pixels are kept"
operator = {{ known = "top" }}
solver = {{ steps = 1 }}
"""


def values(tmp_path, **changes):
    """PSNR of the pictures as a suite has it."""
    suite = {
        "name": "half-ddrm",
        "data": {"name": "quick-digits", "first": 4},
        "noise": {"sigma": 0.1},
        "operator": [{"name": "half-mask", "label": "half"}],
        "solver": [{"name": "ddrm", "steps": 2, "prior": {"file": CHECKPOINT}}],
        "metrics": ["psnr"],
    }
    return [row["metrics"]["psnr"] for row in run(Suite.make({**suite, **changes}), out=tmp_path / f"own{len(changes)}", progress=False)]


def test_the_verdicts(tmp_path):
    """Mean, spread and noise are those of the suite's own run, and the verdict follows from the printed value."""
    own = values(tmp_path)
    mean, noise = statistics.fmean(own), 2 * statistics.stdev(own) * (1 / 4 + 1e-6) ** 0.5
    path = tmp_path / "digits.toml"
    path.write_text(TABLE.format(value=f"{mean:.2f}", images=10**6, tolerance=100.0))
    (found,) = reproduce(path, CHECKPOINT, out=tmp_path / "runs", progress=False)
    assert (found.mean, found.noise, found.count) == (pytest.approx(mean), pytest.approx(noise), 4)
    assert found.verdict == "reproduced"
    rows = [{"status": "finished", "reason": "", "metrics": {"psnr": one}} for one in own]

    def verdict(value, tolerance=100.0, mine=rows):
        path.write_text(TABLE.format(value=value, images=10**6, tolerance=tolerance))
        published, _ = load(path)
        return judged(published, published.row[0], lambda erratum: mine)

    assert verdict(f"{mean + 0.98 * noise:.4f}").verdict == "reproduced"
    far = verdict(f"{mean + 1.02 * noise:.4f}")
    assert (far.verdict, far.explains, len(far.suspects)) == ("not reproduced", (), 3)
    assert "; known: E0: nothing that can be run" in far.text
    assert verdict(f"{mean:.2f}", tolerance=noise / 2).verdict == "within noise"  # so few could not have shown it
    assert verdict("20.0", mine=rows[:1]).reason == "two pictures at least are needed, for the noise"


def test_an_erratum_that_gives_the_number_explains_it(tmp_path, monkeypatch):
    """The printed number is that of half the noise, further from ours than our noise: E1 explains it, by running it."""
    own, other = values(tmp_path), values(tmp_path, noise={"sigma": 0.05})
    assert statistics.fmean(other) > statistics.fmean(own)
    apart = abs(statistics.fmean(other) - statistics.fmean(own))
    path = tmp_path / "digits.toml"
    text = TABLE.format(value=f"{statistics.fmean(other):.3f}", images=10**6, tolerance=100.0)
    path.write_text(text)
    # The spread over four digits is as large as the effect: told to be a tenth of the difference, the row is off and the erratum is not.
    monkeypatch.setattr("invsolve.bench.reproduce.statistics.stdev", lambda several: apart / 10)
    (found,) = reproduce(path, CHECKPOINT, out=tmp_path / "runs", progress=False)
    assert found.verdict == "not reproduced"
    assert found.explains == ("E1: half of the noise is added",)
    assert "explained by E1" in found.text


def test_no_answer_has_a_reason(tmp_path):
    path = tmp_path / "digits.toml"
    path.write_text(TABLE.format(value="20.0", images=4, tolerance=1.0).replace('"ddrm", steps = 2', '"rl-tv"'))
    (found,) = reproduce(path, "tv", out=tmp_path / "runs", progress=False)
    assert found.verdict == "no answer"
    assert found.text == "half, rl-tv: no answer: noise GaussianNoise is not one of: PoissonNoise"


def test_the_command(tmp_path):
    path = tmp_path / "digits.toml"
    path.write_text(TABLE.format(value="99.9", images=4, tolerance=1.0))
    common = ["bench", "reproduce", str(path), "--out", str(tmp_path / "runs")]
    assert "it needs a network of digits: --prior CHECKPOINT" in CliRunner().invoke(main, common).output
    done = CliRunner().invoke(main, [*common, "--prior", CHECKPOINT, "--first", "2", "--row", "half", "--batch", "2"])
    assert done.exit_code == 1
    assert "half, ddrm: not reproduced (psnr" in done.output
    assert "on 2 pictures, printed 99.9" in done.output
    with pytest.raises(UnknownNameError, match="no row 'whole'; there are: half"):
        reproduce(path, CHECKPOINT, out=tmp_path, rows=["whole"])
    with pytest.raises(UnknownNameError, match=r"no table of published rows.*diffpir-noisy"):
        load("diffpir-noisi")
    path.write_text(path.read_text().replace('"99.9"', "99.9"))
    with pytest.raises(InputError, match=r"row\.0\.value: .*given 99\.9"):
        load(path)


@pytest.mark.parametrize("name", ["diffpir-noisy", "diffpir-noiseless"])
def test_the_shipped_tables_name_what_there_is(name):
    """Every operator, solver and metric can be made, with the errata's settings too; the run asks for a checkpoint."""
    published, folder = load(name)
    assert all(row.images == 100 for row in published.row)
    for row in published.row:
        check("operator", row.operator, Suite, in_shape=(3, 256, 256))  # pyright: ignore[reportArgumentType]
        for changes in ({}, *(one.solver for one in row.erratum)):
            registry().build("solver", row.solver.name, **{**row.solver.arguments, **changes})
        registry().build("metric", row.metric.name)
    own = own_suite(name)
    assert own is not None
    with pytest.raises(InputError, match="--prior CHECKPOINT"):
        own.run(folder)
