"""Change one thing of a suite, or of a file it names, resume in the same folder, compare with a fresh one: `python change_one_thing.py`.

Every field of a suite, its pictures, a kernel file, a saved problem, a plug-in's source, the module that this imports, and its data files.
A row that a resumed run shows and a fresh one does not is a wrong row. Writes nothing but temporary folders; prints a line a change.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from invsolve import GaussianNoise, Problem
from invsolve.bench import Suite, run
from invsolve.bench.fingerprint import read, source_hash
from invsolve.plugins import Entry, registry
from invsolve.rng import Rng

Values = dict[str, Any]
Change = Callable[[Values, Path], dict[str, Any] | None]
PACKAGE = "changing_stranger"
# Everything in a row but what says how long, and when, it took.
COMPARED = ("suite", "operator", "image", "solver", "solver_name", "prior", "status", "reason", "metrics", "nfe", "steps", "samples")
COMPARED += ("config", "seed", "x_sha256", "y_sha256", "key", "dtype", "faults", "metric_versions")

SOLVER = """
from dataclasses import dataclass
from invsolve.operator import Capability
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from changing_stranger.helper import weight

@dataclass(frozen=True)
class Pull(Solver):
    requires = Requires(operator=frozenset({Capability.ADJOINT}))
    strength: float = 0.5

    def iterate(self, problem, prior, rng, start=None):
        x = problem.operator.adjoint(problem.y) * self.strength * weight() + 0.01 * rng.normal_like(problem.image)
        yield Step(0, 1, x, x)
"""
HELPER = """
import json
from pathlib import Path

def weight():
    return FACTOR * json.loads((Path(__file__).parents[1] / "data" / "weight.json").read_text())
"""
METRIC = """
from invsolve.bench import Metric

class Off(Metric):
    label = "off"

    def __init__(self, power: float = 1.0):
        self.power = power

    def compute(self, x_hat, x):
        return TIMES * (x_hat - x).abs().pow(self.power).flatten(1).mean(1)
"""


def kernel(path: Path, *, turned: bool) -> None:
    """A row of a fifth, or a column."""
    found = np.zeros((3, 3))
    found[1] = [0.2, 0.3, 0.5]
    np.save(path, found.T if turned else found)


def photo(path: Path, seed: int) -> None:
    """A picture of 12 x 14 pixels."""
    values = Rng(seed, [0], purpose="photo").uniform((12, 14, 3), torch.zeros(1))[0]
    Image.fromarray((values * 255).to(torch.uint8).numpy()).save(path)


def saved(path: Path, sigma: float, box: int) -> None:
    """A saved problem: a mask and its noise."""
    operator = registry().build("operator", "box-mask", in_shape=(3, 12, 12), box=box)
    Problem(operator, operator(torch.full((1, 3, 12, 12), 0.5)), GaussianNoise(sigma)).save(path)


def plugin(root: Path, *, factor: float = 1.0, weight: float = 1.0, times: float = 1.0) -> None:
    """The plug-in's package, and nothing left of an earlier one in this process."""
    folder = root / PACKAGE
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("")
    (folder / "solver.py").write_text(SOLVER)
    (folder / "helper.py").write_text(HELPER.replace("FACTOR", str(factor)))
    (folder / "metric.py").write_text(METRIC.replace("TIMES", str(times)))
    (folder / "data" / "weight.json").write_text(str(weight))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    importlib.invalidate_caches()
    source_hash.cache_clear()
    read.cache_clear()


