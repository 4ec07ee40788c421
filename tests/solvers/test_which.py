"""which_solvers: what fits, why the rest does not, and what would make it fit."""

import functools
import json
import re

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import GaussianBlur, Identity, Mask

import invsolve
from invsolve import GaussianNoise, InputError, IterativeProx, Problem, load_prior, registry, which_solvers
from invsolve.cli import main
from invsolve.noise import PoissonNoise
from invsolve.plugins import Entry
from invsolve.solver import Solver

SHAPE = (1, 8, 8)
X = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))


def problem(operator, noise=None):
    return Problem.simulate(operator, X, noise or GaussianNoise(0.05), generator=0)


def by_name(fits):
    return {one.solver: one for one in fits}


@pytest.mark.parametrize("prior", ["tv", "gaussian"])
@pytest.mark.parametrize("operator", [Identity(SHAPE), Mask(SHAPE) @ GaussianBlur(SHAPE)], ids=["identity", "composed"])
def test_it_says_what_the_solvers_say(operator, prior):
    """A solver fits exactly if `mismatches` is empty; those that fit come first."""
    asked, prior = problem(operator), load_prior(prior)
    fits = which_solvers(asked, prior)
    assert {one.solver for one in fits} == set(registry().names("solver"))
    for one in fits:
        assert list(one.reasons) == registry().load("solver", one.solver)().mismatches(asked, prior)
    assert [one.fits for one in fits] == sorted((one.fits for one in fits), reverse=True)
    for one in fits:
        if one.fits:
            assert one.doors == ()


@functools.cache
def doors():
    operator, prior = Mask(SHAPE) @ GaussianBlur(SHAPE), load_prior("gaussian")
    return operator, prior, by_name(which_solvers(problem(operator), prior))


@pytest.mark.parametrize("name", [entry.name for entry in registry().of("solver")])
def test_a_door_opens(name):
    """Where a door is named and nothing else is wrong, the operator behind it is accepted."""
    operator, prior, all_found = doors()
    found = all_found[name]
    for door in found.doors:
        wrapped = eval(door.replace("...", "4"), {**vars(invsolve), "H": operator, "IterativeProx": IterativeProx, "KrylovSVD": krylov()})
        assert registry().load("solver", name)().mismatches(problem(wrapped), prior) == []


def krylov():
    from invsolve import KrylovSVD

    return KrylovSVD


def test_without_a_prior_only_operator_and_noise_count():
    found = by_name(which_solvers(problem(Identity(SHAPE))))
    assert found["adam-tv"].fits
    assert found["ddrm"].fits
    assert not found["ddim"].fits
    counts = by_name(which_solvers(problem(Identity(SHAPE), PoissonNoise(0.1))))
    assert counts["dps"].fits
    assert "PoissonNoise" in counts["diffpir"].reasons[0]
    assert counts["diffpir"].doors == ()


class Broken(Solver):
    """Raises when it is asked."""

    def iterate(self, problem, prior, rng, start=None):
        yield from ()


def test_a_broken_solver_hides_no_other(monkeypatch):
    monkeypatch.setitem(registry().entries, ("solver", "broken"), Entry("solver", "broken", "no_such_module:X", "stranger 1.0"))
    monkeypatch.setitem(registry().entries, ("solver", "bare"), Entry("solver", "bare", f"{__name__}:Broken", "stranger 1.0"))
    found = by_name(which_solvers(problem(Identity(SHAPE)), load_prior("gaussian")))
    assert "no_such_module" in found["broken"].reasons[0]
    assert "cannot be asked" in found["bare"].reasons[0]
    assert found["ddrm"].fits


def test_bad_arguments():
    with pytest.raises(InputError, match="order is"):
        which_solvers(load_prior("gaussian"), problem(Identity(SHAPE)))
    with pytest.raises(InputError, match="as_denoiser"):
        which_solvers(problem(Identity(SHAPE)), torch.nn.Identity())


def call(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_command():
    done = call("which", "--operator", "gaussian-blur", "--prior", "gaussian", "--json", "--shape", 1, 8, 8)
    assert done.exit_code == 0, done.output
    fits = {one["solver"]: one["fits"] for one in json.loads(done.output)}
    expected = which_solvers(problem(GaussianBlur(SHAPE)), load_prior("gaussian"))
    assert fits == {one.solver: one.fits for one in expected}
    plain = call("which", "--operator", "mask", "--set", "operator.keep=0.2").output
    assert re.search("^ddrm +fits", plain, re.MULTILINE)


def test_command_on_files(tmp_path):
    operator = Mask(SHAPE) @ GaussianBlur(SHAPE)
    problem(operator).save(tmp_path / "saved")
    plain = call("which", tmp_path / "saved", "--prior", "gaussian")
    assert plain.exit_code == 0, plain.output
    wanting = re.search(r"iterative-prox\(H, tol=1e-4\) in place of H gives what (.*) lack", " ".join(plain.output.split()))
    assert wanting is not None
    assert {"admm", "diffpir", "hqs"} <= set(wanting[1].split(", "))
    assert call("which").exit_code == 2
    assert call("which", tmp_path / "saved", "--operator", "mask").exit_code == 2
    assert call("which", tmp_path / "nothing.toml").exit_code == 2
