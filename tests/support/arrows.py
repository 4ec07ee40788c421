"""The packages of the project, who imports whom, and rings of that."""

import ast
import functools

from places import ROOT

CORE = ROOT / "invsolve"
PACKAGES = {
    "invsolve": CORE,
    "invsolve_operators": ROOT / "operators" / "invsolve_operators",
    "invsolve_deepinv": ROOT / "plugins" / "invsolve_deepinv",
    "invsolve_weights": ROOT / "plugins" / "invsolve_weights",
    "invsolve_priors": ROOT / "plugins" / "invsolve_priors",
    "invsolve_diffusers": ROOT / "plugins" / "invsolve_diffusers",
    "invsolve_classes": ROOT / "plugins" / "invsolve_classes",
    "invsolve_damage": ROOT / "plugins" / "invsolve_damage",
    "invsolve_third_party": ROOT / "plugins" / "invsolve_third_party",
    "invsolve_app": ROOT / "plugins" / "invsolve_app",
    "invsolve_benchmarks": ROOT / "benchmarks" / "invsolve_benchmarks",
}


def sources(folder):
    return sorted(path for path in folder.rglob("*.py") if "build" not in path.relative_to(folder).parts)


def everything():
    return [path for folder in PACKAGES.values() for path in sources(folder)]


def relative(path):
    return str(path.relative_to(ROOT))


@functools.cache
def statements(path):
    """(import statement, whether it is for type checkers only) of a file, inside functions too; the tree is not kept."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    typed = {id(inner) for node in nodes if is_typing(node) for inner in ast.walk(node)}
    return [(node, id(node) in typed) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path):
    """(module, names) of every import statement, inside functions too; names is empty for `import module`."""
    for node, _ in statements(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        else:
            assert node.level == 0, f"{relative(path)} has a relative import; imports are absolute here"
            yield node.module, [alias.name for alias in node.names]


def modules(folder):
    """Path by dotted name of a package's modules; a package is its __init__."""
    return {".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in sources(folder)}


def arrows(folder):
    """Who imports whom within a package, imports inside functions too, those for type checkers not."""
    known = modules(folder)
    for name, path in known.items():
        for node, typed in statements(path):
            if isinstance(node, ast.ImportFrom) and not typed:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = whole if whole in known else node.module
                    if target in known and target != name:
                        yield name, target
            elif isinstance(node, ast.Import) and not typed:
                yield from ((name, alias.name) for alias in node.names if alias.name in known)


def is_typing(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def rings(edges):
    """The strongly connected components with more than one member."""
    ahead, back = {}, {}
    for one, other in edges:
        ahead.setdefault(one, set()).add(other)
        back.setdefault(other, set()).add(one)

    def reached(start, graph):
        found, left = {start}, [start]
        while left:
            for other in graph.get(left.pop(), ()):
                if other not in found:
                    found.add(other)
                    left.append(other)
        return found

    return {frozenset(reached(one, ahead) & reached(one, back)) for one in ahead} - {frozenset({one}) for one in ahead}
