"""From a call with a :class:`~vamo_bbo.space.Space` to one on the unit box, and back to named parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.minimize import Call, is_scipys, run_call
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.failures import FailurePolicy
from vamo_bbo.space import Space, SpaceObjective

__all__ = ["minimize_space"]


def _with_params(callback: Callable[..., Any] | None, space: Space) -> Callable[..., Any] | None:
    """Return ``callback`` whose ``intermediate_result`` has ``params``."""
    from vamo_bbo.scipy_layer.wrappers import wants_result

    if callback is None or not wants_result(callback):
        return callback

    def named(intermediate_result: Any) -> Any:
        intermediate_result.params = space.from_unit(intermediate_result.x)
        return callback(intermediate_result=intermediate_result)

    return named


def minimize_space(arguments: dict[str, Any]) -> Any:
    """Search a :class:`~vamo_bbo.space.Space`: the unit box, and the objective gets a dict."""
    space, fun = arguments["x0"], arguments["fun"]
    for name in ("jac", "hess", "hessp", "bounds", "x_scale"):
        if arguments[name] is not None:
            raise OptionError(f"{name} cannot be used with a Space: the solver sees the unit box, not the parameters.")
    if isinstance(fun, FiniteSum) or arguments["vectorized"] or np.size(arguments["constraints"] or ()):
        raise OptionError("a Space needs a plain objective fun(params), not vectorized and without constraints.")
    levels = space.levels
    limits = {n: arguments[n] for n in ("maxfev", "maxjev", "max_time", "f_target", "max_failures")}
    call = Call(
        SpaceObjective(fun, space),
        space.x0,
        arguments["args"],
        None,
        None,
        None,
        [(0.0, 1.0)] * space.size,
        (),
        arguments["tol"],
        _with_params(arguments["callback"], space),
        arguments["options"],
        arguments["rng"],
        arguments["workers"],
        limits=limits,
        policy=FailurePolicy(arguments["on_error"], arguments["retries"]),
        levels=levels if levels.any() else None,
        identity={"space": space._items},
    )
    for name in ("backend", "noisy", "progress", "eval_timeout", "asynchronous", "journal"):
        setattr(call, name, arguments[name])
    if call.levels is not None and is_scipys(arguments["method"]):
        raise CapabilityError("scipy's methods cannot search Integer or Choice parameters; use method='cma'.")
    result: Any = run_call(call, arguments["method"])
    result.params = space.from_unit(result.x)
    return result
