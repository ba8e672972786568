"""scipy's constraint objects as rows ``lower <= c(x) <= upper``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._errors import OptionError
from vamo_bbo._typing import Array, FloatArray

__all__ = ["Rows", "rows_of"]

_STEP = float(np.sqrt(np.finfo(np.float64).eps))
"""Relative step of forward differences."""


class _Block(NamedTuple):
    fun: Callable[[Array], Any]
    lower: FloatArray
    upper: FloatArray
    jac: Callable[[Array], Any] | None = None


class Rows:
    """All constraints of a problem, stacked.

    Parameters
    ----------
    blocks : sequence of (function, lower, upper, jacobian or None)
        ``lower`` and ``upper`` broadcast to what the function returns.

    Examples
    --------
    >>> rows = rows_of({"type": "ineq", "fun": lambda x: x[0] - 1})
    >>> rows.violation(np.array([0.25])), rows.violation(np.array([2.0]))
    (0.75, 0.0)
    """

    def __init__(self, blocks: Sequence[_Block]) -> None:
        self._blocks = tuple(blocks)
        self._limits: tuple[FloatArray, FloatArray] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def evaluate(self, x: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return c(x), lower and upper, each of shape (m,); NaN where a constraint raised an exception."""
        values = [np.asarray(block.fun(x.copy()), dtype=np.float64).reshape(-1) for block in self._blocks]
        if not values:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        if self._limits is None or self._limits[0].size != sum(c.size for c in values):
            sides = [(block.lower, block.upper) for block in self._blocks]
            lower, upper = (
                np.concatenate([np.broadcast_to(side[k], c.shape) for side, c in zip(sides, values, strict=True)])
                for k in (0, 1)
            )
            self._limits = lower, upper
        return np.concatenate(values), *self._limits

    def jacobian(self, x: Array, upper: FloatArray | None = None) -> FloatArray:
        """Return the derivatives of c at x, shape (m, d): those given, else forward differences.

        Backward ones where the step would go beyond ``upper``, (d,), or leads to no value.
        """
        parts = []
        for block in self._blocks:
            if block.jac is not None:
                parts.append(_matrix(block.jac(x.copy()), x.size))
                continue
            base = np.atleast_1d(np.asarray(block.fun(x.copy()), dtype=np.float64)).reshape(-1)
            part = np.empty((base.size, x.size))
            for k in range(x.size):
                size = _STEP * max(1.0, abs(x[k]))
                up = upper is None or x[k] + size <= upper[k]
                for sign in (1.0, -1.0) if up else (-1.0,):
                    there = x.copy()
                    there[k] += sign * size
                    change = np.asarray(block.fun(there), dtype=np.float64).reshape(-1) - base
                    part[:, k] = change / (x[k] + sign * size - x[k])
                    if np.isfinite(change).all():
                        break
            parts.append(part)
        return np.concatenate(parts) if parts else np.zeros((0, x.size))

    def within(self, to_x: Callable[[Array], Array], free: Array, scale: Array) -> Rows:
        """Return the rows as functions of other coordinates, of which ``to_x`` makes ``x[free]`` by ``scale``."""

        def seen(block: _Block) -> _Block:
            fun, jac = block.fun, block.jac

            def slopes(y: Array) -> Any:
                x = to_x(y)
                assert jac is not None
                return _matrix(jac(x), x.size)[:, free] * scale

            return _Block(lambda y: fun(to_x(y)), block.lower, block.upper, None if jac is None else slopes)

        return Rows([seen(block) for block in self._blocks])

    def violation(self, x: Array) -> float:
        """Return the largest amount by which a row is violated; inf where a constraint is NaN."""
        c, lower, upper = self.evaluate(x)
        if np.isnan(c).any():
            return float("inf")
        below, above = (lower - c)[c < lower], (c - upper)[c > upper]  # the others may be inf - inf
        return float(max(np.max(below, initial=0.0), np.max(above, initial=0.0)))


def _matrix(raw: Any, d: int) -> FloatArray:
    dense = raw.toarray() if hasattr(raw, "toarray") else raw
    return np.asarray(dense, dtype=np.float64).reshape(-1, d)


def rows_of(constraints: Any) -> Rows:
    """Return the rows of anything that scipy's ``constraints`` may be.

    Parameters
    ----------
    constraints : dict, LinearConstraint, NonlinearConstraint, or a sequence of them
        As for :func:`scipy.optimize.minimize`.

    Raises
    ------
    OptionError
        Something else.
    """
    from scipy.optimize import LinearConstraint, NonlinearConstraint

    if constraints is None:
        return Rows(())
    if isinstance(constraints, dict | LinearConstraint | NonlinearConstraint):
        constraints = [constraints]
    blocks = []
    for k, constraint in enumerate(constraints):
        if isinstance(constraint, dict):
            blocks.append(_from_dict(k, constraint))
        elif isinstance(constraint, LinearConstraint):
            matrix: Any = constraint.A
            blocks.append(_block(matrix.__matmul__, constraint.lb, constraint.ub, lambda x, a=matrix: a))
        elif isinstance(constraint, NonlinearConstraint):
            blocks.append(_block(constraint.fun, constraint.lb, constraint.ub, constraint.jac))
        else:
            raise OptionError(
                f"constraints: number {k} must be a dict, LinearConstraint or NonlinearConstraint, got {constraint!r}."
            )
    return Rows(blocks)


def _block(fun: Callable[[Array], Any], lower: Any, upper: Any, jac: Any = None) -> _Block:
    given = jac if callable(jac) else None  # scipy's names of difference schemes are not
    return _Block(fun, np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64), given)


def _from_dict(k: int, constraint: dict[str, Any]) -> _Block:
    kind, fun = str(constraint.get("type", "")).lower(), constraint.get("fun")
    if kind not in ("eq", "ineq") or not callable(fun):
        raise OptionError(
            f"constraints: number {k} needs 'type' 'eq' or 'ineq' and a callable 'fun', got {constraint!r}."
        )
    args, jac = constraint.get("args", ()), constraint.get("jac")
    given = None if not callable(jac) else lambda x: jac(x, *args)
    return _block(lambda x: fun(x, *args), 0.0, 0.0 if kind == "eq" else np.inf, given)
