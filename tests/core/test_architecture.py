"""The arrows between packages, and rules of the house that a reader of one file cannot see."""

import ast
import functools
import inspect
import subprocess
import sys

import pytest
from arrows import CORE, PACKAGES, arrows, everything, imports, modules, relative, rings, sources
from fresh_cases import run_fresh

import invsolve
import invsolve.priors
import invsolve.solvers
import invsolve.testing
from invsolve.plugins import registry

FIRST_PARTY = [name for name in PACKAGES if name != "invsolve"]
# Plug-ins do not know each other, but for what is built on weights from anywhere.
KNOWS = {
    name: {"invsolve_weights"}
    for name in ("invsolve_deepinv", "invsolve_priors", "invsolve_diffusers", "invsolve_classes", "invsolve_damage")
}

# Modules of the core that plug-ins may import from: what a stranger may rely on. The top level counts by its __all__.
PUBLIC = {
    "invsolve",
    "invsolve.bench",
    "invsolve.cli.output",
    "invsolve.cli.photograph",
    "invsolve.data",
    "invsolve.errors",
    "invsolve.estimate",
    "invsolve.io.files",
    "invsolve.io.images",
    "invsolve.io.volumes",
    "invsolve.noise",
    "invsolve.operator",
    "invsolve.plugins",
    "invsolve.predictive",
    "invsolve.priors",
    "invsolve.problem",
    "invsolve.rng",
    "invsolve.schedule",
    "invsolve.solution",
    "invsolve.solver",
    "invsolve.solvers",
    "invsolve.testing",
    "invsolve.training",
    "invsolve.unit",
    "invsolve.which",
}
# What the core's light part is made of; the rest of the dependencies belong to bench, training, the command line and files.
LIGHT = {"torch", "numpy", "scipy", "pluggy", "lazy_loader", "invsolve"}
OWN_LIBRARIES = {
    "bench": {
        "deepinv",
        "jinja2",
        "matplotlib",
        "PIL",
        "pydantic",
        "rich",
        "tqdm",
        "safetensors",
        "click",
        "yaml",
        "torchmetrics",
        "pyarrow",
        "optuna",
        "dask",
        "distributed",
    },
    "training": {"deepinv", "safetensors", "PIL", "tqdm", "pydantic", "accelerate"},
    "cli": {"click", "rich", "tqdm", "PIL"},
    "callbacks.py": {"tqdm"},
    "plot": {"matplotlib"},
    "io": {"PIL", "safetensors", "pydantic", "tifffile", "imagecodecs", "nibabel"},
    "recipe": {"pydantic"},
    "plugins": {"pydantic"},
    "testing": set(),
}


def foreign(path):
    """The modules that a file of the core must not import, each with what its area may."""
    area = path.relative_to(CORE).parts[0]
    own = LIGHT | OWN_LIBRARIES.get(area, set())
    for module, _ in imports(path):
        top = module.partition(".")[0]
        if top in FIRST_PARTY or top not in own | set(sys.stdlib_module_names):
            yield f"{relative(path)} imports {module}; {area} may use {sorted(own)}"


def test_the_core_imports_no_plug_in_and_no_library_of_others():
    """operators -> invsolve <- plugins; the core names no concrete operator, network or dataset."""
    assert not [found for path in sources(CORE) for found in foreign(path)]


def test_deepinv_serves_metrics_and_training_only():
    users = {relative(path) for path in sources(CORE) for module, _ in imports(path) if module.partition(".")[0] == "deepinv"}
    assert all(user.startswith(("invsolve/bench/", "invsolve/training/")) for user in users), users


@pytest.mark.parametrize("package", PACKAGES)
def test_no_ring_of_imports_crosses_the_border_of_a_package(package):
    """Modules of one folder may need each other; two folders that do are one subject in two places."""
    folder = PACKAGES[package]
    places = modules(folder)
    for ring in rings(arrows(folder)):
        homes = {places[name].parent.relative_to(folder.parent).as_posix() for name in ring}
        assert len(homes) == 1, f"a ring through {sorted(homes)}: {sorted(ring)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_stand_above_each_other(package):
    """The same of packages as wholes: each folder one node, modules beside the folders nodes of their own."""
    folder = PACKAGES[package]
    places = modules(folder)

    def node(name):
        inside = places[name].relative_to(folder).parts
        return inside[0].removesuffix(".py") if len(inside) > 1 else f"{package} itself"

    edges = {(node(one), node(other)) for one, other in arrows(folder)}
    among_folders = {(one, other) for one, other in edges if one != other and f"{package} itself" not in (one, other)}
    assert not rings(among_folders)


