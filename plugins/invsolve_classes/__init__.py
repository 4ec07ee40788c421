"""Digits by class, a classifier that leads a prior, and CLIP models of transformers.

Importing this module imports neither torch nor deepinv: entries are strings, and what they name is imported at first use.

    from invsolve_classes import digit_classifier, mnist_classes
"""

from typing import Any

from invsolve_weights.places import present
from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

NEEDS = 'pip install "deepinv>=0.5.0"'
# (name, function, weights, summary); one whose weights are not there is not listed.
PRIORS = (
    (
        "mnist-classes",
        "shipped:mnist_classes",
        ("mnist-classes",),
        "handwritten digits of 32x32 by class, free of a classifier at any scale",
    ),
    ("mnist-by-classifier", "shipped:mnist_by_classifier", ("mnist", "mnist-noised-classifier"), "mnist led to a digit by a classifier"),
)
# In the features of the digit classifier: registered where its weights are.
METRICS = (
    ("fid-mnist-classifier", "DigitFID", "Fréchet distance of sets of digits, in the features of the digit classifier"),
    ("kid-mnist-classifier", "DigitKID", "kernel distance of sets of digits, in the features of the digit classifier"),
    ("precision-mnist-classifier", "DigitPrecision", "share of answers that lie among the true digits"),
    ("recall-mnist-classifier", "DigitRecall", "share of the true digits that lie among the answers"),
    ("is-mnist-classifier", "DigitScore", "inception score of a set of digits, by the digit classifier"),
    ("recognised-digit", "DigitRecognised", "whether the digit classifier reads the restored digit as what it is"),
)
CLIP = ("clip-text", "clip:clip_text", "a prior led to a text by a CLIP model of transformers")


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The priors whose weights are there."""
    for name, function, weights, summary in PRIORS:
        there = present(*weights)
        registry.add("prior", name, f"invsolve_classes.{function}", summary=summary, needs=NEEDS, listed=there)
    for name, cls, summary in METRICS if present("mnist-noised-classifier") else ():
        registry.add("metric", name, f"invsolve_classes.metrics:{cls}", summary=summary, needs=NEEDS)
    name, function, summary = CLIP
    registry.add("prior", name, f"invsolve_classes.{function}", summary=summary, needs="pip install transformers")


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
