"""Operators made of others by name: in problem files, suites, saved problems and the shell; and the doors that a plug-in adds."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_operators import BlockMean, GaussianBlur, Mask, PaddedBlur

import invsolve.which
from invsolve import Capability, CompatibilityError, GaussianNoise, InputError, IterativeProx, KrylovSVD, Problem, Stack, load_prior
from invsolve.bench import Suite, run
from invsolve.bench.cells import Store
from invsolve.bench.fingerprint import described
from invsolve.bench.plan import check
from invsolve.cli import main
from invsolve.cli.setup import set_up
from invsolve.errors import ArgumentError, RegistrationError, UnknownNameError
from invsolve.io.encoding import Pool, describe, rebuild
from invsolve.io.images import write_image
from invsolve.operator.algebra import Combined, Composed, Scaled
from invsolve.operator.chain import chain, structured
from invsolve.operator.measurement import parts
from invsolve.plugins import ADDED, Entry, Registry, registry
from invsolve.recipe.config import make_config
from invsolve.solvers import HQS
from invsolve.testing import failures, operator_checks
from invsolve.which import known_doors, which_solvers

SHAPE = (3, 12, 16)
KERNEL = [[0.25, 0.5], [0.0, 0.25]]
VALID = {"name": "padded-blur", "kernel": KERNEL, "boundary": "valid"}
BLUR, HOLES = {"name": "gaussian-blur", "sigma": 1.0}, {"name": "mask", "keep": 0.5}


def white(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def python():
    """The operators of `TABLES`, written in Python."""
    valid = PaddedBlur(SHAPE, torch.tensor(KERNEL), "valid")
    blur, holes = GaussianBlur(SHAPE, sigma=1.0), Mask(SHAPE, keep=0.5)
    return {
        "iterative prox": IterativeProx(valid, tol=1e-4),
        "of a chain": IterativeProx(holes @ blur, tol=1e-4),
        "krylov": KrylovSVD(valid, 5),
        "chain": BlockMean(SHAPE, 2) @ blur,
        "chain that changes the shape": Mask((3, 6, 8), keep=0.5) @ BlockMean(SHAPE, 2),
        "stack": Stack(blur, BlockMean(SHAPE, 2), holes @ blur),
        "scaled": 0.5 * blur,
        "sum": blur + holes,
        "adjoint": blur.T,
        "complex": invsolve.AsComplex((2, 4, 4)) @ registry().build("operator", "mri", in_shape=(2, 4, 4)),
    }


TABLES = {
    "iterative prox": {"name": "iterative-prox", "tol": 1e-4, "operator": VALID},
    "of a chain": {"name": "iterative-prox", "tol": 1e-4, "operator": [BLUR, HOLES]},
    "krylov": {"name": "krylov-svd", "rank": 5, "operator": VALID},
    "chain": {"name": "chain", "operators": [BLUR, {"name": "block-mean", "factor": 2}]},
    "chain that changes the shape": {"name": "chain", "operators": [{"name": "block-mean", "factor": 2}, HOLES]},
    "stack": {"name": "stack", "operators": [BLUR, {"name": "block-mean", "factor": 2}, [BLUR, HOLES]]},
    "scaled": {"name": "scaled", "factor": 0.5, "operator": BLUR},
    "sum": {"name": "sum", "first": BLUR, "second": HOLES},
    "adjoint": {"name": "adjoint-view", "operator": BLUR},
    "complex": [{"name": "mri", "in_shape": [2, 4, 4]}, {"name": "as-complex"}],
}


@pytest.fixture
def folder(tmp_path):
    rows, columns = torch.linspace(0, 3, 12)[:, None], torch.linspace(0, 3, 16)
    write_image(tmp_path / "photo.png", torch.stack([0.5 + 0.4 * (k + rows).sin() * columns.cos() for k in range(3)]))
    return tmp_path


def tables(operator, **changes):
    return {
        "data": {"image": "photo.png", "simulate": True},
        "operator": operator,
        "noise": {"sigma": 0.05},
        "prior": {"name": "tv"},
        "solver": {"name": "hqs", "steps": 2},
        **changes,
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_table_inside_a_table_is_the_operator_in_python(name, folder):
    write_image(folder / "pairs.npy", torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)))
    data = {"image": "pairs.npy", "simulate": True} if name == "complex" else {"image": "photo.png", "simulate": True}
    made, wanted = set_up(make_config(tables(TABLES[name], data=data), folder=folder)).problem.operator, python()[name]
    assert type(made) is type(wanted)
    assert made.capabilities == wanted.capabilities
    x = white(2, *wanted.in_shape)
    assert all(torch.equal(a, b) for a, b in zip(parts(made(x)), parts(wanted(x)), strict=True))
    if isinstance(made, IterativeProx):
        assert made.tol == 1e-4


def test_the_image_shape_is_found_through_a_wrapper(folder):
    """The measurement 12 x 16 of a valid blur by 2 x 2 is of an image 13 x 17, which only in_shape can say; block means are found."""
    inside = {**VALID, "in_shape": [3, 13, 17]}
    for operator in ({"name": "iterative-prox", "operator": inside}, {"name": "chain", "operators": [inside, HOLES]}):
        problem = set_up(make_config(tables(operator, data={"image": "photo.png"}), folder=folder)).problem
        assert problem.operator.in_shape == (3, 13, 17)
    means = {"name": "iterative-prox", "operator": {"name": "block-mean", "factor": 2}}
    assert set_up(make_config(tables(means, data={"image": "photo.png"}), folder=folder)).problem.operator.in_shape == (3, 24, 32)


def test_complex_measurements_from_a_file(folder):
    """k-space as complex numbers, with an operator that has pairs: told what is missing, and then solved."""
    pairs = registry().build("operator", "mri", in_shape=(2, 8, 8))
    complex_one = invsolve.AsComplex((2, 8, 8)) @ pairs
    y = Problem.simulate(complex_one, torch.full((1, 2, 8, 8), 0.5), GaussianNoise(0.05), generator=0).y
    write_image(folder / "k.npy", y[0])
    mri, data = {"name": "mri", "in_shape": [2, 8, 8]}, {"image": "k.npy"}
    with pytest.raises(InputError, match=r'y is complex: \{ name = "as-complex" \} after the operator'):
        set_up(make_config(tables(mri, data=data), folder=folder))
    setup = set_up(make_config(tables([mri, {"name": "as-complex"}], data=data), folder=folder))
    assert torch.equal(setup.problem.y, y)
    assert setup.solver.solve(setup.problem, setup.prior).x.shape == (1, 2, 8, 8)


def test_overrides_reach_inside(folder):
    overrides = ["operator.operator.boundary=zero", "operator.tol=0.01"]
    made = set_up(make_config(tables(TABLES["iterative prox"]), overrides, folder=folder)).problem.operator
    assert made.tol == 0.01
    assert made.parts[0].arguments["boundary"] == "zero"


FAULTS = {
    "unknown name inside": ({"name": "iterative-prox", "operator": {"name": "paded-blur"}}, UnknownNameError, "did you mean padded-blur"),
    "unknown key inside": (
        {"name": "iterative-prox", "operator": {**VALID, "boundry": "zero"}},
        ArgumentError,
        "'padded-blur'.*did you mean boundary",
    ),
    "unknown key outside": ({**TABLES["iterative prox"], "tool": 1e-3}, ArgumentError, "'iterative-prox'.*did you mean tol"),
    "another type inside": ({"name": "scaled", "factor": 2, "operator": {**HOLES, "seed": "0"}}, ArgumentError, "'mask': seed must be int"),
    "another type outside": ({**TABLES["iterative prox"], "tol": "low"}, ArgumentError, "tol must be float; given 'low'"),
    "no table": ({"name": "iterative-prox", "operator": 3}, ArgumentError, r"operator must be a table with a name.*given 3"),
    "a bare name": ({"name": "iterative-prox", "operator": "mask"}, ArgumentError, r"such as operator = \{ name = .*given 'mask'"),
    "no name": ({"name": "iterative-prox", "operator": {"keep": 0.5}}, InputError, r"'iterative-prox': operator.name: missing"),
    "an empty list": ({"name": "iterative-prox", "operator": []}, ArgumentError, "must be a table"),
    "one table for a list": ({"name": "stack", "operators": BLUR}, ArgumentError, "operators must be a list"),
    "a number in a list": ({"name": "stack", "operators": [BLUR, 3]}, ArgumentError, r"operators.1 must be a table"),
    "no operator at all": ({"name": "iterative-prox", "tol": 1e-3}, ArgumentError, "missing a required argument: 'operator'"),
    "no rank": ({"name": "krylov-svd", "operator": VALID}, ArgumentError, "missing a required argument: 'rank'"),
    "shapes that do not meet": ({"name": "sum", "first": BLUR, "second": {"name": "block-mean"}}, InputError, "cannot add"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_inside_are_named(name, folder):
    operator, kind, message = FAULTS[name]
    with pytest.raises(kind, match=message):
        set_up(make_config(tables(operator), folder=folder))
    if name != "shapes that do not meet":  # which only the image shows
        with pytest.raises(InputError, match=message):
            check(suite(operator))


def test_names_inside_are_checked_before_the_image_is_read(folder):
    config = make_config(tables(FAULTS["unknown key inside"][0], data={"image": "gone.png", "simulate": True}), folder=folder)
    with pytest.raises(ArgumentError, match="boundry"):
        set_up(config)


# --- suites ------------------------------------------------------------------------------------------------------------------


def suite(*operators, **changes):
    return Suite.make(
        {
            "name": "wrapped",
            "data": {"name": "synthetic", "shape": list(SHAPE), "images": 1},
            "noise": {"sigma": 0.05},
            "operator": list(operators),
            "solver": [{"name": "hqs", "steps": 2, "prior": {"name": "tv"}}],
            "metrics": ["psnr"],
            **changes,
        }
    )


def test_a_suite_names_what_which_recommends(tmp_path):
    """padded-blur has no prox: its row is skipped; the one behind the door is what Python gives."""
    chained = {"name": "chain", "label": "both", "operators": [BLUR, BLUR]}
    rows = run(suite(VALID, TABLES["iterative prox"], chained), out=tmp_path, progress=False)
    status = {row["operator"]: row["status"] for row in rows}
    assert status == {"padded-blur": "skipped", "iterative-prox": "finished", "both": "finished"}
    row = next(row for row in rows if row["operator"] == "iterative-prox")
    cells, inputs = Store(tmp_path, "cells", "cell.json"), Store(tmp_path, "inputs", "input.json")
    y = inputs.tensors(cells.read(row["key"])["inputs"]["measurement"])["y0"]
    solved = HQS(steps=2).solve(Problem(python()["iterative prox"], y, GaussianNoise(0.05)), load_prior("tv"))
    assert torch.equal(cells.tensors(row["key"])["x"], solved.x[0])


def test_a_suite_checks_types_and_takes_files(tmp_path):
    with pytest.raises(InputError, match="steps must be int; given '3'"):
        check(suite(BLUR, solver=[{"name": "hqs", "steps": "3", "prior": {"name": "tv"}}]))
    kept = np.zeros((12, 16), dtype=np.float32)
    kept[::2] = 1
    np.save(tmp_path / "mask.npy", kept)
    text = """
