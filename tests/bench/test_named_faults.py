"""A fault that is found when a part is made names the part, its label and its line, in a suite and in a problem file alike."""

import re

import numpy as np
import pytest
import torch

from invsolve import InputError, InvsolveError
from invsolve.bench import Suite, run
from invsolve.cli.setup import set_up
from invsolve.io.images import write_image
from invsolve.recipe.config import load_config
from invsolve.recipe.tables import within

# The keys of an operator, and what is said of it after its name.
OPERATORS = {
    "content": ('name = "mask"', 'mask = { file = "half.npy" }', "operator 'mask': mask must hold only 0"),
    "size": ('name = "mask"', 'mask = { file = "small.npy" }', r"operator 'mask': mask must be .*given \(5, 5\)"),
    "factor": ('name = "block-mean"', "factor = 3", "operator 'block-mean': factor must .*given 3 for 16 x 16"),
    "range": ('name = "gaussian-blur"', "sigma = -1.0", "operator 'gaussian-blur': a Gaussian needs sigma > 0 .*-1"),
    "inside": (
        'name = "chain"',
        'operators = [{ name = "identity" }, { name = "block-mean", factor = 3 }]',
        r"operators\.1: operator 'block-mean'",
    ),
}
BATCH = ('name = "mask"', 'mask = { file = "two.npy" }')
TWO = "a value for each of 2 images, and there is 1; give one"


@pytest.fixture
def folder(tmp_path):
    write_image(tmp_path / "photo.npy", torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    np.save(tmp_path / "half.npy", np.full((16, 16), 0.5, dtype=np.float32))
    np.save(tmp_path / "small.npy", np.ones((5, 5), dtype=np.float32))
    np.save(tmp_path / "two.npy", np.ones((2, 1, 16, 16), dtype=np.float32))
    return tmp_path


def problem(folder, operators, *, noise="sigma = 0.05", solver='name = "hqs"', prior='name = "tv"', simulate="true"):
    """What is said of a problem file of 7 lines before the first operator, each operator a line and two of keys."""
    parts = f"[noise]\n{noise}\n[data]\nimage = 'photo.npy'\nsimulate = {simulate}\n\n\n"
    parts += "".join("[[operator]]\n" + "\n".join(keys) + "\n" for keys in operators) + f"[solver]\n{solver}\n[prior]\n{prior}\n"
    (folder / "problem.toml").write_text(parts)
    with pytest.raises(InvsolveError) as caught:
        set_up(load_config(folder / "problem.toml"))
    return str(caught.value)


def suite(folder, operators, *, noise="sigma = 0.05", solver='name = "hqs"\nprior = "tv"'):
    """What is said of a suite of 3 lines before the first operator, each operator a line and two of keys."""
    parts = f'metrics = ["psnr"]\ndata = {{ shape = [3, 16, 16], images = 1 }}\nnoise = {{ {noise} }}\n'
    parts += "".join("[[operator]]\n" + "\n".join(keys) + "\n" for keys in operators) + f"[[solver]]\n{solver}\n"
    (folder / "suite.toml").write_text(parts)
    with pytest.raises(InputError) as caught:
        run(Suite.load(folder / "suite.toml"), out=folder / "out", progress=False)
    assert not list((folder / "out").rglob("cell.json"))
    return str(caught.value)


@pytest.mark.parametrize("fault", OPERATORS)
def test_an_operator_that_cannot_be_made_is_named(fault, folder):
    name, key, words = OPERATORS[fault]
    identity = ('name = "identity"', "in_shape = [3, 16, 16]")
    said = problem(folder, [identity, (name, key)])
    line = 13 if fault in ("content", "size", "factor") else 11  # of the key that the message names, else of the table
    assert re.fullmatch(rf"operator\.1: .*{words}.* \(line {line}\)", said, re.DOTALL), said
    assert re.fullmatch(rf"(?!operator\.0).*{words}.* \(line {line - 3}\)", problem(folder, [(name, key)]), re.DOTALL)
    said = suite(folder, [identity, (name, key, 'label = "the second"')])
    assert re.fullmatch(rf"operator 'the second': .*{words}.* \(line {line - 4}\)", said, re.DOTALL), said


def test_a_measurement_that_no_shape_gives_names_the_operator(folder):
    said = problem(folder, [('name = "identity"',), ('name = "mask"', 'mask = { file = "small.npy" }')], simulate="false")
    assert re.search(r"no image shape was found.*operator\.1: operator 'mask': mask must be", said), said


def test_values_for_several_images_are_refused_with_the_part_where_there_is_one(folder):
    mask, identity, noise = BATCH, ('name = "identity"', "in_shape = [3, 16, 16]"), "sigma = [0.1, 0.2]"
    assert problem(folder, [identity], noise=noise) == f"noise 'gaussian' has {TWO} (line 1)"
    assert problem(folder, [identity], noise=noise, simulate="false") == f"noise 'gaussian' has {TWO} (line 1)"
    assert problem(folder, [mask]) == f"operator 'mask' has {TWO} (line 8)"
    assert problem(folder, [identity, mask]) == f"one of operator 'identity', operator 'mask' has {TWO} (line 8)"
    assert suite(folder, [identity], noise=noise) == f"suite 'suite' cannot be run:\n  - noise 'gaussian' has {TWO} (line 3)"
    own = (*identity, "noise = { sigma = [0.1, 0.2] }", 'label = "own"')
    assert f"operator 'own', noise: noise 'gaussian' has {TWO} (line 7)" in suite(folder, [own])
    assert suite(folder, [identity, (*mask, 'label = "the second"')]) == f"operator 'the second': operator 'mask' has {TWO} (line 7)"


def test_solvers_priors_and_noises_are_named_once(folder):
    good = [('name = "identity"',)]
    assert re.fullmatch(r"solver 'hqs': steps must .*given 0 \(line 12\)", problem(folder, good, solver='name = "hqs"\nsteps = 0'))
    assert re.fullmatch(r"prior 'tv': weight must .*-1.* \(line 14\)", problem(folder, good, prior='name = "tv"\nweight = -1.0'))
    assert re.fullmatch(r"noise 'gaussian': sigma must .*-1.* \(line 2\)", problem(folder, good, noise="sigma = -1.0"))
    head = "suite 'suite' cannot be run:\n  - "
    solver = 'name = "hqs"\nsteps = 0\nprior = "tv"'
    assert re.fullmatch(rf"{head}solver 'hqs': steps must .*given 0 \(line 8\)", suite(folder, good, solver=solver))
    solver = 'name = "hqs"\nlabel = "mine"\nprior = { name = "tv", weight = -1.0 }'
    assert re.fullmatch(rf"{head}solver 'mine', prior: prior 'tv': weight must .* \(line 9\)", suite(folder, good, solver=solver))


def test_a_plug_ins_own_error_keeps_its_kind():
    class OwnError(InputError):
        def __init__(self, code, text):
            super().__init__(f"{code}: {text}")

    named = within(OwnError(3, "no"), "operator 'own'")
    assert (type(named), str(named)) == (InputError, "operator 'own': 3: no")
    assert str(within(named, "operator 'own'")) == str(named)
