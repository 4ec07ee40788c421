"""The sub-commands; each module imports what it computes with only when it is called."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from invsolve.errors import did_you_mean


class Kind(click.ParamType):
    """operator, prior, solver, ...; the plural is understood.

    Args:
        also_names: let other text pass, a name whose kind was left out.
    """

    name = "kind"

    def __init__(self, also_names: bool = False) -> None:
        self.also_names = also_names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The kind in the singular."""
        from invsolve.plugins import KINDS

        singular = value if value in KINDS else str(value).removesuffix("s")
        if singular not in KINDS and self.also_names:
            return str(value)
        if singular not in KINDS:
            near = did_you_mean(str(value), KINDS) or f"; there are: {', '.join(KINDS)}"
            self.fail(f"no kind '{value}'{near}", param, ctx)
        return singular

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Kinds that begin so."""
        from invsolve.plugins import KINDS

        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What the help shows."""
        return "KIND"
