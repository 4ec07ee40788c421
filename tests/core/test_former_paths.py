"""Import paths of earlier releases keep working, and give the very objects of the present ones."""

import importlib
import subprocess
import sys

import pytest

# As published before the folders: former module, a name in it, where it is now.
FORMER = [
    ("invsolve.operator.algebra", "Stack", "invsolve.operator"),
    ("invsolve.plugins.arguments", "bind", "invsolve.plugins.arguments"),
    ("invsolve.recipe.setup", "build", "invsolve.recipe"),
    ("invsolve.plugins.builtin", "invsolve_register", "invsolve.plugins.builtin"),
    ("invsolve.operator.chain", "chain", "invsolve.operator.chain"),
    ("invsolve.cli.kinds", "main", "invsolve.cli"),
    ("invsolve.cli.check", "check", "invsolve.cli.check"),
    ("invsolve.operator.complex_data", "AsComplex", "invsolve.operator"),
    ("invsolve.recipe.config", "Config", "invsolve.recipe"),
    ("invsolve.cli.describe", "describe_entry", "invsolve.cli.describe"),
    ("invsolve.io.encoding", "Pool", "invsolve.io.encoding"),
    ("invsolve.io.files", "write_bytes", "invsolve.io.files"),
    ("invsolve.operator.function", "FunctionOperator", "invsolve.operator"),
    ("invsolve.operator.guard", "guarded", "invsolve.operator.guard"),
    ("invsolve.plugins.hookspecs", "hookimpl", "invsolve.plugins"),
    ("invsolve.io.images", "read_image", "invsolve.io.images"),
    ("invsolve.operator.krylov", "KrylovSVD", "invsolve.operator"),
    ("invsolve.operator.iterative", "IterativeProx", "invsolve.operator"),
    ("invsolve.operator.matrix", "MatrixOperator", "invsolve.operator"),
    ("invsolve.operator.measurement", "Measurement", "invsolve.operator"),
    ("invsolve.priors.meter", "Meter", "invsolve.priors.meter"),
    ("invsolve.operator", "Operator", "invsolve.operator.contract"),
    ("invsolve.operator", "Capability", "invsolve"),
    ("invsolve.operator", "image_shape", "invsolve.operator.contract"),
    ("invsolve.cli.output", "print_table", "invsolve.cli.output"),
    ("invsolve.plugins", "registry", "invsolve"),
    ("invsolve.plugins", "Entry", "invsolve.plugins.entries"),
    ("invsolve.operator.preconditioners", "__doc__", "invsolve.operator.preconditioners"),
    ("invsolve.operator.probing", "__doc__", "invsolve.operator.probing"),
    ("invsolve.recipe", "build", "invsolve.recipe.parts"),
    ("invsolve.operator.scipy", "ScipyOperator", "invsolve.operator"),
    ("invsolve.solvers.start", "__doc__", "invsolve.solvers.start"),
    ("invsolve.recipe.storage", "load_problem", "invsolve.recipe.storage"),
    ("invsolve.recipe.storage", "save_solution", "invsolve.recipe.storage"),
    ("invsolve.operator.structure", "joined", "invsolve.operator.structure"),
    ("invsolve.operator.svd", "SVD", "invsolve"),
    ("invsolve_priors.shipped", "Natural", "invsolve_priors"),
    ("invsolve_weights.networks", "EDMDRUNet", "invsolve_weights.networks"),
    ("invsolve_weights.cards", "read_card", "invsolve_weights.cards"),
    ("invsolve_weights.own", "load_weights", "invsolve_weights.own"),
    ("invsolve_priors.export", "main", "invsolve_priors.export"),
    ("invsolve_priors.train", "prepared", "invsolve_priors.train"),
    ("invsolve_deepinv", "Natural", "invsolve_priors"),
    ("invsolve_operators.masks.mask", "Mask", "invsolve_operators"),
    ("invsolve_operators.masks.patterns", "ExpandMask", "invsolve_operators"),
    ("invsolve_operators.masks.patterns", "one_of", "invsolve_operators.masks.patterns"),
    ("invsolve_operators.masks.drawn", "StrokeMask", "invsolve_operators"),
    ("invsolve_operators.blurs.kinds", "DefocusBlur", "invsolve_operators"),
    ("invsolve_operators.blurs.kernels", "__doc__", "invsolve_operators.blurs.kernels"),
    ("invsolve_operators.fewer.downsample", "Bicubic", "invsolve_operators"),
    ("invsolve_operators.mri.cartesian", "joined", "invsolve_operators.mri.cartesian"),
    ("invsolve_operators.mri.sense", "SENSE", "invsolve_operators"),
    ("invsolve_operators.masks.presets", "DPSBoxMask", "invsolve_operators"),
    ("invsolve_operators.nonlinear.camera", "HDR", "invsolve_operators"),
]


@pytest.mark.parametrize(("former", "name", "present"), FORMER, ids=lambda value: str(value))
def test_a_former_path_gives_what_stands_at_the_present_one(former, name, present):
    assert getattr(importlib.import_module(former), name) is getattr(importlib.import_module(present), name)


def test_a_former_path_comes_first_in_a_fresh_process():
    """Before anything of the present name was imported, with the submodule as an attribute of its parent, and under `python -m`."""
    code = "import invsolve.operator.iterative, sys; from invsolve.cli.check import check; assert invsolve.operator.iterative.IterativeProx.__module__"
    code += (
        "; assert invsolve.operator.iterative.__spec__.name == 'invsolve.operator.iterative'; assert 'invsolve.cli.check' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "invsolve_priors.export", "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: export.py")


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("invsolve.no_such_module")