def test_the_search_for_rings_finds_them():
    assert rings({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}) == {frozenset("abc")}
    assert not rings({("a", "b"), ("b", "c"), ("a", "c")})


def test_the_core_shows_its_nouns():
    """A newcomer reads one screen of names; what serves a subject stands in its folder."""
    shown = sorted(path.name for path in CORE.glob("*.py"))
    assert len(shown) <= 15, shown


@pytest.mark.parametrize("package", FIRST_PARTY)
def test_first_party_plug_ins_use_public_names_only(package):
    """The built-ins come through the public door: a stranger can write the same."""
    for path in sources(PACKAGES[package]):
        for module, names in imports(path):
            top = module.partition(".")[0]
            if top in FIRST_PARTY:
                known = {package} | KNOWS.get(package, set())
                assert top in known, f"{relative(path)} imports {module}; {package} knows {sorted(known)}"
            if top != "invsolve":
                continue
            public = any(module == name or module.startswith(name + ".") for name in PUBLIC - {"invsolve"})
            assert public or module == "invsolve", f"{relative(path)} imports {module}, which is not public"
            hidden = [name for name in [*module.split("."), *names] if name.startswith("_") and name != "__version__"]
            assert not hidden, f"{relative(path)} imports {hidden} from {module}"
            if module == "invsolve":
                assert set(names) <= {*invsolve.__all__, "__version__"}, f"{relative(path)} imports {names} from invsolve"


