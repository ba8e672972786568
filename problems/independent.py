"""An independent answer to "what is the minimum": scipy's solvers from several starts, nothing of this package."""

from __future__ import annotations

import numpy as np
import scipy.optimize

from problems.problem import Array, Problem


def solve(
    problem: Problem, *, n_starts: int = 9, spread: float = 1.0, seed: int = 0, enough: float = -np.inf
) -> tuple[float, Array]:
    """Return the best value and point that L-BFGS-B finds from ``x0`` and from normal points around it.

    Parameters
    ----------
    problem : Problem
        One with a gradient.
    n_starts : int, default 9
        Starts in all, the first one at ``x0``.
    spread : float, default 1.0
        Standard deviation of the others around ``x0``.
    seed : int, default 0
        For numpy's generator.
    enough : float, default -inf
        No further start once this value is reached.

    Returns
    -------
    value : float
        Best objective.
    x : (d,) float64
        Where.
    """
    if not problem.has_gradient:
        raise ValueError(f"Problem {problem.name!r} has no gradient, so its reference is not reproduced this way.")
    rng = np.random.default_rng(seed)
    bounds = None if problem.bounds is None else list(map(tuple, problem.bounds))
    best: tuple[float, Array] = (np.inf, problem.x0)
    for start in range(n_starts):
        x0 = problem.x0 + (spread * rng.standard_normal(problem.dimension) if start else 0.0)
        found = scipy.optimize.minimize(
            problem.value,
            x0,
            jac=problem.gradient,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 5000, "maxfun": 10_000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9},
        )
        if found.fun < best[0]:
            best = (float(found.fun), found.x)
        if best[0] <= enough:
            break
    return best
