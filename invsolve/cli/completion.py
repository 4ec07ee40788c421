"""invsolve completion: what the shell needs to complete commands, options and names by Tab, and where the names come from."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from invsolve.cli.kinds import Kind

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_INVSOLVE_COMPLETE"
# What a parameter of such a name takes: names of a kind.
NAMES = {
    "operator": "operator",
    "solver": "solver",
    "prior": "prior",
    "noise_model": "noise",
    "suite": "suite",
    "only-operator": "operator",
    "only-solver": "solver",
}
TABLES = {"operator": "operator", "solver": "solver", "prior": "prior"}


class Named(click.ParamType):
    """Text, completed by the names of a kind; any other text is taken, too: a path, or a name that is unknown yet.

    Args:
        kind: of the registry; "" for the kind that the parameter `kind` says.
        files: whether a path may stand here, so that the shell completes these as well.
    """

    name = "text"

    def __init__(self, kind: str, files: bool = False) -> None:
        self.kind, self.files = kind, files

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        return click.STRING.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin so, or hold it where none does."""
        found = matching(names_of(self.kind or str(ctx.params.get("kind") or "")), incomplete)
        return found if found or not self.files else [CompletionItem(incomplete, type="file")]


class Setting(click.ParamType):
    """TABLE.KEY=VALUE, completed by the arguments of what --operator, --solver and --prior name."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text itself."""
        return click.STRING.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """operator.sigma=, ..., of what was named before."""
        from invsolve.plugins import registry
        from invsolve.plugins.arguments import signature_of

        found = []
        for table, kind in TABLES.items():
            name = ctx.params.get(table)
            if isinstance(name, str) and (kind, name) in registry().entries:
                keys = signature_of(registry().load(kind, name)).parameters
                found += [f"{table}.{key}=" for key in keys if key != "in_shape"]
        return matching(found, incomplete)


def matching(names: list[str], incomplete: str) -> list[CompletionItem]:
    """Those that begin with what is typed."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def names_of(kind: str) -> list[str]:
    """The registered names of a kind, all names without one."""
    from invsolve.plugins import KINDS, registry

    return sorted({name for one in ((kind,) if kind in KINDS else KINDS) for name in registry().names(one)})


def completed(command: click.Command) -> click.Command:
    """The command, and all below it, with parameters that know what they take; found by the names of the parameters."""
    for param in command.params:
        if param.name == "name" and any(isinstance(other.type, Kind) for other in command.params):
            param.type = Named("")
        elif param.name == "settings":
            param.type = Setting()
        elif isinstance(param.type, click.types.StringParamType):
            flags = [flag.lstrip("-") for flag in param.opts]
            kind = next((NAMES[one] for one in (param.name or "", *flags) if one in NAMES), None)
            if kind is not None:
                param.type = Named(kind, files=kind in ("suite", "prior"))
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        completed(one)
    return command


@click.command(short_help="What makes Tab complete names in bash, zsh or fish.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes Tab complete commands, options and the names of what is installed.

    \b
      bash: echo 'eval "$(invsolve completion bash)"' >> ~/.bashrc
      zsh:  echo 'eval "$(invsolve completion zsh)"' >> ~/.zshrc
      fish: invsolve completion fish > ~/.config/fish/completions/invsolve.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "invsolve", VARIABLE).source())
