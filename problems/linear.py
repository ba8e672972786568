r"""Finite sums of functions of a linear predictor, :math:`f_i(x) = \phi(a_i^\top x, y_i) + r(x)`, dense or sparse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import scipy.sparse

from problems.datasets import Rows
from problems.problem import Array
from vamo_bbo.problem import FiniteSum


@dataclass(frozen=True, slots=True)
class Link:
    r"""The scalar function :math:`\phi` and its derivative in the predictor, both elementwise over a batch."""

    value: Callable[[Array, Array], Array]
    slope: Callable[[Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Penalty:
    r"""A separable penalty.

    ``"l2"`` is :math:`\frac\lambda2\|x\|^2`; ``"bounded"`` is :math:`\lambda\sum_j x_j^2/(1+x_j^2)`, not convex.
    """

    kind: Literal["bounded", "l2", "none"] = "none"
    weight: float = 0.0

    def value(self, x: Array) -> float:
        """Return r(x)."""
        if self.kind == "none":
            return 0.0
        square = x * x
        return self.weight * float(np.sum(square / (1 + square)) if self.kind == "bounded" else np.sum(square) / 2)

    def gradient(self, x: Array) -> Array:
        """Return the gradient of r, (d,)."""
        if self.kind == "none":
            return np.zeros_like(x)
        return self.weight * (2 * x / (1 + x * x) ** 2 if self.kind == "bounded" else x)


class LinearSum:
    """The per-sample losses and the mean gradient of a sum over linear predictors.

    Parameters
    ----------
    rows : (n, d) array or CSR array
        The a_i. Sparse rows stay sparse: a batch costs its non-zeros plus d for the penalty.
    targets : (n,) array
        The y_i.
    link : Link
        The scalar function.
    penalty : Penalty
        Added to every sample.
    """

    def __init__(self, rows: Rows, targets: Array, link: Link, penalty: Penalty | None = None) -> None:
        self.rows = rows
        self.targets = np.asarray(targets, dtype=np.float64)
        self.link = link
        self.penalty = penalty or Penalty()

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the values of the samples ``idx``, (len(idx),)."""
        return self.link.value(self._predict(x, idx), self.targets[idx]) + self.penalty.value(x)

    def gradient(self, x: Array, idx: Array) -> Array:
        """Return the mean gradient over ``idx``, (d,)."""
        slope = self.link.slope(self._predict(x, idx), self.targets[idx])
        return self._combine(slope / len(idx), idx) + self.penalty.gradient(x)

    def value_and_grad(self, x: Array, idx: Array) -> tuple[Array, Array]:
        """Return the values (len(idx),) and the mean gradient (d,)."""
        predictor, targets = self._predict(x, idx), self.targets[idx]
        values = self.link.value(predictor, targets) + self.penalty.value(x)
        mean = self._combine(self.link.slope(predictor, targets) / len(idx), idx)
        return values, mean + self.penalty.gradient(x)

    def finite_sum(self) -> FiniteSum:
        """Return the objective that ``vamo_bbo.minimize`` takes."""
        return FiniteSum(self.losses, len(self.targets), grad=self.gradient, value_and_grad=self.value_and_grad)

    def _predict(self, x: Array, idx: Array) -> Array:
        if scipy.sparse.issparse(self.rows):
            rows = self.rows
            out = np.empty(len(idx))
            _sparse_kernels()[0](rows.data, rows.indices, rows.indptr, np.asarray(x, np.float64), idx, out)
            return out
        return np.asarray(self._take(idx) @ x)

    def _combine(self, weights: Array, idx: Array) -> Array:
        if scipy.sparse.issparse(self.rows):
            rows = self.rows
            out = np.zeros(rows.shape[1])
            _sparse_kernels()[1](rows.data, rows.indices, rows.indptr, weights, idx, out)
            return out
        return np.asarray(weights @ self._take(idx))

    def _take(self, idx: Array) -> Array:
        """Return the rows ``idx``: a view, not a copy, when they are consecutive."""
        lo = int(idx[0])
        if len(idx) > 1 and idx[-1] - lo == len(idx) - 1 and np.all(idx[1:] - idx[:-1] == 1):
            return np.asarray(self.rows[lo : lo + len(idx)])
        return np.asarray(self.rows[idx])


@cache
def _sparse_kernels() -> tuple[Any, Any]:
    """Compile the two products with selected CSR rows; on first use, because the compiler is slow to import."""
    import numba

    @numba.njit(cache=True, nogil=True)
    def predict(data, indices, indptr, x, idx, out):  # type: ignore[no-untyped-def]
        for k in range(idx.size):
            total = 0.0
            for p in range(indptr[idx[k]], indptr[idx[k] + 1]):
                total += data[p] * x[indices[p]]
            out[k] = total

    @numba.njit(cache=True, nogil=True)
    def combine(data, indices, indptr, weights, idx, out):  # type: ignore[no-untyped-def]
        for k in range(idx.size):
            for p in range(indptr[idx[k]], indptr[idx[k] + 1]):
                out[indices[p]] += weights[k] * data[p]

    return predict, combine


def softplus_margin(predictor: Array, signs: Array) -> Array:
    """Return the logistic loss log(1 + exp(-y p)) without overflow."""
    return np.asarray(np.logaddexp(0.0, -signs * predictor))


def softplus_margin_slope(predictor: Array, signs: Array) -> Array:
    """Return its derivative -y / (1 + exp(y p))."""
    return -signs * sigmoid(-signs * predictor)


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)) without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


def squared_sigmoid_error(predictor: Array, targets: Array) -> Array:
    """Return (y - sigmoid(p))^2."""
    return np.asarray((targets - sigmoid(predictor)) ** 2)


def squared_sigmoid_error_slope(predictor: Array, targets: Array) -> Array:
    """Return its derivative -2 (y - s) s (1 - s)."""
    s = sigmoid(predictor)
    return np.asarray(-2 * (targets - s) * s * (1 - s))


LOGISTIC = Link(softplus_margin, softplus_margin_slope)
SQUARED_SIGMOID = Link(squared_sigmoid_error, squared_sigmoid_error_slope)
