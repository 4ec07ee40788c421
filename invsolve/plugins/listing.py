"""Entries from a package's `__init__.pyi`: one line there is all that a new class needs.

    from .diffusion.dps import DPS as DPS  # dps: diffusion posterior sampling, gradient through the network

Type checkers and editors read the line as an import, `lazy_loader` as what the package offers, and the registry its comment:
the name and the summary. A line without such a comment is a public name that is not registered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LINE = re.compile(r"from (\.[\w.]+) import (\w+) as \2  # ([a-z0-9][a-z0-9._-]*): (.+)")


def listed(init: str) -> Iterator[tuple[str, str, str]]:
    """(name, "module relative to the package:attribute", summary) of every line with a comment, in the order of the file.

    Args:
        init: `__file__` of the package's `__init__.py`.
    """
    for line in Path(init).with_suffix(".pyi").read_text(encoding="utf-8").splitlines():
        if found := LINE.fullmatch(line.strip()):
            module, attribute, name, summary = found.groups()
            yield name, f"{module}:{attribute}", summary
