r"""Streaming sketches of the covariance of mini-batch gradients, and the preconditioners they give.

Near a minimum of a log-likelihood the covariance C of single-sample gradients is the Fisher information, the Hessian
of the mean loss. A sketch keeps its leading eigenpairs :math:`C \approx U^\top \mathrm{diag}(\lambda) U` and its
trace, and gives

.. math::
    P^{-1} v = \frac1\varphi \Bigl(v - U^\top (1 - w) \odot U v\Bigr), \qquad
    w_j = \frac{\varphi}{\lambda_j + \rho}, \quad \varphi = \lambda_q + \rho, \quad \rho = \frac{\mathrm{tr}\, C}{K}

for a memory of K gradients: directions that the sketch does not hold get the curvature of the last one that it holds
(:math:`\lambda_q` is 0 when it holds all d), and :math:`\rho` is the sampling error of an eigenvalue. P is the
covariance's only up to a scalar; the step size measures that scalar (:mod:`vamo_bbo.step_sizes`).

The floor is the same in all directions, which hides coordinates whose gradients are smaller than the largest by more
than about :math:`\sqrt K`: features in units of their own. So all of this may be done in units in which the deviations
at x0 are of one size (up to d = 200), if these promise more: a parameter whose gradient is small only because another
one starts near zero has no small unit, and a metric that takes it for one allows no step at all
(:mod:`vamo_bbo.gradient_tables`). A feature that is small because it is rare has few samples behind its deviation, and
is scaled the less the fewer they are.

Gradients count by what they are relative to the others of their time: each is divided by the root of the level
:math:`\ell` of the energies around it, their mean over 32 gradients. Where every sample can be fitted
gradients fall by orders of magnitude within a pass; as they are, C would be made of the few first ones, most of its
spectrum would be chance, and the curvature in its metric would grow without end. One among few that are a thousand
times as large counts as 32 at most. P is free of the scale of f.

A gradient that the sketch has not seen the like of is divided by the floor, which is nearly nothing where a feature is
rare and large: one step then overshoots by far, to where the loss is flat and nothing leads back. So a step uses the
metric that contains its own estimate v as one more gradient, :math:`P + \frac{b}{K} v v^\top` for a mini-batch of b:
by Sherman and Morrison's formula the step of P over :math:`1 + \frac{b}{K} v^\top P^{-1} v`. That is near 1 for an
estimate like the others, and goes to 1 as estimates vanish.

Products are cut into pieces below the size at which a BLAS goes parallel, so that results depend on no thread count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from vamo_bbo._blas import one_thread
from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray
from vamo_bbo.core.solver import ArraySpec

__all__ = ["EXACT_BELOW", "Diagonal", "Guided", "Preconditioner", "combination", "preconditioner", "projections"]

EXACT_BELOW = 200
"""Dimension up to which the covariance itself is kept and every direction is one of the sketch's. Up to here LAPACK's
symmetric eigendecomposition has the same bits on any number of threads, from 208 on not (measured with OpenBLAS)."""

RANK = 16
"""Directions of a streaming sketch unless asked otherwise."""

LARGE = 20_000
"""Dimension from which the sketch is kept in float32 and sees one gradient in q/2 instead of one in q/6: its use and
upkeep are bound by memory there, and the metric needs no more than a few digits."""

BUFFER, EXACT_BUFFER = 3, 64
"""Gradients that wait until they enter the sketch together."""

OWN_MEAN = 8
"""Gradients from which on they are centered by their own mean rather than by a running one."""

SMOOTH = 32
"""Gradients over which the level of their energies is smoothed, and the most that one counts for."""

GEMV_PIECE, GEMM_PIECE = 8192, 200_000
"""Multiplications in one BLAS call: OpenBLAS threads matrix-vector products above 9216 and matrix products above
262144 of them (its interface/gemv.c and gemm.c with the default GEMM_MULTITHREAD_THRESHOLD of 4)."""

Arrays = dict[str, Array]
Scalars = dict[str, float]


def projections(basis: Array, v: Array) -> Array:
    """Return ``basis @ v``, shape (q,), in fixed pieces.

    Examples
    --------
    >>> projections(np.eye(2, 3), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 2.0]
    """
    q, size = basis.shape
    if q * size <= GEMV_PIECE:
        return np.asarray(basis @ v)
    if (height := GEMV_PIECE // size) >= 4:  # rows lie together: fewer and faster pieces
        out = np.empty(q, dtype=basis.dtype)
        for lo in range(0, q, height):
            np.matmul(basis[lo : lo + height], v, out=out[lo : lo + height])
        return out
    stack, rest = _pieces(basis)
    total: Array = np.add.reduce(np.matmul(stack, v[: size - rest].reshape(len(stack), -1, 1)))[:, 0]
    if rest:
        total += basis[:, size - rest :] @ v[size - rest :]
    return total


def _pieces(basis: Array) -> tuple[Array, int]:
    """Return views of equally many columns, shape (pieces, q, width), and the number of columns that are left.

    One product of NumPy over the stack is a call of the BLAS per piece, without a call of Python for each.
    """
    q, size = basis.shape
    count = -(-size // max(8, GEMV_PIECE // q))
    width = size // count
    return basis[:, : count * width].reshape(q, count, width).transpose(1, 0, 2), size - count * width


def combination(coefficients: Array, basis: Array) -> Array:
    """Return ``coefficients @ basis``, shape (d,), in fixed pieces.

    Examples
    --------
    >>> combination(np.array([2.0, 1.0]), np.eye(2, 3)).tolist()
    [2.0, 1.0, 0.0]
    """
    q, size = basis.shape
    if q * size <= GEMV_PIECE:
        return np.asarray(coefficients @ basis)
    out = np.empty(size, dtype=basis.dtype)
    stack, rest = _pieces(basis)
    np.matmul(coefficients, stack, out=out[: size - rest].reshape(len(stack), -1))
    if rest:
        np.matmul(coefficients, basis[:, size - rest :], out=out[size - rest :])
    return out


def units_of(gradients: Array) -> FloatArray:
    """Return factors, (d,), that give coordinates of gradients, (m, d), like deviations; 1 where there are none.

    A deviation that few of the gradients make, that of a rare feature, says little of the units: it counts with the
    power k / (k + 1) for k gradients (the effective number, of their squares).

    Examples
    --------
    >>> rows = np.array([[1.0, -1e-3, 2e3], [-1.0, 1e-3, -2e3]] * 50)
    >>> units_of(rows).round(4).tolist()
    [1.0, 933.8928, 0.0005]
    """
    squares = np.square(gradients - gradients.mean(axis=0), dtype=np.float64)
    total = squares.sum(axis=0)
    seen = total > 0.0
    units = np.ones(total.size)
    if not seen.any():
        return units
    count = total[seen] ** 2 / np.square(squares[:, seen]).sum(axis=0)
    sizes = np.sqrt(total[seen] / np.median(total[seen])) ** (count / (count + 1.0))
    units[seen] = 1.0 / sizes
    return units


def _levels(energies: FloatArray, scalars: Scalars) -> FloatArray:
    """Return what each energy is divided by, (m,): the running mean over ``SMOOTH`` of them, kept in ``scalars``."""
    level, levels = scalars.get("sketch_level", float(energies.mean())), np.empty_like(energies)
    for k, energy in enumerate(energies.tolist()):
        level += (energy - level) / SMOOTH
        levels[k] = level
    scalars["sketch_level"] = level
    return levels


class Preconditioner(Protocol):
    """A positive definite metric learned from gradients; its arrays and scalars live in the solver's state."""

    def arrays(self, size: int) -> tuple[ArraySpec, ...]:
        """Return the arrays it keeps."""
        ...

    def add(self, arrays: Arrays, scalars: Scalars, gradient: Array, batch_size: float) -> None:
        """Take the gradient of a mini-batch; it counts from the next :meth:`refresh` on."""
        ...

    @one_thread()
    def refresh(self, arrays: Arrays, scalars: Scalars, memory: float) -> None:
        """Make the metric that :meth:`apply` uses; ``memory`` is the most gradients that it remembers."""
        ...

    def apply(self, arrays: Arrays, scalars: Scalars, v: Array) -> Array:
        """Return ``P^-1 v``, shape (d,), a new array."""
        ...