def begin(root: Path) -> Values:
    """Everything as it is before the change; the suite's values."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "photos").mkdir(parents=True)
    for index in range(2):
        photo(root / "photos" / f"p{index}.png", index)
    kernel(root / "kernel.npy", turned=False)
    saved(root / "scanner", 0.05, 4)
    plugin(root)
    gaussian = {"name": "gaussian", "mean": 0.5, "std": 0.25}
    return {
        "name": "changing",
        "title": "before",
        "data": {"folder": str(root / "photos"), "crop": 12},
        "noise": {"sigma": 0.05},
        "operator": [
            {"name": "file-blur", "label": "file", "path": str(root / "kernel.npy")},
            {"name": "block-mean", "factor": 2},
            {"problem": str(root / "scanner"), "label": "saved"},
        ],
        "solver": [
            {"name": "red-diff", "label": "RED", "steps": 2, "prior": gaussian, "for": {"file": {"steps": 3}}},
            {"name": "pull", "prior": gaussian},
        ],
        "metrics": ["psnr", {"name": "ssim", "label": "S"}, "off"],
    }


def put(*path: str | int, value: Any) -> Change:
    """A change of the suite: the value at a place."""

    def change(values: Values, _: Path) -> None:
        target: Any = values
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


def file(call: Callable[[Path], object]) -> Change:
    """A change of files."""

    def change(_: Values, root: Path) -> None:
        call(root)

    return change


def swap(values: Values, _: Path) -> None:
    """Solvers in another order."""
    values["solver"].reverse()


def twin(values: Values, _: Path) -> None:
    """A second label for equal settings, a default spelt out."""
    values["solver"].append({**values["solver"][1], "label": "twin", "strength": 0.5})


def sized(key: str, value: int) -> Change:
    """Pictures of another size, which the saved problem does not fit: it goes too."""

    def change(values: Values, _: Path) -> None:
        values["data"][key] = value
        values["operator"].pop(2)

    return change


def turned(root: Path) -> None:
    """The kernel file, transposed."""
    kernel(root / "kernel.npy", turned=True)


CHANGES: dict[str, Change] = {
    "name": put("name", value="other"),
    "title": put("title", value="after"),
    "seed": lambda values, root: {"seed": 1},
    "dtype": put("dtype", value="float64"),
    "data.crop": sized("crop", 10),
    "data.first": put("data", "first", value=1),
    "data.channels": sized("channels", 1),
    "a picture's file": file(lambda root: photo(root / "photos" / "p1.png", 9)),
    "one picture more": file(lambda root: photo(root / "photos" / "p2.png", 9)),
    "noise.sigma": put("noise", "sigma", value=0.06),
    "noise.name": put("noise", value={"name": "poisson", "gain": 0.01}),
    "operator.label": put("operator", 1, "label", value="small"),
    "operator parameter": put("operator", 1, "factor", value=3),
    "operator.noise": put("operator", 1, "noise", value={"sigma": 0.1}),
    "operator gone": lambda values, _: values["operator"].pop(1) and None,
    "operator more": lambda values, _: values["operator"].append({"name": "box-mask", "box": 4}),
    "kernel file": file(turned),
    "kernel file, and a solver more": lambda values, root: (turned(root), twin(values, root))[1],
    "saved problem's noise": file(lambda root: saved(root / "scanner", 0.2, 4)),
    "saved problem's mask": file(lambda root: saved(root / "scanner", 0.05, 6)),
    "solver.label": put("solver", 0, "label", value="RED renamed"),
    "solver parameter": put("solver", 0, "steps", value=4),
    "solver.for": put("solver", 0, "for", "file", "steps", value=5),
    "solver.samples": put("solver", 1, "samples", value=2),
    "solver gone": lambda values, _: values["solver"].pop(0) and None,
    "solver twice under two labels": twin,
    "solvers in another order": swap,
    "prior parameter": put("solver", 0, "prior", value={"name": "gaussian", "mean": 0.4, "std": 0.25}),
    "prior.name": put("solver", 1, "prior", value={"name": "tv"}),
    "metric more": lambda values, _: values["metrics"].append("residual"),
    "metric gone": lambda values, _: values["metrics"].pop(0) and None,
    "metric.label": put("metrics", 1, "label", value="SSIM renamed"),
    "metric parameter": put("metrics", 1, "crop", value=2),
    "metric's other parameter": put("metrics", 2, value={"name": "off", "power": 2.0}),
    "plug-in's helper": file(lambda root: plugin(root, factor=0.9)),
    "plug-in's data file": file(lambda root: plugin(root, weight=0.8)),
    "plug-in's metric": file(lambda root: plugin(root, times=2.0)),
}


def rows_of(values: Values, out: Path, **options: Any) -> list[dict[str, Any]]:
    """What a run gives, without times."""
    rows = run(Suite.make(values), out=out, progress=False, **options)
    return [{name: row[name] for name in COMPARED} for row in rows]


def register() -> dict[tuple[str, str], Entry]:
    """The plug-in's entries."""
    where = {("solver", "pull"): "solver:Pull", ("metric", "off"): "metric:Off"}
    return {key: Entry(*key, f"{PACKAGE}.{target}", "stranger 1.0") for key, target in where.items()}


def campaign(root: Path, names: list[str]) -> dict[str, tuple[int, int, int]]:
    """change -> (rows, rows that differ from a fresh run's, rows that differ from those before the change)."""
    entries = registry().entries
    entries |= register()
    sys.path.insert(0, str(root / "files"))
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a source of the same second and size would not be read again
    found = {}
    try:
        before = rows_of(begin(root / "files"), root / "before")
        for name in names:
            shutil.rmtree(root / "run", ignore_errors=True)
            shutil.rmtree(root / "fresh", ignore_errors=True)
            shutil.copytree(root / "before", root / "run")
            values = begin(root / "files")
            options = CHANGES[name](values, root / "files") or {}
            resumed, fresh = (rows_of(values, root / place, **options) for place in ("run", "fresh"))
            wrong = sum(one != other for one, other in zip(resumed, fresh, strict=False)) + abs(len(resumed) - len(fresh))
            found[name] = (len(fresh), wrong, sum(row not in before for row in fresh))
    finally:
        sys.dont_write_bytecode = bytecode
        sys.path.remove(str(root / "files"))
        for key in register():
            entries.pop(key, None)
    return found


def main() -> None:
    """All changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CHANGES))
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), parser.parse_args().names)
    for name, (rows, wrong, moved) in found.items():
        print(f"{name:32} {rows:3} rows, {moved:3} others than before, {wrong:3} wrong")
    print(f"{len(found)} changes, {sum(rows for rows, _, _ in found.values())} rows, {sum(wrong for _, wrong, _ in found.values())} wrong")


if __name__ == "__main__":
    main()
