"""Published models beside diffusers' own pipelines, step by step, and what beginning at sigma 14.6 costs in brightness.

    python benchmarks/studies/diffusers_parity.py

The pipelines are tiny, made at random with diffusers' and transformers' classes: what is compared is the arithmetic around the networks,
which does not depend on their size. `python -m invsolve_diffusers.parity FOLDER` does it with real weights. Writes
results/conditional/diffusers.md.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from invsolve_diffusers.examples import tiny
from invsolve_diffusers.folder import versions
from invsolve_diffusers.parity import compare
from invsolve_operators import BlockMean, BoxMask
from torch import Tensor

from invsolve import Problem
from invsolve.priors import Denoiser, DiffusionPrior
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solvers import DDIM
from invsolve.unit import Unit

RESULTS = Path(__file__).parents[1] / "results" / "conditional"
STEPS, SCALE = 10, 7.5
DDIM_SCHEDULER, EULER = "DDIMScheduler", "EulerDiscreteScheduler"
# (what it stands for, kind of tiny pipeline, scheduler, prediction)
CASES = (
    ("Stable Diffusion 1", "text", DDIM_SCHEDULER, "epsilon"),
    ("Stable Diffusion 2, v", "text", DDIM_SCHEDULER, "v_prediction"),
    ("Stable Diffusion 1, Euler", "text", EULER, "epsilon"),
    ("Stable Diffusion XL", "xl", DDIM_SCHEDULER, "epsilon"),
    ("Stable Diffusion XL, v, Euler", "xl", EULER, "v_prediction"),
    ("Stable Diffusion 3, flow", "sd3", DDIM_SCHEDULER, "epsilon"),
    ("Inpainting, 9 channels", "inpaint", DDIM_SCHEDULER, "epsilon"),
    ("Inpainting, XL", "xl-inpaint", DDIM_SCHEDULER, "epsilon"),
    ("LDM super-resolution", "super-resolution", DDIM_SCHEDULER, "epsilon"),
    ("LDM without a condition", "unconditional", DDIM_SCHEDULER, "epsilon"),
)
MASK = BoxMask((3, 16, 16), box=6)
SEEN = {"inpaint": MASK, "xl-inpaint": MASK, "super-resolution": BlockMean((3, 16, 16), factor=2)}
SIZES = (16, 32, 64, 128)  # sides of codes
SPREAD, REST = 0.5, 0.8  # standard deviations of a code's mean, and of its pixels about it


def parity() -> list[str]:
    """A line per pipeline and precision."""
    out = [
        "| pipeline | scheduler | precision | first step | median step | largest | picture | x moved, rms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as root:
        for index, (title, kind, scheduler, prediction) in enumerate(CASES):
            folder = tiny(kind, Path(root) / str(index), scheduler=scheduler, prediction=prediction)
            silent = kind in ("super-resolution", "unconditional")
            words = ("", None, None) if silent else ("a cat", "dog", SCALE)
            operator = SEEN.get(kind)
            for precision in ("float32",) if kind == "unconditional" else ("float32", "float64"):
                found = compare(folder, *words, operator=operator, steps=STEPS, precision=precision)
                numbers = (found.steps[0], statistics.median(found.steps), max(found.steps), found.picture)
                shown = " | ".join(f"{number:.1e}" for number in numbers)
                name = "FlowMatchEuler" if kind == "sd3" else scheduler.removesuffix("Scheduler")
                out.append(f"| {title} | {name} | {precision} | {shown} | {found.moved:.2f} |")
    return out


class Bright(Denoiser):
    """Codes whose mean is N(0, SPREAD^2) and whose pixels are N(mean, REST^2), in closed form.

    D(x, sigma) = k m(x) + REST^2 / (REST^2 + sigma^2) (x - m(x)),   k = V / (V + sigma^2 / n),   V = SPREAD^2 + REST^2 / n
    """

    s0, centre, channels = 1.0, 0.0, 1

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat."""
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1) ** 2
        mean, count = x.mean((1, 2, 3), keepdim=True), x[0].numel()
        spread = SPREAD**2 + REST**2 / count
        return spread / (spread + level / count) * mean + REST**2 / (REST**2 + level) * (x - mean)


