r"""A quadratic fitted to noisy values: fewer or more points than coefficients, and how uncertain it is.

The model is ``f(s) = a + g s + s' H s / 2`` with a free a and g, and a Gaussian prior on H whose scale, relative to the
noise, is the one of the highest restricted likelihood: few points or much noise give the least Hessian that explains
the values (M. J. D. Powell, Least Frobenius norm updating of quadratic models that satisfy interpolation conditions,
Math. Program. 100, 2004), many points the least squares (A. R. Conn, K. Scheinberg and L. N. Vicente, Geometry of
sample sets in derivative-free optimization: polynomial regression and underdetermined interpolation, IMA J. Numer.
Anal. 28, 2008). The prior makes it the universal kriging of the kernel ``(s t)^2 / 2``, which gives the standard
errors (C. E. Rasmussen and C. K. I. Williams, Gaussian processes for machine learning, 2006, section 2.7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vamo_bbo._typing import Array, FloatArray

__all__ = ["Fit", "fit", "in_ball", "trust_region_step"]

_RATIOS = 10.0 ** np.arange(-4.0, 13.0)
"""Scales of the Hessian over that of the noise that are compared."""
_OUTLIER = 3.0
_PASSES = 2
_TINY = 1e-300
_LEAST_EIGENVALUE = 1e-100
"""Of the kernel where all points are one: it is zero, and its inverse must be a number."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model around the origin.

    Attributes
    ----------
    value, slope, hessian : float, (d,) array, (d, d) array
        ``a``, ``g``, ``H``.
    variance : float
        Variance of one value, at least the ``floor`` that was given.
    residual : float
        The same without the floor: noise and what a quadratic does not explain.
    ratio : float
        Scale of the Hessian's prior over that of the noise.
    """

    value: float
    slope: FloatArray
    hessian: FloatArray
    variance: float
    residual: float
    ratio: float
    _rows: FloatArray
    _roots: FloatArray
    _triangle: FloatArray
    _range: FloatArray
    _rest: FloatArray
    _cross: FloatArray
    _inner: FloatArray
    _eigen: FloatArray

    def at(self, s: FloatArray) -> float:
        """Return the modeled change from the origin to ``s``."""
        return float(self.slope @ s + 0.5 * s @ self.hessian @ s)

    def errors(self, rows: FloatArray) -> FloatArray:
        """Return the standard errors of :meth:`at` for the rows, (m, d) -> (m,)."""
        k = 0.5 * (self._rows @ rows.T) ** 2 * self._roots[:, None] * self.ratio
        own = 0.5 * (rows * rows).sum(axis=1) ** 2 * self.ratio
        wanted = np.vstack([np.zeros(len(rows)), rows.T])
        b = np.linalg.solve(self._triangle.T, wanted)
        free = self._rest.T @ k - self._cross.T @ b
        var = own - 2.0 * (b * (self._range.T @ k)).sum(axis=0) + (b * (self._inner @ b)).sum(axis=0)
        var -= (free * free / (1.0 + self.ratio * self._eigen)[:, None]).sum(axis=0)
        errors: FloatArray = np.sqrt(self.variance * np.maximum(var, 0.0))
        return errors


def fit(rows: FloatArray, values: FloatArray, spread: FloatArray, floor: float) -> Fit:
    """Fit a quadratic; values far from it, as noise with heavy tails makes them, are fitted again with less weight.

    Parameters
    ----------
    rows : (n, d) array, n >= d + 2
        Points.
    values, spread : (n,) arrays
        Their values, and the variances of these relative to each other.
    floor : float
        Least variance of a value: what repeated evaluations have shown.

    Examples
    --------
    >>> rows = np.random.default_rng(1).normal(size=(9, 2))
    >>> model = fit(rows, 3.0 + rows[:, 0] + rows[:, 1] ** 2, np.ones(9), 0.0)
    >>> np.allclose(model.slope, [1, 0], atol=1e-6), np.allclose(model.hessian, [[0, 0], [0, 2]], atol=1e-6)
    (True, True)
    """
    model = _fit(rows, values, spread, floor)
    for _ in range(_PASSES):
        off = values - model.value - rows @ model.slope - 0.5 * ((rows @ model.hessian) * rows).sum(axis=1)
        off = np.abs(off) / np.sqrt(spread)
        scale = max(1.4826 * float(np.median(off)), math.sqrt(floor), _TINY)
        if len(values) <= rows.shape[1] + 3 or not (off > _OUTLIER * scale).any():
            break
        model = _fit(rows, values, spread * np.maximum(1.0, 0.5 * off / scale) ** 2, floor)
    return model


def _fit(rows: FloatArray, values: FloatArray, spread: FloatArray, floor: float) -> Fit:
    n, d = rows.shape
    roots = 1.0 / np.sqrt(spread)
    y = values * roots
    kernel = 0.5 * (rows @ rows.T) ** 2 * np.outer(roots, roots)
    q, triangle = np.linalg.qr(np.column_stack([np.ones(n), rows]) * roots[:, None], mode="complete")
    range_, rest = q[:, : d + 1], q[:, d + 1 :]
    diagonal = np.diag(triangle)
    triangle = triangle[: d + 1] + np.diag(np.copysign(1e-9 * max(float(np.abs(diagonal).max()), _TINY), diagonal))
    eigen, axes = np.linalg.eigh(rest.T @ kernel @ rest)
    eigen, rest = np.maximum(eigen, 0.0), rest @ axes
    z = rest.T @ y
    ratio, residual = _most_likely(eigen, z, floor)
    w = rest @ (z / (1.0 + ratio * eigen))
    linear = np.linalg.solve(triangle, range_.T @ (y - ratio * kernel @ w))
    return Fit(
        float(linear[0]),
        linear[1:],
        ratio * (rows.T * (w * roots)) @ rows,
        max(residual, floor, _TINY),
        residual,
        ratio,
        rows,
        roots,
        triangle,
        range_,
        rest,
        ratio * range_.T @ kernel @ rest,
        np.eye(d + 1) + ratio * range_.T @ kernel @ range_,
        eigen,
    )


def _most_likely(eigen: FloatArray, z: FloatArray, floor: float) -> tuple[float, float]:
    """Return the ratio of the Hessian's scale to the noise with the highest likelihood, and the variance with it."""
    ratios = _RATIOS / max(float(eigen.max(initial=0.0)), _LEAST_EIGENVALUE)
    inflated = 1.0 + ratios[:, None] * eigen
    residual = (z * z / inflated).mean(axis=1)
    variance = np.maximum(np.maximum(residual, floor), _TINY)
    likelihood = z.size * (np.log(variance) + residual / variance) + np.log(inflated).sum(axis=1)
    best = int(np.argmin(likelihood))
    return float(ratios[best]), float(residual[best])


