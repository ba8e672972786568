r"""Constraints for our solvers: every evaluated point is feasible.

The solver searches the box; the objective is called at the feasible point that is nearest to where the solver asked,

.. math:: \Phi(z) = f(P(z)) + \rho \|z - P(z)\|^2, \qquad P(z) = \arg\min_x \{\|x - z\|^2 : x \text{ feasible}\}

in units of ``x_scale``. The second term only keeps z near the feasible set, so its weight needs no update: the minima
of Phi are the constrained minima of f, for any rho > 0 and any P that leaves feasible points alone. It is the repair
with a penalty of the distance that evolution strategies use for boxes (N. Hansen, A. S. P. Niederberger, L. Guzzella
and P. Koumoutsakos, A method for handling uncertainty in evolutionary optimization, IEEE TEC 13(1), 2009, appendix).
P(z) is found by Newton's method on the violated rows, with shortest steps, and by SLSQP where that fails. Constraints
are taken as exact and cheap beside f: P(z) takes about ten calls of each, and d more where it has no Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.constraints import rows_of
from vamo_bbo.feasible import FEASIBLE, FeasibleSet
from vamo_bbo.run.setup import parse_bounds, parse_x0, scale_of, seed_of
from vamo_bbo.scipy_layer.wrappers import wants_result

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["Projected", "Projection", "minimize_projected", "projection_of", "start_within"]

STARTS = 20
"""Random points from which a feasible one is looked for where x0 does not lead to one."""
WEIGHED_FROM = 20
"""Smallest budget of which four values are spent on the scale of f."""
HALVINGS = 12
"""Times that a point with no projection is moved half-way to a feasible one."""


@dataclass
class Projection(FeasibleSet):
    """The nearest feasible point, for every point.

    Parameters
    ----------
    rows, lower, upper, scale
        Of the set.
    anchor : (D,) array or None
        A feasible point.
    """

    anchor: FloatArray | None = None

    def __call__(self, z: Array) -> FloatArray:
        """Return the projection of ``z``, (D,); of a point nearer to the anchor where none is found."""
        target = np.asarray(z, dtype=np.float64)
        assert self.anchor is not None
        for _ in range(HALVINGS):
            x = self.nearest(target)
            if x is not None:
                return x
            target = 0.5 * (target + self.anchor)
        return self.anchor

    def distance(self, z: Array, x: Array) -> float:
        """Return the squared distance in units of ``scale``."""
        return float((((np.asarray(z) - x) / self.scale) ** 2).sum())


@dataclass
class Projected:
    """Phi as an objective: ``fun`` at the projection, and the distance to it.

    Attributes
    ----------
    fun : callable
        The objective, of points, or of rows of points where ``vectorized``.
    projection : Projection
        P.
    weight : float
        rho.
    vectorized : bool
        ``fun`` takes (k, D) points.
    """

    fun: Callable[..., Any]
    projection: Projection
    weight: float = 1.0
    vectorized: bool = False

    def __call__(self, z: Array, *args: Any, **keywords: Any) -> Any:
        """Return Phi(z), or Phi of every row."""
        rows = [z] if not self.vectorized else list(z)
        points = [self.projection(row).astype(z.dtype) for row in rows]
        far = [self.weight * self.projection.distance(row, x) for row, x in zip(rows, points, strict=True)]
        if self.vectorized:
            return np.asarray(self.fun(np.stack(points), *args, **keywords)) + np.array(far)
        return self.fun(points[0], *args, **keywords) + far[0]


def minimize_projected(call: Call, method: Any) -> Any:
    """Minimize under constraints with one of our solvers; None where no feasible point is found.

    Parameters
    ----------
    call : Call
        The arguments of :func:`vamo_bbo.minimize`.
    method : str or solver
        The solver.

    Returns
    -------
    OptimizeResult or None
        Of a feasible point, with ``maxcv``, the largest violation.
    """
    projection, start = projection_of(call), start_within(call)
    if start is None:
        return None
    projection.anchor = start
    objective = Projected(call.fun, projection, vectorized=call.vectorized)
    spent = _weigh(call, objective)
    x0 = np.asarray(start, dtype=parse_x0(call.x0).dtype)
    limits = dict(call.limits)
    if limits.get("maxfev") is not None:
        limits["maxfev"] = max(1.0, float(limits["maxfev"]) - spent)
    inner = replace(
        call, fun=objective, x0=x0, jac=None, constraints=(), limits=limits, known=_feasible(call, projection)
    )
    inner.callback = _with_feasible_points(call.callback, projection)
    from vamo_bbo.minimize import run_ours

    result: Any = run_ours(inner, method)
    z = result.x
    result.x = projection(z).astype(z.dtype)
    result.fun -= objective.weight * projection.distance(z, result.x)
    if result.best_x is not None:
        z = result.best_x
        result.best_x = projection(z).astype(z.dtype)
        result.best_fun -= objective.weight * projection.distance(z, result.best_x)
    result.maxcv = projection.violation(result.x)
    result.nfev, result.nfev_samples = result.nfev + spent, result.nfev_samples + spent
    return result


def projection_of(call: Call) -> Projection:
    """Return the projection to the constraints and bounds of ``call``, without an anchor."""
    x0 = parse_x0(call.x0)
    limits = parse_bounds(call.bounds, x0.size)
    lower, upper = (np.full(x0.size, s * np.inf) for s in (-1.0, 1.0)) if limits is None else limits
    scale = scale_of(call.x_scale, x0.size, limits)
    scale = np.ones(x0.size) if scale is None else scale
    return Projection(rows_of(call.constraints), lower, upper, scale)


def start_within(call: Call) -> FloatArray | None:
    """Return the feasible point next to x0, else next to the nearest of some random points; None if none is found."""
    projection, x0 = projection_of(call), parse_x0(call.x0).astype(np.float64)
    start = projection.nearest(x0)
    rng = np.random.default_rng(seed_of(call.rng if isinstance(call.rng, int) else 0))
    for k in range(STARTS):
        if start is not None:
            break
        length = 10.0 ** (-1.0 + 3.0 * k / STARTS)
        start = projection.nearest(x0 + length * projection.scale * rng.standard_normal(x0.size))
    return start


def _weigh(call: Call, objective: Projected) -> int:
    """Set rho so that the distance counts as much as f changes over a step; return the values that took.

    f is evaluated at the anchor and at three projected points a quarter of ``x_scale`` away.
    """
    limit, projection = call.limits.get("maxfev"), objective.projection
    if limit is not None and limit < WEIGHED_FROM:
        return 0
    anchor = projection.anchor
    assert anchor is not None
    keywords: dict[str, Any] = {}
    if isinstance(call.noisy, str):
        keywords = {call.noisy: 0 if call.noisy == "seed" else np.random.default_rng(0)}
    args = call.arguments
    rng = np.random.default_rng(0)
    steps = 0.25 * projection.scale * rng.choice([-1.0, 1.0], size=(3, anchor.size))
    points = [anchor, *(projection(anchor + step) for step in steps)]
    values = []
    for x in points:
        x = x.astype(parse_x0(call.x0).dtype)
        try:
            raw = objective.fun(x[None, :] if call.vectorized else x, *args, **keywords)
            values.append(float(np.asarray(raw).reshape(-1)[0]))
        except Exception:
            values.append(np.nan)
    slopes = [
        abs(value - values[0]) / projection.distance(x, anchor)
        for x, value in zip(points[1:], values[1:], strict=True)
        if np.isfinite(value - values[0]) and projection.distance(x, anchor) > 1e-12
    ]
    if slopes and max(slopes) > 0:
        objective.weight = float(np.median(slopes)) or max(slopes)
    return len(points)


def _feasible(call: Call, projection: Projection) -> Any:
    """Return the known points that are feasible: only their values are values of Phi."""
    if call.known is None:
        return None
    points, values, _ = call.known
    good = [k for k, x in enumerate(points) if projection.violation(x) <= FEASIBLE]
    if not good:
        return None
    return type(call.known)(points[good], values[good], int(np.argmin(values[good])))


def _with_feasible_points(callback: Callable[..., Any] | None, projection: Projection) -> Callable[..., Any] | None:
    """Return ``callback`` that is shown projected points."""
    if callback is None:
        return None
    if not wants_result(callback):
        return lambda z: callback(projection(z))

    def named(intermediate_result: Any) -> Any:
        intermediate_result.x = projection(intermediate_result.x)
        return callback(intermediate_result=intermediate_result)

    return named
