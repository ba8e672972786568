"""The evolution strategy of :func:`cma` on real coordinates, as numbers and arrays of a solver state.

Equation numbers are those of N. Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772v2. The separable
variant keeps the diagonal of C alone and learns it (d + 2) / 3 times as fast (R. Ros and N. Hansen, A simple
modification in CMA-ES achieving linear time and space complexity, PPSN 2008), from the better half of the points.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.solvers import _damping
from vamo_bbo.solvers._variant import Plan, generator_of, to_x, to_y

__all__ = ["draw", "finished", "inject", "mean", "rescale", "start", "start_from_known", "tell"]

REDRAWN = 10
"""Times that a point outside of the bounds is drawn again before it is clipped."""
TOLERANCE = 1e-12
"""Of the values of the latest generations, where the first ones differed by 1 or more; of the step (B.3)."""
WIDEST = 1e4
"""Longest axis, in units of y: beyond, the search diverges (B.3)."""
ILL = 1e14
"""Largest condition number of C (B.3)."""
LONGEST = 1e32
FEW_KNOWN = 10
"""Known points from which a distribution is taken: its best tenth is then at least one."""
MOST_KNOWN = 100
"""Most variables of such a distribution: its determinant must be a number."""


class Rates(NamedTuple):
    """Weights and learning rates of a generation (table 1)."""

    weights: FloatArray
    half: int
    mass: float
    c_sigma: float
    d_sigma: float
    c_path: float
    c_one: float
    c_half: float
    chi: float


@functools.cache
def rates(d: int, size: int, diagonal: bool) -> Rates:
    """Return the default parameters for ``size`` points of ``d`` coordinates."""
    half = max(1, size // 2)
    raw = math.log((max(2, size) + 1) / 2) - np.log(np.arange(1, size + 1))  # (49)
    mass = _effective(raw[:half])
    c_one = 2.0 / ((d + 1.3) ** 2 + mass)  # (57)
    c_half = min(1.0 - c_one - 1e-8, 2.0 * (mass - 2.0 + 1.0 / mass) / ((d + 2.0) ** 2 + mass))  # (58)
    weights = raw / raw[:half].sum()  # (53)
    if diagonal:
        faster = min((d + 2.0) / 3.0, 0.9 / (c_one + c_half))
        c_one, c_half, least = faster * c_one, faster * c_half, 0.0
    elif c_half > 0.0:
        rest = 1.0 + 2.0 * _effective(raw[half:]) / (mass + 2.0)
        least = min(1.0 + c_one / c_half, rest, (1.0 - c_one - c_half) / (d * c_half))  # (50) to (52)
    else:
        least = 0.0  # of three points or fewer one is the better half, which the rank-one update knows
    weights[half:] = least * raw[half:] / max(1e-300, float(-raw[half:].sum()))
    c_sigma = (mass + 2.0) / (d + mass + 5.0)  # (55)
    return Rates(
        weights=weights,
        half=half,
        mass=mass,
        c_sigma=c_sigma,
        d_sigma=1.0 + 2.0 * max(0.0, math.sqrt((mass - 1.0) / (d + 1.0)) - 1.0) + c_sigma,
        c_path=(4.0 + mass / d) / (d + 4.0 + 2.0 * mass / d),  # (56)
        c_one=c_one,
        c_half=c_half,
        chi=math.sqrt(d) * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d)),
    )


def _effective(raw: FloatArray) -> float:
    return float(raw.sum() ** 2 / (raw**2).sum())


def start(state: State, plan: Plan) -> None:
    """Write a new distribution around ``x`` to the state."""
    y = to_y(plan, state.arrays["x"])
    d, size = y.size, int(state.scalars["population_size"])
    state.arrays |= {
        "mean": y,
        "covariance": np.ones(d) if plan.variant == "separable" else np.eye(d),
        "sigma_path": np.zeros(d),
        "path": np.zeros(d),
        "recent": np.full((10 + math.ceil(30 * d / size), 2), np.nan),
    }
    state.scalars |= {"sigma": plan.sigma, "first_sigma": plan.sigma, "generation": 0.0, "spread": math.nan}
    if plan.damped:
        _damping.start(state)


def start_from_known(state: State, plan: Plan, info: ProblemInfo) -> None:
    """Give a new start the distribution of the best tenth of the known points, if there are enough of them.

    M. Nomura et al., Warm starting CMA-ES for hyperparameter optimization, AAAI 2021, arXiv:2012.06932: the mean of the
    points and their covariance, each point smeared by a prior. Its standard deviation is the reference's: a tenth of a
    unit box, whose first step is a quarter.
    """
    points, values = info.known_points, info.known_values
    if points is None or values is None or values.size < FEW_KNOWN or points.shape[1] > MOST_KNOWN:
        return
    y = (points.astype(np.float64) - plan.origin) / plan.scale
    best = y[np.argsort(values, kind="stable")[: values.size // 10]]
    mean = best.mean(axis=0)
    spread = (best - mean).T @ (best - mean) / len(best) + (0.4 * plan.sigma) ** 2 * np.eye(mean.size)
    variance = float(np.exp(np.linalg.slogdet(spread)[1] / mean.size))
    state.arrays["mean"] = mean.clip(*plan.bounds.T)
    state.arrays["covariance"] = (np.diag(spread) if plan.variant == "separable" else spread) / variance
    state.scalars["sigma"] = math.sqrt(variance)
    state.arrays["x"][...] = to_x(plan, state, state.arrays["mean"])


def mean(state: State, plan: Plan) -> FloatArray:
    """Return the mean of the distribution, in y."""
    found: FloatArray = state.arrays["mean"]
    return found


def rescale(state: State, plan: Plan, factor: float) -> None:
    """Multiply the step."""
    state.scalars["sigma"] *= factor


def draw(state: State, plan: Plan) -> tuple[list[Array], list[Any]]:
    """Return the points of this generation, and their coordinates y."""
    generator, (axes, lengths) = generator_of(state), _axes(state)
    sigma, center = state.scalars["sigma"], state.arrays["mean"]
    # the symmetric root of C: unlike its axes it does not turn with rounding errors where two of them are as long
    shape = lengths if axes is None else (axes * lengths) @ axes.T
    low, high = plan.bounds.T
    drawn = []
    for _ in range(int(state.scalars["population_size"])):
        for _ in range(REDRAWN):
            z = generator.standard_normal(center.size)
            y = center + sigma * (shape * z if axes is None else shape @ z)
            if ((y >= low) & (y <= high)).all():
                break
        drawn.append(y.clip(low, high))
    return [to_x(plan, state, y) for y in drawn], drawn


def inject(state: State, plan: Plan, x: Array) -> FloatArray:
    """Return what is told of a point that the present distribution did not draw.

    A point far out is moved towards the mean, to the length that N. Hansen, Injecting external solutions into CMA-ES,
    arXiv:1110.4181, equation 4, allows: ``sqrt(d) + 2 d / (d + 2)`` standard deviations.
    """
    y = (np.asarray(x, dtype=np.float64) - plan.origin) / plan.scale
    center, sigma = state.arrays["mean"], state.scalars["sigma"]
    step = (y - center) / sigma
    length = float(np.linalg.norm(_whitened(step[None], *_axes(state))))
    longest = math.sqrt(y.size) + 2.0 * y.size / (y.size + 2.0)
    moved: FloatArray = y if length <= longest else center + sigma * (longest / length) * step
    return moved


def tell(state: State, plan: Plan, told: list[tuple[FloatArray, float]]) -> None:
    """Update the distribution with the points of a generation and their values, in any order."""
    arrays, scalars = state.arrays, state.scalars
    told = sorted(told, key=lambda pair: pair[1])
    _remember(state, told[0][1], told[-1][1])
    axes, lengths = _axes(state)
    d = arrays["mean"].size
    r = rates(d, len(told), axes is None)
    steps = (np.array([y for y, _ in told]) - arrays["mean"]) / scalars["sigma"]
    before = arrays["mean"], scalars["sigma"], arrays["covariance"]
    step = r.weights[: r.half] @ steps[: r.half]  # (41)
    arrays["mean"] = arrays["mean"] + scalars["sigma"] * step  # (42)
    *drawn, one = _whitened(np.vstack([steps, step]), axes, lengths)
    with np.errstate(all="ignore"):
        keep = 1.0 - r.c_sigma
        arrays["sigma_path"] = keep * arrays["sigma_path"] + math.sqrt((1.0 - keep**2) * r.mass) * one  # (43)
        length = float(np.linalg.norm(arrays["sigma_path"]))
        growth = math.exp(min(r.c_sigma / r.d_sigma * (length / r.chi - 1.0), 100.0))
        scalars["sigma"] = min(scalars["sigma"] * growth, LONGEST)  # (44)
        # a path that is still long after its start-up stalls the rank-one update (page 32)
        usual = math.sqrt(1.0 - keep ** (2.0 * (scalars["generation"] + 1.0)))
        moves = float(length / usual < (1.4 + 2.0 / (d + 1.0)) * r.chi)
        keep = 1.0 - r.c_path
        path = keep * arrays["path"] + moves * math.sqrt((1.0 - keep**2) * r.mass) * step  # (45)
        weights = r.weights * np.where(r.weights >= 0.0, 1.0, d / (np.square(drawn).sum(axis=1) + 1e-8))  # (46)
        kept = 1.0 + r.c_one * (1.0 - moves) * (1.0 - keep**2) - r.c_one - r.c_half * r.weights.sum()
        if axes is None:
            outer, moments = path**2, weights @ steps**2
        else:
            outer, moments = np.outer(path, path), (steps.T * weights) @ steps
        arrays["path"] = path
        arrays["covariance"] = kept * arrays["covariance"] + r.c_one * outer + r.c_half * moments  # (47)
        if plan.damped:
            _damping.damp(state, before, lambda rows: _whitened(rows, axes, lengths))


def finished(state: State, plan: Plan) -> bool:
    """Return whether a criterion of the tutorial's appendix B.3 ends this start, or its numbers are not finite."""
    arrays, scalars, center = state.arrays, state.scalars, state.arrays["mean"]
    sigma, recent, generation = scalars["sigma"], arrays["recent"], int(scalars["generation"])
    if not (np.isfinite(arrays["covariance"]).all() and np.isfinite(center).all()):
        return True
    axes, lengths = _axes(state)
    widths = lengths if axes is None else np.sqrt(np.diag(arrays["covariance"]).clip(0.0))
    if generation > len(recent) and np.ptp(recent) < TOLERANCE * min(1.0, scalars["spread"] or 1.0):
        return True
    if (sigma * np.maximum(widths, np.abs(arrays["path"])) < TOLERANCE * scalars["first_sigma"]).all():
        return True
    if sigma * lengths.max() > WIDEST or lengths.max() > math.sqrt(ILL) * lengths.min():
        return True
    if (center == center + 0.2 * sigma * widths).any():
        return True
    k = generation % center.size
    axis = np.eye(1, center.size, k)[0] if axes is None else axes[:, k]
    return bool((center == center + 0.1 * sigma * lengths[k] * axis).all())


