"""Problems and solutions survive a round trip bit by bit; damaged or hostile folders end in InputError."""

import json
import math
from pathlib import Path

import pytest
import torch
from storage_cases import GAINS, SHAPE, Blind, Gain, OddNoise, OwnSolver, Stranger, equal, images, with_our_operators  # noqa: F401
from turns import by_turns

from invsolve import (
    Capability,
    GaussianNoise,
    InputError,
    IterativePinv,
    IterativeProx,
    NoNoise,
    PoissonNoise,
    Problem,
    Solution,
    Stack,
    Status,
    Step,
)
from invsolve.errors import UnknownNameError
from invsolve.plugins import Registry, registry
from invsolve.priors import GaussianPrior
from invsolve.recipe.storage import load_problem, load_solution
from invsolve.solvers.diffusion.ddim import DDIM


def round_trip(problem, folder):
    problem.save(folder / "saved")
    loaded = Problem.load(folder / "saved")
    assert equal(problem.y, loaded.y)
    assert loaded.items == problem.items
    assert loaded.check_range == problem.check_range
    assert type(loaded.noise) is type(problem.noise)
    assert {k: v.tolist() for k, v in loaded.noise.state_dict().items()} == {k: v.tolist() for k, v in problem.noise.state_dict().items()}
    x = images(problem.batch)
    assert equal(problem.operator(x), loaded.operator(x))
    assert loaded.operator.capabilities == problem.operator.capabilities
    assert loaded.operator.batch == problem.operator.batch
    return loaded


OPERATORS = {
    "plain": lambda: Gain(SHAPE, 1.5),
    "tensor argument": lambda: Gain(SHAPE, images(1)[0]),
    "per-item": lambda: Gain(SHAPE, GAINS),
    "trained parameter": lambda: Blind(SHAPE),
    "composed": lambda: Gain(SHAPE, 3.0) @ Gain(SHAPE, GAINS),
    "sum": lambda: Gain(SHAPE, 3.0) + Gain(SHAPE, 0.1),
    "scaled": lambda: -0.3 * Gain(SHAPE, 3.0),
    "adjoint": lambda: (Gain(SHAPE, 2.0) @ Gain(SHAPE, 0.7)).T,
    "stack": lambda: Stack(Gain(SHAPE, 2.0), Gain(SHAPE, 0.7)),
    "iterative prox": lambda: IterativeProx(Gain(SHAPE, 2.0), tol=1e-3, max_iter=7),
    "iterative pinv of a nest": lambda: IterativePinv(2.0 * (Gain(SHAPE, 2.0) @ (Gain(SHAPE, 3.0) + Gain(SHAPE, 4.0)))),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_round_trip_bitwise(name, tmp_path):
    problem = Problem.simulate(OPERATORS[name](), images(), GaussianNoise(0.05), generator=0)
    round_trip(problem, tmp_path)


def test_parameters_trained_after_construction_are_kept(tmp_path):
    operator = Blind(SHAPE, start=1.0)
    with torch.no_grad():
        operator.level.fill_(math.pi)
    loaded = round_trip(Problem.simulate(operator, images(), GaussianNoise(0.1), generator=0), tmp_path)
    assert loaded.operator.level.item() == torch.tensor(math.pi).item()
    assert loaded.operator.level.requires_grad


def test_precision_is_kept(tmp_path):
    problem = Problem.simulate(Gain(SHAPE, GAINS).double(), images().double(), GaussianNoise(0.05), generator=0)
    loaded = round_trip(problem, tmp_path)
    assert loaded.operator.gain.dtype == loaded.y.dtype == torch.float64


def test_iterative_settings_are_kept(tmp_path):
    problem = Problem.simulate(OPERATORS["iterative prox"](), images(), NoNoise(), generator=0)
    loaded = round_trip(problem, tmp_path)
    assert (loaded.operator.tol, loaded.operator.max_iter) == (1e-3, 7)


@pytest.mark.parametrize(
    "noise", [GaussianNoise(0.05), GaussianNoise(torch.tensor([0.1, 1 / 3, 0.0], dtype=torch.float64)), PoissonNoise(0.1), NoNoise()]
)
def test_noise_round_trips(noise, tmp_path):
    loaded = round_trip(Problem.simulate(Gain(SHAPE), images(), noise, generator=0), tmp_path)
    assert loaded.noise.batch == noise.batch
    assert loaded.noise.spread() == noise.spread()


def test_one_item_of_a_batch_keeps_its_id_and_its_operator(tmp_path):
    problem = Problem.simulate(Gain(SHAPE, GAINS), images(), GaussianNoise(torch.tensor([0.1, 0.2, 0.3])), generator=0)[2]
    loaded = round_trip(problem, tmp_path)
    assert loaded.items == (2,)
    assert float(loaded.sigma) == float(torch.tensor(0.3))


def test_items_and_check_range_are_kept(tmp_path):
    y = 255 * images()
    round_trip(Problem(Gain(SHAPE), y, GaussianNoise(5.0), (7, 2**62, 3), check_range=False), tmp_path)


def test_complex_measurement(tmp_path):
    y = torch.complex(images(), images().flip(0)).to(torch.complex128)
    operator = Gain(SHAPE)
    operator.complex_output = True
    problem = Problem(operator, y, GaussianNoise(0.1))
    problem.save(tmp_path / "saved")
    assert equal(load_problem(tmp_path / "saved", operator=operator).y, y)


def test_unconditional_problem(tmp_path):
    problem = Problem.unconditional((1, 4, 4), batch=2)
    problem.save(tmp_path / "saved")
    loaded = Problem.load(tmp_path / "saved")
    assert loaded.y.shape == (2, 0)
    assert loaded.image.shape == (2, 1, 4, 4)


def test_a_loaded_problem_solves_to_the_same_image(tmp_path):
    problem = Problem.unconditional((1, 4, 4), batch=2)
    problem.save(tmp_path / "p")
    solver, prior = DDIM(steps=5), GaussianPrior()
    first = solver.solve(problem, prior, generator=0)
    assert torch.equal(first.x, solver.solve(Problem.load(tmp_path / "p"), prior, generator=0).x)


def test_foreign_operator_must_be_given(tmp_path):
    problem = Problem.simulate(Stranger(SHAPE), images(), GaussianNoise(0.1), generator=0)
    problem.save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"Stranger.*operator="):
        Problem.load(tmp_path / "saved")
    assert equal(Problem.load(tmp_path / "saved", operator=Stranger(SHAPE)).y, problem.y)
    with pytest.raises(InputError, match="shape"):
        Problem.load(tmp_path / "saved", operator=Stranger((3, 4, 4)))


