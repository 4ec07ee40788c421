"""A plug-in for invsolve: the hook that registers its entries.

Nothing is imported here but the marker: `invsolve list` reads every plug-in, and targets are imported when they are used.
"""

from invsolve import hookimpl
from invsolve.plugins import Registry


@hookimpl
def invsolve_register(registry: Registry) -> None:
    """One line an entry: kind, name, "module:attribute", summary."""
    add = registry.add
    add("operator", "template-vignette", "invsolve_template.operator:Vignette", summary="light that falls off towards the corners")
    add("noise", "template-laplace", "invsolve_template.noise:LaplaceNoise", summary="noise with heavy tails")
    add("prior", "template-ridge", "invsolve_template.prior:Ridge", summary="squared distance to mid grey")
    add("solver", "template-proximal-gradient", "invsolve_template.solver:ProximalGradient", summary="proximal gradient steps")
    add("metric", "template-mae", "invsolve_template.metric:MeanAbsoluteError", summary="mean absolute error")
    add("dataset", "template-discs", "invsolve_template.data:discs", summary="drawings of discs")
    add("suite", "template", "invsolve_template.suite:SUITE", summary="all of these beside others")
