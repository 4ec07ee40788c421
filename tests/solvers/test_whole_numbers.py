"""Every whole number that a registered solver or an adapter of networks takes has an upper end: a mistyped one is refused at once."""

import pytest

from invsolve.errors import InputError
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.typed import hint_of, members

WHOLE = [
    (solver, name)
    for solver in registry().names("solver")
    for name in signature_of(registry().load("solver", solver)).parameters
    if members(hint_of(registry().load("solver", solver), name)) <= {int, type(None)}
]
HELD = {"particles": 10_000, "steps": 1_000_000, "order": 2}


@pytest.mark.parametrize(("solver", "name"), WHOLE)
def test_what_would_run_for_ever_is_refused_by_name(solver, name):
    cls, most = registry().load("solver", solver), HELD.get(name, 100_000)
    assert getattr(cls(**{name: most}), name) == most
    for value in (most + 1, 10**9):
        with pytest.raises(InputError, match=rf"^{name} must be .*; given {value}|^{name} must be at most {most}; given"):
            cls(**{name: value})


def test_the_whole_numbers_were_found():
    """What was reported is among them, and a good many more."""
    assert {("mgdm", "inner"), ("mgdm", "calls"), ("tds", "particles"), ("lanpaint", "inner"), ("ddim", "steps")} <= set(WHOLE)
    assert len(WHOLE) > 60


@pytest.mark.parametrize("channels", [-1, 0, True, 1025, 10**9])
def test_channels_that_no_image_has_are_refused(channels):
    with pytest.raises(InputError, match=f"channels must be .* at least 1 and at most 1024; given {channels}"):
        registry().build("prior", "deepinv-denoiser", channels=channels)


@pytest.mark.parametrize("multiple", [-8, 0, 10**9])
def test_padding_to_sides_that_no_image_has_is_refused(multiple):
    from deepinv.models import TVDenoiser
    from invsolve_deepinv import DeepinvDenoiser

    with pytest.raises(InputError, match=f"multiple must be .*; given {multiple}"):
        DeepinvDenoiser(TVDenoiser(), (0.01, 0.2), multiple=multiple)


@pytest.mark.parametrize(
    ("prior", "name", "most"),
    [("tv", "max_iter", 1_000_000), ("tgv", "max_iter", 1_000_000), ("vectorial-tv", "max_iter", 1_000_000), ("wavelet-l1", "levels", 100)],
)
def test_the_whole_numbers_of_priors(prior, name, most):
    assert getattr(registry().build("prior", prior, **{name: most}), name) == most
    for value in (0, -1, 2.5, True, most + 1):
        with pytest.raises(InputError, match=f"{name} must be a whole number, at least 1 and at most {most}; given {value}"):
            registry().load("prior", prior)(**{name: value})