def test_a_stranger_inside_a_composition_makes_it_foreign(tmp_path):
    Problem.simulate(Gain(SHAPE) @ Stranger(SHAPE), images(), GaussianNoise(0.1), generator=0).save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"Composed.*Stranger"):
        Problem.load(tmp_path / "saved")


def test_an_operator_that_its_arguments_do_not_make_again_is_foreign(tmp_path):
    operator = Gain(SHAPE, GAINS)
    operator.gain = torch.ones(1, *SHAPE)
    operator.batch = None
    Problem.simulate(operator, images(), GaussianNoise(0.1), generator=0).save(tmp_path / "saved")
    with pytest.raises(InputError, match="arguments do not make it again"):
        Problem.load(tmp_path / "saved")


def test_a_class_that_only_looks_like_a_registered_one_is_foreign(tmp_path):
    impostor = type("Gain", (Stranger,), {"__module__": "storage_cases", "__qualname__": "Gain"})
    Problem.simulate(impostor(SHAPE), images(), GaussianNoise(0.1), generator=0).save(tmp_path / "saved")
    with pytest.raises(InputError, match="not a registered operator"):
        Problem.load(tmp_path / "saved")


def test_foreign_noise_must_be_given(tmp_path):
    Problem.simulate(Gain(SHAPE), images(), OddNoise(), generator=0).save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"OddNoise.*noise="):
        Problem.load(tmp_path / "saved")
    assert isinstance(load_problem(tmp_path / "saved", noise=OddNoise()).noise, OddNoise)


def test_operator_of_a_plugin_that_is_gone(tmp_path, monkeypatch):
    Problem.simulate(Gain(SHAPE), images(), GaussianNoise(0.1), generator=0).save(tmp_path / "saved")
    monkeypatch.setattr("invsolve.io.encoding.registry", Registry)
    with pytest.raises(UnknownNameError, match="test-gain"):
        Problem.load(tmp_path / "saved")


