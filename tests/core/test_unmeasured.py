"""An operator that measures nothing: refused by problem files and `restore`, a failed row in a suite, and nothing else for it."""

import pytest
import torch
from bench_cases import GAUSSIAN, same, tiny
from invsolve_operators import MRI, BlockMean, GaussianBlur, KernelBlur, Mask, PhaseRetrieval, WalshHadamard

from invsolve import InputError, NoNoise, Problem
from invsolve.bench import run
from invsolve.cli.setup import set_up
from invsolve.operator import AsComplex, Operator, Stack
from invsolve.problem import refuse_unmeasured, unmeasured
from invsolve.recipe.config import make_config

SHAPE = (1, 8, 8)


def nothing():
    return Mask(SHAPE, keep=0.0)


def half(mask):
    """Two pictures, one mask each."""
    return Mask(SHAPE, mask=mask)


NONE = {
    "a mask": nothing,
    "a mask for each": lambda: Mask(SHAPE, torch.tensor([0.0, 0.0])),
    "two masks that share nothing": lambda: half(1 - half(torch.eye(8)).mask) @ half(torch.eye(8)),
    "a blur of nothing": lambda: GaussianBlur(SHAPE) @ nothing(),
    "nothing of a blur": lambda: nothing() @ GaussianBlur(SHAPE),
    "means of nothing": lambda: BlockMean(SHAPE, 4) @ nothing(),
    "a kernel of zeros": lambda: KernelBlur(SHAPE, torch.zeros(3, 3)),
    "no coefficient": lambda: WalshHadamard(SHAPE, mask=torch.zeros(8, 8)),
    "no frequency": lambda: MRI(SHAPE, mask=torch.zeros(8, 8)),
    "both nothing": lambda: Stack(nothing(), GaussianBlur(SHAPE) @ nothing()),
}
SOME = {
    "one pixel": lambda: half(torch.eye(8) * (torch.arange(8) == 3)),
    "one of two pictures": lambda: Mask(SHAPE, torch.tensor([0.0, 0.1])),
    "a part of two": lambda: Stack(nothing(), GaussianBlur(SHAPE)),
    "a difference": lambda: KernelBlur(SHAPE, torch.tensor([[1.0, -1.0]])),
    "moduli": lambda: PhaseRetrieval(SHAPE),
    "frequencies": lambda: MRI(SHAPE),
    "complex": lambda: AsComplex((2, 8, 8)),
    "tiny": lambda: 1e-30 * GaussianBlur(SHAPE),
}


def measured(operator: Operator) -> Problem:
    x = torch.rand(operator.batch or 1, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    return Problem.simulate(operator, x, NoNoise(), generator=0)


@pytest.mark.parametrize("name", NONE)
def test_what_measures_nothing_is_found(name):
    problem = measured(NONE[name]())
    assert "nothing is measured" in unmeasured(problem)
    with pytest.raises(InputError, match="keeps no entry of y"):
        refuse_unmeasured(problem)


@pytest.mark.parametrize("name", SOME)
def test_what_measures_something_is_not(name):
    assert not unmeasured(measured(SOME[name]()))


def test_no_measurement_at_all_is_asked_for():
    assert not unmeasured(Problem.unconditional(SHAPE))


CHAINS = [
    [{"name": "mask", "keep": 0.0}],
    [{"name": "mask", "keep": 0.0}, {"name": "gaussian-blur"}],
    [{"chain": [{"name": "gaussian-blur"}, {"name": "mask", "keep": 0.0}]}],
]


@pytest.mark.parametrize("chain", CHAINS)
def test_problem_files_refuse_it(chain):
    values = {
        "data": {"set": {"shape": [3, 16, 16], "images": 1}, "simulate": True},
        "operator": chain,
        "noise": {"sigma": 0.05},
        "prior": dict(GAUSSIAN),
        "solver": {"name": "dps", "steps": 2},
    }
    with pytest.raises(InputError, match="nothing is measured"):
        set_up(make_config(values))


def test_in_a_suite_it_is_a_failed_row_and_others_go_on(tmp_path):
    known = {"name": "gaussian-blur", "sigma": 1.0}
    entries = [{"name": "mask", "keep": 0.0}, {"label": "later", "chain": CHAINS[1]}]
    solvers = [{"name": "dps", "steps": 2, "prior": GAUSSIAN}]
    suite = tiny(operator=[*entries, known], solver=solvers)
    rows = run(suite, out=tmp_path / "all", progress=False)
    bad = [row for row in rows if row["operator"] != "gaussian-blur"]
    assert [row["status"] for row in bad] == ["failed"] * 4
    assert all(row["reason"].startswith(f"operator '{row['operator']}': nothing is measured") for row in bad)
    assert all(value is None for row in bad for value in row["metrics"].values())
    good = run(tiny(operator=[known], solver=solvers), out=tmp_path / "good", progress=False)
    assert [same(row) for row in rows if row not in bad] == list(map(same, good))
    assert list(map(same, run(suite, out=tmp_path / "all", progress=False))) == list(map(same, rows))
