"""Objects of the PyPI package ``cmaes`` as numbers and arrays of a solver state, and back."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import ProblemInfo

__all__ = [
    "Plan",
    "core_of",
    "draw",
    "finished",
    "fresh",
    "generator_of",
    "injected",
    "load",
    "mean_of",
    "package",
    "plan_of",
    "save",
    "start_from_known",
    "tell",
    "to_x",
]

_PREFIX = "cma."
_NOT_STATE = ("_rng", "_B", "_D")
"""Attributes of the package's objects that are rebuilt: the generator from seed and step, B and D from C."""
FEW_KNOWN = 10
"""Known points from which a distribution is taken: its best tenth is then at least one."""
MOST_KNOWN = 100
"""Most variables of such a distribution: its determinant must be a number."""
_OF_SIZE = ("_popsize", "_mu", "_mu_eff", "_cc", "_c1", "_cmu", "_c_sigma", "_d_sigma", "_weights")
"""Attributes of the package's objects that follow from the number of points of a generation."""
_MAX_ORDERED_LEVELS = 1000
"""An Integer of more levels is searched as a real coordinate and rounded."""


class Plan(NamedTuple):
    """What the solver derives from the problem: which variant runs, in which coordinates.

    ``y = (x - origin) / scale`` are the coordinates of the package's object.
    """

    variant: str
    origin: FloatArray
    scale: FloatArray
    bounds: FloatArray
    real: Array
    ordered: Array
    options: Array
    sigma: float
    adapt: bool


def package() -> Any:
    try:
        import cmaes
    except ImportError as error:
        raise CapabilityError(
            "method='cma' needs the package cmaes: pip install 'vamo_bbo[cma]'; without it use method='spsa'."
        ) from error
    return cmaes


def generator_of(state: State, stream: int = 0) -> np.random.RandomState:
    """Return the generator of this generation and attempt; nothing is carried over."""
    counter = (stream << 224) + (state.step << 128) + (state.attempt << 64)
    return np.random.RandomState(np.random.Philox(key=state.seed, counter=counter))


def plan_of(state: State, sigma: float | None, separable: bool | None, adapt: bool) -> Plan:
    info, d = state.info, state.arrays["x"].size
    low = np.full(d, -np.inf) if info.lower is None else np.asarray(info.lower, dtype=np.float64)
    high = np.full(d, np.inf) if info.upper is None else np.asarray(info.upper, dtype=np.float64)
    boxed = np.isfinite(low) & np.isfinite(high) & (low < high)
    levels = np.zeros(d, dtype=np.int64) if info.levels is None else np.asarray(info.levels)
    if (levels != 0).any() and not boxed[levels != 0].all():
        raise CapabilityError("cma: Integer and Choice coordinates need bounds.")
    has_options = bool((levels < 0).any())
    options = np.where((levels < 0) | ((levels == 2) & has_options), np.abs(levels), 0)
    ordered = np.where((options == 0) & (levels > 0) & (levels <= _MAX_ORDERED_LEVELS), levels, 0)
    origin = np.where(boxed, low, 0.0)
    scale = np.where(boxed, high - low, 1.0)
    # y = 1 is a whole width where bounded and one x_scale elsewhere: half as wide a start in the former
    if sigma is None:
        sigma = 0.25 if boxed.all() else 0.5
        if boxed.any() and not boxed.all():
            scale[boxed] *= 0.5
    bounds = np.stack([(low - origin) / scale, (high - origin) / scale], axis=1)
    if has_options:
        variant = "CatCMAwM"
    elif ordered.any():
        variant = "CMAwM"
    else:
        variant = "SepCMA" if (d > 200 if separable is None else separable) else "CMA"
    real = (options == 0) & (ordered == 0)
    return Plan(variant, origin, scale, bounds, real, ordered, options, sigma, adapt)


def fresh(state: State, plan: Plan, size: int | None = None) -> Any:
    """Return a new object of the package that starts at ``x``; :func:`load` gives it the state's numbers.

    ``size`` is the number of points of a generation; None for the state's.
    """
    cmaes = package()
    size = int(state.scalars["population_size"]) if size is None else size
    y = (state.arrays["x"].astype(np.float64) - plan.origin) / plan.scale
    y = y.clip(plan.bounds[:, 0], plan.bounds[:, 1])
    bounded = bool(np.isfinite(plan.bounds).any())
    if plan.variant == "CatCMAwM":
        return _fresh_mixed(cmaes, y, size, plan)
    if plan.variant == "CMAwM":
        bounds, steps = _lattice(plan)
        y = y.clip(bounds[:, 0], bounds[:, 1])  # the center of an outermost cell may round to just outside
        return cmaes.CMAwM(y, plan.sigma, bounds, steps, n_max_resampling=10, population_size=size)
    common: dict[str, Any] = {"bounds": plan.bounds if bounded else None, "n_max_resampling": 10}
    if plan.variant == "CMA":
        common["lr_adapt"] = plan.adapt
    made = getattr(cmaes, plan.variant)(y, plan.sigma, population_size=size, **common)
    made._funhist_values[:] = 0.0  # the package leaves it uninitialized
    return made


def start_from_known(optimizer: Any, plan: Plan, info: ProblemInfo) -> bool:
    """Give a fresh object of a real variant the distribution of the best tenth of the known points; say if it did.

    The prior variance is the reference's: a tenth of a unit box, whose first standard deviation is a quarter.
    """
    points, values = info.known_points, info.known_values
    if points is None or values is None or values.size < FEW_KNOWN or points.shape[1] > MOST_KNOWN:
        return False
    if plan.variant not in ("CMA", "SepCMA"):
        return False
    y = (points.astype(np.float64) - plan.origin) / plan.scale
    pairs = list(zip(y, values.tolist(), strict=True))
    mean, sigma, cov = package().get_warm_start_mgd(pairs, gamma=0.1, alpha=0.4 * plan.sigma)
    optimizer._mean, optimizer._sigma = mean.clip(plan.bounds[:, 0], plan.bounds[:, 1]), sigma
    optimizer._C = cov if plan.variant == "CMA" else np.diag(cov).copy()
    return True


