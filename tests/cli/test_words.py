"""What the shell says of what it cannot do: the registered names that were typed, no class, exit code 2."""

import ast
import functools
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import Grey, KernelBlur, PaddedBlur

from invsolve import AsComplex, CompatibilityError, GaussianNoise, InvsolveError, PoissonNoise, Problem
from invsolve.cli import main
from invsolve.cli.wording import worded
from invsolve.io.images import write_image
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.interrupts import attempted
from invsolve.priors import GaussianPrior, TotalVariation

CONTRACTS = {"Denoiser", "Regulariser", "Prior", "Solver", "Operator", "Problem", "Part"}
OURS = ("invsolve", "invsolve_", "test_words")


@functools.cache
def classes(modules):
    """The names of the classes in some modules, by their names."""
    return {name for module in modules for name, value in vars(sys.modules[module]).items() if isinstance(value, type)}


def class_words(text):
    """Words that are names of classes: the contracts, and what is spelt with capitals inside and defined in one of our modules."""
    words = set(re.findall(r"\w+", text))
    inside = {word for word in words if re.search(r"[a-z][A-Z]|[A-Z]{2}[a-z]", word)}
    ours = tuple(name for name in list(sys.modules) if name.startswith(OURS))
    return sorted((words & CONTRACTS) | (inside & classes(ours)))


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_words_of_a_refusal():
    problem = Problem(PaddedBlur((1, 8, 8), [[0.5, 0.5]]), torch.full((1, 1, 8, 8), 0.5), PoissonNoise(0.01))
    with pytest.raises(CompatibilityError) as caught:
        registry().build("solver", "ddrm").solve(problem, TotalVariation())
    assert class_words(str(caught.value)) == ["Denoiser", "KrylovSVD", "PaddedBlur", "PoissonNoise", "TotalVariation"]
    lines = worded(str(caught.value)).splitlines()
    assert lines[:4] == [
        "ddrm cannot solve this problem:",
        "  - operator padded-blur lacks 'svd' (it has: adjoint, differentiable, linear)",
        "  - prior tv is not a denoiser",
        "  - noise poisson lacks 'sigma' (it has: nll, variance)",
    ]
    assert lines[5] == "Or take the operator krylov-svd/NAME in place of NAME, with --set operator.rank=..."


def test_ways_out_are_those_of_the_shell():
    assert worded("or: IterativePinv(H, tol=1e-4) of a NoMeasurement") == "or: iterative-pinv(H, tol=1e-4) of a no-measurement"
    assert worded("divide 0..255 data by 255 (and its sigma too), or pass check_range=False, Hub") == (
        "divide 0..255 data by 255 (and its sigma too), Hub"
    )
    assert worded("JPEG and a DataLoader in PNG, SomethingElse") == "JPEG and a DataLoader in PNG, SomethingElse"
    assert worded("pass normalise=False") == "set normalise = false"


def test_no_solver_names_a_class_of_ours_in_what_it_lacks():
    small, y = (3, 8, 8), torch.full((1, 3, 8, 8), 0.5)
    squares = KernelBlur(small, torch.ones(1, 1)) @ KernelBlur(small, torch.ones(1, 1))
    complex_one = Problem(AsComplex((2, 4, 4)), torch.zeros(1, 1, 4, 4) + 0j, GaussianNoise(0.1))
    problems = [
        (Problem(Grey(small) @ PaddedBlur(small, [[0.5, 0.5]]), y[:, :1], PoissonNoise(0.01)), TotalVariation()),
        (Problem(squares, y, GaussianNoise(0.1)), GaussianPrior(torch.zeros(1, 8, 8))),
        (Problem.unconditional(small), TotalVariation()),
        (complex_one, TotalVariation()),
    ]
    said: list[str] = []
    for entry in registry().entries.values():
        if entry.kind == "solver" and entry.listed:
            solver = registry().build("solver", entry.name)
            for problem, prior in problems:
                said += solver.mismatches(problem, prior)
    assert len(said) > 100
    assert {word: one for one in said for word in class_words(worded(one))} == {}


@pytest.mark.parametrize("kind", ["operator", "solver", "noise", "metric"])
def test_no_entry_names_a_class_of_ours_in_what_it_refuses(kind):
    said = {}
    for name in registry().names(kind):
        target = attempted(lambda one=name: registry().load(kind, one))
        if isinstance(target, BaseException):
            continue
        keys = list(signature_of(target).parameters)
        shape = {"in_shape": (1, 8, 8)} if "in_shape" in keys else {}
        tries = [{**shape, key: value} for key in keys for value in (-7, "x")] + [{"nonsense": 1}]
        for one in tries:
            found = attempted(lambda at=name, given=one: registry().build(kind, at, **given))
            if isinstance(found, InvsolveError):
                said[str(found)] = (name, one)
    assert said
    assert {word: where for one, where in said.items() for word in class_words(worded(one))} == {}