def brightness() -> list[str]:
    """Spread of the brightness of 400 draws, as a share of what it is in the data, by DDIM on the schedule's levels; and by theory."""
    table = DiscreteVP(1000, 0.00085, 0.012, law="scaled-linear")
    prior, solver = DiffusionPrior(Bright(), table, Unit(0.0, 1.0)), DDIM(steps=100)
    top = table.levels()[-1]
    out = [
        "| side of the code | pictures of | noise about 0 | in theory | from a guess of the right brightness: error left |",
        "|---|---|---|---|---|",
    ]
    for side in SIZES:
        problem = Problem.unconditional((1, side, side), 400)
        whole = (SPREAD**2 + REST**2 / side**2) ** 0.5
        kept = (1 + (whole * side / top) ** 2) ** -0.5
        drawn = solver.solve(problem, prior, generator=0).x.mean((1, 2, 3))
        rng = Rng(1, range(400), purpose="brightness")
        meant = whole * rng.normal((1, 1, 1), problem.image)
        begin = meant + top * rng.normal_like(problem.image)
        led = solver.solve(problem, prior, generator=0, x_init=begin).x.mean((1, 2, 3))
        error = (led - meant.flatten()).square().mean().sqrt() / whole
        out.append(f"| {side} | {8 * side} | {float(drawn.std()) / whole:.2f} | {kept:.2f} | {float(error):.2f} |")
    return out


STEPWISE = f"""
Tiny pipelines of random weights, the same noise, {STEPS} steps of the pipeline's own scheduler with eta 0, guidance {SCALE} away
from a negative prompt where there is a text. The largest difference of x / sqrt(1 + sigma^2) over all entries after the first step,
the median step and the worst, of the decoded picture, and how far x / sqrt(1 + sigma^2) moved in all. Random networks predict |eps|
up to 20.
"""
LEFT = """
In float64 DDIM is given our table of a_t in place of diffusers' own, which is rounded to float32 (a product of 1000 rounded
factors); what is left is rounding of 1e-16. Euler and flow have their levels in float32 (6e-8), the inpainting pipeline draws from
the posterior of its encoder where we take the mode (here of spread e^-15), and pictures leave diffusers as float32. In float32 the
networks themselves round. No trained weights were at hand: this page says that the arithmetic is that of diffusers, and nothing about
the pictures of a published model.
"""
BEGUN = f"""
The levels of Stable Diffusion 1, 2 and XL end at s = 14.6, where sqrt(a_T) = .068 of the code is left. Begun with noise about 0, a
code of n pixels carries a mean of spread s / sqrt(n) only, and a good network takes that for brightness. In closed form: codes
whose mean is N(0, {SPREAD}^2), pixels N(mean, {REST}^2), the exact denoiser, DDIM on 100 of the schedule's levels, 400 draws. The
spread of their brightness, as a share of that of the data (standard error 4 %), and what theory says, (1 + V n / s^2)^-1/2, V the
variance of the mean. The last column begins at guess + s z, as `prior.start` does, the true brightness being the guess: root mean
square error of the brightness in the same unit, where a draw that knows nothing has 1.4.
"""
FOUND = """
At 512 x 512 and more draws are grey where they should be dark or bright; a start from a guess keeps its brightness there. At small
sizes, where the noise itself has a mean, it matters less, and is kept less.
"""


def paragraph(text: str) -> list[str]:
    """Its lines, and an empty one."""
    return [*text.strip().splitlines(), ""]


def main() -> None:
    """Run and write the page."""
    torch.set_num_threads(1)
    which = ", ".join(f"{name} {number}" for name, number in versions().items())
    text = [
        "# Published models through diffusers",
        "",
        f"`python benchmarks/studies/diffusers_parity.py` ({which}, torch {torch.__version__}); 15 seconds on a CPU.",
        "",
        "## Step by step beside diffusers' own pipelines",
        "",
        *paragraph(STEPWISE),
        *parity(),
        "",
        *paragraph(LEFT),
        "## Beginning at sigma 14.6",
        "",
        *paragraph(BEGUN),
        *brightness(),
        "",
        *paragraph(FOUND)[:-1],
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "diffusers.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
