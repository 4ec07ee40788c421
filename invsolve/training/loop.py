"""The training loop: Adam, an exponential moving average, validation PSNR, atomic checkpoints, resume."""

import copy
import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from invsolve.errors import DivergedError, InputError
from invsolve.training.data import Crops
from invsolve.training.objectives import LogSigma, UniformSigma, denoising_loss


@dataclass(frozen=True)
class Recipe:
    """How long and how; the rate falls from lr to lr / 50 along a cosine over the whole run.

    Args:
        sigmas: distribution of the noise levels, in [0, 1] units.
        s0: standard deviation of the data about their mean level, in [0, 1] units.
        hours: wall-clock hours of training (saving and validating left out); ignored where `steps` is given.
        batch: patches per step.
        lr: highest rate of Adam.
        warmup: steps over which the rate rises.
        ema_images: half-life of the average of the weights, in images.
        clip: largest norm of the gradient.
        bf16: autocast to bfloat16.
        save_seconds: seconds between checkpoints.
        seed: of crops, noise levels and noise.
        steps: number of steps instead of hours: the run is then reproducible to the bit, interrupted or not.
    """

    sigmas: LogSigma | UniformSigma
    s0: float
    hours: float
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 200
    ema_images: float = 20_000
    clip: float = 1.0
    bf16: bool = True
    save_seconds: float = 180
    seed: int = 0
    steps: int | None = None


def psnr_at(network: nn.Module, images: Tensor, sigma: float, *, bf16: bool) -> float:
    """Mean over images of the PSNR in dB (peak 1) of D(x0 + sigma n); the noise is the same at every call."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(images + sigma * noise, torch.full((len(images),), sigma)).float()
    mse = (out.clamp(0, 1) - images).square().flatten(1).mean(1)
    return float((-10 * mse.log10()).mean())


class Training:
    """One run, in a folder that holds its checkpoint and its log; started again, it goes on where it stopped.

    Args:
        network: the map (x, sigma) -> x0_hat that is trained.
        crops: where patches come from.
        recipe: batch size, rate, duration.
        out: the folder; `checkpoint.pt` and `log.csv` are written there.
        validation: (N, C, H, W) images in [0, 1] for the PSNR column of the log.

    Raises:
        InputError: the folder's checkpoint is damaged or of another network.
    """

    def __init__(self, network: nn.Module, crops: Crops, recipe: Recipe, out: str | Path, validation: Tensor) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.crops, self.recipe, self.validation = crops, recipe, validation
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.lr, fused=True)
        self.rng = np.random.default_rng(recipe.seed)
        self.noise = torch.Generator().manual_seed(recipe.seed)
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        """The file a run goes on from."""
        return self.out / "checkpoint.pt"

    def run(self, report: Callable[[str], None] = print) -> nn.Module:
        """Train until the recipe's hours (or steps) are used up; returns the averaged network."""
        last = time.monotonic()
        saved = self.seconds
        while self._done() < 1:
            self._train_step()
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.seconds - saved > self.recipe.save_seconds:
                self.save(report)
                saved, last = self.seconds, time.monotonic()
        self.save(report)
        return self.ema

    def _done(self) -> float:
        """The part of the budget that is used."""
        if self.recipe.steps is not None:
            return self.step / self.recipe.steps
        return self.seconds / (self.recipe.hours * 3600)

    def _rate(self) -> float:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self._done())))
        return self.recipe.lr * cosine * min(1.0, (self.step + 1) / self.recipe.warmup)

    def _train_step(self) -> None:
        recipe = self.recipe
        x0 = self.crops.sample(recipe.batch, self.rng).contiguous(memory_format=torch.channels_last)
        sigma = recipe.sigmas.sample(recipe.batch, self.rng)
        noise = torch.randn(x0.shape, generator=self.noise).contiguous(memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            loss = denoising_loss(self.network, x0, sigma, noise, recipe.s0)
        if not torch.isfinite(loss):
            raise DivergedError(f"loss is {float(loss.detach())} at step {self.step}; last good state: {self.checkpoint}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        # The average's memory grows with the run, so that early steps are forgotten soon (EDM's ramp-up).
        memory = min(recipe.ema_images, 0.1 * (self.step + 1) * recipe.batch)
        decay = 0.5 ** (recipe.batch / max(memory, 1e-8))
        with torch.no_grad():
            for average, current in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
        self.step += 1
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * value

    def save(self, report: Callable[[str], None] = print) -> None:
        """Write checkpoint.pt (atomically) and one line of log.csv."""
        state = {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "noise": self.noise.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        partial = self.checkpoint.with_suffix(".tmp")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)
        images = self.step * self.recipe.batch
        levels = {
            f"psnr{level}": round(psnr_at(self.ema, self.validation, level / 255, bf16=self.recipe.bf16), 3) for level in (15, 25, 50)
        }
        row = {"step": self.step, "images": images, "minutes": round(self.seconds / 60, 2), "loss": round(self.loss, 5), **levels}
        log = self.out / "log.csv"
        fresh = not log.exists()
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        report("  ".join(f"{key} {value}" for key, value in row.items()))

    def _load(self) -> None:
        try:
            state = torch.load(self.checkpoint, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.rng.bit_generator.state = state["rng"]
            self.noise.set_state(state["noise"])
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
        except Exception as error:
            raise InputError(
                f"{self.checkpoint}: cannot go on from it ({error}); it is damaged or of another network: give another folder, or remove it"
            ) from error
