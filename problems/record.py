"""Watching a run from outside: what a point is worth, at what cost, without charging the run for looking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from problems.problem import Array, Problem
from vamo_bbo.problem import FiniteSum


class Sample(NamedTuple):
    """One look at a run: cost so far in values, full objective, squared gradient norm (NaN without a gradient)."""

    cost: float
    value: float
    gradient_norm2: float


class Counted:
    """An objective that counts what is asked of it: values and gradients, in samples for a finite sum.

    Parameters
    ----------
    problem : Problem
        Whose objective and gradient are counted.

    Attributes
    ----------
    objective : callable or FiniteSum
        To be minimized in place of the problem's own.
    gradient : callable or None
        Of a plain callable.
    values, gradients : int
        Counts so far. A call that returns both counts as a gradient.
    """

    def __init__(self, problem: Problem) -> None:
        self.values = self.gradients = 0
        self._problem = problem
        inner = problem.objective
        self.gradient = None if problem.built.gradient is None else self._gradient
        if not isinstance(inner, FiniteSum):
            self.objective: Any = self._value
            return
        self.objective = replace(
            inner,
            losses=self._losses,
            grad=None if inner.grad is None else self._grad,
            value_and_grad=None if inner.value_and_grad is None else self._value_and_grad,
        )

    def _value(self, x: Array) -> float:
        self.values += 1
        objective = self._problem.objective
        assert not isinstance(objective, FiniteSum)
        return objective(x)

    def _gradient(self, x: Array) -> Array:
        self.gradients += 1
        assert self._problem.built.gradient is not None
        return self._problem.built.gradient(x)

    def _losses(self, x: Array, idx: Array) -> Any:
        self.values += len(idx)
        return self._sum.losses(x, idx)

    def _grad(self, x: Array, idx: Array) -> Array:
        self.gradients += len(idx)
        assert self._sum.grad is not None
        return self._sum.grad(x, idx)

    def _value_and_grad(self, x: Array, idx: Array) -> tuple[Any, Array]:
        self.gradients += len(idx)
        assert self._sum.value_and_grad is not None
        return self._sum.value_and_grad(x, idx)

    @property
    def _sum(self) -> FiniteSum:
        assert isinstance(self._problem.objective, FiniteSum)
        return self._problem.objective

    def cost(self, grad_cost: float) -> float:
        """Return values plus ``grad_cost`` times gradients."""
        return self.values + grad_cost * self.gradients


@dataclass
class Recorder:
    """A callback for ``vamo_bbo.minimize`` that records the full objective as the cost grows.

    Parameters
    ----------
    problem : Problem
        What is minimized.
    counted : Counted
        What the run evaluates, and so what it has spent.
    budget : float
        Cost at which the run is stopped: function values plus ``grad_cost`` times gradients, in samples for a
        finite sum.
    grad_cost : float, default 3.0
        Price of a gradient in values.
    looks : int, default 50
        About how many samples are taken on the way.
    gradients : bool, default True
        Whether the squared norm of the full gradient is recorded too.

    Attributes
    ----------
    over : bool
        Whether the run was stopped at its budget.

    Notes
    -----
    Looking is not counted: it uses the problem's own functions, not the ones that the run counts.
    """

    problem: Problem
    counted: Counted
    budget: float
    grad_cost: float = 3.0
    looks: int = 50
    gradients: bool = True
    samples: list[Sample] = field(default_factory=list)
    over: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._next = 0.0
        self.look(self.problem.x0, 0.0)

    def __call__(self, intermediate_result: Any) -> None:
        """Record the current point if enough was spent since the last one; stop the run at the budget."""
        cost = self.counted.cost(self.grad_cost)
        if cost >= min(self._next, self.budget):
            self.look(np.asarray(intermediate_result.x), cost)
        if cost >= self.budget:
            self.over = True
            raise StopIteration

    def look(self, x: Array, cost: float) -> None:
        """Record the point ``x`` at ``cost``."""
        norm2 = float("nan")
        with np.errstate(all="ignore"):
            if self.gradients and self.problem.has_gradient:
                value, gradient = self.problem.value_and_gradient(x)
                norm2 = float(gradient @ gradient)
            else:
                value = self.problem.value(x)
        self.samples.append(Sample(cost, value, norm2))
        self._next = cost + self.budget / self.looks