data = { name = "synthetic", shape = [3, 12, 16], images = 1 }
noise = { sigma = 0.05 }
operator = [{ name = "iterative-prox", operator = { name = "mask", mask = { file = "mask.npy" } } }]
solver = [{ name = "hqs", steps = 2, prior = { name = "tv" } }]
metrics = ["psnr"]
"""
    (tmp_path / "own.toml").write_text(text)
    (row,) = run(Suite.load(tmp_path / "own.toml"), out=tmp_path / "out", progress=False)
    assert row["status"] == "finished"
    np.save(tmp_path / "mask.npy", 1 - kept)  # other numbers, other cells
    (again,) = run(Suite.load(tmp_path / "own.toml"), out=tmp_path / "out", progress=False)
    assert again["key"] != row["key"]


def test_what_is_inside_belongs_to_the_fingerprint():
    """The source and the parameters of the operator inside, as if it stood alone."""
    plain = suite(TABLES["of a chain"])
    found = described("operator", plain.operator[0], plain)["parameters"]["operator"]
    assert [one["name"] for one in found] == ["gaussian-blur", "mask"]
    alone = suite(BLUR)
    assert found[0] == described("operator", alone.operator[0], alone)
    assert found[0]["source"] != described("operator", plain.operator[0], plain)["source"]


# --- files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [entry.name for entry in registry().of("operator") if entry.plugin.startswith("invsolve ")])
def test_every_operator_is_written_by_its_name_and_made_again(name):
    for operator in registry().load("operator", name).examples():
        pool = Pool()
        data = json.loads(json.dumps(describe("operator", operator, pool, "operator")))
        assert set(data) == {"name", "arguments"}
        assert data["name"] in registry().names("operator")
        again = rebuild("operator", data, pool)
        assert type(again) is type(operator)
        x = white(operator.batch or 2, *operator.in_shape)
        x = x + 0j if operator.complex_input else x
        assert all(torch.equal(a, b) for a, b in zip(parts(again(x)), parts(operator(x)), strict=True))


@pytest.mark.parametrize("kind", ["composed", "rotated", "embedded", "iterative-prox", "adjoint-view", "no-measurement"])
def test_files_of_before_are_read(kind):
    """They call the core's own "core", and a composition that keeps an SVD by its class."""
    wide, turn = chain.examples()[0], structured.examples()[0].parts[1]
    tall = structured.examples()[1]
    operator, arguments = {
        "composed": (Composed(wide, turn), ("outer", "inner")),
        "rotated": (wide @ turn, ("outer", "inner")),
        "embedded": (tall, ("outer", "inner")),
        "iterative-prox": (IterativeProx(wide, 1e-3), ("operator", "tol")),
        "adjoint-view": (wide.T, ("operator",)),
        "no-measurement": (Problem.unconditional((1, 2, 2)).operator, ("in_shape",)),
    }[kind]
    pool = Pool()
    data = describe("operator", operator, pool, "operator")
    before = rebuild("operator", {"core": kind, "arguments": {one: data["arguments"][one] for one in arguments}}, pool)
    assert type(before) is type(operator)
    assert before.capabilities == operator.capabilities


