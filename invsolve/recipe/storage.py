"""Saving and loading as functions; `Problem.save`, `Problem.load` and their like are the same."""

from __future__ import annotations

from pathlib import Path

from invsolve.io.stored import Stored as Stored
from invsolve.io.stored import StoredProblem as StoredProblem
from invsolve.io.stored import StoredSolution as StoredSolution
from invsolve.io.stored import installed as installed
from invsolve.io.stored import save_prior, save_problem, save_solution
from invsolve.noise import NoiseModel
from invsolve.operator import Operator
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solution import Solution
from invsolve.solver import Solver

__all__ = ["load_problem", "load_solution", "load_stored_prior", "save_prior", "save_problem", "save_solution"]


def load_problem(path: str | Path, *, operator: Operator | None = None, noise: NoiseModel | None = None) -> Problem:
    """`Problem.load(path, operator=..., noise=...)`."""
    return Problem.load(path, operator=operator, noise=noise)


def load_stored_prior(path: str | Path) -> Prior:
    """`Prior.load(path)`."""
    return Prior.load(path)


def load_solution(path: str | Path, *, solver: Solver | None = None) -> Solution:
    """`Solution.load(path, solver=...)`."""
    return Solution.load(path, solver=solver)
