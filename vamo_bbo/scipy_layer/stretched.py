"""A method of scipy in variables of similar size, inside a run in the user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, OptimizeResult, minimize

from vamo_bbo._typing import Array
from vamo_bbo.scipy_layer.methods import takes_map
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.scipy_layer.scaled import both_sides
from vamo_bbo.scipy_layer.wrappers import wants_result

__all__ = ["Stretched"]


@dataclass(frozen=True, slots=True)
class Stretched:
    """A custom method of scipy: one of its own on ``z = (x - origin) / scale``, within the bounds of the objective.

    Parameters
    ----------
    method : str
        Name of a method of scipy that takes bounds.
    origin, scale : (d,) arrays
        Of the change of variables; the run starts at the origin.

    Examples
    --------
    >>> from vamo_bbo.run.failures import FailurePolicy
    >>> from vamo_bbo.run.stop import Budget
    >>> watched = Watched(lambda x: float((x[0] - 1) ** 2 + (1e4 * x[1] - 1) ** 2), Budget(), FailurePolicy())
    >>> method = Stretched("COBYQA", np.zeros(2), np.array([1e2, 1e-2]))
    >>> bool(minimize(watched, np.zeros(2), method=method).fun < 1e-9)
    True
    """

    method: str
    origin: Array
    scale: Array

    def __call__(
        self,
        fun: Watched,
        x0: Array,
        args: Any = (),
        *,
        callback: Callable[..., Any] | None = None,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        tol: float | None = None,
        **options: Any,
    ) -> OptimizeResult:
        """Run the method."""
        args = args if isinstance(args, tuple) else (args,)
        lower = np.full(self.origin.size, -np.inf) if fun.lower is None else fun.lower
        upper = np.full(self.origin.size, np.inf) if fun.upper is None else fun.upper
        boxed = bool(np.isfinite(lower).any() or np.isfinite(upper).any())

        def to_x(z: Array) -> Array:
            x: Array = (self.origin + self.scale * z).clip(lower, upper)  # the product may round to just outside
            return x

        def show(z: Array) -> Any:  # with fixed variables scipy does not hand out intermediate results
            assert callback is not None
            x = to_x(z)
            if not wants_result(callback):
                return callback(x)
            shown: Any = OptimizeResult()
            shown.x, shown.fun = x, fun.value_at(x)
            return callback(intermediate_result=shown)

        if takes_map(self.method.lower()):
            options["workers"] = fun.map
        arguments: dict[str, Any] = {
            "method": self.method,
            "bounds": Bounds((lower - self.origin) / self.scale, (upper - self.origin) / self.scale) if boxed else None,
            "callback": None if callback is None else show,
            "tol": tol,
            "options": options,
        }
        result: Any = minimize(lambda z: fun(to_x(z), *args), np.zeros(self.origin.size), **arguments)  # type: ignore[misc]
        result.x = to_x(result.x)
        if result.get("jac") is not None:
            result.jac = result.jac / self.scale
        if result.get("hess_inv") is not None:
            result.hess_inv = both_sides(result.hess_inv, self.scale)
        return result  # type: ignore[no-any-return]