def test_structured_needs_a_rule():
    wide = chain.examples()[0]
    with pytest.raises(InputError, match="keep no SVD together; chain"):
        structured(wide.T, wide)
    with pytest.raises(InputError, match="chain takes operators; given int"):
        chain(wide, 3)
    with pytest.raises(InputError, match="given none"):
        chain()


# --- doors -------------------------------------------------------------------------------------------------------------------


class HalfProx(Combined):
    """A stranger's approximation: H with the prox of a multiple of the identity in place of H^T H."""

    door = "steps=3"

    def __init__(self, operator, steps=1):
        super().__init__(operator)
        self.steps, self.in_shape, self.out_shape = steps, operator.in_shape, operator.out_shape

    @property
    def capabilities(self):
        return self.parts[0].capabilities | {Capability.PROX}

    def forward(self, x):
        return self.parts[0](x)

    def adjoint(self, y):
        return self.parts[0].adjoint(y)

    def prox(self, z, y, tau):
        for _ in range(self.steps):
            z = z + 0.1 * self.adjoint(y - self(z))
        return z


@pytest.fixture
def stranger(monkeypatch):
    entry = Entry("operator", "half-prox", f"{__name__}:HalfProx", "stranger 1.0", adds="prox")
    monkeypatch.setitem(registry().entries, ("operator", "half-prox"), entry)


