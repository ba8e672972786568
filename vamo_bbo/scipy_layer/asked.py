"""A solver of ours in the place of one of scipy's methods: the same counts, budget, failures and best point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.stop import Code, message
from vamo_bbo.scipy_layer.objective import Watched
from vamo_bbo.scipy_layer.wrappers import wants_result

__all__ = ["Asked"]


@dataclass(slots=True)
class Asked:
    """A custom method of scipy that runs a solver which asks for points; called again, it goes on where it stopped.

    Parameters
    ----------
    solver : Solver
        Its probes are points (``probe.point``), such as those of ``cma``.
    state : State
        Of the solver, in its own coordinates; changed in place.
    to_x : callable
        ``to_x(point) -> x``.

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> from vamo_bbo.core.types import ProblemInfo
    >>> from vamo_bbo.run.failures import FailurePolicy
    >>> from vamo_bbo.run.stop import Budget
    >>> from vamo_bbo.solvers import cma
    >>> solver = cma()
    >>> state = solver.init(np.ones(2), seed=1, backend="numpy", info=ProblemInfo())
    >>> watched = Watched(lambda x: float(x @ x), Budget(), FailurePolicy())
    >>> result = minimize(watched, np.ones(2), method=Asked(solver, state, np.array))
    >>> bool(result.fun < 1e-8), result.fun == watched.best_f
    (True, True)
    """

    solver: Solver
    state: State
    to_x: Callable[[Array], Array]

    def __call__(
        self,
        fun: Watched,
        x0: Array,
        args: Any = (),
        *,
        callback: Callable[..., Any] | None = None,
        maxiter: float | None = None,
        **unused: Any,
    ) -> OptimizeResult:
        """Run until the solver ends or the budget raises; a generation that does not fit stays open.

        ``maxiter`` is the most steps of this call. The callback is shown the best point of every step.
        """
        args = args if isinstance(args, tuple) else (args,)
        status, begun = self.solver.status(self.state), self.state.step
        shown: list[tuple[float, Array]] = []
        while status is None:
            step = self.state.step
            if maxiter is not None and step - begun >= maxiter:
                return _result(fun, int(Code.MAXITER), False, message(Code.MAXITER))
            probes = self.solver.ask(self.state)
            points = [self.to_x(probe.point) for probe in probes if probe.point is not None]
            values = fun.generation(points, args)
            answers = [_answer(probe, value) for probe, value in zip(probes, values, strict=True)]
            self.state = self.solver.tell(self.state, answers)
            status = self.solver.status(self.state)
            shown = _lowest([*shown, *zip(values, points, strict=True)])
            if callback is not None and shown and self.state.step > step and _stops(callback, *shown.pop()):
                return _result(fun, 99, False, "`callback` raised `StopIteration`.")
        return _result(fun, status.code, status.success, status.message)

    def recommended(self) -> Array:
        """Return the point that the solver recommends."""
        return self.to_x(self.solver.recommend(self.state))


def _answer(probe: Probe, value: float) -> Answer:
    return Answer(probe.id, error="failed") if math.isnan(value) else Answer(probe.id, value=value)


def _lowest(found: list[tuple[float, Array]]) -> list[tuple[float, Array]]:
    """Return the pair of the lowest value alone, or nothing where all have failed."""
    return sorted((pair for pair in found if not math.isnan(pair[0])), key=lambda pair: pair[0])[:1]


def _stops(callback: Callable[..., Any], value: float, point: Array) -> bool:
    """Show a point; return whether the callback ends the run."""
    try:
        if wants_result(callback):
            callback(intermediate_result=OptimizeResult(x=np.copy(point), fun=value))  # type: ignore[call-arg]
        else:
            callback(np.copy(point))
    except StopIteration:
        return True
    return False


def _result(watched: Watched, status: int, success: bool, message: str) -> OptimizeResult:
    result: Any = OptimizeResult()
    result.x, result.fun = watched.best_x, watched.best_f
    result.success, result.status, result.message = success, status, message
    result.nfev, result.njev, result.nit = watched.nfev, watched.njev, watched.nit
    return result  # type: ignore[no-any-return]
