"""Problem files, suites and training configs that nobody would write, or that have one slip: refused at once, in the project's words."""

import random
import re
import time

import pytest
from language_cases import BLUR, CPU, config, named_folder, suite  # noqa: F401 (the fixture `folder`)

from invsolve import InvsolveError
from invsolve.bench import Suite, run
from invsolve.bench.plan import Workshop, check
from invsolve.bench.suite import EXAMPLE as SUITE
from invsolve.cli.setup import set_up
from invsolve.errors import InputError
from invsolve.recipe.config import EXAMPLE, load_config, make_config
from invsolve.recipe.tables import MAX_DEPTH, read_toml
from invsolve.training.config import TrainConfig

HOSTILE = {
    "brackets": "a = " + "[" * 900,
    "tables": "a = " + "{a=" * 900,
    "digits": "a = " + "9" * 5000,
    "hexadecimal": "a = 0x" + "f" * 5000,
    "dotted": ".".join("a" * 20_000) + " = 1",
    "dotted header": "[" + ".".join("a" * 20_000) + "]",
    "deep": "a = " + "[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5),
    "bytes": "a = 1 # " + "x" * 1_000_001,
    "dates": "data = 1979-05-27",
    "nan": "[solver]\nname = 'dps'\nx = nan",
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("load", [load_config, Suite.load, TrainConfig.load], ids=["problem", "suite", "training"])
def test_hostile_files_are_refused_at_once(load, name, tmp_path):
    (tmp_path / "f.toml").write_text(HOSTILE[name])
    began = time.monotonic()
    with pytest.raises(InvsolveError, match=r"f\.toml|given|suite"):
        load(tmp_path / "f.toml")
    assert time.monotonic() - began < 2


def test_limits_are_said(tmp_path):
    (tmp_path / "f.toml").write_text("# " + "x" * 1_000_000)
    for load, what in ((load_config, "problem file"), (Suite.load, "suite")):
        with pytest.raises(InputError, match=f"more than 1000000 bytes; no {what} is that large"):
            load(tmp_path / "f.toml")
    with pytest.raises(InputError, match="more than 100000 bytes; no training config"):
        TrainConfig.load(tmp_path / "f.toml")
    (tmp_path / "f.toml").write_text(f"a = {'[' * (MAX_DEPTH + 1)}{']' * (MAX_DEPTH + 1)}")
    with pytest.raises(InputError, match=f"nested deeper than {MAX_DEPTH}"):
        read_toml(tmp_path / "f.toml", "file")
    (tmp_path / "f.toml").write_text(f"a = {'[' * MAX_DEPTH}{']' * MAX_DEPTH}")
    assert read_toml(tmp_path / "f.toml", "file")[0]
    for number, fits in ((2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)):
        (tmp_path / "f.toml").write_text(f"a = {number}")
        if fits:
            assert read_toml(tmp_path / "f.toml", "file")[0] == {"a": number}
            continue
        with pytest.raises(InputError, match="whole numbers go from"):
            read_toml(tmp_path / "f.toml", "file")


BYTES = {"not utf-8": b"\xff\xfe", "nul": b'a = "\x00"'}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_are_no_text(name, tmp_path):
    (tmp_path / "f.toml").write_bytes(BYTES[name])
    for load in (load_config, Suite.load, TrainConfig.load):
        with pytest.raises(InputError, match="is not TOML"):
            load(tmp_path / "f.toml")


DATA = {
    "a number": ({"shape": 2}, "shape must be list of int; given 2"),
    "text inside": ({"shape": ["a"]}, r"shape must be list of int; given \['a'\]"),
    "text": ({"shape": [3, 8, 8], "images": "x"}, "images must be int; given 'x'"),
    "too large": ({"shape": [3, 100_000, 100_000]}, "at most 89478485 pixels; given 100000 x 100000"),
    "too many": ({"shape": [3, 8, 8], "images": 10**9}, "536870912 numbers together"),
    "no shape": ({"shape": [3, 8]}, "channels, height, width"),
}


@pytest.mark.parametrize("name", DATA)
def test_drawings_that_cannot_be_made(name):
    data, message = DATA[name]
    chosen = suite([BLUR], data=data)
    with pytest.raises(InvsolveError, match=message):
        _ = check(chosen), Workshop(chosen, CPU).pictures()


PATHS = {"nobody": "~nouser/x.png", "long": "x" * 5000, "long part": "a/" + "x" * 300, "nul": "a\0b"}


@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_path_is_refused_wherever_it_stands(name, folder):
    for data in ({"image": PATHS[name]}, {"problem": PATHS[name]}, {"set": {"folder": PATHS[name]}}):
        with pytest.raises(InvsolveError, match=r"is no path|nouser"):
            set_up(_bare(data, folder) if "problem" in data else config(BLUR, folder, data=data))
    with pytest.raises(InvsolveError, match=r"is no path|nouser"):
        set_up(config({"name": "mask", "mask": {"file": PATHS[name]}}, folder))
    chosen = suite([{"problem": PATHS[name], "label": "x"}], noise=None)
    with pytest.raises(InvsolveError, match=r"is no path|nouser"):
        run(chosen, out=folder / "out", progress=False)


def _bare(data, folder):
    return make_config({"data": data, "prior": {"name": "tv"}, "solver": {"name": "hqs"}}, folder=folder)


VALUES = ["3", "-1", "2.5", "nan", '"a"', "[]", '["a"]', "{}", '{ name = "tv" }', "true", "9223372036854775807", "1e308"]
VALUES += ['"~nouser/x"', f'"{"x" * 5000}"']


def mutated(text, seed):
    """The file with one value replaced, one key renamed, or a line left out or doubled."""
    draw = random.Random(seed)
    lines = text.splitlines()
    at = draw.choice([index for index, line in enumerate(lines) if "=" in line or line.startswith("[")])
    kind = draw.randrange(4)
    if kind == 0:
        lines.insert(at, lines[at])
    elif kind == 1:
        del lines[at]
    else:
        pairs = list(re.finditer(r'([\w"]+) = ("[^"]*"|[\w.-]+|\[[^\[\]]*\])', lines[at]))
        if pairs:
            pair = draw.choice(pairs)
            new = f"{pair[1]} = {draw.choice(VALUES)}" if kind == 2 else f"{pair[1]}x = {pair[2]}"
            lines[at] = lines[at][: pair.start()] + new + lines[at][pair.end() :]
    return "\n".join(lines)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(60))
def test_no_mutation_of_a_file_makes_a_foreign_exception(seed, tmp_path):
    file = tmp_path / "f.toml"
    file.write_text(mutated(EXAMPLE, seed))
    try:
        set_up(load_config(file))
    except InvsolveError as error:
        assert str(error).strip()  # noqa: PT017
    file.write_text(mutated(SUITE, seed))
    try:
        check(Suite.load(file))
        Workshop(Suite.load(file), CPU).pictures()
    except InvsolveError as error:
        assert str(error).strip()  # noqa: PT017
