"""Constraints other than bounds with one of our solvers: by projection, or by an augmented Lagrangian."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.lagrangian import minimize_lagrangian
from vamo_bbo.problem import FiniteSum
from vamo_bbo.projection import minimize_projected

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["minimize_constrained"]

HANDLINGS = ("projection", "lagrangian")


def minimize_constrained(call: Call, method: Any) -> Any:
    """Minimize under constraints with one of our solvers.

    ``options={"constraint_handling": ...}``: "projection" (default) evaluates the objective at feasible points only and
    calls the constraints some ten times as often; "lagrangian" calls them once per value and lets points violate them
    on the way. Where no feasible point is found, the latter is used.

    Raises
    ------
    CapabilityError
        The objective is a finite sum.
    OptionError
        ``constraint_handling`` is neither.
    """
    if isinstance(call.fun, FiniteSum):
        raise CapabilityError("constraints on a FiniteSum need one of scipy's methods: 'SLSQP', 'trust-constr'.")
    options = dict(call.options)
    handling = options.pop("constraint_handling", "projection")
    if handling not in HANDLINGS:
        raise OptionError(f"constraint_handling must be one of {', '.join(HANDLINGS)}, got {handling!r}.")
    call = replace(call, options=options)
    result = minimize_projected(call, method) if handling == "projection" else None
    return minimize_lagrangian(call, method) if result is None else result