def solved(**options):
    problem = Problem.unconditional((1, 4, 4), batch=2)
    return DDIM(steps=6, eta=0.5, sigma_max=1 / 3).solve(problem, GaussianPrior(), generator=11, **options)


@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"keep": 2}])
def test_solution_round_trip(options, tmp_path):
    solution = solved(**options)
    solution.save(tmp_path / "saved")
    loaded = Solution.load(tmp_path / "saved")
    assert equal(loaded.x, solution.x)
    assert loaded.summary() == solution.summary()
    assert loaded.solver == solution.solver
    assert len(loaded.trace) == len(solution.trace) == (3 if "keep" in options else 0)
    for a, b in zip(loaded.trace, solution.trace, strict=True):
        assert (a.index, a.total, a.sigma, a.converged) == (b.index, b.total, b.sigma, b.converged)
        assert equal(a.x, b.x)
        assert equal(a.x0_hat, b.x0_hat)


def test_a_run_goes_on_from_a_loaded_step(tmp_path):
    x = torch.rand(2, 1, 4, 4)
    step = Step(3, 9, x, x / 2, None, {"objective": torch.tensor([1.0, math.inf])}, {"dual": -x, "t": torch.tensor(4)}, True)
    solution = Solution(x, Status.STOPPED, 4, 4, 0.1, 0.05, 2**63 - 1, DDIM(), (step,))
    solution.save(tmp_path / "saved")
    (again,) = Solution.load(tmp_path / "saved").trace
    assert (again.index, again.total, again.sigma, again.converged) == (3, 9, None, True)
    assert again.state.keys() == step.state.keys()
    assert all(equal(again.state[key], step.state[key]) for key in step.state)
    assert torch.equal(again.stats["objective"], step.stats["objective"])


def test_foreign_solver_must_be_given(tmp_path):
    x = torch.zeros(1, 1, 2, 2)
    Solution(x, Status.FINISHED, 1, 1, 0.1, 0.1, 0, OwnSolver(steps=3)).save(tmp_path / "saved")
    with pytest.raises(InputError, match=r"OwnSolver.*solver="):
        Solution.load(tmp_path / "saved")
    assert load_solution(tmp_path / "saved", solver=OwnSolver(steps=3)).solver == OwnSolver(steps=3)


def test_versions_and_seed_are_written(tmp_path):
    solved().save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["seed"] == 11
    assert set(config["versions"]) == {"invsolve", "torch", "python"}
    assert config["solver"]["name"] == "ddim"


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path):
    solved().save(tmp_path / "saved")
    solved(samples=2).save(tmp_path / "saved")
    assert Solution.load(tmp_path / "saved").samples == 2
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_somebody_elses_folder_is_not_touched(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("meow")
    with pytest.raises(InputError, match="other files"):
        solved().save(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_a_failure_while_writing_keeps_the_old_folder(tmp_path, monkeypatch):
    solved().save(tmp_path / "saved")
    real = Path.write_text

    def full_disk(self, *args, **kwargs):
        real(self, "half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(InputError, match="No space left"):
        solved(samples=2).save(tmp_path / "saved")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["samples"] is None


def registered_examples():
    known = registry()
    return [
        pytest.param(name, index, id=f"{name}-{index}")
        for name in known.names("operator")
        if name != "deepinv"  # tested beside its plug-in
        for index in range(len(known.load("operator", name).examples()))
    ]


@pytest.mark.parametrize(("name", "index"), by_turns(registered_examples(), lambda name, index: (name, None), first=1))
def test_every_registered_operator_round_trips(name, index, tmp_path):
    operator = registry().load("operator", name).examples()[index]
    x = images(operator.batch or 2, operator.in_shape)
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0)
    for case in (problem, problem[1]):
        case.save(tmp_path / "saved")
        loaded = Problem.load(tmp_path / "saved")
        assert equal(case.y, loaded.y)
        assert loaded.items == case.items
        assert loaded.operator.batch == case.operator.batch
        assert loaded.operator.capabilities == case.operator.capabilities
        assert equal(case.operator(x[: case.batch]), loaded.operator(x[: case.batch]))
        if case.operator.has(Capability.ADJOINT):
            assert equal(case.operator.adjoint(case.y), loaded.operator.adjoint(case.y))
