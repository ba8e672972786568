"""Watching a run from outside: what a point is worth, at what cost, without charging the run for looking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from problems.problem import Array, Problem
from vamo_bbo.problem import FiniteSum


class Sample(NamedTuple):
    """One look at a run: cost so far in values, full objective, squared gradient norm (NaN without a gradient)."""

    cost: float
    value: float
    gradient_norm2: float


@dataclass
class Recorder:
    """A callback for ``vamo_bbo.minimize`` that records the full objective as the cost grows.

    Parameters
    ----------
    problem : Problem
        What is minimized.
    budget : float
        Cost at which the run is stopped: function values plus ``grad_cost`` times gradients, in samples for a
        finite sum.
    grad_cost : float, default 3.0
        Price of a gradient in values.
    looks : int, default 50
        About how many samples are taken on the way.
    gradients : bool, default True
        Whether the squared norm of the full gradient is recorded too.

    Notes
    -----
    Looking is not counted: it uses the problem's own functions, not the ones that the run counts.
    """

    problem: Problem
    budget: float
    grad_cost: float = 3.0
    looks: int = 50
    gradients: bool = True
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = 0.0
        self.look(self.problem.x0, 0.0)

    def __call__(self, intermediate_result: Any) -> None:
        """Record the current point if enough was spent since the last one; stop the run at the budget."""
        cost = self.cost(intermediate_result)
        if cost >= min(self._next, self.budget):
            self.look(np.asarray(intermediate_result.x), cost)
        if cost >= self.budget:
            raise StopIteration

    def cost(self, result: Any) -> float:
        """Return what a result, final or intermediate, has spent, in function values."""
        if isinstance(self.problem.objective, FiniteSum):
            return float(result.nfev_samples + self.grad_cost * result.njev_samples)
        return float(result.nfev + self.grad_cost * getattr(result, "njev", 0))

    def look(self, x: Array, cost: float) -> None:
        """Record the point ``x`` at ``cost``."""
        norm2 = float("nan")
        with np.errstate(all="ignore"):
            value = self.problem.value(x)
            if self.gradients and self.problem.has_gradient:
                gradient = self.problem.gradient(x)
                norm2 = float(gradient @ gradient)
        self.samples.append(Sample(cost, value, norm2))
        self._next = cost + self.budget / self.looks
