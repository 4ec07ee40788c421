"""Plug-ins: whatever one of them does wrong is named, and everything else works."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions, entry_points

import click
import pytest

from invsolve import hookimpl
from invsolve.errors import ArgumentError, InputError, PluginError, RegistrationError, UnknownNameError
from invsolve.plugins import KINDS, Registry, registry

HEAD = "from invsolve.plugins.hookspecs import hookimpl\n\n@hookimpl\n"
GOOD = HEAD + "def invsolve_register(registry):\n    registry.add('metric', 'test-good', 'json:loads')\n"

# name: (module source, a word of the error)
BROKEN = {
    "raises-at-import": ("raise RuntimeError('no luck')", "no luck"),
    "exits-at-import": ("import sys\nsys.exit(3)", "SystemExit"),
    "no-such-import": ("import invsolve_nowhere_to_be_found", "invsolve_nowhere_to_be_found"),
    "syntax-error": ("def (:", "SyntaxError"),
    "wrong-argument": (HEAD + "def invsolve_register(registri):\n    pass\n", "registri"),
    "unknown-hook": (HEAD + "def invsolve_registre(registry):\n    registry.add('metric', 'x', 'json:loads')\n", "invsolve_registre"),
    "duplicate-name": (
        HEAD + "def invsolve_register(registry):\n    registry.add('solver', 'dps', 'json:loads')\n",
        "already provided by invsolve",
    ),
    "raises-halfway": (
        HEAD + "def invsolve_register(registry):\n    registry.add('metric', 'half', 'json:loads')\n    raise ValueError('stuck')\n",
        "stuck",
    ),
    "exits-in-register": (HEAD + "def invsolve_register(registry):\n    raise SystemExit('bye')\n", "bye"),
    "not-kebab": (
        HEAD + "def invsolve_register(registry):\n    registry.add('metric', 'Not_Kebab Case', 'json:loads')\n",
        "Not_Kebab Case",
    ),
    "escape-in-name": (HEAD + "def invsolve_register(registry):\n    registry.add('metric', '\\x1b[31mred', 'json:loads')\n", "must match"),
    "unknown-kind": (HEAD + "def invsolve_register(registry):\n    registry.add('operater', 'x', 'json:loads')\n", "did you mean operator"),
    "target-no-string": (HEAD + "def invsolve_register(registry):\n    registry.add('metric', 'x', len)\n", "module:attribute"),
    "target-no-attribute": (HEAD + "def invsolve_register(registry):\n    registry.add('metric', 'x', 'json')\n", "module:attribute"),
}


def distribution(folder, name, source, *, version="1.0", plugin=None, module=None):
    """An installed distribution `name` with one plug-in, as pip would leave it in `folder`."""
    module = module or "module_of_" + name.replace("-", "_")
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[invsolve]\n{plugin or name} = {module}\n")
    if source is not None:
        (folder / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of distributions on sys.path; their modules are forgotten afterwards."""
    monkeypatch.delenv("INVSOLVE_PLUGINS", raising=False)
    monkeypatch.delenv("INVSOLVE_STRICT_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("module_of_")]:
        del sys.modules[name]


def points(folder):
    """Ours, found as installed, and those of the folder."""
    ours = [point for point in entry_points(group="invsolve") if point.dist is not None and point.dist.name == "invsolve"]
    theirs = [point for found in distributions(path=[str(folder)]) for point in found.entry_points if point.group == "invsolve"]
    return theirs + ours  # theirs first: the order on sys.path must not matter


def record(known, name):
    return next(one for one in known.plugins if one.name == name)


def names(known):
    return {kind: known.names(kind) for kind in KINDS}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_and_leaves_everything_else_working(name, site):
    distribution(site, "aaa-good", GOOD)
    expected = names(Registry(points(site)))
    source, word = BROKEN[name]
    distribution(site, name, source)
    known = Registry(points(site))
    assert names(known) == expected
    assert "test-good" in known.names("metric")
    broken = record(known, name)
    assert word in broken.error
    assert (broken.distribution, broken.version, broken.entries) == (name, "1.0", 0)
    assert "Traceback" in broken.details
    assert [one.name for one in known.plugins if one.error] == [name]
    assert known.load("metric", "test-good") is json.loads


def test_all_broken_at_once(site):
    expected = names(Registry(points(site)))
    for name, (source, _) in BROKEN.items():
        distribution(site, name, source)
    distribution(site, "zzz-good", GOOD)
    known = Registry(points(site))
    assert {one.name for one in known.plugins if one.error} == set(BROKEN)
    expected["metric"] = sorted([*expected["metric"], "test-good"])
    assert names(known) == expected


def test_a_hook_of_a_rolled_back_plugin_is_never_called(site):
    source = (
        "from invsolve.plugins.hookspecs import hookimpl\n"
        "@hookimpl\ndef invsolve_register(registry):\n    raise ValueError('stuck')\n"
        "@hookimpl\ndef invsolve_add_commands(commands):\n    commands['called'] = True\n"
    )
    distribution(site, "half", source)
    called = {}
    Registry(points(site)).add_commands(called)
    assert called == {}


def test_first_party_first_whatever_the_name_and_the_path(site):
    steal = HEAD + "def invsolve_register(registry):\n    registry.add('solver', 'dps', 'json:loads')\n"
    distribution(site, "aaa", steal)
    distribution(site, "thief", steal, plugin="core", module="module_of_thief")  # our plug-in's name in another distribution
    known = Registry(points(site))
    assert [one.name for one in known.plugins][:6] == ["core", "operators", "deepinv", "weights", "priors", "benchmarks"]
    assert known.entry("solver", "dps").target.startswith("invsolve.solvers.")
    assert "already provided by invsolve" in record(known, "aaa").error
    assert "already taken" in known.plugins[-1].error or "already taken" in known.plugins[-2].error
    assert not record(known, "core").error


def test_two_distributions_with_one_module_keep_the_first_ones_hooks(site):
    source = GOOD + "\n@hookimpl\ndef invsolve_add_commands(commands):\n    commands['called'] = True\n"
    distribution(site, "one", source, plugin="same", module="module_of_same")
    distribution(site, "two", None, plugin="same", module="module_of_same")
    known = Registry(points(site))
    assert [bool(one.error) for one in known.plugins if one.name == "same"] == [False, True]
    assert "test-good" in known.names("metric")
    called = {}
    known.add_commands(called)
    assert called == {"called": True}


def test_a_bad_target_is_an_error_only_when_it_is_asked_for(site):
    adds = (
        "    registry.add('metric', 'gone', 'invsolve_nowhere:thing', needs='pip install nowhere')\n"
        "    registry.add('metric', 'misspelt', 'json:laods')\n"
        "    registry.add('metric', 'leaves', 'module_of_leaves:thing')\n"
        "    registry.add('metric', 'fine', 'json:loads')\n"
    )
    distribution(site, "lazy", HEAD + "def invsolve_register(registry):\n" + adds)
    (site / "module_of_leaves.py").write_text("raise SystemExit(0)\n")
    known = Registry(points(site))
    assert not record(known, "lazy").error
    assert record(known, "lazy").entries == 4
    with pytest.raises(PluginError, match=r"lazy 1.0 cannot be imported.*pip install nowhere"):
        known.load("metric", "gone")
    with pytest.raises(PluginError, match="misspelt"):
        known.load("metric", "misspelt")
    with pytest.raises(PluginError, match="SystemExit"):
        known.load("metric", "leaves")
    assert known.load("metric", "fine") is json.loads


def test_allow_list(site, monkeypatch):
    distribution(site, "good", GOOD)
    distribution(site, "bad", "raise RuntimeError")
    monkeypatch.setenv("INVSOLVE_PLUGINS", "core, good")
    known = Registry(points(site))
    assert [one.name for one in known.plugins] == ["core", "good"]
    targets = [entry.target for entry in known.of("operator")]
    assert targets
    assert all(target.startswith("invsolve.") for target in targets)  # the core's own
    monkeypatch.setenv("INVSOLVE_PLUGINS", "")
    assert Registry(points(site)).plugins == []
    assert "module_of_bad" not in sys.modules


def test_strict_mode_raises_for_authors(site, monkeypatch):
    distribution(site, "bad", "raise RuntimeError('no luck')")
    monkeypatch.setenv("INVSOLVE_STRICT_PLUGINS", "1")
    with pytest.raises(RuntimeError, match="no luck"):
        Registry(points(site))


def test_ctrl_c_is_not_a_broken_plugin(site):
    distribution(site, "stopped", "import signal\nsignal.raise_signal(signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        Registry(points(site))


def test_ctrl_c_that_a_plugin_swallows_still_stops(site):
    distribution(site, "deaf", "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass")
    with pytest.raises(KeyboardInterrupt):
        Registry(points(site))


# What a module raises at its top or in its hook that is no Exception: pytest's Skipped is the one met most.
STRAY = {
    "skipped": "import pytest; pytest.importorskip('no_such_module')",
    "exit": "import sys; sys.exit(3)",
    "generator": "raise GeneratorExit",
    "cancelled": "import asyncio; raise asyncio.CancelledError",
    "keyboard": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("where", ["import", "hook"])
def test_a_plugin_that_raises_no_exception_is_broken_and_nothing_else_is(name, where, site):
    source = STRAY[name] if where == "import" else HEAD + f"def invsolve_register(registry):\n    {STRAY[name]}\n"
    distribution(site, "aaa-good", GOOD)
    distribution(site, "stray", source)
    known = Registry(points(site))
    assert record(known, "stray").error
    assert "test-good" in known.names("metric")
    assert "dps" in known.names("solver")


LOAD = "from invsolve.plugins.hookspecs import hookimpl\n@hookimpl\ndef invsolve_load_prior(path, options):\n    "


@pytest.mark.parametrize("source", ["raise ValueError('not mine')", "import sys; sys.exit(1)", "return 'junk'", "raise KeyboardInterrupt"])
def test_a_plugin_that_fails_at_paths_does_not_keep_others_from_reading_them(source, site, tmp_path):
    distribution(
        site,
        "aaa-reader",
        LOAD + "from invsolve.priors.tv import TotalVariation\n    return TotalVariation(2.0) if 'mine' in path else None\n",
    )
    distribution(site, "strange", LOAD + source + "\n")
    known = Registry(points(site))
    assert float(known.build("prior", str(tmp_path / "mine.safetensors")).weight) == 2.0
    with pytest.raises(InputError, match="strange") as error:  # nobody reads it: what failed is said
        known.build("prior", str(tmp_path / "nothing.safetensors"))
    assert "nothing.safetensors" in str(error.value)


def test_misspelt_names_suggest_near_ones(site):
    distribution(site, "bad", "raise RuntimeError")
    known = Registry(points(site))
    with pytest.raises(UnknownNameError, match=r"no solver 'diffpri'; did you mean diffpir.*broken plug-ins: bad"):
        known.load("solver", "diffpri")
    with pytest.raises(UnknownNameError, match="did you mean gaussian-blur"):
        known.entry("operator", "gausian-blur")
    with pytest.raises(UnknownNameError, match=f"there are: {', '.join(known.names('noise'))}"):
        known.entry("noise", "zzzzzzz")
    with pytest.raises(UnknownNameError, match="did you mean solver"):
        known.names("solvers")
    with pytest.raises(ArgumentError, match=r"solver 'dps'.*'stps'.*did you mean steps"):
        known.build("solver", "dps", stps=3)


def test_entries_from_python_and_their_refusals():
    known = Registry([])
    known.add("metric", "mine", "json:loads")
    assert known.entry("metric", "mine").plugin == "python"
    for kind, name, target in (
        ("metric", "mine", "json:loads"),
        ("metric", "", "json:loads"),
        ("metric", "a" * 65, "a:b"),
        ("colour", "a", "a:b"),
    ):
        with pytest.raises(RegistrationError):
            known.add(kind, name, target)


def test_one_failing_observer_does_not_silence_the_others(site):
    source = "from invsolve.plugins.hookspecs import hookimpl\n@hookimpl\ndef invsolve_solve_finished(problem, solution):\n    "
    distribution(site, "aaa", source + "raise RuntimeError\n")
    distribution(site, "bbb", source + "raise SystemExit\n")
    distribution(site, "ccc", source + "solution.append(problem)\n")
    distribution(
        site,
        "ddd",
        "from invsolve.plugins.hookspecs import hookimpl\n@hookimpl\ndef invsolve_solve_finished(solution):\n    solution.append(2)\n",
    )
    seen = []
    Registry(points(site)).finished(1, seen)
    assert sorted(seen) == [1, 2]


def test_commands_of_plugins(monkeypatch):
    from invsolve import cli

    class Plugin:
        @hookimpl
        def invsolve_add_commands(self, commands):
            commands.add_command(click.Command("own", callback=lambda: click.echo("hello")))
            commands.add_command(click.Command("list", callback=lambda: click.echo("stolen")))

    known = Registry([])
    known.manager.register(Plugin())
    monkeypatch.setattr("invsolve.plugins.registry", lambda: known)
    from click.testing import CliRunner

    assert CliRunner().invoke(cli.main, ["own"]).output == "hello\n"
    assert "stolen" not in CliRunner().invoke(cli.main, ["list"]).output


@pytest.fixture(scope="module")
def command_line(tmp_path_factory):
    """invsolve ... in a process of its own, with every broken distribution installed and one good one."""
    folder = tmp_path_factory.mktemp("site")
    for name, (source, _) in BROKEN.items():
        distribution(folder, name, source)
    distribution(folder, "noisy", "print('hello from a plug-in')\n" + GOOD)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INVSOLVE_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "invsolve.cli", *arguments], capture_output=True, text=True, env=environment, check=False
        )

    return run


def test_the_command_line_names_every_broken_plugin(command_line):
    done = command_line("plugins", "list")
    assert done.returncode == 0
    for name, (_, word) in BROKEN.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"BROKEN {name}:")]
        assert word in line
    assert "\x1b" not in done.stdout
    as_json = command_line("plugins", "list", "--json")
    assert {one["name"] for one in json.loads(as_json.stdout) if one["error"]} == set(BROKEN)


def test_the_command_line_works_with_every_plugin_broken(command_line):
    listed = command_line("list", "metric", "--json")
    assert listed.returncode == 0
    assert "test-good" in [one["name"] for one in json.loads(listed.stdout)]
    assert "broken plug-ins" in listed.stderr
    assert "raises-at-import" in listed.stderr
    solvers = [one["name"] for one in json.loads(command_line("list", "solver", "--json").stdout)]
    assert solvers == sorted(registry().names("solver"))  # of this process, which has none of the broken ones
    assert {"adam-tv", "ddrm"} <= set(solvers)
    assert command_line("--help").returncode == 0
