r"""A Gaussian process over the unit box with reals, ordered levels and options, and the expected improvement.

The kernel is Matérn's with smoothness 5/2 of the distance :math:`r^2 = \sum_j w_j d_j^2`: d_j is the difference of two
reals or levels, and 1 for two different options. Each parameter has a weight w_j of its own, so that one that does not
matter costs nothing. Weights, scale and noise are those of the highest posterior density; the mean is integrated out
(C. E. Rasmussen and C. K. I. Williams, Gaussian processes for machine learning, 2006, chapters 2, 4 and 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vamo_bbo._typing import Array, FloatArray

__all__ = ["Process", "features", "fitted", "log_improvement", "start_of"]

WIDTHS = math.log(8.0), 1.8
"""Mean of log w_j for one parameter (a length of a third of the box), and its standard deviation.

With d parameters the mean is lower by log(d) / 2: distances grow with d, and so do lengths.
"""
NOISE = math.log(1e-3), 2.0
"""Mean and standard deviation of the logarithm of the noise's share of the variance."""
STEPS = 40
"""Most steps of the search for these."""
_LOWEST, _HIGHEST = math.log(1e-3), math.log(1e4)
_LEAST = 1e-10
"""Added to the diagonal, relative to a variance of 1."""


def features(points: Array, options: Array) -> tuple[FloatArray, Array]:
    """Return coordinates in which squared distances are those of the kernel, and the parameter of each.

    Parameters
    ----------
    points : (n, d) array
        In the unit box.
    options : (d,) int array
        Number of options of a parameter without order, else 0; its cells are of equal width.

    Examples
    --------
    >>> rows, owner = features(np.array([[0.2, 0.1], [0.2, 0.9]]), np.array([0, 2]))
    >>> round(float(((rows[0] - rows[1]) ** 2).sum()), 12), owner.tolist()
    (1.0, [0, 1, 1])
    """
    columns, owner = [], []
    for j, count in enumerate(options.tolist()):
        if count:
            cell = np.minimum((points[:, j] * count).astype(np.int64), count - 1)
            columns.append((cell[:, None] == np.arange(count)) / math.sqrt(2.0))
        else:
            columns.append(points[:, j : j + 1])
        owner += [j] * columns[-1].shape[1]
    return np.concatenate(columns, axis=1, dtype=np.float64), np.array(owner)


def start_of(d: int) -> FloatArray:
    """Return the most likely logarithms of weights, variance and noise (d + 2,) before any value is known."""
    return np.concatenate([np.full(d, WIDTHS[0] - 0.5 * math.log(d)), [0.0, NOISE[0]]])


