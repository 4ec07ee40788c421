"""What every solver must refuse before it computes, and what the message must say; part of `invsolve.testing.solvers`."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any

import torch
from torch import nn

from invsolve.errors import ArgumentError, CompatibilityError, InputError
from invsolve.noise import GaussianNoise
from invsolve.operator.measurement import parts
from invsolve.priors.base import Denoiser, Regulariser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.tv import TotalVariation
from invsolve.problem import Problem
from invsolve.solver import Solver, asked_noise
from invsolve.testing.cases import need
from invsolve.testing.settings import Hidden, Kept, ValueOnly, noises, refused, run, settings, small, truth


def check_refuses_operators(solver: Solver) -> None:
    """Each capability the solver asks for, taken away, is named; so is a prior of the wrong kind beside it."""
    for setting in settings(solver):
        for capability in sorted(solver.requires.operator):
            problem = Problem(Hidden(setting.problem.operator, capability), setting.problem.y, setting.problem.noise)
            named = (setting.prior.space(problem)[0].operator.label, f"'{capability.value}'", "solvers that can")
            refused(partial(solver.solve, problem, setting.prior), CompatibilityError, *named)
            wrong: Any = nn.Identity()
            refused(partial(solver.solve, problem, wrong), CompatibilityError, f"'{capability.value}'", "Identity")


def check_refuses_priors(solver: Solver) -> None:
    """A module that is no prior, a prior of another kind, other channels, no gradient or no prox where it is asked for."""
    requires, setting = solver.requires, small(solver)
    refused(lambda: solver.solve(setting.problem, nn.Identity()), CompatibilityError, "Identity", "as_denoiser")  # pyright: ignore
    for prior in (GaussianPrior(), TotalVariation()):
        if not isinstance(prior, requires.prior):
            refused(lambda p=prior: solver.solve(setting.problem, p), CompatibilityError, type(prior).__name__)
    for setting in settings(solver):
        prior = copy.deepcopy(setting.prior)
        if isinstance(prior, Denoiser):
            prior.channels = setting.problem.operator.in_shape[0] + 1
            refused(lambda s=setting, p=prior: solver.solve(s.problem, p), CompatibilityError, f"{prior.channels}-channel")
        if isinstance(prior, Denoiser) and requires.gradient:
            prior.channels, prior.differentiable = None, False
            refused(lambda s=setting, p=prior: solver.solve(s.problem, p), CompatibilityError, "not differentiable")
        if isinstance(prior, Regulariser) and requires.prox:
            refused(lambda s=setting: solver.solve(s.problem, ValueOnly()), CompatibilityError, "ValueOnly", "no prox")


def check_refuses_noise(solver: Solver) -> None:
    """A noise model the solver has no formula for."""
    if not solver.requires.measurement:
        return
    for setting in settings(solver):
        for noise in noises(solver):
            if asked_noise(solver.requires, noise):
                y = setting.problem.y
                kept = tuple(part if part.is_complex() else part.clamp_min(0) for part in parts(y))  # counts are not negative
                problem = Problem(setting.problem.operator, kept if isinstance(y, tuple) else kept[0], noise)
                refused(lambda p=problem, s=setting: solver.solve(p, s.prior), CompatibilityError, type(noise).__name__)


def check_refuses_measurement(solver: Solver) -> None:
    """A problem without a measurement for a posterior solver, one with a measurement for a sampler of the prior."""
    setting = small(solver)
    prior, shape, batch = setting.prior, setting.problem.operator.in_shape, setting.problem.batch
    if solver.requires.measurement:
        empty = Problem.unconditional(shape, batch, context=setting.problem.context)
        refused(lambda: solver.solve(empty, prior), CompatibilityError, "no measurement")
    elif getattr(prior, "sees_y", False):  # it looks at the measurement for the solver, and refuses what it was not made for
        refused(lambda: solver.solve(Problem.unconditional(shape, batch), prior), CompatibilityError, type(prior).__name__)
    else:
        noise = GaussianNoise(0.1)
        problem = Problem.simulate(Kept(shape), truth(shape, batch, torch.float32), noise, generator=0, context=setting.problem.context)
        refused(lambda: solver.solve(problem, prior), CompatibilityError, "Problem.unconditional")


def check_refuses_arguments(solver: Solver) -> None:
    """A misspelt hyperparameter and a misspelt keyword of solve, each with the near name; samples < 1; unusable x_init and seed."""
    setting = small(solver)
    for field in dataclasses.fields(solver):  # pyright: ignore[reportArgumentType]
        if field.init:
            message = refused(lambda f=field: type(solver)(**{f.name + "s_": getattr(solver, f.name)}), ArgumentError, field.name)
            need("did you mean" in message, f"no near name in: {message}")
    refused(lambda: run(solver, setting, smaples=2), ArgumentError, "did you mean samples")
    for samples in (0, -1):
        refused(lambda n=samples: run(solver, setting, samples=n), InputError, "samples", str(samples))
    image = setting.inner.image
    for x_init, word in (
        (image[:1], "shape"),
        (image[..., :-1], "shape"),
        (image.int(), "int32"),
        (image.half(), "float16"),
        (image.numpy(), "ndarray"),
        (image + float("nan"), "NaN"),
    ):
        refused(lambda x=x_init: run(solver, setting, x_init=x), InputError, "x_init", word)
    for seed in (1.5, True, "1"):
        refused(lambda s=seed: run(solver, setting, s), InputError, "generator", type(seed).__name__)


REFUSALS = (
    check_refuses_operators,
    check_refuses_priors,
    check_refuses_noise,
    check_refuses_measurement,
    check_refuses_arguments,
)