@pytest.mark.parametrize("module", [invsolve, invsolve.solvers, invsolve.priors, invsolve.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_there(module):
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert not name.startswith("_")
    assert len(set(module.__all__)) == len(module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


GLOBAL_DRAWS = {
    "randn",
    "rand",
    "randint",
    "randperm",
    "randn_like",
    "rand_like",
    "randint_like",
    "normal",
    "bernoulli",
    "multinomial",
    "poisson",
}
SEEDING = {"manual_seed", "seed", "set_rng_state", "fork_rng"}


def draws(tree):
    """Calls torch.randn(...) and the like without a generator of their own; torch.manual_seed; anything of numpy.random or random."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, name = ast.unparse(node.func.value), node.func.attr
        own = any(keyword.arg == "generator" for keyword in node.keywords)
        if owner == "torch" and (name in SEEDING or (name in GLOBAL_DRAWS and not own)):
            yield f"line {node.lineno}: torch.{name}"
        if owner in ("torch.random", "torch.cuda") and name in SEEDING:
            yield f"line {node.lineno}: {owner}.{name}"
        if owner in ("np.random", "numpy.random") and name not in ("default_rng", "get_state"):
            yield f"line {node.lineno}: {owner}.{name}"
        if owner == "random" and name not in ("getstate", "Random"):
            yield f"line {node.lineno}: random.{name}"


TRAINING = [*sources(CORE / "training"), PACKAGES["invsolve_priors"] / "train.py"]  # processes of their own, seeded as a whole


WORLD = CORE / "testing" / "world.py"  # seeds the global generators before a check and puts them back


def undocumented(tree):
    """That a file with code has no docstring."""
    return ["no module docstring"] if tree.body and ast.get_docstring(tree) is None else []


def long_functions(tree):
    """Functions of more than 50 lines, their docstring apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            if lines > 50:
                yield f"line {node.lineno}: {node.name} has {lines} lines"


def swallowing(tree):
    """Public functions with **kwargs under a name that does not say what they are bound against."""
    for node in [*tree.body, *(node for cls in tree.body if isinstance(cls, ast.ClassDef) for node in cls.body)]:
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None and not node.name.startswith("_"):
            named = node.args.kwarg.arg
            if not named.startswith("_") and named not in ("options", "parameters", "arguments", "extra"):
                yield f"line {node.lineno}: {node.name}(**kwargs)"


@functools.cache
def breaches():
    """What every rule finds in every file, by the rule; the files are parsed once, and no tree is kept."""
    rules = (draws, undocumented, long_functions, swallowing)
    found = {rule: {} for rule in rules}
    for path in everything():
        tree = ast.parse(path.read_text())
        for rule in rules:
            found[rule][path] = [f"{relative(path)}: {one}" for one in rule(tree)]
    return found


def found_by(rule, but=()):
    """What a rule finds, in all files but some."""
    return [one for path, found in breaches()[rule].items() if path not in but for one in found]


def test_nothing_draws_from_a_global_generator():
    """rng.py draws for the library, each draw from a generator of its own."""
    assert not found_by(draws, (*TRAINING, WORLD))


def test_the_search_for_global_draws_finds_them():
    lines = [
        "import torch",
        "torch.randn(3)",
        "torch.manual_seed(0)",
        "np.random.rand(2)",
        "random.random()",
        "torch.randn(3, generator=g)",
    ]
    assert [found.split(":")[0] for found in draws(ast.parse("\n".join(lines)))] == ["line 2", "line 3", "line 4", "line 5"]


def test_the_searches_for_long_functions_for_docstrings_and_for_keywords_find_them():
    tree = ast.parse("def long():\n" + 50 * "    pass\n" + "def short(**kwargs):\n" + 49 * "    pass\n")
    assert list(long_functions(tree)) == ["line 1: long has 51 lines"]
    assert list(swallowing(tree)) == ["line 52: short(**kwargs)"]
    assert undocumented(tree)
    assert not undocumented(ast.parse('"Said."\nx = 1'))
    assert not undocumented(ast.parse(""))


def test_files_stay_short_and_documented():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in everything()}
    assert not {path: length for path, length in lengths.items() if length > 400}
    assert not found_by(undocumented)


def test_functions_stay_short():
    assert not found_by(long_functions)


def test_no_public_signature_swallows_keywords():
    """**kwargs would take a misspelt name; a factory that binds them against another signature says so by its name for them."""
    assert not found_by(swallowing)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import invsolve",
        "import invsolve; dir(invsolve)",
        "from invsolve import registry",
        "from invsolve import registry; [registry().names(kind) for kind in ('operator', 'prior', 'solver', 'noise', 'metric', 'dataset')]",
        "import invsolve.errors, invsolve.plugins.hookspecs, invsolve.plugins.arguments",
    ],
)
def test_importing_and_listing_do_not_load_torch(code):
    done = run(code + "; import sys; print([name for name in ('torch', 'deepinv', 'numpy') if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_conformance_checks_do_not_load_pytest(tmp_path):
    done = run_fresh(
        "import sys, invsolve.testing.solvers, invsolve.testing.denoisers, invsolve.testing.operators; print('pytest' in sys.modules)",
        tmp_path,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def of_kind(kind):
    return [entry for entry in ENTRIES if entry.kind == kind]


ENTRIES = [registry().entries[key] for key in sorted(registry().entries) if "invsolve" in registry().entries[key].plugin]


def test_first_party_plug_ins_load():
    broken = {record.name: record.error for record in registry().plugins if record.error and record.distribution == "invsolve"}
    assert not broken


@pytest.mark.parametrize("kind", sorted({entry.kind for entry in ENTRIES}))
def test_every_entry_loads_and_says_what_it_is(kind):
    for entry in of_kind(kind):
        target, name = entry.load(), f"{kind} {entry.name}"
        assert entry.summary, name
        assert not entry.summary.endswith("."), name
        assert len(entry.summary) <= 100, name
        if kind == "suite":
            continue
        assert inspect.getdoc(target), f"{entry.target} has no docstring"
        if isinstance(target, type):
            assert target.__doc__, f"{entry.target} inherits its docstring"


@pytest.mark.parametrize("kind", sorted({entry.kind for entry in ENTRIES}))
def test_the_signature_of_a_class_is_its_constructors(kind):
    """Notebooks, help() and completion show it; a metaclass would hide it behind *args, **kwargs."""
    for target in (entry.load() for entry in of_kind(kind)):
        if isinstance(target, type):
            own = target.__init__ is not object.__init__
            made = list(inspect.signature(target.__init__).parameters.values())[1:] if own else []
            assert [str(one) for one in inspect.signature(target).parameters.values()] == [str(one) for one in made], target


def test_solvers_document_every_hyperparameter_and_their_paper():
    for cls in (entry.load() for entry in of_kind("solver")):
        text = inspect.getdoc(cls)
        assert "References:" in text, cls
        assert "arXiv" in text or "(" in text.partition("References:")[2], cls
        described = text.partition("Args:")[2].partition("References:")[0]
        for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
            assert name in described, f"{cls.__name__}: '{name}' is not described"
            assert parameter.default is not inspect.Parameter.empty, f"{cls.__name__}: '{name}' has no default"
