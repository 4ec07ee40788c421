"""Import paths of earlier releases: a module asked for by its former name is the module that holds its contents now.

What is no more, a module or a name in one, is an ImportError that says in a line what to write instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Former(MetaPathFinder, Loader):
    """Finds modules by their former names.

    The module is the present one itself, not a copy: its classes are the same by both names.

    Args:
        moved: present name by former name.
        gone: what to write now, by the name of a module that is no more.
    """

    def __init__(self, moved: Mapping[str, str], gone: Mapping[str, str] | None = None) -> None:
        self.moved, self.gone = moved, gone or {}
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """A spec for a former name, else None."""
        del path, target
        if fullname in self.gone:
            raise ModuleNotFoundError(f"{fullname} is no more; write {self.gone[fullname]}", name=fullname)
        present = importlib.util.find_spec(self.moved[fullname]) if fullname in self.moved else None
        # The place of the file: `python -m` shows it as the program's name.
        return None if present is None else ModuleSpec(fullname, self, origin=present.origin)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The present module."""
        module = importlib.import_module(self.moved[spec.name])
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run; importlib has put the former name's spec in place of the module's own, which is put back."""
        former = module.__spec__
        assert former is not None
        module.__spec__ = self.specs.pop(former.name)

    def get_code(self, fullname: str) -> Any:
        """What `python -m` runs by a former name."""
        spec = importlib.util.find_spec(self.moved[fullname])
        return None if spec is None or spec.loader is None else spec.loader.get_code(spec.name)  # pyright: ignore[reportAttributeAccessIssue]


def moved(names: Mapping[str, str], gone: Mapping[str, str] | None = None) -> None:
    """Make former names known, {former: present}; asked first, since a former package shares its folder with the present one."""
    sys.meta_path.insert(0, Former(names, gone))


def without(module: str, gone: Mapping[str, str]) -> None:
    """Have a module say of names that are no more what to write now; called at its end.

    It raises ImportError, also for `module.name`: of an AttributeError `from module import name` would show nothing but "cannot import".

    Args:
        module: its `__name__`.
        gone: what to write, by former name.
    """
    held = vars(sys.modules[module])
    otherwise = held.get("__getattr__")

    def missing(name: str) -> Any:
        if name in gone:
            raise ImportError(f"{module}.{name} is no more; write {gone[name]}", name=module)
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    held["__getattr__"] = missing


MOVED = {
    "invsolve.algebra": "invsolve.operator.algebra",
    "invsolve.arguments": "invsolve.plugins.arguments",
    "invsolve.build": "invsolve.cli.setup",
    "invsolve.builtin": "invsolve.plugins.builtin",
    "invsolve.chain": "invsolve.operator.chain",
    "invsolve.commands": "invsolve.cli",
    "invsolve.commands.bench": "invsolve.cli.bench",
    "invsolve.commands.catalogue": "invsolve.cli.catalogue",
    "invsolve.commands.check": "invsolve.cli.check",
    "invsolve.commands.new": "invsolve.cli.new",
    "invsolve.commands.prior": "invsolve.cli.prior",
    "invsolve.commands.solve": "invsolve.cli.solve",
    "invsolve.commands.which": "invsolve.cli.which",
    "invsolve.complex_data": "invsolve.operator.complex_data",
    "invsolve.config": "invsolve.recipe.config",
    "invsolve.describe": "invsolve.cli.describe",
    "invsolve.encoding": "invsolve.io.encoding",
    "invsolve.files": "invsolve.io.files",
    "invsolve.foreign": "invsolve.operator.function",
    "invsolve.guard": "invsolve.operator.guard",
    "invsolve.hookspecs": "invsolve.plugins.hookspecs",
    "invsolve.images": "invsolve.io.images",
    "invsolve.krylov": "invsolve.operator.krylov",
    "invsolve.linalg": "invsolve.operator.iterative",
    "invsolve.matrix": "invsolve.operator.matrix",
    "invsolve.measurement": "invsolve.operator.measurement",
    "invsolve.meter": "invsolve.priors.meter",
    "invsolve.output": "invsolve.cli.output",
    "invsolve.precision": "invsolve.priors.precision",
    "invsolve.preconditioners": "invsolve.operator.preconditioners",
    "invsolve.probing": "invsolve.operator.probing",
    "invsolve.scipy_bridge": "invsolve.operator.scipy",
    "invsolve.start": "invsolve.solvers.start",
    "invsolve.storage": "invsolve.recipe.storage",
    "invsolve.structure": "invsolve.operator.structure",
    "invsolve.svd": "invsolve.operator.svd",
}