def valid_problem():
    operator = PaddedBlur(SHAPE, torch.tensor(KERNEL), "valid")
    return Problem.simulate(operator, torch.full((1, *SHAPE), 0.5), GaussianNoise(0.05), generator=0)


def test_an_approximation_of_a_plug_in_is_a_door_too(stranger, folder):
    problem = valid_problem()
    fits = {one.solver: one for one in which_solvers(problem, load_prior("tv"))}
    assert fits["hqs"].doors == ("HalfProx(H, steps=3)", "IterativeProx(H, tol=1e-4)")
    with pytest.raises(CompatibilityError, match=r"Or give it HalfProx\(H, steps=3\) in place of H"):
        HQS().solve(problem, load_prior("tv"))
    behind = Problem(HalfProx(problem.operator, steps=3), problem.y, problem.noise)
    assert HQS(steps=2).solve(behind, load_prior("tv")).x.shape == (1, *SHAPE)
    made = set_up(make_config(tables({"name": "half-prox", "steps": 3, "operator": VALID}), folder=folder)).problem.operator
    assert isinstance(made, HalfProx)  # no annotation: the argument's name says what it is
    assert made.steps == 3
    arguments = ["which", "--operator", "padded-blur", "--set", f"operator.kernel={KERNEL}", "--shape", "3", "12", "16"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert 'operator = { name = "half-prox", steps = 3, operator = { ... } }' in shown.output


def test_a_door_that_cannot_be_loaded_is_none(monkeypatch):
    entry = Entry("operator", "gone", "no_such_module:Gone", "stranger 1.0", adds="prox")
    monkeypatch.setitem(registry().entries, ("operator", "gone"), entry)
    assert "gone" not in {door.name for door in known_doors()}
    assert {"iterative-prox", "iterative-pinv", "krylov-svd"} <= {door.name for door in known_doors()}


def test_the_table_of_before_is_read_from_the_registry(stranger):
    assert ("prox", "IterativeProx(H, tol=1e-4)") in invsolve.which.DOORS
    assert ("prox", "HalfProx(H, steps=3)") in invsolve.which.DOORS


def test_no_door_is_named_that_does_not_open():
    """A Stack has no SVD, and KrylovSVD takes none."""
    blur = GaussianBlur(SHAPE, sigma=1.0)
    problem = Problem.simulate(Stack(blur, blur), torch.full((1, *SHAPE), 0.5), GaussianNoise(0.05), generator=0)
    assert {one.solver: one for one in which_solvers(problem)}["ddrm"].doors == ()
    with pytest.raises(InputError):
        KrylovSVD(problem.operator, 3)


def test_what_can_be_added_are_capabilities():
    assert set(ADDED) == {one.value for one in Capability}
    known = Registry([])
    known.add("operator", "fine", "a:B", adds="svd")
    for kind, adds in (("operator", "speed"), ("solver", "prox")):
        with pytest.raises(RegistrationError, match="adds must be an operator's capability"):
            known.add(kind, "wrong", "a:B", adds=adds)


@pytest.mark.parametrize("name", ["chain", "stack", "iterative-prox", "krylov-svd", "structured"])
def test_the_shell_knows_them(name):
    shown = CliRunner().invoke(main, ["info", "operator", name, "--json"])
    assert shown.exit_code == 0, shown.output
    assert all(one["text"] for one in json.loads(shown.output)["parameters"])
    done = CliRunner().invoke(main, ["check", "operator", name, "-k", "adjoint"])  # all checks: test_conformance_operators
    assert done.exit_code == 0, done.output


def test_wrappers_of_complex_operators_conform():
    """The prox and the SVD of real images, of complex data."""
    matrix = white(5, 12) + 1j * white(5, 12, seed=1)
    operator = invsolve.Operator.from_matrix(matrix, (3, 2, 2))
    for wrapped in (IterativeProx(operator, 1e-14, 2000), KrylovSVD(operator, 4), Scaled(operator, -2.0)):
        assert failures(wrapped, operator_checks(wrapped)) == {}
    # The subspace is the whole space here (4 + 10 columns of 12), so that only rounding is left: 8 eps max(m, n) |H|.
    exact = torch.linalg.svdvals(torch.cat([matrix.real, matrix.imag]))
    assert (KrylovSVD(operator, 4).values - exact[:4]).abs().max() <= 8 * 12 * torch.finfo(torch.float64).eps * exact[0]
