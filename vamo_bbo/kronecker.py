r"""A Kronecker metric: one small eigenbasis per side of every weight matrix of a network.

The gradient of a layer with weights W (m x n) is a matrix G, a sum of outer products of what flows back and what flows
forward, and the covariance of its entries is close to a Kronecker product of

.. math:: L = \mathrm{E}\, G G^\top, \qquad R = \mathrm{E}\, G^\top G

whose eigenbases :math:`Q_L, Q_R` cost m^2 + n^2 numbers where the covariance takes m^2 n^2. In these bases the
covariance is nearly diagonal, so the metric divides by the second moments V measured there:

.. math::
    P^{-1} G = Q_L^\top \Bigl(\frac{Q_L G Q_R^\top}{(V + \rho)^p}\Bigr) Q_R, \qquad
    V = \mathrm{E}\, (Q_L G Q_R^\top)^{\circ 2}, \quad \rho = \delta \, \frac{\mathrm{tr}\, C}{K}

(rows of Q are eigenvectors). :math:`\mathrm{tr}\, C / K`, the sum of V over all layers divided by the number of
gradients remembered, is the sampling error of an eigenvalue of the full covariance
(:mod:`vamo_bbo.sketch`); a metric with so many fewer unknowns needs only the share :math:`\delta` of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array
from vamo_bbo.core.solver import ArraySpec
from vamo_bbo.sketch import EXACT_BELOW, GEMM_PIECE, GEMV_PIECE, Arrays, Scalars

__all__ = ["LARGEST_SIDE", "Kronecker"]

LARGEST_SIDE = EXACT_BELOW
"""Longest side that gets a basis unless asked otherwise: for the same bits on any number of threads."""

POWER, SHARE = 1.0, 0.03
"""p and delta, chosen on development networks (docs/finite_sums)."""


class _Block(NamedTuple):
    """A weight matrix in the flat vector; a vector has one row."""

    key: str
    start: int
    rows: int
    columns: int

    def of(self, v: Array) -> Array:
        """Return the block of a flat vector as a matrix, a view."""
        return v[self.start : self.start + self.rows * self.columns].reshape(self.rows, self.columns)

    def sides(self, largest: int) -> list[tuple[str, int]]:
        """Return the names and lengths of the sides that get a basis: none of a vector's, none above ``largest``."""
        if self.rows == 1 or self.columns == 1:
            return []
        both = ((f"left{self.key}", self.rows), (f"right{self.key}", self.columns))
        return [side for side in both if side[1] <= largest]


