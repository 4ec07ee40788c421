"""The registry: names of operators, priors, solvers and the rest, filled by plug-ins, resolved at first use.

Loading is lazy, first-party plug-ins come first, and each plug-in is a transaction of its own: on any failure its entries
are rolled back, it is listed as broken, and everything else works.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from invsolve.errors import ArgumentError, InputError, InvsolveError, PluginError, RegistrationError, UnknownNameError, did_you_mean
from invsolve.plugins import hookspecs
from invsolve.plugins.arguments import bind, spread
from invsolve.plugins.interrupts import attempted

KINDS = ("operator", "prior", "solver", "noise", "metric", "dataset", "suite")
ADDED = ("linear", "adjoint", "pinv", "svd", "prox", "mask", "differentiable")  # Capability's values, without waiting for torch
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".pkl")
FIRST_PARTY = (
    "core",
    "operators",
    "deepinv",
    "weights",
    "priors",
    "benchmarks",
    "diffusers",
    "conditional",
    "latent",
    "classes",
    "damage",
    "predictive",
)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
log = logging.getLogger("invsolve")


@dataclass(frozen=True)
class Entry:
    """A registered name.

    Args:
        kind, name: what it is found by.
        target: "module:attribute", imported at first use.
        plugin: the plug-in it comes from, as "distribution version".
        summary: one line for lists.
        needs: how to get a missing dependency, for the error text.
        adds: the capability that an operator of this kind adds to another one, see `invsolve.which`.
        listed: False for what suites and files may name and nobody is offered: methods of other packages, to be compared with.
    """

    kind: str
    name: str
    target: str
    plugin: str
    summary: str = ""
    needs: str = ""
    adds: str = ""
    listed: bool = True

    def load(self) -> Any:
        """The class or function behind the name.

        Raises:
            PluginError: it cannot be imported; says from which plug-in it is and what it needs.
        """
        module, _, attribute = self.target.partition(":")
        there = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
        if there is not None:  # the care below is for foreign code that runs when it is imported
            return there
        found = attempted(lambda: getattr(importlib.import_module(module), attribute))
        if isinstance(found, BaseException):
            needs = f"; it needs: {self.needs}" if self.needs else ""
            raise PluginError(
                f"{self.kind} '{self.name}' of {self.plugin} cannot be imported from {self.target}: {found!r}{needs}"
            ) from found
        return found


@dataclass
class PluginRecord:
    """One plug-in: what it brought, or why it is broken."""

    name: str
    distribution: str
    version: str
    entries: int = 0
    error: str = ""
    details: str = field(default="", repr=False)


def ordered(points: list[EntryPoint]) -> list[tuple[EntryPoint, str, str]]:
    """With name and version of their distributions, first-party first, then by name: a stranger's duplicate can never shadow ours."""
    # Every look at a name or a version parses all of the distribution's metadata: half of the time to a registry.
    dists = {id(point.dist): point.dist for point in points}
    said = {key: (dist.name, dist.version) if dist else ("unknown", "") for key, dist in dists.items()}
    unique = {(point.name, point.value, said[id(point.dist)][0]): point for point in points}

    def rank(point: EntryPoint) -> tuple[int, str]:
        ours = said[id(point.dist)][0] == "invsolve" and point.name in FIRST_PARTY
        return (FIRST_PARTY.index(point.name) if ours else len(FIRST_PARTY), point.name)

    return [(point, *said[id(point.dist)]) for point in sorted(unique.values(), key=rank)]


