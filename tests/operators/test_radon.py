"""Computed tomography: lines of a known picture, and a reconstruction."""

import subprocess
import sys

import pytest
import torch
from invsolve_deepinv import Radon, filtered_back_projection

from invsolve import GaussianNoise, InputError, IterativeProx, Problem, load_prior
from invsolve.solvers import HQS


def disk(side, radius=0.3):
    grid = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / side
    return ((grid[:, None].square() + grid.square()).sqrt() < radius).double()[None, None]


def test_line_integrals_of_a_disk():
    """The chord at distance t is 2 sqrt(R^2 - t^2); the pixel disk's edge is a pixel wide, so a line is off by about two pixels."""
    side = 64
    y = Radon((1, side, side), 8)(disk(side))[0, 0]
    place = torch.arange(y.shape[0], dtype=torch.float64) - (y.shape[0] - 1) / 2
    chord = 2 * ((0.3 * side) ** 2 - place.square()).clamp_min(0).sqrt()
    inner = place.abs() < 0.25 * side
    assert ((y - chord[:, None]).abs()[inner] <= 2.5).all()
    assert (y[place.abs() > 0.3 * side + 2] == 0).all()


def test_reconstruction():
    """TV beats filtered back-projection, which beats nothing: 20 angles, little noise."""
    side = 32
    x = 0.2 + 0.6 * disk(side, 0.35) - 0.3 * disk(side, 0.15)
    operator = Radon((1, side, side), 20)
    problem = Problem.simulate(operator, x, GaussianNoise(0.1), generator=0)
    back = filtered_back_projection(operator, problem.y)
    wrapped = Problem(IterativeProx(operator, 1e-4), problem.y, problem.noise)
    found = HQS(steps=15).solve(wrapped, load_prior("tv", weight=5.0)).x
    errors = [float((one - x).square().mean().sqrt()) for one in (found, back, torch.zeros_like(x))]
    assert errors[0] < 0.5 * errors[1]
    assert errors[1] < errors[2]


def test_filtered_back_projection():
    """Linear in y, right in scale, nearer with more angles; not the least-squares solution."""
    x = 0.2 + 0.6 * disk(32, 0.35) - 0.3 * disk(32, 0.15)
    errors = []
    for angles in (5, 10, 20, 60):
        operator = Radon((1, 32, 32), angles)
        y = operator(x)
        found = filtered_back_projection(operator, y)
        assert (filtered_back_projection(operator, 2 * y) - 2 * found).abs().max() <= 1e-12
        errors.append(float((found - x).square().mean().sqrt()))
    assert errors == sorted(errors, reverse=True)
    assert abs(float(found.mean() / x.mean()) - 1) < 0.02  # the ramp filter keeps the mean but for the border
    assert (operator(found) - y).norm() > 1e-3 * y.norm()


def test_angles():
    assert Radon((1, 8, 8), [0.0, 45.0]).out_shape[-1] == 2
    straight = Radon((1, 8, 8), [0.0])(disk(8))[0, 0, :, 0]
    assert abs(float(straight.sum() - disk(8).sum())) <= 1e-3 * float(disk(8).sum()) + 1.0
    for angles, word in ((0, "1 to 65536"), ([], "one or more"), ([float("nan")], "finite")):
        with pytest.raises(InputError, match=word):
            Radon((1, 8, 8), angles)
    with pytest.raises(InputError, match="square"):
        Radon((1, 8, 9))
    with pytest.raises(InputError, match="must be"):
        filtered_back_projection(Radon((1, 8, 8)), torch.zeros(1, 1, 3, 3))


def test_it_works_after_a_shipped_prior_was_loaded():
    """deepinv makes tensors when it is imported; a prior whose network is first built without memory must not leave them so."""
    lines = ["from invsolve import load_prior", "load_prior('natural')", "from invsolve_deepinv import Radon"]
    lines.append("print(Radon((1, 7, 7), 5).out_shape)")
    code = "; ".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 10, 5)"  # the diagonal of 7 pixels: 9.9
