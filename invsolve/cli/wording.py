"""What an error of the library says, in the words of the shell: registered names for classes, options for what is written in Python.

Errors are made by code that knows classes and calls; who types names should not need to know either. What is translated is found, not
listed: classes by the registry and by the loaded modules.
"""

from __future__ import annotations

import re
import sys

CAMEL = re.compile(r"(?<![\w./-])[A-Z][a-z0-9]*[A-Z]\w*(?![\w/])|(?<![\w./-])[A-Z]\w*(?![\w/])")
DOOR = re.compile(r"Or give it (\w+)\(H((?:, \w+=[^,()]+)*)\) in place of H")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Ways out that are written in Python, and what they are in a file or an option.
WAYS = (
    (re.compile(r",? ?or pass check_range=False"), ""),
    (re.compile(r"\bpass (\w+)=(True|False)\b"), lambda found: f"set {found[1]} = {found[2].lower()}"),
    (re.compile(r"use Problem\.unconditional\(shape, batch\)"), "give data.shape in a problem file, and no operator"),
    (re.compile(r"Problem\.unconditional, in a file data\.shape"), "data.shape in a problem file"),
    (re.compile(r"none: Problem\.unconditional\(shape, batch\)"), "none: data.shape in a problem file"),
    (re.compile(r"; invsolve\.priors\.as_denoiser wraps a network"), ""),
    (re.compile(r"\b(?:solve|certify|calibrate)\(\.\.\., samples=(\d+)\)"), r"--samples \1 (run.samples in a file)"),
    (re.compile(r"\b(pool|draws|side)=('?)(\w+)\2"), r"--\1 \3"),
    (re.compile(r"\bgive a function of yours as for_"), "choose --by psnr"),
    (
        re.compile(r"\bfor_ must be psnr, perception, calibration, or a function \(solution, truth\) -> \(B,\)"),
        "--by must be psnr, perception or calibration",
    ),
    (re.compile(r"give GaussianNoise\(sigma\) with sigma > 0"), "say a level above 0, --noise 0.01 (noise.sigma in a file)"),
    (re.compile(r"make it with channels=(\d+)"), r"--set prior.channels=\1"),
)
# Words of English, too: only where they stand for the class.
CONTRACTS = ("Denoiser", "Regulariser", "DiffusionPrior", "NoiseModel", "Solver", "Operator", "Prior", "Problem", "Part", "Tensor")
PACKAGES = "invsolve"  # and what begins with it: the packages beside it, plug-ins


def worded(text: str) -> str:
    """The text with the shell's words."""
    names = registered() if CAMEL.search(text) else {}
    text = DOOR.sub(lambda found: door(found, names), text)
    for pattern, way in WAYS:
        text = pattern.sub(way, text)
    return CAMEL.sub(lambda found: word(found[0], names), text)


def door(found: re.Match[str], names: dict[str, str]) -> str:
    """An operator around another one, as --operator takes it, with its settings."""
    settings = [f"--set operator.{one.strip()}" for one in found[2].split(",") if one.strip()]
    with_settings = f", with {' '.join(settings)}" if settings else ""
    return f"Or take the operator {names.get(found[1], found[1])}/NAME in place of NAME{with_settings}"


def word(name: str, names: dict[str, str]) -> str:
    """The registered name of a class, else its humps as words; what is no class of ours as it is."""
    if name in names:
        return names[name]
    if name in CONTRACTS or (HUMP.search(name) and name in classes()):
        return HUMP.sub(" ", name).lower()
    return name


def registered() -> dict[str, str]:
    """Registered names by the class they stand for; JPEG, Bicubic and the like stay, where the name only has other capitals."""
    from invsolve.plugins import registry

    found: dict[str, str] = {}
    for (kind, name), entry in sorted(registry().entries.items()):
        cls = entry.target.rpartition(":")[2]
        if kind != "suite" and cls[:1].isupper() and (kind == "solver" or name != cls.lower()):  # a suite's is a file, not a class
            found.setdefault(cls, name)
    return found


def classes() -> set[str]:
    """Names of the classes that our loaded modules define."""
    modules = [(name, module) for name, module in list(sys.modules.items()) if name.startswith(PACKAGES) and module is not None]
    return {key for _, module in modules for key, value in list(vars(module).items()) if isinstance(value, type)}
