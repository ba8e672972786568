"""An independent answer to "what is the minimum": scipy's solvers from several starts, nothing of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.optimize

from problems.problem import Array, Problem

_optimize: Any = scipy.optimize


def solve(
    problem: Problem,
    *,
    n_starts: int = 9,
    spread: float = 1.0,
    seed: int = 0,
    enough: float = -np.inf,
    n_evaluations: int = 10_000,
) -> tuple[float, Array]:
    """Return the best value and point that scipy finds.

    With a gradient that is L-BFGS-B, otherwise Nelder-Mead, started at ``x0`` and at normal points around it. Where the
    reference says that descent does not get there, it is simulated annealing over the box.

    Parameters
    ----------
    problem : Problem
        What to solve.
    n_starts : int, default 9
        Starts in all, the first one at ``x0``.
    spread : float, default 1.0
        Standard deviation of the others around ``x0``.
    seed : int, default 0
        For numpy's generator.
    enough : float, default -inf
        No further start once this value is reached.
    n_evaluations : int, default 10,000
        Most values, each with a gradient, of one descent.

    Returns
    -------
    value : float
        Best objective.
    x : (d,) float64
        Where.
    """
    rng = np.random.default_rng(seed)
    anneal = problem.reference is not None and not problem.reference.by_descent and problem.bounds is not None
    best: tuple[float, Array] = (np.inf, problem.x0)
    for start in range(n_starts):
        x0 = problem.x0 + (spread * rng.standard_normal(problem.dimension) if start else 0.0)
        if anneal:
            x0 = _optimize.dual_annealing(problem.value, problem.bounds, rng=seed + start).x
        found = _descend(problem, x0, n_evaluations) if problem.has_gradient and not anneal else _polished(problem, x0)
        if found[0] < best[0]:
            best = found
        if best[0] <= enough:
            break
    return best


def _descend(problem: Problem, x0: Array, n_evaluations: int) -> tuple[float, Array]:
    found = _optimize.minimize(
        problem.value_and_gradient,
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=_pairs(problem),
        options={"maxiter": 5000, "maxfun": n_evaluations, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9},
    )
    return float(found.fun), found.x


def _polished(problem: Problem, x0: Array) -> tuple[float, Array]:
    found = _optimize.minimize(
        problem.value,
        x0,
        method="Nelder-Mead",
        bounds=_pairs(problem),
        options={"maxfev": 4000 * problem.dimension, "xatol": 1e-12, "fatol": 1e-14, "adaptive": True},
    )
    return float(found.fun), found.x


def _pairs(problem: Problem) -> list[tuple[float, ...]] | None:
    return None if problem.bounds is None else list(map(tuple, problem.bounds))
