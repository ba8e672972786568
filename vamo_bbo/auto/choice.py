"""Which method ``method="auto"`` runs on which problem, and why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vamo_bbo.auto.descent import descent_name
from vamo_bbo.auto.noisy import REGRESSION
from vamo_bbo.auto.rounds import is_parallel
from vamo_bbo.auto.smooth import MODELS
from vamo_bbo.auto.space import FIRST, has_cmaes
from vamo_bbo.auto.sums import DIFFERENCES, choose_for_sum
from vamo_bbo.problem import FiniteSum
from vamo_bbo.scipy_layer.wrappers import limits
from vamo_bbo.solvers.interpolation import FEW

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["Choice", "choose", "few_and_dear"]

SMALL = 100
"""Most variables for which a model of the objective (COBYQA) or a population (CMA-ES) is affordable."""
DEAR = 2
"""Budgets in units of d + 1 below which a descent by differences, that takes one for a gradient, hardly begins."""


class Choice(NamedTuple):
    """What "auto" picks.

    Attributes
    ----------
    method : str
        Name of the method.
    reason : str
        Why, for the message.
    gradients : int
        Gradients (sample gradients of a sum) that it took to find out.
    """

    method: str
    reason: str
    gradients: int = 0


def choose(call: Call, noisy: bool, *, within: bool = False) -> Choice:
    """Return the method for ``call``, given whether its objective is noisy.

    ``within``: x0 is feasible, and models of the objective are to be kept within the constraints.
    """
    d = call.size
    about = f"{d} variable{'s' if d > 1 else ''}, {'noisy' if noisy else 'deterministic'}"
    if isinstance(call.fun, FiniteSum):
        return Choice(*choose_for_sum(call))
    if call.space and few_and_dear(call):
        return Choice("bayes", f"a space, {about}")
    if call.levels is not None:
        return Choice("cma" if has_cmaes() else "bayes", "Integer or Choice parameters")
    if within:
        return Choice("quadratic" if noisy else "interpolation", f"constraints, no gradient, {about}")
    if call.constrained:
        if call.has_gradient and not noisy:
            return Choice("SLSQP", f"constraints, exact gradient, {about}")
        if call.needs_ours:
            small = d <= SMALL
            return Choice("cma" if small else "spsa", f"constraints, {about}, a journal or another service of ours")
        large = "COBYLA" if noisy else "SLSQP"
        return Choice("COBYQA" if d <= SMALL else large, f"constraints, {about}")
    if call.needs_ours and call.has_gradient:
        return Choice("adam", f"gradient, {about}, a journal or another service of our solvers")
    if not noisy and not call.has_gradient and _few_in_a_box(call):
        return Choice("bayes" if is_parallel(call) else "interpolation", f"few values in a box, {about}")
    if call.needs_ours:
        return Choice(_of_ours(call, noisy), f"no gradient, {about}, a journal, a time-out or common random numbers")
    if call.has_gradient:
        return Choice("adam", f"noisy gradient, {about}") if noisy else Choice("L-BFGS-B", f"exact gradient, {about}")
    if noisy:
        workers = ", several workers" if is_parallel(call) else ""
        if d <= REGRESSION:
            return Choice("quadratic", f"no gradient, {about}{workers}")
        if workers and d <= SMALL:
            return Choice("cma", f"no gradient, {about}{workers}")
        return Choice("COBYQA" if d <= SMALL else "spsa", f"no gradient, {about}")
    if d <= DIFFERENCES and (d <= SMALL or (call.limits.get("maxfev") or math.inf) >= DEAR * (d + 1)):
        return Choice(descent_name(call), f"no gradient, {about}")
    return Choice(_for_many(call), f"no gradient, {about}: too many for differences")


def few_and_dear(call: Call) -> bool:
    """Return whether a process of the values in a space is affordable, and no option asks for another method."""
    if (
        call.size > SMALL
        or isinstance(call.noisy, str)
        or call.tol is not None
        or set(call.options) - {"maxiter", "disp"}
    ):
        return False
    most = call.limits.get("maxfev")
    return not call.needs_ours or (most is not None and most <= FIRST)


def _few_in_a_box(call: Call) -> bool:
    """Return whether few values are stated and every variable is bounded, and no option asks for another method.

    A run with a journal may go on with a larger budget, and with the same method.
    """
    most = call.limits.get("maxfev")
    if most is None or most > FEW * (call.size + 1) or call.size > MODELS or call.journal is not None:
        return False
    if call.tol is not None or set(call.options) - {"maxiter", "disp"}:
        return False
    lower, upper = limits(call.bounds, call.x0)
    return lower is not None and upper is not None and bool(np.isfinite(upper - lower).all())


def _of_ours(call: Call, noisy: bool) -> str:
    """Return which of our solvers minimizes a plain function without gradient."""
    common = isinstance(call.noisy, str)  # random numbers: differences of a round are almost free of noise
    waits = not (is_parallel(call) and call.asynchronous)  # late answers can join a generation
    if noisy and not common and call.size <= REGRESSION and waits and not call.vectorized:
        return "quadratic"
    if call.size <= SMALL and not call.vectorized and not common:
        return "cma"
    return "spsa" if noisy else _for_many(call)


def _for_many(call: Call) -> str:
    """Return which method takes deterministic values of many variables: bounds do not go with a momentum."""
    return "zo-nesterov" if limits(call.bounds, call.x0)[0] is None else "zo-sgd"
