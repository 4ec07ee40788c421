"""Import paths of earlier releases keep working, and give the very objects of the present ones."""

import importlib
import subprocess
import sys

import pytest

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
]


@pytest.mark.parametrize(("former", "name", "present"), FORMER, ids=lambda value: str(value))
def test_a_former_path_gives_what_stands_at_the_present_one(former, name, present):
    assert getattr(importlib.import_module(former), name) is getattr(importlib.import_module(present), name)


def test_a_former_path_comes_first_in_a_fresh_process():
    """Before anything of the present name was imported, with the submodule as an attribute of its parent, and under `python -m`."""
    code = "import invsolve.linalg, sys; from invsolve.commands.check import check; assert invsolve.linalg.IterativeProx.__module__"
    code += "; assert invsolve.linalg.__spec__.name == 'invsolve.operator.iterative'; assert 'invsolve.cli.check' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "invsolve_deepinv.export", "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: export.py")


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("invsolve.no_such_module")


def test_what_is_gone_says_what_to_write():
    import invsolve.callbacks

    for name, word in (("Trace", "keep=1"), ("StopWhen", "returns False"), ("SaveImages", "write_image"), ("Callbacks", "one after")):
        with pytest.raises(AttributeError, match=f"{name}.*{word}"):
            getattr(invsolve.callbacks, name)
