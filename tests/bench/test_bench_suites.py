"""The suites that are shipped, their pictures, and deepinv's methods as rows of one."""

# pyright: reportOptionalMemberAccess=false, reportArgumentType=false, reportAttributeAccessIssue=false

import re
import shutil
from pathlib import Path

import deepinv
import pytest
import torch
from bench_cases import GAUSSIAN, tiny
from invsolve_deepinv import to_deepinv
from invsolve_deepinv.peers import Network

from invsolve import GaussianNoise, Problem, load_prior, registry
from invsolve.bench import Suite, list_suites, run
from invsolve.bench.plan import Workshop
from invsolve.data import load_pictures
from invsolve.data.sets import tensor_sha256
from invsolve.errors import InputError
from invsolve.which import which_solvers

SHIPPED = {
    "classical-vs-diffusion": 13,
    "inpainting-masks": 11,
    "super-resolution": 9,
    "deblurring": 8,
    "nonlinear": 6,
    "conditional": 9,
    "peers": 13,
    "partdiff-k": 7,
    "sdedit-t0": 8,
}
PEERS = ("deepinv-dps", "deepinv-diffpir", "deepinv-ddrm", "deepinv-dpir", "deepinv-admm")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_suite_says_what_it_takes_and_every_pair_fits(name):
    """The header states its time; every solver takes every operator, asked at the size of its pictures (faces: 64)."""
    suite = Suite.load(name)
    assert len(suite.solver) == SHIPPED[name]
    text = Path(registry().load("suite", name)).read_text()
    assert re.search(r"[Aa]bout\s+(#\s+)?\d+ minutes", text)
    side = suite.data.crop or 64
    assert isinstance(side, int)
    shop = Workshop(suite, torch.device("cpu"))
    shape = (3, side, side)
    for entry in suite.operator:
        made = registry().build("operator", entry.name, **{**entry.arguments, "in_shape": shape})
        problem = Problem.simulate(made, torch.full((1, *shape), 0.5), shop.noise(entry), generator=0)
        for solver in suite.solver:
            prior = shop.prior(solver.at(entry.label)[1])
            assert not isinstance(prior, str)
            assert shop.solver(solver, entry.label).mismatches(problem, prior) == []


def test_the_masks_are_six_families_and_text():
    suite = Suite.load("inpainting-masks")
    kept = [registry().build("operator", one.name, in_shape=(3, 128, 128), **one.arguments).mask.float().mean() for one in suite.operator]
    assert [one.label for one in suite.operator] == ["wide", "narrow", "every second pixel", "every second line", "half", "expand", "text"]
    assert [float(kept[index]) for index in (2, 3, 4)] == pytest.approx([0.25, 0.5, 0.5])
    assert float(suite.noise.arguments["sigma"]) == 0


def test_quick_shows_what_diffusion_is_for():
    """Half-hidden digits, whose prior knows digits; the photographs are as they were."""
    suite = Suite.load("quick")
    assert [one.label for one in suite.operator] == ["box inpainting", "Gaussian deblurring", "SR x4", "half a digit"]
    assert {one.at("half a digit")[1].name for one in suite.solver} == {"tv", "dncnn-gray", "mnist"}
    assert {one.at("SR x4")[1].name for one in suite.solver} == {"tv", "dncnn", "natural"}
    pictures = Workshop(suite, torch.device("cpu")).pictures(suite.operator[3])
    assert [one.image.shape for one in pictures] == [(1, 32, 32)] * 6