def _matern(squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the correlations of squared distances, and their derivatives with respect to these."""
    r = np.sqrt(5.0 * squares)
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, (-5.0 / 6.0) * (1.0 + r) * decay


@dataclass(frozen=True, slots=True)
class Process:
    """A Gaussian process that knows values.

    Attributes
    ----------
    options : (d,) int array
        As for :func:`features`.
    rows, owner : arrays
        Features of its points, and the parameter of each.
    values : (n,) array
        Values.
    logs : (d + 2,) array
        Logarithms of the weights, the variance, and the share of noise in it.
    mean : float
        Prior mean.
    triangle, weights : arrays
        Cholesky factor of the covariance, and what correlations with the points are multiplied by.
    """

    options: Array
    rows: FloatArray
    owner: Array
    values: FloatArray
    logs: FloatArray
    mean: float
    triangle: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, points: Array, values: FloatArray, options: Array, logs: FloatArray) -> Process:
        """Return the process that knows these values (n,) at these points (n, d)."""
        from scipy.linalg import cho_solve, solve_triangular
        from scipy.spatial.distance import cdist

        rows, owner = features(points, options)
        scaled = rows * np.exp(0.5 * logs[owner])
        covariance = math.exp(logs[-2]) * _matern(cdist(scaled, scaled, "sqeuclidean"))[0]
        covariance[np.diag_indices(len(rows))] += math.exp(logs[-2] + logs[-1]) + _LEAST
        triangle: FloatArray = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        one, own = solve_triangular(triangle, np.array([np.ones(len(rows)), values]).T, lower=True).T
        mean = float(one @ own / (one @ one))
        return cls(options, rows, owner, values, logs, mean, triangle, cho_solve((triangle, True), values - mean))

    def at(self, points: Array) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the noiseless values at points, (m, d) -> (m,), (m,)."""
        from scipy.linalg import solve_triangular
        from scipy.spatial.distance import cdist

        scale, variance = np.exp(0.5 * self.logs[self.owner]), math.exp(self.logs[-2])
        rows, _ = features(points, self.options)
        shared = variance * _matern(cdist(rows * scale, self.rows * scale, "sqeuclidean"))[0]
        known = solve_triangular(self.triangle, shared.T, lower=True)
        left = np.maximum(variance - np.einsum("ij,ij->j", known, known), _LEAST * variance)
        return self.mean + shared @ self.weights, np.sqrt(left)


def fitted(points: Array, values: FloatArray, options: Array, logs: FloatArray) -> FloatArray:
    """Return the logarithms of the highest posterior density, searched from ``logs``.

    Examples
    --------
    >>> points = np.random.default_rng(1).random((30, 2))
    >>> logs = fitted(points, np.sin(6 * points[:, 0]), np.zeros(2, int), start_of(2))
    >>> bool(logs[0] > logs[1] + 3)  # only the first matters
    True
    """
    from scipy.optimize import minimize

    rows, owner = features(points, options)
    squares = np.zeros((options.size, len(rows), len(rows)))
    for column, j in zip(rows.T, owner, strict=True):
        squares[j] += (column[:, None] - column) ** 2
    bounds = [(_LOWEST, _HIGHEST)] * options.size + [(-3.0, 3.0), (math.log(1e-7), math.log(0.5))]
    found: Any = minimize(
        _minus_log_density,
        logs,
        args=(squares, values),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    best: FloatArray = found.x if np.isfinite(found.fun) else logs
    return best


def _minus_log_density(logs: FloatArray, squares: FloatArray, values: FloatArray) -> tuple[float, FloatArray]:
    """Return minus the log posterior density of ``logs``, without constants, and its gradient."""
    from scipy.linalg import cho_solve

    d, n = len(squares), len(values)
    weights, variance, noise = np.exp(logs[:d]), math.exp(logs[d]), math.exp(logs[d + 1])
    correlation, derivative = _matern(np.tensordot(weights, squares, 1))
    covariance = variance * (correlation + noise * np.eye(n))
    try:
        triangle = np.linalg.cholesky(covariance + _LEAST * np.eye(n))
    except np.linalg.LinAlgError:
        return math.inf, np.zeros(d + 2)
    inverse = cho_solve((triangle, True), np.eye(n))
    residual = values - inverse.sum(axis=0) @ values / inverse.sum()
    explained = inverse @ residual
    off = np.concatenate([(logs[:d] - start_of(d)[:d]) / WIDTHS[1], [logs[d], (logs[d + 1] - NOISE[0]) / NOISE[1]]])
    spread = np.concatenate([np.full(d, WIDTHS[1]), [1.0, NOISE[1]]])
    density = 0.5 * residual @ explained + np.log(np.diag(triangle)).sum() + 0.5 * off @ off
    inner = 0.5 * (inverse - np.outer(explained, explained))
    by_weights = variance * weights * np.einsum("ij,kij->k", inner * derivative, squares)
    by_scale = [np.sum(inner * covariance), variance * noise * np.trace(inner)]
    return float(density), np.concatenate([by_weights, by_scale]) + off / spread


def log_improvement(mean: FloatArray, deviation: FloatArray, lowest: float) -> FloatArray:
    """Return the logarithm of the expected improvement on ``lowest``, also where it is below the smallest float.

    J. Močkus, On Bayesian methods for seeking the extremum, 1974; for the logarithm S. Ament et al., Unexpected
    improvements to expected improvement for Bayesian optimization, NeurIPS 2023.
    """
    from scipy.special import erfcx, ndtr

    z = (lowest - mean) / deviation
    above, below = np.maximum(z, -1.0), z.clip(-1e3, -1.0)
    bell = -0.5 * z * z - 0.5 * math.log(2.0 * math.pi)
    likely = np.log(np.exp(-0.5 * above * above) / math.sqrt(2.0 * math.pi) + above * ndtr(above))
    unlikely = bell + np.log1p(below * math.sqrt(0.5 * math.pi) * erfcx(-below / math.sqrt(2.0)))
    tail = bell - 2.0 * np.log(-np.minimum(z, -1.0))
    out: FloatArray = np.where(z > -1.0, likely, np.where(z > -1e3, unlikely, tail)) + np.log(deviation)
    return out
