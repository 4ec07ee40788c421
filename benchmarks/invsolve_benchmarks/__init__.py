"""What the benchmark harness runs out of the box: four photographs, synthetic images, metrics and suites.

Registered by the same hook as everybody's; importing this module imports nothing heavy.
"""

import os
from pathlib import Path
from typing import Any

from invsolve.plugins.hookspecs import hookimpl

SUITES = {
    "classical-vs-diffusion": "six tasks on photographs by four classical methods and nine that sample, 15 minutes",
    "inpainting-masks": "six families of masks and text, without noise, 35 minutes",
    "super-resolution": "x2, x4 and x8 with three kernels, 20 minutes",
    "deblurring": "six kernels, 15 minutes",
    "nonlinear": "clipping, quantisation, saturation, JPEG and phase retrieval, 20 minutes",
    "conditional": "faces x4 by networks that see y and by conditioned sampling; pictures the user's, 5 minutes",
    "peers": "deepinv's methods beside ours with one prior, 30 minutes",
    "partdiff-k": "PartDiff's K against SR3's T on faces; pictures the user's, 5 minutes",
    "sdedit-t0": "SDEdit from four levels, for inpainting and deconvolution, 3 minutes",
}
PUBLISHED = {
    "diffpir-noisy": "published rows of DiffPIR, DPS and DDRM with noise, for bench reproduce",
    "diffpir-noiseless": "published rows of DiffPIR without noise, for bench reproduce",
}
ALEXNET = "alexnet-owt-7be5be79.pth"


def hub() -> Path:
    """The folder of torch.hub, as torch has it, without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


@hookimpl
def invsolve_register(registry: Any) -> None:
    """Data sets, image metrics and suites."""
    add = registry.add
    add(
        "dataset",
        "quick-photos",
        "invsolve_benchmarks.datasets:quick_photos",
        summary="four photographs, 128x128 RGB, CC0 or public domain",
    )
    add(
        "dataset",
        "quick-digits",
        "invsolve_benchmarks.datasets:quick_digits",
        summary="ten drawn digits, 32x32 grey, CC0",
    )
    add("dataset", "synthetic", "invsolve_benchmarks.datasets:synthetic", summary="discs, bars and gradients of any size, from a seed")
    add("metric", "psnr", "invsolve.bench.metrics:PSNR", summary="peak signal-to-noise ratio, data range 1, per image")
    add("metric", "ssim", "invsolve.bench.metrics:SSIM", summary="structural similarity, Gaussian window of sigma 1.5, data range 1")
    add("metric", "haarpsi", "invsolve.bench.metrics:HaarPSI", summary="Haar wavelet perceptual similarity; needs no weights")
    if (hub() / "checkpoints" / ALEXNET).is_file():
        add("metric", "lpips", "invsolve.bench.perceptual:LPIPS", summary="LPIPS by AlexNet, whose weights lie on this machine")
    cases = "invsolve.bench.case_metrics"
    add("metric", "residual", f"{cases}:Residual", summary="|Hx - y| / (sigma sqrt m) for Gaussian noise, about 1 for the truth")
    add("metric", "consistency", f"{cases}:Consistency", summary="|Hx - y| / |y|, for any noise")
    add("metric", "null-space-error", f"{cases}:NullSpaceError", summary="rms error in the null space of H, where no measurement reaches")
    add("metric", "coverage", f"{cases}:Coverage", summary="share of pixels whose truth lies inside the interval of the samples")
    structure, samples = "invsolve.bench.structure_metrics", "invsolve.bench.sample_metrics"
    add("metric", "ms-ssim", f"{structure}:MSSSIM", summary="structural similarity over five scales; needs 176 pixels a side")
    add("metric", "gmsd", f"{structure}:GMSD", summary="gradient magnitude similarity deviation; needs no weights")
    add("metric", "null-space-share", f"{samples}:NullSpaceShare", summary="share of the squared error that no measurement reaches")
    add("metric", "interval-width", f"{samples}:IntervalWidth", summary="mean width of the interval that coverage looks at")
    add("metric", "crps", f"{samples}:CRPS", summary="continuous ranked probability score of the samples, fair")
    add("metric", "diversity", f"{samples}:Diversity", summary="how far the samples of one measurement lie apart")
    add("metric", "sure", "invsolve.bench.sure:SURE", summary="Stein's estimate of the error of Hx, without the truth")
    add(
        "suite",
        "quick",
        "invsolve_benchmarks.catalogue:QUICK",
        summary="inpainting, deblurring and SR x4 of four photographs, and half-hidden digits, by eight solvers",
    )
    add("suite", "smoke", "invsolve_benchmarks.catalogue:SMOKE", summary="everything small: two synthetic 32x32 images, seconds")
    for name, summary in SUITES.items():
        add("suite", name, f"invsolve_benchmarks.catalogue:{name.replace('-', '_').upper()}", summary=summary)
    for name, summary in PUBLISHED.items():
        add("suite", name, f"invsolve_benchmarks.papers:{name.replace('-', '_').upper()}", summary=summary)
    truth = "invsolve_benchmarks.truth.suite"
    add("suite", "truth", f"{truth}:TRUTH", summary="how far every solver's draws are from posteriors that are known, in ten minutes")
    add("suite", "truth-full", f"{truth}:FULL", summary="the same on a hundred problems at five numbers of evaluations")
