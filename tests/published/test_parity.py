"""Step for step beside diffusers' own pipelines on the same noise; the pipelines are tiny, of diffusers' and transformers' classes."""

import pytest
import torch
from torch.nn.functional import interpolate

pytest.importorskip("diffusers", reason="published models need the extra 'diffusers'")
pytest.importorskip("transformers", reason="published models need the extra 'diffusers'")

from invsolve_diffusers.examples import tiny
from invsolve_diffusers.folder import opened
from invsolve_diffusers.parity import compare, run_pipeline, smooth
from invsolve_diffusers.prior import Published
from invsolve_diffusers.sees import SeesMask, imaged, mask_of
from invsolve_diffusers.told import Told
from invsolve_operators import BlockMean, BoxMask

from invsolve import InputError, NoNoise, Problem
from invsolve.testing.denoisers import NETWORK

STEPS, SCALE = 4, 3.0
DDIM, EULER = "DDIMScheduler", "EulerDiscreteScheduler"
# What guidance makes of a rounding of its two parts: scale + (scale - 1).
LED = 2 * SCALE - 1
# A network of float64 rounds by NETWORK of the smaller eps, STEPS times; with random weights |eps| reaches 20 where |x| is about 1.
DOUBLE = STEPS * LED * 20 * NETWORK * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
SINGLE = STEPS * LED * 20 * NETWORK
# Euler and flow have their levels in float32, each rounded by 2^-24 of itself, which moves x / sqrt(1 + sigma^2) by as much of eps.
LEVELS = STEPS * LED * 20 * 2.0**-24
# The posterior that diffusers draws from has standard deviation e^-15, at most 5 of them, 0.18215 times that in a code.
DRAWN = STEPS * LED * 5 * 3.1e-7 * 0.18215
MASK, SMALL = BoxMask((3, 16, 16), box=6), BlockMean((3, 16, 16), factor=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny pipeline by kind, scheduler and prediction."""
    root, known = tmp_path_factory.mktemp("pipelines"), {}

    def folder(kind, scheduler=DDIM, prediction="epsilon"):
        key = (kind, scheduler, prediction)
        if key not in known:
            known[key] = tiny(kind, root / "-".join(key), scheduler=scheduler, prediction=prediction)
        return known[key]

    return folder


CASES = [
    ("text", DDIM, "epsilon", "float64", DOUBLE),
    ("text", DDIM, "v_prediction", "float64", DOUBLE),
    ("text", DDIM, "epsilon", "float32", SINGLE),
    ("text", EULER, "epsilon", "float64", LEVELS),
    ("xl", DDIM, "epsilon", "float64", DOUBLE),
    ("xl", EULER, "v_prediction", "float64", LEVELS),
    ("sd3", DDIM, "epsilon", "float64", LEVELS),
    ("inpaint", DDIM, "epsilon", "float64", DRAWN),
    ("xl-inpaint", DDIM, "epsilon", "float64", DRAWN),
    ("super-resolution", DDIM, "epsilon", "float64", DOUBLE),
    ("unconditional", DDIM, "epsilon", "float32", SINGLE),
]


@pytest.mark.parametrize(("kind", "scheduler", "prediction", "precision", "allowed"), CASES)
def test_every_step_is_that_of_diffusers(made, kind, scheduler, prediction, precision, allowed, record_property):
    silent = kind in ("super-resolution", "unconditional")
    words = ("", None, None) if silent else ("a cat", "dog", SCALE)
    operator = {"inpaint": MASK, "xl-inpaint": MASK, "super-resolution": SMALL}.get(kind)
    found = compare(made(kind, scheduler, prediction), *words, operator=operator, steps=STEPS, precision=precision)
    record_property("largest", max(found.steps))
    assert len(found.steps) == STEPS
    assert max(found.steps) <= allowed
    # the decoder's gain is about 1; diffusers gives pictures as float32 numpy arrays
    assert found.picture <= allowed + 2.0**-23
    assert found.moved > 30 * allowed, "what is compared hardly moved"


def test_xl_without_a_negative_prompt_is_led_away_from_zeros(made):
    """diffusers' force_zeros_for_empty_prompt; an empty text is another vector."""
    folder = made("xl")
    assert max(compare(folder, "a cat", None, SCALE, steps=2, precision="float64").steps) <= DOUBLE
    (told,) = (module for module in Published(str(folder), "a cat", scale=SCALE).modules() if isinstance(module, Told))
    without = told.without
    assert not without.text.any()
    assert not without.pooled.any()


def test_xl_is_told_height_before_width(made):
    found = compare(made("xl"), "a cat", None, SCALE, size=(32, 16), steps=2, precision="float64")
    assert max(found.steps) <= DOUBLE


def test_a_wrong_convention_of_inpainting_is_seen(made, monkeypatch):
    """Black for grey, the mask last, a mask of -1 and 1: each is further away than rounding by orders."""

    def like(hole, order, mask):
        def forward(self, problem):
            outer = imaged(problem)
            visible = mask_of(outer)[:, :1]
            code = self.encode(visible * outer.y + (1 - visible) * hole)
            parts = [mask(interpolate(1 - visible, size=code.shape[-2:])), code]
            return torch.cat(parts[::order], dim=1)

        return forward

    def run():
        return max(compare(made("inpaint"), "a cat", operator=MASK, steps=2, precision="float64").steps)

    assert run() <= DRAWN
    for wrong in (like(0.0, 1, lambda m: m), like(0.5, -1, lambda m: m), like(0.5, 1, lambda m: 2 * m - 1)):
        monkeypatch.setattr(SeesMask, "forward", wrong)
        assert run() > 1e3 * DRAWN


def test_legacy_inpainting_networks_are_plain_ones(tmp_path):
    """An inpainting pipeline with 4 channels sees nothing: any solver in codes takes it."""
    folder = tiny("inpaint", tmp_path / "legacy", channels=4)
    prior = Published(str(folder), "a cat")
    assert prior.sees is None
    assert not prior.sees_y


def test_our_table_of_levels_is_diffusers_own(made):
    """a_t = prod (1 - beta): diffusers multiplies in float32, 1000 factors rounded by 6e-8 each, so by 6e-5 of itself at most."""
    found = opened(made("text"))
    ours = 1 / (1 + torch.tensor(found.schedule.levels(), dtype=torch.float64).square())
    assert float((found.pipe.scheduler.alphas_cumprod.double() / ours - 1).abs().max()) < 6e-5
    assert found.schedule.levels()[-1] == pytest.approx(14.6146, abs=1e-4)  # Stable Diffusion's first level, by its betas
    flow = opened(made("sd3")).schedule
    assert flow.shift == 3.0


def test_what_cannot_be_compared_is_said(made):
    with pytest.raises(InputError, match="operator="):
        compare(made("text"), operator=MASK)
    with pytest.raises(InputError, match="float32"):
        compare(made("unconditional"), precision="float64")


def test_the_pipeline_is_run_as_a_user_runs_it(made):
    """The picture that parity compares is what pipe(...) returns: without recording, without our table."""
    prior, found = Published(str(made("text")), "a cat", scale=SCALE), opened(made("text"))
    again = opened(made("text")).pipe
    again.set_progress_bar_config(disable=True)
    problem = Problem.simulate(MASK, smooth((3, 16, 16), torch.float32), NoNoise(), generator=0)
    z, _, picture = run_pipeline(found, prior, problem, ("a cat", None, SCALE), 2, 0, torch.float32)
    theirs = again("a cat", guidance_scale=SCALE, num_inference_steps=2, latents=z, output_type="np", height=16, width=16).images
    assert torch.equal(picture, torch.from_numpy(theirs).permute(0, 3, 1, 2))
