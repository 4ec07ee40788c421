"""The campaign of hostile files in small, and the claims of small files that took gigabytes."""

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from fresh_cases import run_fresh
from invsolve_operators import FileBlur, GaussianBlur, Mask
from invsolve_operators.blurs.kernel_files import read_kernels

from invsolve import GaussianNoise, InputError, Problem, Solution
from invsolve.io.encoding import LEAST_SIDE, SIDE
from invsolve.priors import TotalVariation
from invsolve.solvers import HQS

STUDIES = next(place for place in Path(__file__).resolve().parents if (place / "benchmarks").is_dir()) / "benchmarks" / "studies"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(STUDIES))
    yield importlib.import_module("hostile_files")
    sys.path.remove(str(STUDIES))


# With --whole; in a plain run the first third of each, of images and run folders three quarters: refusals come late there.
COUNTS = {
    "images": 40,
    "masks": 30,
    "kernels": 30,
    "saved folders": 30,
    "problem files": 24,
    "suites": 18,
    "run folders": 20,
    "arguments": 30,
}


# Every case forks: quick from a process that holds little, a third of a second from one that has run many tests.
CAMPAIGN = """
import json, sys
sys.path.insert(0, {studies!r})
import hostile_files as study
(reader,) = (one for one in study.READERS if one.name == {name!r})
found, bad = study.campaign(reader, {count}, seed=20)
print(json.dumps([[one.kind for one in found], bad]))
"""


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_ends_in_a_foreign_exception_or_takes_too_much(name, tmp_path, pytestconfig):
    """Seconds are of the processor; the limits are the campaign's own, 5 s and 2 GB."""
    share = 1 if pytestconfig.getoption("--whole") else 0.75 if name in ("images", "run folders") else 0.34
    count = int(COUNTS[name] * share)
    done = run_fresh(CAMPAIGN.format(studies=str(STUDIES), name=name, count=count), tmp_path)
    assert done.returncode == 0, done.stderr
    kinds, bad = json.loads(done.stdout.splitlines()[-1])
    assert bad == []
    assert "refused" in kinds
    assert len(kinds) == count


def test_the_campaign_sees_what_it_looks_for(study, monkeypatch):
    monkeypatch.setattr(study, "BYTES", 10**8)
    assert study.outcome(lambda: 1).kind == "read"
    assert study.outcome(lambda: read_kernels("nowhere.npy")).kind == "refused"
    assert study.outcome(lambda: [][1]).kind == "foreign"
    assert study.outcome(lambda: sys.exit("no")).kind == "foreign"
    assert study.outcome(lambda: np.ones(30_000_000)).kind == "large"


def test_the_campaign_sees_what_takes_long(study, monkeypatch):
    monkeypatch.setattr(study, "SECONDS", 0.05)

    def busy():
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass

    assert study.outcome(busy).kind == "slow"
    monkeypatch.setattr(study, "WALL", 1.0)
    assert study.outcome(lambda: time.sleep(20)).kind == "slow"


def claimed(folder, shape):
    """The folder with another in_shape."""
    file = folder / "config.json"
    data = json.loads(file.read_text())
    data["operator"]["arguments"]["in_shape"] = {"tuple": list(shape)}
    file.write_text(json.dumps(data))


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("make", [lambda shape: Mask(shape, keep=0.5), lambda shape: GaussianBlur(shape, 1.0)])
@pytest.mark.parametrize("shape", [(3, 12000, 12000), (1, 20000, 8), (10**6, 8, 8), (1, 10**30, 1)])
def test_a_small_folder_cannot_claim_a_large_image(make, shape, tmp_path):
    x = torch.full((2, 1, 8, 8), 0.5)
    Problem.simulate(make((1, 8, 8)), x, GaussianNoise(0.05), generator=0).save(tmp_path / "p")
    claimed(tmp_path / "p", shape)
    before = peak()
    with pytest.raises(InputError, match=r"claims in_shape = \(.*sides of at most"):
        Problem.load(tmp_path / "p")
    assert peak() - before < 50e6


def test_what_a_file_may_claim_is_more_than_anybody_measures(tmp_path):
    """Super-resolution by 8 of a thumbnail, and a large operator whose own state is small, are read again."""
    from invsolve_operators import BlockMean

    small = BlockMean((3, 8 * 32, 8 * 40), 8)
    Problem.simulate(small, torch.full((1, *small.in_shape), 0.5), GaussianNoise(0.05), generator=0).save(tmp_path / "a")
    assert Problem.load(tmp_path / "a").operator.in_shape == small.in_shape
    assert SIDE * 32 >= 8 * 40
    assert LEAST_SIDE >= 256


STEPS = {
    "stats a text": ("stats", "x"),
    "stats a number": ("stats", 3),
    "state true": ("state", True),
    "index a text": ("index", "x"),
    "sigma a text": ("sigma", "x"),
    "x a number": ("x", 3),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_a_saved_trace_are_checked(name, tmp_path):
    problem = Problem.simulate(Mask((1, 8, 8), keep=0.5), torch.full((1, 1, 8, 8), 0.5), GaussianNoise(0.05), generator=0)
    HQS(steps=2).solve(problem, TotalVariation(0.1), keep=1).save(tmp_path / "s")
    file = tmp_path / "s" / "config.json"
    data = json.loads(file.read_text())
    key, value = STEPS[name]
    data["trace"][0][key] = value
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="malformed step"):
        Solution.load(tmp_path / "s")


def zeros(side):
    return np.zeros((side, side), np.uint8)


LARGE = {
    "a.npz": lambda file: np.savez_compressed(file, k=zeros(10_000)),
    "several.npz": lambda file: np.savez_compressed(file, **{f"k{index}": zeros(1000) for index in range(17)}),
    "a.mat": lambda file: scipy.io.savemat(file, {"k": zeros(12_000)}, do_compression=True),
    "a.npy": lambda file: np.save(file, zeros(1100)),
    "seven.mat": lambda file: matlab_7(file),
}


def matlab_7(file):
    """HDF5 behind MATLAB's header of 512 bytes; chunks that nobody wrote take no room."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(file, "w", userblock_size=512) as content:
        content.create_dataset("k", (20_000, 20_000), "f8", chunks=(100, 100))
    data = bytearray(file.read_bytes())
    data[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    file.write_bytes(data)


@pytest.mark.parametrize("name", LARGE)
def test_kernels_that_claim_too_much_are_refused_before_memory_is_taken(name, tmp_path):
    LARGE[name](tmp_path / name)
    before = peak()
    with pytest.raises(InputError, match="more than a blur kernel has"):
        read_kernels(tmp_path / name)
    assert peak() - before < 150e6  # what the largest allowed file would take, 2^24 bytes, some times over


def test_kernels_of_every_format_are_read(tmp_path):
    kernel = np.outer([1.0, 2, 1], [1, 3, 1, 1]) / 24
    np.savez_compressed(tmp_path / "a.npz", k=kernel)
    scipy.io.savemat(tmp_path / "a.mat", {"k": kernel}, do_compression=True)
    np.save(tmp_path / "a.npy", kernel)
    for name in ("a.npz", "a.mat", "a.npy"):
        assert np.array_equal(read_kernels(tmp_path / name)[0].numpy(), kernel)
        assert FileBlur((1, 8, 8), str(tmp_path / name)).kernel.shape == (3, 4)
