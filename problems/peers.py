"""The field's solvers behind one call: ``solve(fun, x0, bounds, budget, seed)``.

The objective counts and ends the run itself, so an adapter only has to keep going until then. Defaults are the
packages' own; where one has to choose a first step size, it is a fifth of the box, or 0.5 without a box.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from problems.data import require
from problems.problem import Array

Solve: TypeAlias = Callable[[Callable[[Array], float], Array, "Array | None", int, int], None]


def _step(bounds: Array | None) -> float:
    return 0.5 if bounds is None else 0.2 * float(np.min(bounds[:, 1] - bounds[:, 0]))


def _scipy(method: str, fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    limit = {"maxiter": 10**6} if method == "L-BFGS-B" else {"maxfev": 10**7, "maxiter": 10**6}
    pairs = None if bounds is None else [(lo, hi) for lo, hi in bounds]
    optimize: Any = require("scipy.optimize", "scipy", why="The peer scipy")
    optimize.minimize(fun, x0, method=method, bounds=pairs, options=limit)


def _scipy_global(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    box = [(x - 5.0, x + 5.0) for x in x0] if bounds is None else [(lo, hi) for lo, hi in bounds]
    optimize: Any = require("scipy.optimize", "scipy", why="The peer scipy")
    optimize.differential_evolution(fun, box, x0=x0, rng=seed, maxiter=10**6)


def _cma(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    cma = require("cma", why="The peer cma")
    options: dict[str, Any] = {"seed": seed + 1, "verbose": -9, "maxfevals": budget + 1000}
    if bounds is not None:
        options["bounds"] = [list(bounds[:, 0]), list(bounds[:, 1])]
    cma.fmin2(fun, x0, _step(bounds), options, restarts=9)


def _cmaes(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    optimizer = require("cmaes", why="The peer cmaes").CMA(mean=x0, sigma=_step(bounds), bounds=bounds, seed=seed)
    while not optimizer.should_stop():
        points = [optimizer.ask() for _ in range(optimizer.population_size)]
        optimizer.tell([(x, fun(x)) for x in points])


def _pybobyqa(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    solver = require("pybobyqa", "Py-BOBYQA", why="The peer Py-BOBYQA")
    box = None if bounds is None else (bounds[:, 0], bounds[:, 1])
    np.random.seed(seed)  # noqa: NPY002 - the package draws from the global generator
    solver.solve(fun, x0, bounds=box, maxfun=budget + 1000)


def _nlopt(algorithm: str, fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    nlopt = require("nlopt", why="The peer nlopt")
    optimizer = nlopt.opt(getattr(nlopt, algorithm), x0.size)
    optimizer.set_min_objective(lambda x, grad: fun(np.array(x)))
    optimizer.set_maxeval(budget + 1000)
    if bounds is not None:
        optimizer.set_lower_bounds(bounds[:, 0])
        optimizer.set_upper_bounds(bounds[:, 1])
    try:
        optimizer.optimize(x0)
    except nlopt.RoundoffLimited:
        return


def _noisyopt(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    solver = require("noisyopt", why="The peer noisyopt")
    np.random.seed(seed)  # noqa: NPY002 - the package draws from the global generator
    box = None if bounds is None else bounds
    solver.minimizeSPSA(fun, x0, bounds=box, niter=budget, paired=False)


def _nevergrad(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    nevergrad = require("nevergrad", why="The peer nevergrad")
    parameter = nevergrad.p.Array(init=x0)
    if bounds is not None:
        parameter.set_bounds(bounds[:, 0], bounds[:, 1])
    parameter.random_state.seed(seed)
    # Shiwa is the newest of its selectors that runs with numpy 2.4: NGOpt calls float() on arrays of one element.
    nevergrad.optimizers.Shiwa(parameter, budget=budget).minimize(fun)


def _optuna(fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    optuna = require("optuna", why="The peer optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    box = np.column_stack([x0 - 5, x0 + 5]) if bounds is None else bounds
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({f"x{j}": float(x0[j]) for j in range(x0.size)})

    def objective(trial: Any) -> float:
        return float(fun(np.array([trial.suggest_float(f"x{j}", lo, hi) for j, (lo, hi) in enumerate(box)])))

    study.optimize(objective, n_trials=budget)


PEERS: dict[str, Solve] = {
    "scipy-nelder-mead": partial(_scipy, "Nelder-Mead"),
    "scipy-powell": partial(_scipy, "Powell"),
    "scipy-cobyqa": partial(_scipy, "COBYQA"),
    "scipy-l-bfgs-b": partial(_scipy, "L-BFGS-B"),
    "scipy-de": _scipy_global,
    "cma": _cma,
    "cmaes": _cmaes,
    "py-bobyqa": _pybobyqa,
    "nlopt-bobyqa": partial(_nlopt, "LN_BOBYQA"),
    "nlopt-sbplx": partial(_nlopt, "LN_SBPLX"),
    "noisyopt-spsa": _noisyopt,
    "nevergrad-shiwa": _nevergrad,
    "optuna-tpe": _optuna,
}
"""Peers by name. ``cma`` is the pycma package with restarts; our own methods keep their names, as ``ours-cma``."""


def ours() -> list[str]:
    """Return the names of our methods that take a plain callable, ``auto`` first."""
    from vamo_bbo._errors import CapabilityError
    from vamo_bbo.core.types import ProblemInfo
    from vamo_bbo.solvers import METHODS

    names = ["auto"]
    for name, factory in METHODS.items():
        try:
            factory().init(np.zeros(2), seed=0, backend="numpy", info=ProblemInfo())
        except CapabilityError:
            continue
        names.append(f"ours-{name}" if name in PEERS else name)
    return names


def solve(method: str, fun: Any, x0: Array, bounds: Array | None, budget: int, seed: int) -> None:
    """Minimize with a peer of :data:`PEERS`, or with one of our methods under any other name.

    A prefix ``ours-`` is taken off, so that ``ours-cma`` is our method where a peer has the same name.
    """
    if method in PEERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PEERS[method](fun, x0.copy(), bounds, budget, seed)
        return
    import vamo_bbo as vb

    pairs = None if bounds is None else [(lo, hi) for lo, hi in bounds]
    vb.minimize(fun, x0, method=method.removeprefix("ours-"), bounds=pairs, rng=seed, maxfev=budget)
