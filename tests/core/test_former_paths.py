"""Import paths of earlier releases keep working, and give the very objects of the present ones."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fresh_cases import run_fresh

# As published before the folders: former module, a name in it, where it is now.
FORMER = [
    ("invsolve.algebra", "Stack", "invsolve.operator"),
    ("invsolve.arguments", "bind", "invsolve.plugins.arguments"),
    ("invsolve.build", "build", "invsolve.recipe"),
    ("invsolve.builtin", "invsolve_register", "invsolve.plugins.builtin"),
    ("invsolve.chain", "chain", "invsolve.operator.chain"),
    ("invsolve.commands", "main", "invsolve.cli"),
    ("invsolve.commands.check", "check", "invsolve.cli.check"),
    ("invsolve.complex_data", "AsComplex", "invsolve.operator"),
    ("invsolve.config", "Config", "invsolve.recipe"),
    ("invsolve.describe", "describe_entry", "invsolve.cli.describe"),
    ("invsolve.encoding", "Pool", "invsolve.io.encoding"),
    ("invsolve.files", "write_bytes", "invsolve.io.files"),
    ("invsolve.foreign", "FunctionOperator", "invsolve.operator"),
    ("invsolve.guard", "guarded", "invsolve.operator.guard"),
    ("invsolve.hookspecs", "hookimpl", "invsolve.plugins"),
    ("invsolve.images", "read_image", "invsolve.io.images"),
    ("invsolve.krylov", "KrylovSVD", "invsolve.operator"),
    ("invsolve.linalg", "IterativeProx", "invsolve.operator"),
    ("invsolve.matrix", "MatrixOperator", "invsolve.operator"),
    ("invsolve.measurement", "Measurement", "invsolve.operator"),
    ("invsolve.meter", "Meter", "invsolve.priors.meter"),
    ("invsolve.operator", "Operator", "invsolve.operator.contract"),
    ("invsolve.operator", "Capability", "invsolve"),
    ("invsolve.operator", "image_shape", "invsolve.operator.contract"),
    ("invsolve.output", "print_table", "invsolve.cli.output"),
    ("invsolve.plugins", "registry", "invsolve"),
    ("invsolve.plugins", "Entry", "invsolve.plugins.entries"),
    ("invsolve.preconditioners", "__doc__", "invsolve.operator.preconditioners"),
    ("invsolve.probing", "__doc__", "invsolve.operator.probing"),
    ("invsolve.recipe", "build", "invsolve.recipe.parts"),
    ("invsolve.scipy_bridge", "ScipyOperator", "invsolve.operator"),
    ("invsolve.start", "__doc__", "invsolve.solvers.start"),
    ("invsolve.storage", "load_problem", "invsolve.recipe.storage"),
    ("invsolve.storage", "save_solution", "invsolve.recipe.storage"),
    ("invsolve.structure", "joined", "invsolve.operator.structure"),
    ("invsolve.svd", "SVD", "invsolve"),
    ("invsolve_deepinv.priors", "Natural", "invsolve_priors"),
    ("invsolve_deepinv.networks", "EDMDRUNet", "invsolve_weights.networks"),
    ("invsolve_deepinv.weights", "read_card", "invsolve_weights.cards"),
    ("invsolve_deepinv.own", "load_weights", "invsolve_weights.own"),
    ("invsolve_deepinv.export", "main", "invsolve_priors.export"),
    ("invsolve_deepinv.train", "prepared", "invsolve_priors.train"),
    ("invsolve_deepinv", "Natural", "invsolve_priors"),
    ("invsolve_operators.mask", "Mask", "invsolve_operators"),
    ("invsolve_operators.masks", "ExpandMask", "invsolve_operators"),
    ("invsolve_operators.masks", "one_of", "invsolve_operators.masks.patterns"),
    ("invsolve_operators.drawn_masks", "StrokeMask", "invsolve_operators"),
    ("invsolve_operators.blurs", "DefocusBlur", "invsolve_operators"),
    ("invsolve_operators.kernels", "__doc__", "invsolve_operators.blurs.kernels"),
    ("invsolve_operators.downsample", "Bicubic", "invsolve_operators"),
    ("invsolve_operators.mri", "joined", "invsolve_operators.mri.cartesian"),
    ("invsolve_operators.sense", "SENSE", "invsolve_operators"),
    ("invsolve_operators.presets_masks", "DPSBoxMask", "invsolve_operators"),
    ("invsolve_operators.camera", "HDR", "invsolve_operators"),
    ("invsolve.build", "as_tuple", "invsolve.plugins.typed"),
    ("invsolve.commands", "Kind", "invsolve.cli.kinds"),
    ("invsolve.plugins", "no_kind", "invsolve.plugins.entries"),
    ("invsolve.plugins", "path_or_name", "invsolve.plugins.entries"),
    ("invsolve.storage", "Stored", "invsolve.io.stored"),
    ("invsolve.storage", "StoredProblem", "invsolve.io.stored"),
    ("invsolve.storage", "StoredSolution", "invsolve.io.stored"),
    ("invsolve.storage", "installed", "invsolve.io.stored"),
    ("invsolve_deepinv", "invsolve_load_prior", "invsolve_weights"),
    ("invsolve_deepinv.priors", "GreyThroughColour", "invsolve_weights.carded"),
    ("invsolve_deepinv.priors", "OwnNetwork", "invsolve_weights.carded"),
    ("invsolve_deepinv.priors", "from_path", "invsolve_weights.carded"),
]
# The same, where the name has changed: former module and name, present ones.
RENAMED = [
    ("invsolve.guard", "check_back", "invsolve.operator.guard", "check_y"),
    ("invsolve.guard", "check_inverse", "invsolve.operator.guard", "check_y"),
    ("invsolve.guard", "check_items", "invsolve.operator.guard", "check_image"),
    ("invsolve_deepinv.complex_physics", "joined", "invsolve.operator.complex_data", "joined_pairs"),
    ("invsolve_deepinv.complex_physics", "split", "invsolve.operator.complex_data", "paired"),
]


@pytest.mark.parametrize(("former", "name", "present"), FORMER, ids=lambda value: str(value))
def test_a_former_path_gives_what_stands_at_the_present_one(former, name, present):
    assert getattr(importlib.import_module(former), name) is getattr(importlib.import_module(present), name)


@pytest.mark.parametrize(("former", "name", "present", "now"), RENAMED, ids=lambda value: str(value))
def test_a_former_name_gives_what_stands_under_the_present_one(former, name, present, now):
    assert getattr(importlib.import_module(former), name) is getattr(importlib.import_module(present), now)


def test_a_former_path_comes_first_in_a_fresh_process(tmp_path):
    """Before anything of the present name was imported, with the submodule as an attribute of its parent, and under `python -m`."""
    code = "import invsolve.linalg, sys; from invsolve.commands.check import check; assert invsolve.linalg.IterativeProx.__module__"
    code += "; assert invsolve.linalg.__spec__.name == 'invsolve.operator.iterative'; assert 'invsolve.cli.check' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    module = "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('invsolve_deepinv.export', None, '__main__', True)"
    shown = run_fresh(module, tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: export.py")


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("invsolve.no_such_module")


# Every public function and class of that time, by module; and those that are no more, with a word of what to write instead.
NAMES = {
    module: names.split()
    for module, names in (
        line.split(":")
        for line in (Path(__file__).parent / "former_names.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
}
GONE = {
    ("invsolve.bench.figures", "Mark"): "invsolve.plot.front",
    ("invsolve.bench.figures", "Point"): "invsolve.plot.front",
    ("invsolve.bench.figures", "Scatter"): "invsolve.plot.front",
    ("invsolve.bench.figures", "scatter"): "invsolve.plot.front",
    ("invsolve.bench.report", "grid"): "open_run",
    ("invsolve.bench.report", "section"): "open_run",
    ("invsolve.bench.report", "winner"): "open_run",
    ("invsolve.build", "hinted"): "hint_of",
    ("invsolve.callbacks", "Callbacks"): "one after the other",
    ("invsolve.callbacks", "SaveImages"): "write_image",
    ("invsolve.callbacks", "StopWhen"): "returns False",
    ("invsolve.callbacks", "Trace"): "keep=1",
    ("invsolve.commands.which", "bare_config"): "build",
    ("invsolve.solver", "finite"): "isfinite",
    ("invsolve.solver", "join"): "samples=n",
    ("invsolve.solvers.diffusion.dps", "residual_weight"): "variances",
    ("invsolve.solvers.variational.common", "enlarge"): "smooth_guess",
    ("invsolve.solvers.variational.common", "fill"): "smooth_guess",
    ("invsolve.solvers.variational.common", "levels"): "problem.sigma",
    ("invsolve.solvers.variational.common", "scaled_adjoint"): "smooth_guess",
    ("invsolve.testing.settings", "WatchedRegulariser"): "poisoned",
    ("invsolve.testing.settings", "problems"): "settings",
    ("invsolve_deepinv", "invsolve_add_commands"): "invsolve_weights",
    ("invsolve_operators.catalogue", "ENTRIES"): "listed",
}


@pytest.mark.parametrize("module", [one for one in NAMES if one != "invsolve_operators.catalogue"])
def test_every_former_name_is_where_it_was(module):
    held = importlib.import_module(module)
    missing = [name for name in NAMES[module] if (module, name) not in GONE and not hasattr(held, name)]
    assert missing == []


@pytest.mark.parametrize(("module", "name"), GONE, ids=".".join)
def test_what_is_gone_says_in_a_line_what_to_write(module, name):
    assert name in NAMES[module] or module == "invsolve_operators.catalogue"
    with pytest.raises(ImportError) as caught:
        exec(f"from {module} import {name}")
    told = str(caught.value)
    assert "is no more; write " in told
    assert GONE[module, name] in told.split("; write ")[1]
    assert "\n" not in told
    assert len(told) < 200


def test_what_is_to_be_written_is_there():
    """The names that the lines above tell to write."""
    from invsolve.io.images import write_image
    from invsolve.plugins.listing import listed
    from invsolve.plugins.typed import hint_of, members
    from invsolve.solvers.diffusion.dps import variances
    from invsolve.solvers.start import smooth_guess
    from invsolve.testing.settings import poisoned, settings

    assert all(map(callable, (write_image, hint_of, members, variances, smooth_guess, poisoned, settings)))
    import invsolve_operators

    entries = {name for name, _, _ in listed(invsolve_operators.__file__)}
    assert {"mask", "gaussian-blur", "bicubic"} <= entries


def test_a_name_that_a_module_never_had_is_an_attribute_error():
    import invsolve.solver

    assert not hasattr(invsolve.solver, "no_such_name")
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        exec("from invsolve.solver import no_such_name")


def test_conjugate_gradients_by_their_former_name():
    """A = diag(1, 2, 4): x is b / diag, and the residual is |b - A x| / |b|."""
    diagonal, right = torch.tensor([[1.0, 2.0, 4.0]]).double(), torch.tensor([[1.0, 1.0, 1.0]]).double()
    x, residual = importlib.import_module("invsolve.linalg").cg(lambda v: diagonal * v, right, torch.zeros_like(right), tol=1e-12)
    torch.testing.assert_close(x, torch.tensor([[1.0, 0.5, 0.25]]).double(), rtol=0, atol=1e-11)
    assert residual.shape == (1,)
    assert float(residual) <= 1e-12
