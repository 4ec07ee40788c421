"""What the benchmark tests share: a tiny suite, a finished run of it, and entries that fail."""

import shutil
from dataclasses import dataclass

import pytest

from invsolve.bench import Suite, run
from invsolve.operator import Capability
from invsolve.plugins import Entry, registry
from invsolve.priors.gaussian import GaussianPrior
from invsolve.solution import Step
from invsolve.solver import Requires, Solver

GAUSSIAN = {"name": "gaussian", "mean": 0.5, "std": 0.25}
TV = {"name": "tv", "weight": 8.0, "max_iter": 10}
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


def values(**changes):
    """A tiny suite: 3 operators x 4 solvers x 2 pictures, one solver without a fitting prior."""
    return {
        "name": "tiny",
        "data": {"shape": [3, 16, 16], "images": 2},
        "noise": {"sigma": 0.05},
        "operator": [
            {"name": "box-mask", "label": "hole", "box": 6},
            {"name": "gaussian-blur", "sigma": 1.0},
            {"name": "block-mean", "factor": 2},
        ],
        "solver": [
            {"name": "adam-tv", "steps": 5, "prior": TV},
            {"name": "dps", "steps": 4, "prior": GAUSSIAN},
            {"name": "ddrm", "steps": 4, "prior": GAUSSIAN},
            {"name": "dps", "label": "dps without a denoiser", "prior": TV},
        ],
        "metrics": ["psnr"],
        **changes,
    }


def tiny(**changes):
    return Suite.make(values(**changes))


def same(row):
    """What must not change from run to run."""
    return {
        key: row[key]
        for key in ("operator", "image", "solver", "status", "reason", "nfe", "steps", "metrics", "x_sha256", "y_sha256", "key")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the tiny suite with all metrics, and its folder."""
    out = tmp_path_factory.mktemp("bench") / "run"
    return run(tiny(metrics=["psnr", "ssim", "haarpsi", "residual"]), out=out, progress=False), out


@pytest.fixture
def copy(finished, tmp_path):
    """A folder of that run to spoil."""
    shutil.copytree(finished[1], tmp_path / "copy")
    return tmp_path / "copy"


@dataclass(frozen=True)
class Exploding(Solver):
    """Fails on the second step."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))
    steps: int = 3

    def iterate(self, problem, prior, rng, start=None):
        yield Step(0, 3, problem.image, problem.image)
        raise RuntimeError("boom in step 1")


class Weighted(GaussianPrior):
    """Has weights with a hash, as networks do."""

    weights_sha256 = "a" * 64


def unloadable():
    raise OSError("weights are gone")


@pytest.fixture
def strangers(monkeypatch):
    """Entries of this file, as a plug-in would bring them."""
    for kind, name, attribute in (
        ("solver", "exploding", "Exploding"),
        ("prior", "weighted", "Weighted"),
        ("prior", "unloadable", "unloadable"),
    ):
        monkeypatch.setitem(registry().entries, (kind, name), Entry(kind, name, f"{__name__}:{attribute}", "stranger 1.0"))
    monkeypatch.setitem(registry().entries, ("solver", "missing"), Entry("solver", "missing", "no_such_module:Solver", "stranger 1.0"))