def product(a: Array, b: Array) -> Array:
    """Return ``a @ b`` in fixed pieces, so that the result depends on no number of BLAS threads.

    Examples
    --------
    >>> product(np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    (m, k), n = a.shape, b.shape[1]
    if m * k * n <= GEMM_PIECE and min(m, n) > 1:
        return np.asarray(a @ b)
    # Of at most 16 x 512 on the left: a last piece of a single column, which is no matrix product, is small enough too.
    height, depth = 16, GEMV_PIECE // 16
    width = GEMM_PIECE // (height * depth)
    out = np.zeros((m, n), dtype=np.result_type(a, b))
    for top in range(0, m, height):
        for lo in range(0, n, width):
            piece = out[top : top + height, lo : lo + width]
            for first in range(0, k, depth):
                last = first + depth
                piece += a[top : top + height, first:last] @ b[first:last, lo : lo + width]
    return out


@dataclass(frozen=True, slots=True)
class Kronecker:
    r"""Second moments in the eigenbases of :math:`\mathrm{E}\, G G^\top` and :math:`\mathrm{E}\, G^\top G`, per layer.

    Parameters
    ----------
    shapes : sequence of tuples of int
        Shapes of the parameters in the order in which they lie in x. A convolution's (out, in, height, width) counts as
        the matrix (out, in height width). Vectors keep their coordinates.
    largest : int, default 200
        Longest side that gets a basis; a longer one keeps its coordinates (one-sided SOAP). A network that has all its
        weights in a longer side needs more, such as 1024; its eigenvalues then take a tenth of a second, four times a
        pass, and bits depend on the number of BLAS threads.

    Notes
    -----
    Memory: four vectors, and two m x m and two n x n matrices per layer. A step costs about :math:`4 m n (m + n)`
    multiplications per layer, a refresh the eigenvalues of its sides.

    Against SOAP: gradients are centered by their running mean, averages run over passes instead of a fixed decay,
    V + rho is not under a square root (p = 1: the metric is an estimate of the Fisher information, whose scale the
    measured step finds; with 1/2 it was slower), and V is carried over to new bases by the squared overlaps with the
    old ones, exactly as far as the rotated covariance was diagonal. SOAP's step has its own gradient in V; here
    ``scalars["metric_share"]`` says what one more gradient weighs, by which the solver shortens a step.

    References
    ----------
    N. Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", 2024, arXiv 2409.11321. V. Gupta, T. Koren,
    Y. Singer, "Shampoo: preconditioned stochastic tensor optimization", ICML 2018, arXiv 1802.09568.

    Examples
    --------
    >>> metric = Kronecker([(10, 64), (10,)])
    >>> [(spec.name, spec.shape) for spec in metric.arrays(650) if spec.name.startswith("left")]
    [('left0', (10, 10)), ('left0_basis', (10, 10))]
    """

    shapes: Sequence[Sequence[int]]
    largest: int = LARGEST_SIDE

    def __post_init__(self) -> None:
        try:
            shapes = tuple(tuple(int(side) for side in shape) for shape in self.shapes)
        except TypeError:
            shapes = ()
        if not shapes or any(side < 1 for shape in shapes for side in shape):
            raise OptionError(f"shapes must be the parameters' shapes, such as [(10, 64), (10,)], got {self.shapes!r}.")
        if self.largest < 1:
            raise OptionError(f"largest must be at least 1, got {self.largest!r}.")
        object.__setattr__(self, "shapes", shapes)

    @classmethod
    def of(cls, module: Any, largest: int = LARGEST_SIDE) -> Kronecker:
        """Return the metric of a PyTorch module: the shapes of its trainable parameters, as they lie in x.

        Parameters
        ----------
        module : torch.nn.Module
            Parameters with ``requires_grad=False`` are left out, as in ``parameter_vector``.
        largest : int, default 200
            Longest side that gets a basis.
        """
        return cls([tuple(p.shape) for p in module.parameters() if p.requires_grad], largest)

    def _blocks(self) -> Iterator[_Block]:
        start = 0
        for k, shape in enumerate(self.shapes):
            rows = shape[0] if len(shape) > 1 else 1
            block = _Block(str(k), start, rows, math.prod(shape) // rows)
            start += block.rows * block.columns
            yield block

    def arrays(self, size: int) -> tuple[ArraySpec, ...]:
        """Return the running mean, V and the metric in use, and per side its second moments and their basis."""
        total = sum(math.prod(shape) for shape in self.shapes)
        if total != size:
            raise OptionError(f"shapes must have as many entries as x, {size}, got {total}: {self.shapes!r}.")
        specs = [ArraySpec("center", (size,)), ArraySpec("rotated", (size,), "float64"), ArraySpec("metric", (size,))]
        for block in self._blocks():
            for name, side in block.sides(self.largest):
                specs += [ArraySpec(name, (side, side), "float64"), ArraySpec(f"{name}_basis", (side, side))]
        return tuple(specs)

    @staticmethod
    def _turn(arrays: Arrays, block: _Block, matrix: Array, *, back: bool = False) -> Array:
        """Return ``Q_L matrix Q_R'``, or the inverse of that; a side without a basis stays."""
        left, right = arrays.get(f"left{block.key}_basis"), arrays.get(f"right{block.key}_basis")
        if left is not None:
            matrix = product(left.T if back else left, matrix)
        if right is not None:
            matrix = product(matrix, right if back else right.T)
        return matrix

    def add(self, arrays: Arrays, scalars: Scalars, gradient: Array, batch_size: float) -> None:
        """Average G G', G' G and the squares in the present bases, of the deviation from the running mean."""
        if "sketch_known" not in scalars:
            self._start(arrays)
        known = min(scalars.get("sketch_known", 0.0), scalars.get("sketch_memory", math.inf))
        share = 1.0 / (known + 1.0)
        gap = gradient - arrays["center"]
        arrays["center"] += gap.dtype.type(share) * gap
        # What the new mean takes off the new deviation.
        weight = batch_size * share * (1.0 - share)
        for block in self._blocks():
            matrix = block.of(gap)
            for name, _ in block.sides(self.largest):
                outer = product(matrix, matrix.T) if name.startswith("left") else product(matrix.T, matrix)
                arrays[name] *= 1.0 - share
                arrays[name] += weight * outer
            squares = block.of(arrays["rotated"])
            squares *= 1.0 - share
            squares += weight * np.square(self._turn(arrays, block, matrix), dtype=np.float64)
        scalars["sketch_known"], scalars["sketch_batch"] = known + 1.0, batch_size

    def _start(self, arrays: Arrays) -> None:
        """Begin with the coordinates as bases."""
        for block in self._blocks():
            for name, side in block.sides(self.largest):
                arrays[f"{name}_basis"][...] = np.eye(side)

    def refresh(self, arrays: Arrays, scalars: Scalars, memory: float) -> None:
        """Make the eigenbases anew, see V in them, and put it to use."""
        scalars["sketch_memory"] = memory
        for block in self._blocks():
            squares = block.of(arrays["rotated"])
            for name, _ in block.sides(self.largest):
                basis = arrays[f"{name}_basis"]
                vectors = np.linalg.eigh(arrays[name])[1].T
                overlap = np.square(product(vectors, basis.T.astype(np.float64)))
                turned = product(overlap, squares) if name.startswith("left") else product(squares, overlap.T)
                squares[...] = turned
                basis[...] = vectors
        rotated, known = arrays["rotated"], max(1.0, scalars.get("sketch_known", 0.0))
        # b / K: the weight of a step's own gradient, as one more, in P.
        scalars["metric_share"] = scalars.get("sketch_batch", 0.0) / known
        floor = SHARE * float(rotated.sum()) / known
        # No gradient differs from another: nothing to precondition by.
        arrays["metric"][...] = (rotated + floor) ** -POWER if floor > 0 else 1.0

    def apply(self, arrays: Arrays, scalars: Scalars, v: Array) -> Array:
        """Return ``P^-1 v``."""
        out = np.empty_like(v)
        for block in self._blocks():
            turned = self._turn(arrays, block, block.of(v)) * block.of(arrays["metric"])
            block.of(out)[...] = self._turn(arrays, block, turned, back=True)
        return out