class Registry:
    """Entries by kind and name, and the plug-ins they came from.

    Args:
        points: entry points to load; default those of the group `invsolve`.
        allowed: names of plug-ins to load, None for all; default the environment variable INVSOLVE_PLUGINS (comma-separated).
    """

    def __init__(self, points: list[EntryPoint] | None = None, allowed: set[str] | None = None) -> None:
        self.manager = pluggy.PluginManager("invsolve")
        self.manager.add_hookspecs(hookspecs)
        self.entries: dict[tuple[str, str], Entry] = {}
        self.plugins: list[PluginRecord] = []
        self._current = PluginRecord("python", "python", "")
        limit = os.environ.get("INVSOLVE_PLUGINS")
        if allowed is None and limit is not None:
            allowed = {name.strip() for name in limit.split(",") if name.strip()}
        for point, distribution, version in ordered(list(entry_points(group="invsolve")) if points is None else points):
            if allowed is None or point.name in allowed:
                self._load(point, PluginRecord(point.name, distribution, version))

    def _load(self, point: EntryPoint, record: PluginRecord) -> None:
        held, known = dict(self.entries), set(self.manager.get_plugins())
        brought: list[Any] = []
        error = attempted(lambda: self._bring(point, record, brought))
        if error is not None:
            self.entries = held
            for module in brought:
                if module not in known and self.manager.is_registered(module):
                    self.manager.unregister(module)
            record.entries, record.error = 0, f"{type(error).__name__}: {error}"
            record.details = "".join(traceback.format_exception(error))
            log.warning("plug-in %s (%s) is broken: %s", point.name, record.distribution, record.error)
            if os.environ.get("INVSOLVE_STRICT_PLUGINS") == "1":
                raise error
        self.plugins.append(record)

    def _bring(self, point: EntryPoint, record: PluginRecord, brought: list[Any]) -> None:
        """Import a plug-in and take what it registers; the module is left in `brought`, whatever happens then."""
        with contextlib.redirect_stdout(sys.stderr):  # a plug-in that prints must not spoil what is read by machines
            module = point.load()
        brought.append(module)
        if self.manager.has_plugin(point.name) or self.manager.is_registered(module):
            raise RegistrationError(f"plug-in name '{point.name}' is already taken")
        self.manager.register(module, name=point.name)
        self.manager.check_pending()
        self._call_register(record, module)

    def _call_register(self, record: PluginRecord, module: Any) -> None:
        self._current = record
        try:
            others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
            self.manager.subset_hook_caller("invsolve_register", remove_plugins=others)(registry=self)
        finally:
            self._current = PluginRecord("python", "python", "")

    def add(self, kind: str, name: str, target: str, *, summary: str = "", needs: str = "", adds: str = "", listed: bool = True) -> None:
        """Register a name.

        Args:
            kind: one of KINDS.
            name: kebab case.
            target: "module:attribute".
            summary: one line.
            needs: how to get a dependency it may lack.
            adds: of an operator that is made of another one and approximates what that one lacks: the capability, such as "prox".
                `which_solvers` then names it where a solver misses that. It is called as `Class(H, door)`, `door` being text of the
                class, such as "tol=1e-4".
            listed: False leaves it out of lists, advice and the conformance checks; it is found by its name alone.

        Raises:
            RegistrationError: unknown kind, malformed name or target, a name that is taken, or something added that is no capability.
        """
        record = self._current
        plugin = f"{record.distribution} {record.version}".strip()
        if kind not in KINDS:
            raise RegistrationError(no_kind(kind))
        if not NAME.fullmatch(name):
            raise RegistrationError(f"{kind} name {name!r} must match {NAME.pattern}")
        if not isinstance(target, str) or target.count(":") != 1:
            raise RegistrationError(f"{kind} '{name}': target must be a string 'module:attribute', given {target!r}")
        if adds and (kind != "operator" or adds not in ADDED):
            raise RegistrationError(f"{kind} '{name}': adds must be an operator's capability, {', '.join(ADDED)}; given {adds!r}")
        if (kind, name) in self.entries:
            raise RegistrationError(f"{kind} '{name}' from {plugin} is already provided by {self.entries[kind, name].plugin}")
        self.entries[kind, name] = Entry(kind, name, target, plugin, summary, needs, adds, listed)
        record.entries += 1

    def names(self, kind: str) -> list[str]:
        """All names of a kind that are listed, sorted."""
        if kind not in KINDS:
            raise UnknownNameError(no_kind(kind))
        return sorted(name for (of, name), entry in self.entries.items() if of == kind and entry.listed)

    def of(self, kind: str) -> Iterator[Entry]:
        """Entries of a kind by name."""
        return (self.entries[kind, name] for name in self.names(kind))

    def entry(self, kind: str, name: str) -> Entry:
        """One entry.

        Raises:
            UnknownNameError: with near names, and the plug-ins that are broken.
        """
        known = self.names(kind)
        if (kind, name) not in self.entries:
            broken = [record.name for record in self.plugins if record.error]
            hint = f" (broken plug-ins: {', '.join(broken)}; see invsolve plugins list)" if broken else ""
            near = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
            if kind == "prior" and os.path.exists(name):
                near = f"; there is a {'folder' if os.path.isdir(name) else 'file'} of that name: say './{name}'"
            raise UnknownNameError(f"no {kind} '{name!s:.200}'{near}{hint}")
        return self.entries[kind, name]

    def load(self, kind: str, name: str) -> Any:
        """The class or function of an entry."""
        return self.entry(kind, name).load()

    def build(self, kind: str, name: Any, /, **parameters: Any) -> Any:
        """Make an object: arguments are checked against the signature first; a prior's name may be a path, as text or not.

        Raises:
            ArgumentError: an unknown or missing parameter; the signature and near names are given.
            InputError: a prior's path that no plug-in reads; what failed in some of them is said.
        """
        name = path_or_name(name) if kind == "prior" else name
        if kind == "prior" and is_path(name):
            return self._prior_from(name, parameters)
        target: Callable[..., Any] = self.load(kind, name)
        args, kwargs = spread(target, parameters)
        bind(target, f"{kind} '{name}'", args, kwargs)
        return target(*args, **kwargs)

    def _prior_from(self, path: str, options: dict[str, Any]) -> Any:
        """What the plug-ins make of a path, the last registered asked first; one that fails is named only if nobody else reads it."""
        refusal, faults = None, []
        for plugin in reversed(self._plugins_with("invsolve_load_prior")):
            found = attempted(lambda one=plugin: self._only(one, "invsolve_load_prior")(path=path, options=options))
            if is_prior(found):
                return found
            if isinstance(found, InvsolveError) and self.manager.get_name(plugin) in FIRST_PARTY:
                refusal = refusal or found  # the first that was asked: what it claims is not for the next to read
            elif found is not None:
                what = repr(found) if isinstance(found, BaseException) else f"gave a {type(found).__name__}, no Prior"
                faults.append(f"plug-in {self.manager.get_name(plugin)}: {what:.300}")
                log.warning("%s for the path %s", faults[-1], path)
        told = "".join(f"; {fault}" for fault in faults)
        if refusal is not None:
            raise type(refusal)(f"{refusal}{told}") from refusal
        raise InputError(f"no plug-in reads a prior from {path!r}; invsolve plugins list names what is installed{told}")

    def _only(self, plugin: Any, hook: str) -> Any:
        """A hook as one plug-in implements it."""
        return self.manager.subset_hook_caller(hook, remove_plugins=[other for other in self.manager.get_plugins() if other is not plugin])

    def name_of(self, kind: str, value: Any) -> str | None:
        """The name a class (or an object's class) is registered under, None without one; imports nothing."""
        cls = value if isinstance(value, type) else type(value)
        for entry in (one for (of, _), one in sorted(self.entries.items()) if of == kind):
            module, _, attribute = entry.target.partition(":")
            if attribute == cls.__qualname__ and (module == cls.__module__ or cls.__module__.startswith(module + ".")):
                return entry.name
        return None

    def solvers_for(self, problem: Any, prior: Any) -> list[str]:
        """Names of the registered solvers whose default configuration fits; one that fails to load is left out."""
        fitting = []
        for entry in self.of("solver"):
            gaps = attempted(lambda one=entry: at_defaults(one.load()).mismatches(problem, prior))
            if isinstance(gaps, BaseException):
                log.debug("solver %s was not considered: %r", entry.name, gaps)
            elif not gaps:
                fitting.append(entry.name)
        return fitting

    def finished(self, problem: Any, solution: Any) -> None:
        """Call invsolve_solve_finished, each plug-in on its own, with an x of its own: one failure is logged and stays one plug-in's."""
        for plugin in self._plugins_with("invsolve_solve_finished"):
            own = replace(solution, x=solution.x.clone()) if hasattr(solution, "x") else solution
            self._tell(plugin, "invsolve_solve_finished", problem=problem, solution=own)

    def damage(self, photo: Any) -> Any:
        """Where a photograph (C, H, W) is sound, (1, H, W), by the first plug-in that tells; None where none does."""
        for plugin in self._plugins_with("invsolve_find_damage"):
            keep = attempted(lambda one=plugin: self._only(one, "invsolve_find_damage")(photo=photo))
            if isinstance(keep, BaseException):
                log.warning("plug-in %s failed in invsolve_find_damage: %r", self.manager.get_name(plugin), keep)
            elif keep is not None:
                return keep
        return None

    def tuned(self, solver: Any, problem: Any, prior: Any, how: Any, options: dict[str, Any]) -> Any:
        """What the first plug-in that serves `solve(..., tune=how)` chose.

        Raises:
            InputError: none serves it, and whatever the one that does raises.
        """
        found = self.manager.hook.invsolve_tune(solver=solver, problem=problem, prior=prior, how=how, options=options)
        if found is None:
            raise InputError(f'tune is a budget, such as "60s", seconds, or "5000 nfe", or a Tuning; given {how!r:.60}')
        return found

    def calibration(self, data: dict[str, Any]) -> Any:
        """What a saved solution's intervals are calibrated by, from the first plug-in that knows such data; None where none does.

        Raises:
            InputError: the one that does finds them malformed.
        """
        return self.manager.hook.invsolve_calibration(data=data)

    def add_commands(self, commands: Any) -> None:
        """Call invsolve_add_commands, each plug-in on its own."""
        for plugin in self._plugins_with("invsolve_add_commands"):
            self._tell(plugin, "invsolve_add_commands", commands=commands)

    def _plugins_with(self, hook: str) -> list[Any]:
        return [implementation.plugin for implementation in getattr(self.manager.hook, hook).get_hookimpls()]

    def _tell(self, plugin: Any, hook: str, **arguments: Any) -> None:
        error = attempted(lambda: self._only(plugin, hook)(**arguments))
        if isinstance(error, BaseException):
            log.warning("plug-in %s failed in %s: %r", self.manager.get_name(plugin), hook, error)