@dataclass(frozen=True, slots=True)
class Guided:
    """Leading eigenpairs of the gradients' covariance plus a floor.

    Below d = 200 the covariance is kept and decomposed at each refresh. Above, three gradients at a time (one in
    ``rank / 6``, from d = 20,000 on one in ``rank / 2`` and in float32) are folded into the leading ``rank`` eigenpairs
    by an incremental singular value decomposition: ``rank + 4`` vectors in all.

    Parameters
    ----------
    rank : int, optional
        Directions q; None means d below d = 200 and 16 above.

    References
    ----------
    M. Brand, "Fast low-rank modifications of the thin singular value decomposition", Linear Algebra and its
    Applications 415(1), 2006. E. Liberty, "Simple and deterministic matrix sketching", KDD 2013, for the streaming
    model. S. Amari, "Natural gradient works efficiently in learning", Neural Computation 10(2), 1998, for the metric.

    Examples
    --------
    >>> sum(math.prod(spec.shape) for spec in Guided(16).arrays(10**6) if len(spec.shape) == 2)
    19000000
    """

    rank: int | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and (int(self.rank) != self.rank or self.rank < 1):
            raise OptionError(f"rank must be a positive integer or None, got {self.rank!r}.")

    def count(self, size: int) -> int:
        """Return the number of directions q for ``size`` = d variables."""
        if self.rank is None:
            return size if size <= EXACT_BELOW else RANK
        return min(self.rank, size)

    def arrays(self, size: int) -> tuple[ArraySpec, ...]:
        """Return basis, spectrum, weights and the waiting gradients; covariance and units where they are kept."""
        q = self.count(size)
        rows = EXACT_BUFFER if size <= EXACT_BELOW else BUFFER
        kind = "float32" if size >= LARGE else "x"
        specs = (
            ArraySpec("basis", (q, size), kind),
            ArraySpec("spectrum", (q,), "float64"),
            ArraySpec("shrinkage", (q,), kind),
            ArraySpec("waiting", (rows, size), kind),
            ArraySpec("center", (size,), kind),
        )
        if size > EXACT_BELOW:
            return specs
        return (*specs, ArraySpec("units", (size,)), ArraySpec("covariance", (size, size), "float64"))

    def add(self, arrays: Arrays, scalars: Scalars, gradient: Array, batch_size: float) -> None:
        """Queue a gradient, and fold the queue into the sketch when it is full."""
        seen = scalars.get("sketch_seen", 0.0)
        scalars["sketch_seen"] = seen + 1
        size = gradient.size
        stride = 1 if size <= EXACT_BELOW else max(1, round(self.count(size) / (2 if size >= LARGE else 6)))
        if seen % stride and seen >= 3 * BUFFER:
            return
        filled = int(scalars.get("sketch_filled", 0.0))
        arrays["waiting"][filled] = gradient
        scalars["sketch_filled"] = filled + 1.0
        scalars["sketch_batch"] = batch_size
        if filled + 1 == len(arrays["waiting"]):
            self._fold(arrays, scalars)

    @one_thread()  # more would split the sums of a product otherwise, and change their last bits
    def _fold(self, arrays: Arrays, scalars: Scalars) -> None:
        """Average the waiting gradients into covariance or eigenpairs."""
        m = int(scalars.get("sketch_filled", 0.0))
        if m == 0:
            return
        scalars["sketch_filled"] = 0.0
        center, known = arrays["center"], scalars.get("sketch_known", 0.0)
        rows = arrays["waiting"][:m]
        if "units" in arrays:
            if not known:
                arrays["units"][...] = units_of(rows)
            rows *= arrays["units"]
        # Memory counts gradients; the share of the new ones is that of a plain mean until it is full.
        known = min(known, scalars.get("sketch_memory", math.inf))
        share = m / (known + m)
        mean = np.add.reduce(rows) / rows.dtype.type(m)
        center += center.dtype.type(m / (min(known, SMOOTH) + m)) * (mean - center)
        # Many gradients at once bring their own mean: the drift of the mean is then no variance.
        own = m >= OWN_MEAN
        rows -= mean if own else center
        weight = scalars["sketch_batch"] / (m - 1 if own else m)
        energies = m * weight * np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        levels = _levels(energies, scalars)
        rows *= np.divide(1.0, np.sqrt(levels), where=levels > 0, out=np.zeros(m)).astype(rows.dtype)[:, None]
        relative = np.divide(energies, levels, where=levels > 0, out=np.zeros(m))
        scalars["sketch_trace"] = (1.0 - share) * scalars.get("sketch_trace", 0.0) + share * float(relative.mean())
        weight *= share
        scalars["sketch_known"] = known + m
        if "covariance" in arrays:
            covariance = arrays["covariance"]
            covariance *= 1.0 - share
            for lo in range(0, m, 8):
                part = rows[lo : lo + 8].astype(np.float64)
                covariance += weight * np.einsum("ki,kj->ij", part, part)
        else:
            self._rotate(arrays, 1.0 - share, weight, rows)

    def _rotate(self, arrays: Arrays, keep: float, weight: float, rows: Array) -> None:
        """Replace the eigenpairs by the leading ones of ``keep U' diag(lambda) U + weight rows' rows``."""
        basis, spectrum = arrays["basis"], arrays["spectrum"]
        q, m, size = len(basis), len(rows), basis.shape[1]
        width = max(16, GEMM_PIECE // (q + m) ** 2)
        root = np.empty(q + m)
        np.sqrt(keep * spectrum, out=root[:q])
        root[q:] = math.sqrt(weight)
        cross = np.zeros((m, q + m))
        pieces = [slice(lo, lo + width) for lo in range(0, size, width)]
        for piece in pieces:
            cross += rows[:, piece] @ np.concatenate((basis[:, piece], rows[:, piece])).T
        # Of orthonormal rows and the new ones; rows of the basis that are still zero stay so.
        gram = np.zeros((q + m, q + m))
        gram.flat[: q * (q + m) : q + m + 1] = spectrum > 0
        gram[q:], gram[:q, q:] = cross, cross[:, :q].T
        values, vectors = np.linalg.eigh(gram * root * root[:, None])
        values, vectors = values[::-1][:q], vectors[:, ::-1][:, :q]
        alive = values > 1e-14 * max(values[0], 0.0)
        scale = np.where(alive, 1.0 / np.sqrt(np.where(alive, values, 1.0)), 0.0)
        turn = ((vectors * scale).T * root).astype(basis.dtype)
        for piece in pieces:
            np.matmul(turn, np.concatenate((basis[:, piece], rows[:, piece])), out=basis[:, piece])
        spectrum[...] = np.where(alive, values, 0.0)

    @one_thread()
    def refresh(self, arrays: Arrays, scalars: Scalars, memory: float) -> None:
        """Fold in what waits and make the eigenpairs the metric."""
        scalars["sketch_memory"] = memory
        self._fold(arrays, scalars)
        basis, spectrum = arrays["basis"], arrays["spectrum"]
        q, size = basis.shape
        if "covariance" in arrays:
            values, vectors = np.linalg.eigh(arrays["covariance"])
            spectrum[...] = np.maximum(values[::-1][:q], 0.0)
            basis[...] = vectors.T[::-1][:q]
        noise = self._sampling_error(scalars)
        floor = noise + (float(spectrum[-1]) if q < size else 0.0)
        # b / K, and the gradient divided as the others are: the weight of one more mini-batch gradient in P.
        count = max(1.0, scalars.get("sketch_known", 0.0))
        scalars["metric_share"] = scalars["sketch_batch"] / (count * scalars["sketch_level"]) if noise > 0 else 0.0
        if not floor > 0:  # no gradient differs from another: nothing to precondition by
            scalars["sketch_floor"] = 1.0
            arrays["shrinkage"][...] = 0.0
            return
        scalars["sketch_floor"] = floor
        arrays["shrinkage"][...] = 1.0 - np.minimum(1.0, floor / (spectrum + noise))

    def without_units(self, arrays: Arrays, scalars: Scalars) -> tuple[Arrays, Scalars] | None:
        """Return copies that hold the metric of the same gradients as they are; None if that is what it holds.

        No gradient may be waiting: right after :meth:`refresh`.
        """
        units = arrays.get("units")
        if units is None or (units == 1.0).all():
            return None
        plain = {name: arrays[name].copy() for name in ("basis", "spectrum", "shrinkage", "center", "waiting")}
        plain["units"] = np.ones_like(units)
        plain["center"] /= units
        plain["covariance"] = arrays["covariance"] / np.outer(units, units)
        found = dict(scalars)
        ratio = float(np.trace(plain["covariance"])) / scalars["sketch_trace"]
        plain["covariance"] /= ratio
        found["sketch_level"] *= ratio
        self.refresh(plain, found, scalars["sketch_memory"])
        return plain, found

    @staticmethod
    def _sampling_error(scalars: Scalars) -> float:
        """Return rho: the trace over the number of gradients."""
        return scalars.get("sketch_trace", 0.0) / max(1.0, scalars.get("sketch_known", 0.0))

    @staticmethod
    def level(scalars: Scalars) -> float:
        """Return how many times P the covariance of the latest gradients is, those of single samples."""
        return scalars.get("sketch_level", 0.0) or 1.0

    def apply(self, arrays: Arrays, scalars: Scalars, v: Array) -> Array:
        """Return ``P^-1 v``."""
        basis, units = arrays["basis"], arrays.get("units")
        inner = v if units is None else v * units
        coefficients = arrays["shrinkage"] * projections(basis, inner.astype(basis.dtype, copy=False))
        result: Array = inner - combination(coefficients, basis)
        result *= v.dtype.type(1.0 / scalars["sketch_floor"])
        if units is not None:
            result *= units
        return result

    def project(self, arrays: Arrays, v: Array) -> Array:
        """Return the coefficients of a gradient along the directions, (q,)."""
        units = arrays.get("units")
        return projections(arrays["basis"], v if units is None else v * units)

    def expand(self, arrays: Arrays, coefficients: Array) -> Array:
        """Return the gradient that has these coefficients and is zero across the directions, (d,)."""
        units = arrays.get("units")
        found = combination(coefficients, arrays["basis"])
        return found if units is None else found / units

    def effective_dimension(self, arrays: Arrays, scalars: Scalars) -> float:
        """Return ``tr(C P^-1)``: how many directions the noise of one sample fills after preconditioning."""
        spectrum = arrays["spectrum"]
        noise = self._sampling_error(scalars)
        rest = max(0.0, scalars["sketch_trace"] - float(spectrum.sum()))
        return float(np.sum(spectrum / (spectrum + noise))) + rest / scalars["sketch_floor"]


@dataclass(frozen=True, slots=True)
class Diagonal:
    """The variance of every coordinate of the gradient, plus the same sampling error.

    Examples
    --------
    >>> [spec.name for spec in Diagonal().arrays(5)]
    ['variance', 'center', 'metric']
    """

    def arrays(self, size: int) -> tuple[ArraySpec, ...]:
        """Return running variance and mean, and the metric in use."""
        return ArraySpec("variance", (size,)), ArraySpec("center", (size,)), ArraySpec("metric", (size,))

    def add(self, arrays: Arrays, scalars: Scalars, gradient: Array, batch_size: float) -> None:
        """Average the squared deviation from the running mean."""
        known = min(scalars.get("sketch_known", 0.0), scalars.get("sketch_memory", math.inf))
        share = gradient.dtype.type(1.0 / (known + 1.0))
        gap = gradient - arrays["center"]
        arrays["center"] += share * gap
        variance = arrays["variance"]
        variance *= 1 - share
        variance += share * gradient.dtype.type(batch_size) * gap * (gradient - arrays["center"])
        scalars["sketch_known"], scalars["sketch_batch"] = known + 1.0, batch_size

    @one_thread()
    def refresh(self, arrays: Arrays, scalars: Scalars, memory: float) -> None:
        """Put the present variances to use."""
        scalars["sketch_memory"] = memory
        variance: FloatArray = np.maximum(arrays["variance"], 0.0)
        known = max(1.0, scalars.get("sketch_known", 0.0))
        scalars["metric_share"] = scalars["sketch_batch"] / known
        noise = float(variance.sum()) / known
        arrays["metric"][...] = 1.0 / (variance + noise) if noise > 0 else 1.0

    def apply(self, arrays: Arrays, scalars: Scalars, v: Array) -> Array:
        """Return ``P^-1 v``."""
        return np.asarray(arrays["metric"] * v)


def preconditioner(
    kind: Literal["guided", "diagonal", "none"] | Preconditioner, rank: int | None = None
) -> Preconditioner | None:
    """Return the preconditioner of that name; one that is a preconditioner already is returned as it is.

    Raises
    ------
    OptionError
        There is none.

    Examples
    --------
    >>> preconditioner("none") is None
    True
    """
    if not isinstance(kind, str):
        missing = [name for name in ("arrays", "add", "refresh", "apply") if not hasattr(kind, name)]
        if missing:
            raise OptionError(
                "preconditioner must be 'auto', 'guided', 'diagonal', 'none' or an object such as "
                f"vb.Kronecker.of(module), got {kind!r}."
            )
        return kind
    if kind not in ("guided", "diagonal", "none"):
        raise OptionError(f"preconditioner must be 'guided', 'diagonal' or 'none', got {kind!r}.")
    if kind == "guided":
        return Guided(rank)
    return Diagonal() if kind == "diagonal" else None