def trust_region_step(
    slope: FloatArray, hessian: FloatArray, low: FloatArray, high: FloatArray, root: FloatArray | None = None
) -> FloatArray:
    """Return the minimizer of a quadratic in the unit ball; variables that leave ``[low, high]`` are fixed at a bound.

    Parameters
    ----------
    slope, hessian : (d,) and (d, d) arrays
        Model around the origin.
    low, high : (d,) arrays
        Bounds around the origin.
    root : (d, d) array, optional
        The ball is ``norm(root @ s) <= 1``.

    Examples
    --------
    >>> far = np.full(2, 9.0)
    >>> trust_region_step(np.array([-1.0, 0.0]), 2.0 * np.eye(2), -far, far).round(6).tolist()
    [0.5, 0.0]
    >>> trust_region_step(np.array([-9.0, -0.2]), 2.0 * np.eye(2), -far, np.array([0.25, 9.0])).round(2).tolist()
    [0.25, 0.1]
    """
    s, free = np.zeros(slope.size), np.ones(slope.size, dtype=bool)
    while free.any():
        if root is not None:
            s[free] = _in_ellipsoid(slope, hessian, root, s, free)
        else:
            s[free] = _in_unit_ball(slope, hessian, s, free)
        outside = free & ((s < low) | (s > high))
        if not outside.any():
            return s
        if root is not None:  # the axes are aslant: what fixing the one farthest out does to the others is seen first
            outside &= np.arange(s.size) == int(np.argmax(np.where(outside, np.maximum(low - s, s - high), 0.0)))
        s[outside] = s[outside].clip(low[outside], high[outside])
        free &= ~outside
    return s


def _in_unit_ball(slope: FloatArray, hessian: FloatArray, s: FloatArray, free: Array) -> FloatArray:
    """Return the free part of a step in the unit ball, given the fixed part of ``s``."""
    rest = math.sqrt(max(0.0, 1.0 - float(s[~free] @ s[~free])))
    inner = slope[free] + hessian[np.ix_(free, ~free)] @ s[~free]
    return in_ball(inner, hessian[np.ix_(free, free)], rest)


def _in_ellipsoid(slope: FloatArray, hessian: FloatArray, root: FloatArray, s: FloatArray, free: Array) -> FloatArray:
    """Return the free part of a step with ``norm(root @ s) <= 1``: with its center moved away, a ball in other axes."""
    fixed = ~free
    q, triangle = np.linalg.qr(root[:, free])  # not of root' root, whose condition is the square of root's
    away = root[:, fixed] @ s[fixed]
    center, axes = q.T @ away, np.linalg.inv(triangle)
    rest = 1.0 - float(away @ away - center @ center)
    inner = slope[free] + hessian[np.ix_(free, fixed)] @ s[fixed] - hessian[np.ix_(free, free)] @ (axes @ center)
    step = in_ball(axes.T @ inner, axes.T @ hessian[np.ix_(free, free)] @ axes, math.sqrt(max(0.0, rest)))
    found: FloatArray = axes @ (step - center)
    return found


def in_ball(slope: FloatArray, hessian: FloatArray, radius: float) -> FloatArray:
    """Return the minimizer of a quadratic in a ball, by bisection of the multiplier (Moré and Sorensen 1983)."""
    if radius <= 0.0 or not np.isfinite(hessian).all():
        return np.zeros(slope.size)
    curvature, axes = np.linalg.eigh(hessian)
    q = axes.T @ slope
    size = max(float(np.abs(curvature).max()), _TINY)
    if curvature[0] > 1e-10 * size and _length(q / curvature) <= radius:
        newton: FloatArray = axes @ (-q / curvature)
        return newton
    low = max(0.0, -float(curvature[0])) + 1e-10 * size
    high = low + _length(q) / radius + size
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if _length(q / (curvature + middle)) > radius:
            low = middle
        else:
            high = middle
    s = -q / (curvature + high)
    short = radius**2 - float(s @ s)
    if curvature[0] < 0.0 and short > 0.02 * radius**2:  # the slope has no part along the lowest curvature
        s[0] += math.copysign(math.sqrt(short), -q[0])
    step: FloatArray = axes @ s
    return step


def _length(s: FloatArray) -> float:
    return math.sqrt(s @ s)