def _lattice(plan: Plan) -> tuple[FloatArray, FloatArray]:
    """Return the bounds and steps of CMAwM: ordered coordinates live on the centers of their cells."""
    bounds, steps = plan.bounds.copy(), np.zeros(plan.real.size)
    for k in np.flatnonzero(plan.ordered):
        low, high = plan.bounds[k]
        steps[k] = (high - low) / plan.ordered[k]
        bounds[k] = low + 0.5 * steps[k], high - 0.5 * steps[k]
    return bounds, steps


def _fresh_mixed(cmaes: Any, y: FloatArray, size: int, plan: Plan) -> Any:
    bounds, steps = _lattice(plan)
    y = y.clip(bounds[:, 0], bounds[:, 1])
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
        made._funhist_values[:] = 0.0
    return made


def core_of(optimizer: Any) -> Any:
    """Return the object that holds mean, sigma and C (CMAwM wraps one)."""
    return getattr(optimizer, "_cma", optimizer)


def draw(state: State, plan: Plan) -> tuple[list[Array], list[Any]]:
    optimizer = load(fresh(state, plan), state)
    core_of(optimizer)._rng = generator_of(state)
    points, tokens = [], []
    for _ in range(int(state.scalars["population_size"])):
        drawn = optimizer.ask()
        if plan.variant == "CatCMAwM":
            y, token = _coordinates(drawn, plan), drawn
        else:
            y, token = drawn if plan.variant == "CMAwM" else (drawn, drawn)
        points.append(to_x(plan, state, y))
        tokens.append(token)
    return points, tokens


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


def to_x(plan: Plan, state: State, y: FloatArray) -> Array:
    x = (plan.origin + plan.scale * y).astype(state.arrays["x"].dtype)
    if state.info.lower is None or state.info.upper is None:
        return x
    return x.clip(state.info.lower, state.info.upper)


def mean_of(optimizer: Any, plan: Plan, state: State) -> FloatArray:
    if plan.variant != "CatCMAwM":
        return np.array(core_of(optimizer)._mean)
    y = (state.arrays["best"].astype(np.float64) - plan.origin) / plan.scale  # options have no mean
    if optimizer._use_gaussian:
        count = int(plan.real.sum())
        y[plan.real], y[plan.ordered > 0] = optimizer._mean[:count], optimizer._mean[count:]
    return y


def injected(optimizer: Any, plan: Plan, x: Array) -> FloatArray:
    """Return what a real variant is told of a point that its present distribution did not draw.

    A point far out is moved towards the mean, to the length that N. Hansen, Injecting external solutions into CMA-ES,
    arXiv:1110.4181, equation 4, allows: ``sqrt(d) + 2 d / (d + 2)`` standard deviations.
    """
    y = (np.asarray(x, dtype=np.float64) - plan.origin) / plan.scale
    step = (y - optimizer._mean) / optimizer._sigma
    d, axes = step.size, optimizer._eigen_decomposition()
    drawn = step / axes if plan.variant == "SepCMA" else (axes[0].T @ step) / axes[1]
    length = float(np.linalg.norm(drawn))
    longest = math.sqrt(d) + 2.0 * d / (d + 2.0)
    moved: FloatArray = y if length <= longest else optimizer._mean + optimizer._sigma * (longest / length) * step
    return moved


def tell(optimizer: Any, told: list[tuple[Any, float]], sized: Any = None) -> None:
    """Tell a generation; ``sized`` is a fresh object for as many points, where these are more or fewer than usual."""
    if sized is not None:
        usual = {name: getattr(optimizer, name) for name in _OF_SIZE}
        for name in _OF_SIZE:
            setattr(optimizer, name, getattr(sized, name))
        tell(optimizer, told)
        for name, value in usual.items():
            setattr(optimizer, name, value)
        return
    if getattr(optimizer, "_use_continuous", False) and not optimizer._iqhist_values:
        optimizer._iqhist_values = [0.0]  # the package takes the median of this list, also while it is empty
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        optimizer.tell(told)


def finished(optimizer: Any, plan: Plan) -> bool:
    """Return whether the package's own termination criteria hold, or its numbers are not finite."""
    core = core_of(optimizer)
    if plan.variant == "CatCMAwM" and not core._use_gaussian:
        return bool(np.all(core._q.max(axis=1) >= 1.0 - core._qmin * (core._K - 1) - 1e-9))
    if not (math.isfinite(float(core._sigma)) and np.isfinite(core._C).all()):
        return True
    with np.errstate(all="ignore"):
        return bool(optimizer.should_stop())


def save(optimizer: Any, state: State) -> None:
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


def load(optimizer: Any, state: State, prefix: str = _PREFIX) -> Any:
    """Give a fresh object the numbers of the state; types follow the fresh object's."""
    for name, value in list(vars(optimizer).items()):
        if name == "_cma":
            load(value, state, prefix + "_cma.")
        elif (key := prefix + name) in state.arrays:
            array = state.arrays[key].copy()
            setattr(optimizer, name, array.tolist() if isinstance(value, list) else array)
        elif key in state.scalars:
            number = state.scalars[key]
            setattr(optimizer, name, type(value)(number) if isinstance(value, bool | int) else number)
    if hasattr(optimizer, "_B"):
        optimizer._B = optimizer._D = None
    elif hasattr(optimizer, "_D"):
        optimizer._D = None
    return optimizer
