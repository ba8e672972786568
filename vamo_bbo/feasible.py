r"""The set of points that bounds and constraints allow: the nearest one, and where a model is the lowest.

Constraints are taken as exact and cheap beside the objective. :meth:`FeasibleSet.nearest` takes Newton's steps on the
violated rows, the shortest ones, and SLSQP where they fail: some ten calls of each row, and d more for each derivative
that it does not have. :meth:`FeasibleSet.lowest` minimizes a quadratic over the part of the set in an ellipsoid by
SLSQP, on the rows themselves: no model of them, whose error a trust region would have to keep small. That is what
sequential quadratic programming does with the objective's model in place of its expansion (A. R. Conn, K. Scheinberg
and Ph. L. Toint, A derivative free optimization algorithm in practice, AIAA 1998-4718, section 4, "easy" constraints).

Equations leave fewer directions than there are variables: :meth:`FeasibleSet.tangent` has those of the tangent space,
whose coordinates are a chart of the set near the point, so that a model of the objective needs only them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.constraints import Rows

__all__ = ["FEASIBLE", "FeasibleSet"]

FEASIBLE = 1e-6
"""Largest violation of a feasible point: scipy's methods end with about as much."""
NEWTON_STEPS = 15
CHORD = 0.1
"""A Jacobian is used again as long as each step leaves less than this share of the violation."""
INSIDE = 1e-9
"""A violated inequality is aimed at from within by so much: a root of what it leaves has a value there."""
RANK = 1e-8
"""Equations whose normals are nearer to each other than this are one."""
FTOL, ITERATIONS = 1e-8, 50
HALVINGS = 4
"""Points that are tried on the way to the minimizer of a model where SLSQP fails."""
WRONG = 1e3
"""A row without a value counts as violated by so many times its change over a unit."""
BEYOND = 1.02
"""How much farther than allowed the minimizer of a model may be."""


