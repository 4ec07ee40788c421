"""Solvers that ask no prior, priors whose weights are elsewhere, and priors that are functions: what a user types and sees."""

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BlockMean

from invsolve import InputError, NoNoise, Problem, load_prior
from invsolve.cli import main
from invsolve.cli.describe import describe_entry
from invsolve.errors import ArgumentError
from invsolve.io.images import read_image, write_image
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.made_for import MadeFor
from invsolve.solvers import DDRM, Bicubic, Nearest


@pytest.mark.parametrize("solver", [Bicubic(), Nearest()])
def test_interpolation_needs_no_prior_and_does_not_look_at_one(solver):
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    problem = Problem.simulate(BlockMean((3, 8, 8), factor=4), x, NoNoise(), generator=0)
    alone = solver.solve(problem, generator=0).x
    assert torch.equal(alone, solver.solve(problem, GaussianPrior(), generator=0).x)
    made_for = MadeFor(({"name": "block-mean", "factor": 4},), shape=(3, 8, 8))
    seeing = ConditionalPrior(torch.nn.Identity(), made_for, precision="float64")  # has looked at y: not asked either
    assert torch.equal(alone, solver.solve(problem, seeing, generator=0).x)
    with pytest.raises(ArgumentError, match="missing a required argument: 'prior'"):
        DDRM(steps=2).solve(problem)


def test_the_shell_asks_for_a_prior_where_one_is_needed(tmp_path):
    photo, out = tmp_path / "photo.png", tmp_path / "out.png"
    write_image(photo, torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0)))
    line = ["restore", str(photo), "--operator", "block-mean", "--set", "operator.factor=2", "--noise", "0", "--out", str(out), "--solver"]
    ended = CliRunner().invoke(main, [*line, "nearest"])
    assert ended.exit_code == 0, ended.output
    assert torch.equal(read_image(out)[0], read_image(photo)[0].repeat_interleave(2, 1).repeat_interleave(2, 2))
    ended = CliRunner().invoke(main, [*line, "hqs"])
    assert ended.exit_code == 2
    assert "Missing option '--prior': solver hqs asks for one" in ended.output


def test_the_result_does_not_take_the_photographs_place(tmp_path):
    photo = tmp_path / "photo.png"
    write_image(photo, torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0)))
    held = photo.read_bytes()
    line = ["restore", str(photo), "--operator", "identity", "--solver", "hqs", "--prior", "tv", "--out", str(tmp_path / "." / "photo.png")]
    ended = CliRunner().invoke(main, line)
    assert ended.exit_code == 2, ended.output
    assert "is the photograph itself" in ended.output
    assert photo.read_bytes() == held


def test_a_prior_whose_weights_are_elsewhere_says_so(monkeypatch, tmp_path):
    """It is a known name, and no other model is offered in its place."""
    from invsolve_weights import places

    monkeypatch.setattr(places, "CHECKOUT", tmp_path)
    monkeypatch.delenv("INVSOLVE_WEIGHTS", raising=False)
    for name, weights in (("faces64", "faces64"), ("sr3", "sr3-faces"), ("idm", "idm-faces"), ("cascade", "cascade-faces-2")):
        with pytest.raises(InputError, match=rf"weights '{weights}' are not here .*: put {weights}\.safetensors .*INVSOLVE_WEIGHTS"):
            load_prior(name)


def test_a_prior_that_is_a_function_is_described():
    can = describe_entry(registry().entry("prior", "mnist-classes"))["can"]
    assert can["kind"] == "Denoiser"
    assert can["channels"] == "1"
