r"""Matrix completion by factors, :math:`f_{ij}(U, V) = \frac12 (M_{ij} - u_i^\top v_j)^2` over the observed entries.

A sample touches 2 r variables, so gradients are sparse. The matrix has the rank of the factors, so the minimum is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems.problem import Array, Built, Problem, Reference
from vamo_bbo.problem import FiniteSum


class Completion:
    """The observed entries of a matrix and the factors' shapes.

    Parameters
    ----------
    entries : (n, 2) int
        Row and column of every observed entry.
    values : (n,) float64
        What was observed.
    shape : (int, int)
        Rows and columns of the matrix.
    rank : int
        Columns of both factors; x holds U, then V, by rows.
    """

    def __init__(self, entries: Array, values: Array, shape: tuple[int, int], rank: int) -> None:
        self.entries, self.values, self.shape, self.rank = entries, values, shape, rank

    def losses(self, x: Array, idx: Array) -> Array:
        """Return the values of the samples ``idx``."""
        left, right = self._factors(x, idx)
        return np.asarray((np.einsum("kr,kr->k", left, right) - self.values[idx]) ** 2 / 2)

    def value_and_grad(self, x: Array, idx: Array) -> tuple[Array, Array]:
        """Return the values and the mean gradient, (d,)."""
        left, right = self._factors(x, idx)
        residual = np.einsum("kr,kr->k", left, right) - self.values[idx]
        weight = (residual / len(idx))[:, None]
        gradient = np.zeros((sum(self.shape), self.rank))
        np.add.at(gradient, self.entries[idx, 0], weight * right)
        np.add.at(gradient, self.shape[0] + self.entries[idx, 1], weight * left)
        return residual**2 / 2, gradient.ravel()

    def gradient(self, x: Array, idx: Array) -> Array:
        """Return the mean gradient, (d,)."""
        return self.value_and_grad(x, idx)[1]

    def _factors(self, x: Array, idx: Array) -> tuple[Array, Array]:
        both = np.asarray(x).reshape(-1, self.rank)
        return both[self.entries[idx, 0]], both[self.shape[0] + self.entries[idx, 1]]


def build(shape: tuple[int, int], rank: int, share: float = 0.3, seed: int = 0) -> Built:
    """Return the completion of a random matrix of that rank from a share of its entries, started at random."""
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((shape[0], rank)), rng.standard_normal((shape[1], rank))
    entries = np.argwhere(rng.random(shape) < share)
    values = np.einsum("kr,kr->k", left[entries[:, 0]], right[entries[:, 1]])
    completion = Completion(entries, values, shape, rank)
    objective = FiniteSum(
        completion.losses, len(entries), grad=completion.gradient, value_and_grad=completion.value_and_grad
    )
    return Built(objective, 0.3 * rng.standard_normal(sum(shape) * rank))


def problems() -> Iterable[Problem]:
    """Return one completion of a 100 x 80 matrix of rank 3."""
    yield Problem(
        "matrix-completion",
        540,
        "finite_sum",
        "Completion of a 100 x 80 matrix of rank 3 from 30 % of its entries, by factors.",
        partial(build, (100, 80), 3),
        "0.4 ms a full value and gradient",
        "generated",
        Reference(0.0, "by construction: the matrix has the rank of the factors", 1e-9),
    )
