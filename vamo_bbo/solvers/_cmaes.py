"""The strategies of :func:`cma` for Integer and Choice coordinates: objects of ``cmaes`` as numbers of a solver state.

The PyPI package ``cmaes`` has CMA-ES with margin and CatCMA with margin. An object lives for one call: every number of
it is written to the state.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State
from vamo_bbo.solvers._variant import Plan, generator_of, to_x, to_y

__all__ = ["draw", "finished", "mean", "rescale", "start", "tell"]

_PREFIX = "cma."
_NOT_STATE = ("_rng", "_B", "_D")
"""Attributes of the package's objects that are rebuilt: the generator from seed and step, B and D from C."""


def start(state: State, plan: Plan) -> None:
    """Write a new distribution around ``x`` to the state."""
    _save(_fresh(state, plan), state)


def mean(state: State, plan: Plan) -> FloatArray:
    """Return the mean of the distribution, in y; options, which have none, are those of the best point."""
    optimizer = _load(state, plan)
    if plan.variant == "margin":
        return np.array(optimizer._cma._mean)
    y = (state.arrays["best"].astype(np.float64) - plan.origin) / plan.scale
    if optimizer._use_gaussian:
        count = int(plan.real.sum())
        y[plan.real], y[plan.ordered > 0] = optimizer._mean[:count], optimizer._mean[count:]
    return y


def rescale(state: State, plan: Plan, factor: float) -> None:
    """Multiply the step."""
    optimizer = _load(state, plan)
    _core(optimizer)._sigma *= factor
    _save(optimizer, state)


def draw(state: State, plan: Plan) -> tuple[list[Array], list[Any]]:
    """Return the points of this generation, and what the package wants to be told for each."""
    optimizer = _load(state, plan)
    _core(optimizer)._rng = generator_of(state)
    points, tokens = [], []
    for _ in range(int(state.scalars["population_size"])):
        drawn = optimizer.ask()
        y, token = drawn if plan.variant == "margin" else (_coordinates(drawn, plan), drawn)
        points.append(to_x(plan, state, y))
        tokens.append(token)
    return points, tokens


def tell(state: State, plan: Plan, told: list[tuple[Any, float]]) -> None:
    """Update the distribution with the points of a generation and their values, in any order."""
    optimizer = _load(state, plan)
    if getattr(optimizer, "_use_continuous", False) and not optimizer._iqhist_values:
        optimizer._iqhist_values = [0.0]  # the package takes the median of this list, also while it is empty
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        optimizer.tell(told)
    _save(optimizer, state)
    state.scalars["sigma"] = float(getattr(_core(optimizer), "_sigma", math.nan))


def finished(state: State, plan: Plan) -> bool:
    """Return whether the package's own termination criteria hold, or its numbers are not finite."""
    optimizer = _load(state, plan)
    core = _core(optimizer)
    if plan.variant == "categories" and not core._use_gaussian:
        return bool(np.all(core._q.max(axis=1) >= 1.0 - core._qmin * (core._K - 1) - 1e-9))
    if not (math.isfinite(float(core._sigma)) and np.isfinite(core._C).all()):
        return True
    with np.errstate(all="ignore"):
        return bool(optimizer.should_stop())


def _fresh(state: State, plan: Plan) -> Any:
    """Return a new object of the package that starts at ``x``."""
    try:
        import cmaes
    except ImportError as error:
        raise CapabilityError(
            "method='cma' needs the package cmaes for Integer and Choice parameters: pip install 'vamo_bbo[cma]'; "
            "without it use method='bayes'."
        ) from error
    size = int(state.scalars["population_size"])
    bounds, steps = _lattice(plan)
    # the center of an outermost cell may round to just outside
    y = to_y(plan, state.arrays["x"]).clip(bounds[:, 0], bounds[:, 1])
    if plan.variant == "margin":
        return cmaes.CMAwM(y, plan.sigma, bounds, steps, n_max_resampling=10, population_size=size)
    grids = [bounds[k, 0] + steps[k] * np.arange(plan.ordered[k]) for k in np.flatnonzero(plan.ordered)]
    numbers = np.concatenate([y[plan.real], y[plan.ordered > 0]])
    made = cmaes.CatCMAwM(
        x_space=bounds[plan.real] if plan.real.any() else None,
        z_space=grids or None,
        c_space=plan.options[plan.options > 0],
        population_size=size,
        mean=numbers if numbers.size else None,
        sigma=plan.sigma,
        cov=np.eye(numbers.size) if numbers.size else None,
    )
    if numbers.size:
        made._funhist_values[:] = 0.0  # the package leaves it uninitialized
    return made


def _lattice(plan: Plan) -> tuple[FloatArray, FloatArray]:
    """Return the bounds and steps of CMAwM: ordered coordinates live on the centers of their cells."""
    bounds, steps = plan.bounds.copy(), np.zeros(plan.real.size)
    for k in np.flatnonzero(plan.ordered):
        low, high = plan.bounds[k]
        steps[k] = (high - low) / plan.ordered[k]
        bounds[k] = low + 0.5 * steps[k], high - 0.5 * steps[k]
    return bounds, steps


def _coordinates(solution: Any, plan: Plan) -> FloatArray:
    """Return the y coordinates of a mixed solution; options sit at the centers of their cells."""
    y = np.empty(plan.real.size)
    if plan.real.any():
        y[plan.real] = solution.x
    if plan.ordered.any():
        y[plan.ordered > 0] = solution.z
    chosen = np.flatnonzero(plan.options)
    low, high = plan.bounds[chosen].T
    y[chosen] = low + (np.argmax(solution.c, axis=1) + 0.5) / plan.options[chosen] * (high - low)
    return y


def _core(optimizer: Any) -> Any:
    """Return the object that holds mean, sigma and C (CMAwM wraps one)."""
    return getattr(optimizer, "_cma", optimizer)


def _save(optimizer: Any, state: State) -> None:
    """Write every number of the package's object to the state."""
    state.arrays = {name: array for name, array in state.arrays.items() if not name.startswith(_PREFIX)}
    state.scalars = {name: number for name, number in state.scalars.items() if not name.startswith(_PREFIX)}
    _walk(optimizer, _PREFIX, state)


def _walk(optimizer: Any, prefix: str, state: State) -> None:
    for name, value in vars(optimizer).items():
        if name in _NOT_STATE or value is None:
            continue
        if name == "_cma":
            _walk(value, prefix + "_cma.", state)
        elif isinstance(value, np.ndarray | list):
            state.arrays[prefix + name] = np.array(value)
        else:
            state.scalars[prefix + name] = float(value)


def _load(state: State, plan: Plan) -> Any:
    return _filled(_fresh(state, plan), state, _PREFIX)


def _filled(optimizer: Any, state: State, prefix: str) -> Any:
    """Give a fresh object the numbers of the state; types follow the fresh object's."""
    for name, value in list(vars(optimizer).items()):
        if name == "_cma":
            _filled(value, state, prefix + "_cma.")
        elif (key := prefix + name) in state.arrays:
            array = state.arrays[key].copy()
            setattr(optimizer, name, array.tolist() if isinstance(value, list) else array)
        elif key in state.scalars:
            number = state.scalars[key]
            setattr(optimizer, name, type(value)(number) if isinstance(value, bool | int) else number)
    if hasattr(optimizer, "_B"):
        optimizer._B = optimizer._D = None
    return optimizer
