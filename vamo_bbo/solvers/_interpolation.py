r"""A quadratic that interpolates fewer values than it has coefficients, and how well its points are placed.

Of the quadratics ``f(0) + g s + s' H s / 2`` through n values it is the one whose Hessian differs least from an earlier
one, in the Frobenius norm (M. J. D. Powell, Least Frobenius norm updating of quadratic models that satisfy
interpolation conditions, Math. Program. 100, 2004): ``H`` gains :math:`\sum_i \lambda_i s_i s_i'`, and the
multipliers solve, together with g, the system whose matrix has the blocks :math:`(s_i \cdot s_j)^2 / 2` and
:math:`s_i`. Powell keeps the inverse of that matrix and updates it; here it is formed anew for every model, relative to
the center and with the lengths of the points divided out, which leaves nothing to go wrong slowly (he needs a rescue).

A column of the inverse is a Lagrange function, the least quadratic that is 1 at one point and 0 at the others. The
diagonal tells by how much the determinant grows where a point is left out (Powell, The NEWUOA software for
unconstrained optimization without derivatives, 2006, section 4): the point with the largest is the least useful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vamo_bbo._typing import FloatArray

__all__ = ["Interpolant", "interpolate"]

_SLACK = 1e-10
"""How freely points that do not span the space determine the slope, relative to the rest of the matrix."""


@dataclass(frozen=True, slots=True)
class Interpolant:
    """A model around the origin, where its change is 0.

    Attributes
    ----------
    slope, hessian : (d,) and (d, d) arrays
        ``g`` and ``H``.
    far : (n,) array
        Distances of the points.
    uselessness : (n,) array
        By how much the determinant would grow without each point, the lengths divided out.
    """

    slope: FloatArray
    hessian: FloatArray
    far: FloatArray
    uselessness: FloatArray
    _units: FloatArray
    _inverse: FloatArray

    def at(self, s: FloatArray) -> float:
        """Return the modeled change from the origin to ``s``."""
        return float(self.slope @ s + 0.5 * s @ self.hessian @ s)

    def lagrange(self, k: int) -> tuple[FloatArray, FloatArray]:
        """Return slope and Hessian of the Lagrange function of point k."""
        n = self.far.size
        column = self._inverse[:, k] / self.far[k] ** 2
        return column[n:], (self._units.T * column[:n]) @ self._units


def interpolate(rows: FloatArray, rises: FloatArray, prior: FloatArray) -> Interpolant:
    """Return the quadratic through 0 at the origin and ``rises`` whose Hessian is nearest to ``prior``.

    Parameters
    ----------
    rows : (n, d) array
        Points, none at the origin and no two alike.
    rises : (n,) array
        Their values less the origin's.
    prior : (d, d) array
        A Hessian.

    Raises
    ------
    LinAlgError
        The points leave the system singular.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> model = interpolate(rows, 3.0 * rows[:, 0] + rows[:, 1] ** 2, np.zeros((2, 2)))
    >>> bool(np.allclose(model.slope, [3, 0])), bool(np.allclose(model.hessian, np.diag([0, 2])))
    (True, True)
    """
    n, d = rows.shape
    far = np.linalg.norm(rows, axis=1)
    units = rows / far[:, None]
    matrix = np.empty((n + d, n + d))
    matrix[:n, :n] = 0.5 * (units @ units.T) ** 2
    matrix[:n, n:] = units / far[:, None]
    matrix[n:, :n] = matrix[:n, n:].T
    matrix[n:, n:] = -_SLACK * np.eye(d)
    inverse = np.linalg.inv(matrix)
    unexplained = rises - 0.5 * ((rows @ prior) * rows).sum(axis=1)
    solution = inverse[:, :n] @ (unexplained / far**2)
    hessian = prior + (units.T * solution[:n]) @ units
    hessian = 0.5 * (hessian + hessian.T)
    return Interpolant(solution[n:], hessian, far, np.abs(np.diag(inverse)[:n]), units, inverse)