def _remember(state: State, best: float, worst: float) -> None:
    """Note the range of a generation; the first one is the unit in which values are equal."""
    recent, scalars = state.arrays["recent"], state.scalars
    scalars["generation"] += 1.0
    recent[int(scalars["generation"]) % len(recent)] = best, worst
    if math.isnan(scalars["spread"]):
        scalars["spread"] = worst - best


def _axes(state: State) -> tuple[FloatArray | None, FloatArray]:
    """Return the principal axes of C, (d, d), None where they are the coordinates', and the lengths, (d,)."""
    covariance = state.arrays["covariance"]
    if covariance.ndim == 1:
        return None, np.sqrt(covariance)
    cached = state.cache.get("axes")
    if cached is None or cached[0] is not covariance:
        with one_thread():
            squares, axes = np.linalg.eigh((covariance + covariance.T) / 2.0)
        cached = (covariance, axes, np.sqrt(np.where(squares < 0.0, 1e-8, squares)))
        state.cache["axes"] = cached
    axes, lengths = cached[1:]
    return axes, lengths


def _whitened(rows: FloatArray, axes: FloatArray | None, lengths: FloatArray) -> FloatArray:
    """Return ``C^(-1/2)`` times each of the rows, (k, d)."""
    return rows / lengths if axes is None else ((rows @ axes) / lengths) @ axes.T