@dataclass
class FeasibleSet:
    """Points that violate neither bounds nor constraints.

    Parameters
    ----------
    rows : Rows
        The constraints.
    lower, upper : (D,) arrays
        Bounds, inf for none.
    scale : (D,) array
        Units of distances.
    """

    rows: Rows
    lower: FloatArray
    upper: FloatArray
    scale: FloatArray
    _latest: tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def linearized(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return c(x), lower and upper, each (m,), and the derivatives, (m, D); those at the latest point are kept."""
        if self._latest is None or not np.array_equal(self._latest[0], x):
            self._latest = (x.copy(), *self.rows.evaluate(x), self.rows.jacobian(x, self.upper))
        return self._latest[1:]

    def violation(self, x: Array) -> float:
        """Return the largest violation of a row; inf where a constraint is NaN or raises."""
        try:
            return self.rows.violation(x)
        except Exception:
            return float("inf")

    def nearest(self, z: FloatArray) -> FloatArray | None:
        """Return a feasible point near ``z``, or None: by Newton's steps, by SLSQP where they fail."""
        z = z.clip(self.lower, self.upper)
        try:
            with np.errstate(all="ignore"):
                x = None if self._latest is None else self._newton(z, self._latest[-1])
                x = self._newton(z) if x is None else x
                x = self._slsqp(z) if x is None else x
        except Exception:  # of a constraint
            return None
        return x if x is not None and np.isfinite(x).all() and self.violation(x) <= FEASIBLE else None

    def _newton(self, x: FloatArray, jacobian: FloatArray | None = None) -> FloatArray | None:
        """Return ``x`` after shortest steps to the linearized violated rows, None if they do not converge.

        A Jacobian of a point nearby saves the first one.
        """
        last, taken = np.inf, False
        for _ in range(NEWTON_STEPS):
            c, lower, upper = self.rows.evaluate(x)
            short = np.maximum(lower - c, 0.0) - np.maximum(c - upper, 0.0)
            worst = float(np.abs(short).max(initial=0.0))
            if worst <= 0.01 * FEASIBLE and not short[lower < upper].any():
                return x
            if not np.isfinite(worst):
                return None
            taken |= short != 0.0
            target = np.where(np.abs(lower - c) < np.abs(upper - c), lower + INSIDE, upper - INSIDE)
            short = np.where(lower < upper, target.clip(lower, upper) - c, short)
            if jacobian is None or worst > CHORD * last:
                jacobian = self.rows.jacobian(x, self.upper)
            last = worst
            x = self._shifted(x, jacobian[taken], short[taken])
        return None

    def _shifted(self, x: FloatArray, jacobian: FloatArray, short: FloatArray) -> FloatArray:
        """Return ``x`` after the shortest step with ``jacobian @ step = short`` that the box allows."""
        free = np.ones(x.size, dtype=bool)
        step = np.zeros(x.size)
        for _ in range(x.size):
            step[:] = 0.0
            columns = jacobian[:, free] * self.scale[free]
            step[free] = np.linalg.lstsq(columns, short, rcond=1e-12)[0] * self.scale[free]
            blocked = free & (((x <= self.lower) & (step < 0)) | ((x >= self.upper) & (step > 0)))
            if not blocked.any() or blocked.sum() == free.sum():
                break
            free &= ~blocked
        return (x + step).clip(self.lower, self.upper)

    def _slsqp(self, z: FloatArray) -> FloatArray | None:
        return self._lowest(z, z, self.scale, lambda s: 0.5 * float(s @ s), np.copy)

    def tangent(self, x: FloatArray) -> FloatArray | None:
        """Return an orthonormal basis (D, q) of the directions that the equations leave at ``x``; None without any."""
        _, lower, upper, jacobian = self.linearized(x)
        equations = lower == upper
        if not equations.any():
            return None
        normals = jacobian[equations]
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        _, sizes, axes = np.linalg.svd(normals)
        basis: FloatArray = axes[int((sizes > RANK).sum()) :].T
        return basis

    def lowest(
        self, x: FloatArray, radius: float, root: FloatArray, slope: FloatArray, hessian: FloatArray, start: FloatArray
    ) -> FloatArray:
        """Return the feasible point with the lowest value of a quadratic in an ellipsoid; ``x`` where none is found.

        Parameters
        ----------
        x : (D,) array
            Center, a feasible point.
        radius : float
            Unit of the steps s.
        root : (q, D) array
            The ellipsoid is ``norm(root @ s) <= 1``, of feasible points.
        slope, hessian : (q,) and (q, q) arrays
            The quadratic, of ``root @ s``.
        start : (D,) array
            The step that would be the lowest without constraints.
        """
        size = float(np.linalg.norm(slope) + 0.5 * np.linalg.norm(hessian)) or 1.0

        def value(s: FloatArray) -> float:
            t = root @ s
            return float(slope @ t + 0.5 * t @ hessian @ t) / size

        def gradient(s: FloatArray) -> FloatArray:
            image: FloatArray = root.T @ (slope + hessian @ (root @ s)) / size
            return image

        best, least = x, 0.0
        free = (x + radius * start).clip(self.lower, self.upper)
        if self.violation(free) == 0.0 and np.linalg.norm(root @ (free - x)) <= BEYOND * radius:
            best, least = free, value((free - x) / radius)
            if np.array_equal(free, x + radius * start):
                return free
        for found in self._candidates(x, radius, free, value, gradient, root):
            if found is not None and np.linalg.norm(root @ (found - x)) <= BEYOND * radius:
                promised = value((found - x) / radius)
                if promised < least:
                    best, least = found, promised
            if least < 0.0:
                break
        return best

    def _candidates(
        self,
        x: FloatArray,
        radius: float,
        free: FloatArray,
        value: Callable[[FloatArray], float],
        gradient: Callable[[FloatArray], FloatArray],
        root: FloatArray,
    ) -> Iterator[FloatArray | None]:
        """Give feasible points where the quadratic may be low: SLSQP's, then those on the way to its own minimizer."""
        units = np.full(x.size, radius)
        for begin in (x, free):
            try:
                with np.errstate(all="ignore"):
                    feasible = x if begin is x else self.nearest(begin)
                    found = None if feasible is None else self._lowest(feasible, x, units, value, gradient, root)
            except Exception:  # of a constraint
                continue
            yield None if found is None else self.nearest(found)
        for halving in range(HALVINGS):
            yield self.nearest(x + 0.5**halving * (free - x))

    def _lowest(
        self,
        begin: FloatArray,
        x: FloatArray,
        units: FloatArray,
        value: Callable[[FloatArray], float],
        gradient: Callable[[FloatArray], FloatArray],
        root: FloatArray | None = None,
    ) -> FloatArray | None:
        """Return where SLSQP ends that minimizes a function of ``(point - x) / units`` from the point ``begin``."""
        from scipy.optimize import minimize

        rows = _Linear(self, x, units, root)
        run: Any = minimize
        lower, upper = (self.lower - x) / units, (self.upper - x) / units
        found = run(
            value,
            ((begin - x) / units).clip(lower, upper),
            jac=gradient,
            method="SLSQP",
            bounds=list(zip(lower, upper, strict=True)),
            constraints=rows.dicts(),
            options={"ftol": FTOL, "maxiter": ITERATIONS},
        ).x
        point: FloatArray = (x + units * np.asarray(found, dtype=np.float64)).clip(self.lower, self.upper)
        return point if np.isfinite(point).all() else None


class _Linear:
    """The rows as SLSQP's equations and inequalities of steps, each divided by its change over a unit."""

    def __init__(self, inside: FeasibleSet, x: FloatArray, units: FloatArray, root: FloatArray | None) -> None:
        self.inside, self.x, self.units, self.root = inside, x, units, root
        c, lower, upper, jacobian = inside.linearized(x)
        jacobian = jacobian * units
        sizes = np.linalg.norm(jacobian, axis=1)
        self.sizes = np.where(np.isfinite(sizes) & (sizes > 0.0), sizes, 1.0)
        self.equal = lower == upper
        self.above = np.flatnonzero(~self.equal & np.isfinite(lower))
        self.below = np.flatnonzero(~self.equal & np.isfinite(upper))
        self.lower, self.upper = lower, upper
        self._at, self._at_slope, self._known = np.zeros(x.size), np.zeros(x.size), True
        self._rows, self._slopes, self._before = c, jacobian, c

    def _values(self, s: FloatArray) -> FloatArray:
        if not np.array_equal(self._at, s):
            try:
                c = self.inside.rows.evaluate(self._point(s))[0]
            except Exception:
                c = np.full(self.sizes.size, np.nan)
            self._known = bool(np.isfinite(c).all())
            bad = np.where(np.isfinite(self.upper), self.upper + WRONG * self.sizes, self.lower - WRONG * self.sizes)
            self._rows = np.where(np.isfinite(c), c, bad)
            self._at = s.copy()
        return self._rows

    def _jacobian(self, s: FloatArray) -> FloatArray:
        if np.array_equal(self._at_slope, s):
            return self._slopes
        c, step = self._values(s), s - self._at_slope
        square = float(step @ step)
        if not self._known or square < np.finfo(np.float64).tiny:
            return self._slopes
        self._slopes = self._slopes + np.outer(c - self._before - self._slopes @ step, step) / square
        self._before, self._at_slope = c, s.copy()
        return self._slopes

    def _point(self, s: FloatArray) -> FloatArray:
        return (self.x + self.units * s).clip(self.inside.lower, self.inside.upper)

    def dicts(self) -> list[dict[str, Any]]:
        """Return scipy's dictionaries."""
        found: list[dict[str, Any]] = []
        if self.equal.any():
            k = np.flatnonzero(self.equal)
            found.append(
                {
                    "type": "eq",
                    "fun": lambda s: (self._values(s)[k] - self.lower[k]) / self.sizes[k],
                    "jac": lambda s: self._jacobian(s)[k] / self.sizes[k, None],
                }
            )
        a, b = self.above, self.below
        if a.size or b.size:
            sizes = np.concatenate([self.sizes[a], self.sizes[b]])

            def values(s: FloatArray) -> Any:
                c = self._values(s)
                return np.concatenate([c[a] - self.lower[a], self.upper[b] - c[b]]) / sizes

            def slopes(s: FloatArray) -> Any:
                jacobian = self._jacobian(s)
                return np.concatenate([jacobian[a], -jacobian[b]]) / sizes[:, None]

            found.append({"type": "ineq", "fun": values, "jac": slopes})
        if self.root is not None:
            root = self.root
            found.append(
                {
                    "type": "ineq",
                    "fun": lambda s: np.atleast_1d(1.0 - float((root @ s) @ (root @ s))),
                    "jac": lambda s: -2.0 * (root.T @ (root @ s))[None],
                }
            )
        return found
