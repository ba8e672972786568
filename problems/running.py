"""One run of one method on one problem, through the public ``vamo_bbo.minimize``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import vamo_bbo as vb
from problems.problem import Array, Problem
from problems.record import Counted, Recorder, Sample
from vamo_bbo.problem import FiniteSum


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a run left behind.

    Parameters
    ----------
    samples : tuple of Sample
        The run as the cost grew; the last one is the point that was returned.
    x : (d,) float64
        That point.
    nfev, njev : int
        Values and gradients that the objective was asked for, in samples for a finite sum.
    message : str
        Why it stopped.
    """

    samples: tuple[Sample, ...]
    x: Array
    nfev: int
    njev: int
    message: str


def default_budget(problem: Problem) -> float:
    """Return 30 passes over the data for a finite sum, 100 (d + 1) values otherwise."""
    objective = problem.objective
    return 30.0 * objective.n_samples if isinstance(objective, FiniteSum) else 100.0 * (problem.dimension + 1)


def run(
    problem: Problem,
    method: Any,
    *,
    budget: float,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    grad_cost: float = 3.0,
    looks: int = 50,
) -> Run:
    """Minimize ``problem`` with ``method`` until it has spent ``budget``.

    Parameters
    ----------
    problem : Problem
        What to minimize.
    method : str or solver
        As for ``vamo_bbo.minimize``.
    budget : float
        Values plus ``grad_cost`` times gradients; samples for a finite sum.
    options : mapping, optional
        Options of the method, such as ``learning_rate``.
    seed : int, default 0
        Seed of the solver.
    grad_cost : float, default 3.0
        Price of a gradient in values.
    looks : int, default 50
        Points recorded on the way.

    Returns
    -------
    Run
        The record.
    """
    counted = Counted(problem)
    recorder = Recorder(problem, counted, budget, grad_cost, looks)
    bounds = None if problem.bounds is None else list(map(tuple, problem.bounds))
    with warnings.catch_warnings():
        # Every method is offered all that the problem has; one that leaves the gradient alone is no news here.
        warnings.filterwarnings("ignore", message=".*does not use gradient information", category=RuntimeWarning)
        result = vb.minimize(
            counted.objective,
            problem.x0,
            method=method,
            jac=counted.gradient,
            bounds=bounds,
            callback=recorder,
            options=dict(options or {}),
            rng=seed,
            maxfev=int(budget),
            maxjev=int(budget / grad_cost) if problem.has_gradient else None,
        )
    x = np.asarray(result.x, dtype=float)
    recorder.look(x, counted.cost(grad_cost))
    message = "The budget is spent." if recorder.over else str(result.message)
    return Run(tuple(recorder.samples), x, counted.values, counted.gradients, message)