@lru_cache(maxsize=256)
def at_defaults(cls: Any) -> Any:
    """A solver of a class with all defaults: a value, made once for all problems that are asked about."""
    return cls()


def is_prior(value: Any) -> bool:
    """Whether something is a Prior; told by the name of its base class, since the registry stands below the priors."""
    return any(base.__name__ == "Prior" and base.__module__.startswith("invsolve.priors.") for base in type(value).__mro__)


def is_path(name: str) -> bool:
    """Whether a prior's name is a path or an address: registered names have neither separators nor colons, nor a suffix of weights."""
    return any(mark in name for mark in "/\\:") or Path(name).suffix.lower() in WEIGHT_FILES


def path_or_name(given: Any) -> str:
    """A prior's name, or the path of a weight file or folder as text that `is_path` tells from a name.

    Raises:
        ArgumentError: neither text nor a path.
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(text, str):
        raise ArgumentError(f"a prior's name or path must be text or a path; given {type(given).__name__} ({given!r:.80})")
    return text if isinstance(given, str) or is_path(text) else os.path.join(".", text)


def no_kind(kind: object) -> str:
    """The message for a kind that does not exist."""
    return f"no kind {kind!r}{did_you_mean(str(kind), KINDS) or '; there are: ' + ', '.join(KINDS)}"


@cache
def registry() -> Registry:
    """The process's registry, loaded at the first call."""
    return Registry()


def load_prior(name: str | os.PathLike[str], /, **options: Any) -> Any:
    """A prior by its registered name, e.g. load_prior("natural") or load_prior("tv", weight=0.02), or from a weight file or folder.

    A path has a separator or the suffix of a weight file, or is a pathlib.Path: load_prior("weights/mine.safetensors", range=(-1, 1)).

    Raises:
        InputError: a file that cannot be read, is not recognised, or does not do what is said of it.
        UnknownNameError: no such prior; near names are given.
        ArgumentError: options that the prior does not take.
    """
    return registry().build("prior", name, **options)
