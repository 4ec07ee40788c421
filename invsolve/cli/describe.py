"""What a registered entry is, as plain data: description, parameters, needs and abilities; for `invsolve info`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from invsolve.bench.own import published
from invsolve.plugins import Entry
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.interrupts import attempted

WHERE = "on the small Gaussian problems of `invsolve check solver` (8 numbers, 4 measured; sigma_y .05, .5) at its defaults"
BEYOND = "no bound anywhere else: on harder problems it may be farther off"
SECTIONS = ("Args:", "Raises:", "References:", "Attributes:", "Returns:", "Yields:")


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Everything about an entry; imports it.

    Raises:
        PluginError: it cannot be imported.
    """
    target = entry.load()
    documented = callable(target)
    text = inspect.getdoc(target) or "" if documented else ""
    needs, can = abilities(entry.kind, target)
    can = {"adds": f"{entry.adds}, to an operator that lacks it", **can} if entry.adds else can
    return {
        "kind": entry.kind,
        "name": entry.name,
        "plugin": entry.plugin,
        "target": entry.target,
        "file": source_file(target) if documented else str(target),
        "summary": entry.summary,
        "description": head(text) or entry.summary,
        "parameters": parameters(target, text) if documented else [],
        "references": section(text, "References:"),
        "needs": needs,
        "can": can,
        "known": {**known(target), **published(entry.name)} if entry.kind == "solver" else {},
    }


def source_file(target: Any) -> str:
    """The file it is written in, "" where there is none."""
    try:
        return inspect.getsourcefile(target) or ""
    except TypeError:
        return ""


def head(text: str) -> str:
    """A docstring up to its first section."""
    kept = []
    for one in text.splitlines():
        if one.strip() in SECTIONS:
            break
        kept.append(one)
    return "\n".join(kept).strip()


def section(text: str, title: str) -> list[str]:
    """The lines of a docstring's section, without their margin."""
    lines = [one.strip() for one in text.splitlines()]
    inside = lines[lines.index(title) + 1 :] if title in lines else []
    return [one for one in inside[: next((at for at, one in enumerate(inside) if one in SECTIONS), None)] if one]


def parameters(target: Any, text: str) -> list[dict[str, Any]]:
    """Each parameter as written in the signature, with its line of the docstring."""
    texts = argument_texts(text)
    found: list[dict[str, Any]] = []
    for name, parameter in signature_of(target).parameters.items():
        shown = str(parameter.replace(annotation=annotation(parameter)))
        found.append(
            {"name": name, "signature": shown, "required": str(parameter.default is parameter.empty).lower(), "text": texts.get(name, "")}
        )
    return found


def annotation(parameter: inspect.Parameter) -> Any:
    """The annotation as it prints without quotes."""
    given = parameter.annotation
    return _Bare(given) if isinstance(given, str) else given


class _Bare:
    """Prints as the text it holds."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def argument_texts(text: str) -> dict[str, str]:
    """The lines under "Args:" by parameter; "a, b: text" serves both."""
    found: dict[str, str] = {}
    inside, names, margin = False, [], 0
    for one in text.splitlines():
        stripped = one.strip()
        if stripped in SECTIONS:
            inside, names = stripped == "Args:", []
            continue
        if not inside or not stripped:
            continue
        match = re.fullmatch(r"(\s+)(\*?\w+(?:, \w+)*): (.*)", one)
        if match and (not names or len(match[1]) <= margin):
            margin, names = len(match[1]), match[2].lstrip("*").split(", ")
            found |= dict.fromkeys(names, match[3])
        elif names and len(one) - len(one.lstrip()) > margin:
            found |= {name: f"{found[name]} {stripped}" for name in names}
        else:
            inside = not names  # the section ended without a heading
    return found


def abilities(kind: str, target: Any) -> tuple[dict[str, str], dict[str, str]]:
    """(needs, can): a solver's requirements; what the example of an operator or a prior shows."""
    if kind == "solver":
        return requirements(target), {}
    if kind not in ("operator", "prior"):
        return {}, {}
    example = attempted(lambda: target.examples()[0] if hasattr(target, "examples") else target())
    if isinstance(example, BaseException):  # a missing weight file must not hide the rest
        return {}, {"example": f"cannot be made: {example}"}
    return {}, operator_facts(example) if kind == "operator" else prior_facts(example)


def requirements(solver: type[Any]) -> dict[str, str]:
    """What a solver asks for, in words."""
    requires = solver.requires
    if not requires.measurement:
        return {"operator": "none: Problem.unconditional(shape, batch)", "prior": joined(requires.prior)}
    extra = [word for word, asked in (("differentiable", requires.gradient), ("with prox", requires.prox)) if asked]
    return {
        "operator": ", ".join(sorted(capability.value for capability in requires.operator)) or "any",
        "prior": joined(requires.prior) + (f" ({', '.join(extra)})" if extra else ""),
        "noise": asked_noise(requires.noise),
    }


def known(solver: Any) -> dict[str, str]:
    """What is known of a solver's answers and of its cost, in words."""
    defaults = signature_of(solver).parameters
    steps = getattr(defaults.get("steps"), "default", None)
    cost = [f"{steps} steps unless said"] if isinstance(steps, int) else []
    cost += ["gradients go through the network"] if solver.requires.gradient else []
    found = {"cost": "; ".join(cost)} if cost else {}
    bias = dict(solver.declared_bias)
    white = bias.pop("white", None)
    if bias:
        found["bias"] = f"{WHERE}: {bounds(bias)}; {BEYOND}"
    if white:
        found["bias with white priors"] = f"on those of them whose prior is white: {bounds(white)}"
    return found


def bounds(bias: Mapping[str, Any]) -> str:
    """Declared bounds in words."""
    words = []
    if "mean" in bias:
        words.append(f"the mean at most {bias['mean']:g} posterior standard deviations off")
    if "cov" in bias:
        words.append(f"the covariance at most {100 * bias['cov']:.0f} % off")
    if "trace" in bias:
        low, high = bias["trace"]
        words.append(f"the total variance {low:g} to {high:g} times the posterior's")
    return ", ".join(words)


def asked_noise(noise: frozenset[Any] | tuple[type, ...]) -> str:
    """Abilities by name, or classes as plug-ins named them before there were abilities."""
    if isinstance(noise, frozenset):
        return f"any with {' and '.join(sorted(ability.value for ability in noise))}" if noise else "any"
    return joined(noise)


def joined(kinds: tuple[type, ...]) -> str:
    """Class names."""
    return " or ".join(kind.__name__ for kind in kinds)


def operator_facts(example: Any) -> dict[str, str]:
    """Capabilities and shapes of an example."""
    from invsolve.operator import listed

    return {"capabilities": listed(example.capabilities), "example": f"{example.in_shape} -> {example.out_shape}"}


def prior_facts(example: Any) -> dict[str, str]:
    """Attributes of an example."""
    from invsolve.priors.base import DiffusionPrior, Regulariser

    if isinstance(example, Regulariser):
        return {"kind": "Regulariser", "prox": "yes" if example.has_prox else "no"}
    names = ("sigma_range", "clip", "s0", "channels", "differentiable", "blind")
    kind = "DiffusionPrior" if isinstance(example, DiffusionPrior) else "Denoiser"
    return {"kind": kind, **{name: str(getattr(example, name)) for name in names}}
