"""From a call with a :class:`~vamo_bbo.space.Space` to one on the unit box, and back to named parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.minimize import Call, is_scipys, run_call
from vamo_bbo.problem import FiniteSum
from vamo_bbo.run.failures import FailurePolicy, FailureRecord
from vamo_bbo.space import Space, SpaceObjective

__all__ = ["minimize_space"]


def _callback(callback: Callable[..., Any] | None, space: Space) -> Callable[..., Any] | None:
    """Return ``callback`` whose ``intermediate_result`` has ``params``."""
    from vamo_bbo.scipy_layer.wrappers import wants_result

    if callback is None or not wants_result(callback):
        return callback

    def named(intermediate_result: Any) -> Any:
        intermediate_result.params = space.from_unit(intermediate_result.x)
        return callback(intermediate_result=intermediate_result)

    return named


def _named(record: FailureRecord, space: Space) -> FailureRecord:
    """Return the record of a failure with its parameters."""
    return record if record.x is None else replace(record, params=space.from_unit(record.x))


def _known(pair: Any, space: Space) -> tuple[Any, Any]:
    """Return a pair of ``known_points`` with its point in the unit box."""
    try:
        params, value = pair
        return space.to_unit(dict(params)), value
    except (TypeError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"known_points of a Space must be pairs (dict of parameters, value), got {pair!r}.") from None


class _OnError:
    """A user's ``on_error`` that is given named parameters; described in a journal by the user's own function."""

    def __init__(self, user: Callable[[FailureRecord], float | None], space: Space) -> None:
        self.user, self.space = user, space
        self.__qualname__ = getattr(user, "__qualname__", type(user).__qualname__)
        self.__module__ = getattr(user, "__module__", type(user).__module__)

    def __call__(self, record: FailureRecord) -> float | None:
        return self.user(_named(record, self.space))


def minimize_space(arguments: dict[str, Any]) -> Any:
    """Search a :class:`~vamo_bbo.space.Space`: the unit box, and the objective gets names and values."""
    space, fun = arguments["x0"], arguments["fun"]
    for name in ("jac", "hess", "hessp", "bounds", "x_scale"):
        if arguments[name] is not None:
            raise OptionError(f"{name} cannot be used with a Space: the solver sees the unit box, not the parameters.")
    if isinstance(fun, FiniteSum) or arguments["vectorized"] or np.size(arguments["constraints"] or ()):
        raise OptionError("a Space needs a plain objective fun(params), not vectorized and without constraints.")
    levels, on_error = space.levels, arguments["on_error"]
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
        _callback(arguments["callback"], space),
        arguments["options"],
        arguments["rng"],
        arguments["workers"],
        limits=limits,
        policy=FailurePolicy(_OnError(on_error, space) if callable(on_error) else on_error, arguments["retries"]),
        space=True,
        levels=levels if levels.any() else None,
        identity={"space": space._items},
    )
    for name in ("backend", "noisy", "progress", "eval_timeout", "asynchronous", "journal"):
        setattr(call, name, arguments[name])
    if arguments["known_points"] is not None:
        call.known_points = [_known(pair, space) for pair in arguments["known_points"]]
    if call.levels is not None and is_scipys(arguments["method"]):
        raise CapabilityError("scipy's methods cannot search Integer or Choice parameters; use 'bayes' or 'cma'.")
    result: Any = run_call(call, arguments["method"])
    result.params = space.from_unit(result.x)
    result.failures = [_named(record, space) for record in result.failures]
    return result