PHOTO = ("restore", "photo.png")
TV = ("--solver", "adam-tv", "--prior", "tv", "--set", "solver.steps=2")
HOSTILE = {
    "a prior of another kind": (*PHOTO, "--operator", "gaussian-blur", "--solver", "ddrm", "--prior", "tv"),
    "no prox": (*PHOTO, "--operator", "padded-blur", "--set", "operator.kernel=[[1]]", "--solver", "admm", "--prior", "gaussian"),
    "an unknown argument": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "operator.sigm=1"),
    "another type": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "operator.sigma=wide"),
    "out of range": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "operator.sigma=-1"),
    "a table for a number": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "solver.steps={a=1}"),
    "a text for a table": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "data=photo.png"),
    "a list for a name": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "prior.name=[1]"),
    "an unknown key": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "run.sed=1"),
    "no steps": (*PHOTO, "--operator", "gaussian-blur", "--solver", "diffpir", "--prior", "gaussian", "--set", "solver.steps=0"),
    "capitals": (*PHOTO, "--operator", "gaussian-blur", "--solver", "adam-tv", "--prior", "TV"),
    "an inner operator": (*PHOTO, "--operator", "iterative-prox/kernel-blur", *TV),
    "nothing measured": (*PHOTO, "--operator", "mask", "--set", "operator.keep=0.0", *TV),
    "a shape that does not fit": (*PHOTO, "--operator", "mri", *TV),
    "noise of no such argument": (*PHOTO, "--operator", "gaussian-blur", *TV, "--set", "noise.sgma=1"),
    "a negative level": (*PHOTO, "--operator", "gaussian-blur", *TV, "--noise", "-1"),
    "a level in words": (*PHOTO, "--operator", "gaussian-blur", *TV, "--noise", "much"),
    "samples": (*PHOTO, "--operator", "gaussian-blur", *TV, "--samples", "0"),
    "a device": (*PHOTO, "--operator", "gaussian-blur", *TV, "--device", "gpu"),
    "no such file": ("restore", "none.png", "--operator", "gaussian-blur", *TV),
    "a result that is no picture": (*PHOTO, "--operator", "gaussian-blur", *TV, "--out", "r.xyz"),
    "two things that happened": (*PHOTO, "--blur", "2", "--motion", "9"),
    "a blur of no width": (*PHOTO, "--blur", "-1"),
    "no such kernel": (*PHOTO, "--kernel", "none.png"),
    "a photograph as a mask": (*PHOTO, "--mask", "photo.png"),
    "no such problem file": ("run", "none.toml"),
    "a photograph as a problem file": ("run", "photo.png"),
    "a kind": ("list", "operatr"),
    "a name": ("info", "solver", "difpir"),
    "a kind without a name": ("info", "solver"),
    "a name of several kinds": ("info", "bicubic"),
    "a name of nothing": ("info", "difpir"),
    "which without a problem": ("which",),
    "which with a wrong argument": ("which", "--operator", "gaussian-blur", "--set", "operator.sigma=-1"),
    "which with a prior": ("which", "--operator", "gaussian-blur", "--prior", "TV"),
    "noise of nothing": ("noise", "none.png"),
    "noise by an unknown operator": ("noise", "photo.png", "--operator", "gaussian"),
    "a check of what has none": ("check", "metric", "psnr"),
    "a check of nobody": ("check", "solver", "nobody"),
    "a suite": ("bench", "run", "nosuite"),
    "a plan": ("bench", "plan", "nosuite"),
    "a report of no run": ("bench", "report", "."),
    "tuning what there is not": ("tune", "nosuite", "-s", "hqs"),
    "a plug-in's name": ("plugins", "new", "Not A Name"),
    "a report of no prior": ("prior-report", "nobody"),
    "training without a file": ("train", "none.toml"),
    "weights that are none": ("weights", "inspect", "photo.png"),
    "a log in no folder": ("list", "--log", "nowhere/at/all.log"),
    "a command": ("restor",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    write_image(place / "photo.png", torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0)))
    return place


@pytest.mark.parametrize("what", HOSTILE)
def test_bad_input_ends_with_2_and_names_no_class(what, folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = call(*HOSTILE[what])
    assert class_words(done.output) == [], done.output
    assert (done.exit_code, "Error: " in done.stderr, bool(re.search(r"unexpected \w+:", done.stderr))) == (2, True, False), done.output
    assert sorted(one.name for one in folder.iterdir()) == ["photo.png"]


def said_in(module):
    """What the errors of a module say, with 9 in place of what is put in."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and getattr(node.exc.func, "id", "") == "InputError"):
            continue
        for text in node.exc.args:
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "9" for part in parts)


def test_what_draws_calibration_and_tuning_ask_for_are_options():
    names = ("draws", "calibration", "certificate", "ranks", "scores", "tuning", "fit")
    said = [one for name in names for one in said_in(import_module(f"invsolve.predictive.{name}"))]
    assert len(said) > 25
    written = [worded(one) for one in said if "for_" in one or re.search(r"\b(pool|draws|side|samples)=", one)]
    assert len(written) >= 8
    assert [one for one in written if "for_" in one or re.search(r"\w=(?!=)", one)] == []
    assert (
        worded("(draws=99); pool='natural', or take larger ones, side=256")
        == "(--draws 99); --pool natural, or take larger ones, --side 256"
    )
    assert worded("the operator withdraws=9") == "the operator withdraws=9"
