"""invsolve list, info and plugins: what is installed, read without importing more than is asked for; and a new plug-in."""

from __future__ import annotations

import shlex
from typing import Any

import click

from invsolve.cli.kinds import Kind
from invsolve.cli.output import clean, line, print_json, print_table
from invsolve.errors import UnknownNameError, did_you_mean


@click.command("list", short_help="Names of what is installed.")
@click.argument("kind", type=Kind(), required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_entries(kind: str | None, as_json: bool) -> None:
    """Names of one KIND (operator, prior, solver, noise, metric, dataset, suite), or of all."""
    from invsolve.plugins import KINDS, registry

    kinds = KINDS if kind is None else (kind,)
    entries = [entry for one in kinds for entry in registry().of(one)]
    if as_json:
        keys = ("kind", "name", "summary", "plugin", "target")
        print_json([{key: getattr(entry, key) for key in keys} for entry in entries])
    elif kind is None:
        print_table(("kind", "name", "summary", "from"), [(entry.kind, entry.name, entry.summary, entry.plugin) for entry in entries])
    else:
        print_table(("name", "summary", "from"), [(entry.name, entry.summary, entry.plugin) for entry in entries])
    broken = [record.name for record in registry().plugins if record.error]
    if broken:
        click.echo(f"broken plug-ins: {', '.join(map(line, broken))}; see invsolve plugins list", err=True)


@click.command(short_help="Description, parameters and needs of one entry.")
@click.argument("kind", type=Kind(also_names=True))
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def info(kind: str, name: str | None, as_json: bool) -> None:
    """What NAME is: its description, parameters, what it needs or can do, and its sources.

    KIND may be left out where one kind only has the name.
    """
    from invsolve.cli.describe import describe_entry
    from invsolve.plugins import registry

    kind, name = (kind, name) if name is not None else only_one(kind)
    facts = describe_entry(registry().entry(kind, name))
    if as_json:
        print_json(facts)
        return
    click.echo(f"{facts['name']} ({facts['kind']}) from {line(facts['plugin'])}")
    click.echo(f"{line(facts['target'])}  {line(facts['file'])}".rstrip())
    click.echo()
    click.echo(clean(facts["description"]))
    if facts["parameters"]:
        click.echo("\nParameters")
        for parameter in facts["parameters"]:
            click.echo(f"  {line(parameter['signature'])}")
            if parameter["text"]:
                click.echo(f"      {line(parameter['text'])}")
    for heading in ("needs", "can", "known"):
        if facts[heading]:
            click.echo(f"\n{heading.capitalize()}")
            for key, value in facts[heading].items():
                click.echo(f"  {key}: {line(value)}")
    if facts["references"]:
        click.echo("\nReferences")
        for reference in facts["references"]:
            click.echo(f"  {line(reference)}")


def only_one(name: str) -> tuple[str, str]:
    """(kind, name) of a name alone.

    Raises:
        click.UsageError: a kind without a name, or a name of several kinds.
        UnknownNameError: nothing has it; near names of all kinds.
    """
    from invsolve.plugins import KINDS, registry

    if name in KINDS:
        raise click.UsageError(f"give the name of a {name}, too; invsolve list {name} shows them")
    kinds = [kind for kind in KINDS if (kind, name) in registry().entries]
    if len(kinds) > 1:
        raise click.UsageError(f"{name} is of the kinds {', '.join(kinds)}; say which: invsolve info {kinds[0]} {name}")
    if not kinds:
        known = [one for kind in KINDS for one in registry().names(kind)]
        raise UnknownNameError(f"nothing is called '{name}'{did_you_mean(name, known) or '; invsolve list shows what there is'}")
    return kinds[0], name


@click.group()
def plugins() -> None:
    """The plug-ins that were found, and a way to begin one."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_plugins(as_json: bool) -> None:
    """Every plug-in: its distribution, version, number of entries, commands, and what is broken about it."""
    from invsolve.plugins import registry

    records = registry().plugins
    keys = ("name", "distribution", "version", "entries", "error")
    if as_json:
        print_json([{key: getattr(record, key) for key in keys} for record in records])
        return
    print_table(keys[:-1], [[getattr(record, key) for key in keys[:-1]] for record in records])
    for record in records:
        if record.error:
            click.echo(f"BROKEN {line(record.name)}: {line(record.distribution)} {line(record.version)}: {line(record.error)}")
    added = commands_of_plugins()
    if added:
        click.echo(f"commands: {', '.join(sorted(map(line, added)))}")


@plugins.command("new")
@click.argument("name")
@click.option("--into", type=click.Path(file_okay=False), default=".", show_default=True, help="The folder to make it in.")
def new(name: str, into: str) -> None:
    """Make a plug-in project NAME: one of each kind, and tests that pass at once."""
    from invsolve.cli.new import new_plugin

    folder = new_plugin(name, into)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        click.echo(f"  {line(path)}")
    click.echo(f"\nNext: cd {line(shlex.quote(str(folder)))} && pip install -e '.[test]' && pytest")


def commands_of_plugins() -> dict[str, Any]:
    """The commands that plug-ins add."""
    from invsolve.cli import plugin_commands

    return plugin_commands()
