"""invsolve weights: list, verify, inspect and convert weight files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from invsolve.cli.output import line, print_json, print_table


@click.group(short_help="List, verify, inspect and convert weight files.")
def weights() -> None:
    """Weight files of priors: the shipped ones and your own. Nothing here uses the network, and no file can run code."""


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_weights(as_json: bool) -> None:
    """The shipped weight files, and those outside the package that are there, from their cards."""
    from invsolve_weights.cards import read_card
    from invsolve_weights.places import file_of, names

    cards = [read_card(file_of(name)) for name in names()]
    if as_json:
        keys = ("name", "network", "parameters", "size", "dtype", "sha256", "sigma_range", "data", "licence")
        print_json([{key: getattr(card, key) for key in keys} for card in cards])
        return
    rows = [(card.name, card.network, f"{card.parameters:,}", f"{card.size / 1e6:.1f} MB", card.dtype, card.licence) for card in cards]
    print_table(("name", "network", "parameters", "size", "type", "terms"), rows)


@weights.command()
@click.argument("names", nargs=-1, metavar="[NAME or FILE]...")
def verify(names: tuple[str, ...]) -> None:
    """Check the shipped files (or those named): size, sha256, header, shapes, and that the network denoises.

    Exit code 1 if one fails, 2 if a name or path is none that there is.
    """
    from invsolve_weights.places import names as all_names

    failed = 0
    for name in names or all_names():
        try:
            click.echo(f"ok    {line(name)}  {line(verified(name))}")
        except Exception as error:  # whatever is wrong with one file, the next ones are looked at too
            failed = max(failed, 1 if exists(name) else 2)
            click.echo(f"FAIL  {line(name)}  {line(error)}")
    if failed:
        sys.exit(failed)


def exists(name: str) -> bool:
    """Whether there are weights of that name, or such a file or folder; False for what no path can be."""
    from invsolve.errors import InputError
    from invsolve.plugins import is_path
    from invsolve_weights.cards import is_shipped

    try:
        return Path(name).exists() if is_path(name) else is_shipped(name)
    except (OSError, ValueError, InputError):
        return False


def verified(name: str) -> str:
    """What holds of a file; raises InputError where something does not."""
    from invsolve.errors import InputError
    from invsolve.plugins import is_path
    from invsolve_weights.cards import is_shipped, load_network
    from invsolve_weights.classes import trained_on_labels, tried_labels
    from invsolve_weights.conditional import is_conditional, tried
    from invsolve_weights.formats import Convention
    from invsolve_weights.own import inspect_weights, try_weights
    from invsolve_weights.places import check_path
    from invsolve_weights.places import names as all_names
    from invsolve_weights.selftest import card_test

    check_path(name)
    if not is_path(name) and not is_shipped(name):
        hint = f"; there is a file or folder of that name: say './{name}'" if Path(name).exists() else ""
        raise InputError(f"no weight file of that name; there are {', '.join(all_names())}, or the path of a file or folder{hint}")
    if is_shipped(name):
        network, card = load_network(name)
        if card.training.get("autoencoder"):
            from invsolve_latent.priors import tried_codes

            return f"{card.size} bytes, sha256 {card.sha256[:12]}, {card.parameters:,} parameters; {tried_codes(name)}"
        if is_conditional(card):
            return f"{card.size} bytes, sha256 {card.sha256[:12]}, {card.parameters:,} parameters; {tried(name)}"
        if trained_on_labels(card):
            return f"{card.size} bytes, sha256 {card.sha256[:12]}, {card.parameters:,} parameters; {tried_labels(network, card)}"
        stated, result = Convention(sigma_range=card.sigma_range), card_test(network, card)
        text = f"{card.size} bytes, sha256 {card.sha256[:12]}, {card.parameters:,} parameters"
    else:
        one = inspect_weights(name)
        stated, result = one.convention, try_weights(one)
        text = f"{one.stored.size} bytes, sha256 {one.stored.sha256()[:12]}, {one.found.format}"
    if not result.passed:
        raise InputError(f"{text}; {result.text(stated)}")
    return f"{text}; {result.text(stated)}"


@weights.command()
@click.argument("file", type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def inspect(file: str, as_json: bool) -> None:
    """What FILE (or the folder of a diffusers network) is: format, parameters, and the convention it is taken for.

    By its card where one of ours is beside it, else by its keys and shapes. Reads no data but for the sha256.
    """
    from invsolve_weights.cards import has_card
    from invsolve_weights.places import check_path

    check_path(file)
    facts = facts_of_card(Path(file)) if has_card(Path(file)) else facts_of(Path(file))
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        for text in value if key == "notes" else [value]:
            click.echo(f"{key:<12}{line(text)}")


def facts_of(path: Path) -> dict[str, Any]:
    """Of a file or folder that is recognised."""
    from invsolve_weights.own import inspect_weights

    one = inspect_weights(path)
    return {
        "file": str(path),
        "container": one.stored.container + (f", table '{one.stored.within}'" if one.stored.within else ""),
        "format": one.found.format,
        "loads": one.found.missing or "yes",
        "tensors": len(one.stored.shapes),
        "parameters": one.parameters,
        "types": sorted({str(dtype).removeprefix("torch.") for dtype in one.stored.dtypes.values()}),
        "channels": one.found.channels,
        "kind": one.convention.kind,
        "range": list(one.convention.range),
        "schedule": one.convention.schedule,
        "sigma_range": None if one.convention.sigma_range is None else list(one.convention.sigma_range),
        "size": one.stored.size,
        "sha256": one.stored.sha256(),
        "notes": list(one.found.notes),
    }


def facts_of_card(path: Path) -> dict[str, Any]:
    """Of a file with a card of ours beside it.

    Raises:
        InputError: a card that cannot be read, or one of another file.
    """
    from invsolve_weights.cards import read_card, read_file
    from invsolve_weights.containers import open_weights
    from invsolve_weights.selftest import channels_of

    card, stored = read_card(path), open_weights(path)
    read_file(path, card)
    said = {"data": card.data, "terms": card.licence, "made by": card.reproduce}
    return {
        "file": str(path),
        "container": stored.container,
        "format": f"{card.network} {json.dumps(card.arguments)}, by its card",
        "loads": "yes",
        "tensors": len(stored.shapes),
        "parameters": card.parameters,
        "types": sorted({str(dtype).removeprefix("torch.") for dtype in stored.dtypes.values()}),
        "channels": channels_of(card),
        "kind": "x0",
        "range": [0.0, 1.0],
        "schedule": "none",
        "sigma_range": list(card.sigma_range),
        "size": card.size,
        "sha256": card.sha256,
        "notes": [f"{name}: {value}" for name, value in said.items() if value] + [f"weakness: {one}" for one in card.weaknesses],
    }


def table(_context: click.Context, _option: click.Parameter, text: str | None) -> dict[str, Any] | None:
    """A JSON object of the command line."""
    try:
        value = None if text is None else json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON ({error})") from None
    if value is not None and not isinstance(value, dict):
        raise click.BadParameter('an object such as {"sde": "vp"} is needed')
    return value


@weights.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="The new file, NAME.safetensors; its card is NAME.json.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float16", "bfloat16"]))
@click.option("--kind", type=click.Choice(["x0", "eps", "v"]), help="What the network gives.")
@click.option("--range", "bounds", type=(float, float), help="Of its images, such as --range -1 1.")
@click.option("--schedule", type=click.Choice(["none", "linear", "scaled-linear", "cosine"]), help="Not none: called with a time.")
@click.option("--sigma-range", type=(float, float), help="Noise levels it is good for, in its own units.")
@click.option("--arguments", callback=table, metavar="JSON", help='What else the file cannot tell, such as \'{"sde": "vp"}\'.')
def convert(
    file: str, out: str, dtype: str, kind: str | None, bounds: Any, schedule: str | None, sigma_range: Any, arguments: dict[str, Any] | None
) -> None:
    """Write FILE's weights as safetensors with a card that says the convention: load_prior("NAME.safetensors") then needs no more."""
    from invsolve_weights.own import convert as write

    said = {"kind": kind, "range": bounds, "schedule": schedule, "sigma_range": sigma_range, "arguments": arguments}
    made = write(Path(file), Path(out), dtype=dtype, **said)
    click.echo(f"{line(made)}\n{line(made.with_suffix('.json'))}")