def test_the_digits_are_what_the_list_says(tmp_path):
    from invsolve_benchmarks.datasets import FOLDER, listed_photos

    digits = load_pictures("quick-digits", {})
    assert [one.id for one in digits] == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for one in digits:
        assert one.image.shape == (1, 32, 32)
        assert float(one.image[:, [0, 1, -1, -2]].sum() + one.image[..., [0, 1, -1, -2]].sum()) == 0
        assert 0.9 < float(one.image.max()) <= 1
        assert one.licence == "CC0-1.0"
    shutil.copytree(FOLDER / "digits", tmp_path / "digits")
    (tmp_path / "digits" / "two.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"two\.png has sha256"):
        listed_photos(tmp_path / "digits")


def test_suites_of_the_users_pictures_say_what_is_wanted(tmp_path):
    with pytest.raises(InputError, match=r"not shipped: aligned faces.*-d faces=FOLDER"):
        run("conditional", out=tmp_path, progress=False)
    assert {"conditional", "partdiff-k"} <= {one.name for one in list_suites() if not one.error}


# --- deepinv's methods -------------------------------------------------------------------------------------------------------


def peers(**changes):
    fast = {"deepinv-dps": 3, "deepinv-diffpir": 4, "deepinv-ddrm": 5, "deepinv-admm": 4}
    solvers = [{"name": name, "prior": GAUSSIAN, **({"steps": fast[name]} if name in fast else {})} for name in PEERS]
    return tiny(
        **{"data": {"shape": [3, 8, 8], "images": 2}, "solver": [{"name": "ddrm", "steps": 3, "prior": GAUSSIAN}, *solvers], **changes}
    )


def test_deepinvs_methods_are_rows_beside_ours(tmp_path):
    """One y, one H, one network, evaluations counted; and an item's answer does not depend on its batch."""
    rows = run(peers(), out=tmp_path / "one", progress=False)
    assert {row["status"] for row in rows} == {"finished"}
    assert all(
        len({row[name] for row in rows if (row["operator"], row["image"]) == ("hole", "drawing-0")}) == 1
        for name in ("y_sha256", "h_sha256")
    )
    evaluated = {row["solver"]: (row["nfe"], row["backward"]) for row in rows}
    assert evaluated["deepinv-dps"] == (3, 3)
    assert [evaluated[name] for name in PEERS[1:4]] == [(4, 0), (5, 0), (8, 0)]
    together = run(peers(operator=[{"name": "gaussian-blur", "sigma": 1.0}]), out=tmp_path / "two", progress=False, batch=2)
    alone = {(row["solver"], row["image"]): row["x_sha256"] for row in rows if row["operator"] == "gaussian-blur"}
    assert all(row["x_sha256"] == alone[row["solver"], row["image"]] for row in together if row["solver"] in PEERS)


def test_a_row_of_deepinvs_is_what_deepinv_gives():
    """DPIR draws nothing: the solver's answer is deepinv's own call on the same physics, to the bit."""
    blur = registry().build("operator", "gaussian-blur", in_shape=(3, 8, 8), sigma=1.0)
    problem = Problem.simulate(blur, torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), GaussianNoise(0.05), generator=0)
    prior = load_prior("gaussian", mean=0.5, std=0.25)
    mine = registry().build("solver", "deepinv-dpir").solve(problem, prior, generator=0).x
    with torch.no_grad():
        theirs = deepinv.optim.DPIR(sigma=0.05, denoiser=Network(prior))(problem.y, to_deepinv(blur, GaussianNoise(0.05)))
    assert tensor_sha256(mine) == tensor_sha256(theirs)


def test_deepinvs_methods_are_found_by_name_and_offered_to_nobody():
    assert not set(PEERS) & set(registry().names("solver"))
    assert all(registry().entry("solver", name).plugin for name in PEERS)
    blur = registry().build("operator", "gaussian-blur", in_shape=(3, 8, 8), sigma=1.0)
    problem = Problem.simulate(blur, torch.rand(1, 3, 8, 8), GaussianNoise(0.05), generator=0)
    assert not set(PEERS) & {one.solver for one in which_solvers(problem, load_prior("gaussian"))}
    with pytest.raises(InputError, match="levels must be 'theirs' or 'prior'"):
        registry().build("solver", "deepinv-ddrm", levels="own")
    stacked = registry().build("operator", "stack", operators=[blur, blur])
    several = Problem.simulate(stacked, torch.rand(1, 3, 8, 8), GaussianNoise(0.05), generator=0)
    assert registry().build("solver", "deepinv-dpir").mismatches(several, load_prior("gaussian")) == [
        "deepinv's methods take one measurement, no stack of them"
    ]


def test_a_plan_of_a_silent_method_takes_few_of_its_steps():
    """deepinv's methods cannot be stopped: the plan runs a fiftieth of 100 steps, and counts what the run counts."""
    from invsolve.bench.forecast import forecast

    solvers = [{"name": "deepinv-diffpir", "steps": 100, "prior": GAUSSIAN}, {"name": "deepinv-dpir", "prior": GAUSSIAN}]
    found = forecast(peers(solver=solvers, operator=[{"name": "box-mask", "label": "hole", "box": 4}]), probe=1e-9)
    assert [(one.nfe, one.backward, one.source) for one in found] == [(100, 0, "probe"), (8, 0, "probe")]
