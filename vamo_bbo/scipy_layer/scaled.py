"""A call of one of scipy's methods in the variables ``z = x / x_scale``, and its result in ``x`` again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.setup import parse_bounds, scale_of
from vamo_bbo.scipy_layer.wrappers import wants_result

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["Scaled", "both_sides"]


class Scaled:
    """The change of variables of one call.

    Parameters
    ----------
    call : Call
        Its arguments; ``x_scale`` is not None.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        given = scale_of(call.x_scale, call.size, None)
        self.scale: Array = np.ones(call.size) if given is None else given
        self.limits = parse_bounds(call.bounds, call.size)

    def point(self, z: Array) -> Array:
        """Return x; a product may round to just outside the bounds."""
        x: Array = z * self.scale
        return x if self.limits is None else x.clip(*self.limits)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that change."""
        call, scale, point = self.call, self.scale, self.point
        changed: dict[str, Any] = {
            "fun": self._sum(call.fun) if isinstance(call.fun, FiniteSum) else self._fun,
            "x0": np.atleast_1d(np.asarray(call.x0, dtype=np.float64)) / scale,
        }
        if callable(call.jac):
            jac = call.jac
            changed["jac"] = lambda z, *args: np.asarray(jac(point(z), *args)) * scale
        if callable(call.hess):
            hess = call.hess
            changed["hess"] = lambda z, *args: both_sides(hess(point(z), *args), scale)
        if callable(call.hessp):
            hessp = call.hessp
            changed["hessp"] = lambda z, p, *args: scale * np.asarray(hessp(point(z), scale * p, *args))
        if self.limits is not None:
            changed["bounds"] = list(zip(self.limits[0] / scale, self.limits[1] / scale, strict=True))
        if call.constrained:
            many = call.constraints if isinstance(call.constraints, list | tuple) else [call.constraints]
            changed["constraints"] = [self._constraint(one) for one in many]
        if call.callback is not None:
            changed["callback"] = self._callback(call.callback)
        return changed

    def _fun(self, z: Array, *args: Any) -> Any:
        if self.call.jac is True:
            value, gradient = self.call.fun(self.point(z), *args)
            return value, np.asarray(gradient) * self.scale
        return self.call.fun(self.point(z), *args)  # rows too, where it is vectorized

    def _sum(self, problem: FiniteSum) -> FiniteSum:
        losses, grad, both = problem.losses, problem.grad, problem.value_and_grad

        def scaled_both(z: Array, *rest: Any) -> Any:
            assert both is not None
            values, gradient = both(self.point(z), *rest)
            return values, np.asarray(gradient) * self.scale

        return replace(
            problem,
            losses=lambda z, *rest: losses(self.point(z), *rest),
            grad=None if grad is None else lambda z, *rest: np.asarray(grad(self.point(z), *rest)) * self.scale,
            value_and_grad=None if both is None else scaled_both,
        )

    def _constraint(self, constraint: Any) -> Any:
        """Return a constraint object of scipy on z; what is none is handed on, for scipy's own error."""
        from scipy.optimize import LinearConstraint, NonlinearConstraint

        scale, point = self.scale, self.point
        if isinstance(constraint, LinearConstraint):
            matrix: Any = constraint.A
            matrix = matrix.multiply(scale[None, :]).tocsr() if hasattr(matrix, "multiply") else matrix * scale
            return LinearConstraint(matrix, constraint.lb, constraint.ub, constraint.keep_feasible)
        if isinstance(constraint, NonlinearConstraint):
            changed: Any = copy.copy(constraint)
            fun, jac = constraint.fun, constraint.jac
            hess: Any = constraint.hess
            changed.fun = lambda z: fun(point(z))
            if callable(jac):
                changed.jac = lambda z: _columns(jac(point(z)), scale)
            if callable(hess):
                changed.hess = lambda z, v: both_sides(hess(point(z), v), scale)
            return changed
        if not isinstance(constraint, dict) or not callable(constraint.get("fun")):
            return constraint
        old = dict(constraint)
        changed_dict = {**old, "fun": lambda z, *args: old["fun"](point(z), *args)}
        if callable(old.get("jac")):
            changed_dict["jac"] = lambda z, *args: _columns(old["jac"](point(z), *args), scale)
        return changed_dict

    def _callback(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        if not wants_result(callback):
            return lambda z, *rest: callback(z * self.scale, *rest)

        def named(intermediate_result: Any) -> Any:
            intermediate_result.x = intermediate_result.x * self.scale
            return callback(intermediate_result=intermediate_result)

        return named

    def restore(self, result: Any) -> Any:
        """Return ``result`` with every point, gradient and Hessian in terms of x."""
        scale = self.scale
        result.x = result.x * scale
        for name in ("jac", "grad", "lagrangian_grad"):
            value = result.get(name)
            if isinstance(value, np.ndarray):
                result[name] = value / scale
            elif isinstance(value, list):  # trust-constr: Jacobians of the constraints
                result[name] = [_columns(one, 1.0 / scale) for one in value]
        if result.get("hess") is not None:
            result.hess = both_sides(result.hess, 1.0 / scale)
        if result.get("hess_inv") is not None:
            result.hess_inv = both_sides(result.hess_inv, scale)
        if "direc" in result:
            result.direc = result.direc * scale
        if "allvecs" in result:
            result.allvecs = [z * scale for z in result.allvecs]
        if "final_simplex" in result:
            result.final_simplex = (result.final_simplex[0] * scale, result.final_simplex[1])
        result.failures = [r if r.x is None else replace(r, x=r.x * scale) for r in result.failures]
        return result


def _columns(jacobian: Any, scale: Array) -> Any:
    """Return ``jacobian @ diag(scale)`` of an array or a sparse matrix."""
    if hasattr(jacobian, "multiply"):
        return jacobian.multiply(scale[None, :]).tocsr()
    return np.asarray(jacobian) * scale


def both_sides(matrix: Any, scale: Array) -> Any:
    """Return ``diag(scale) @ matrix @ diag(scale)`` of an array, a sparse matrix or a linear operator."""
    if hasattr(matrix, "multiply"):
        return matrix.multiply(scale[None, :]).multiply(scale[:, None]).tocsr()
    if hasattr(matrix, "matvec"):
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import aslinearoperator

        diagonal = aslinearoperator(diags_array(scale))
        return diagonal @ matrix @ diagonal
    return np.asarray(matrix) * scale * scale[:, None]
