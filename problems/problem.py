"""The one shape that every problem of the zoo has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vamo_bbo.problem import FiniteSum

Array: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Callable[[Array], float]
Kind: TypeAlias = Literal["value", "finite_sum", "simulator"]
KINDS: tuple[Kind, ...] = ("value", "finite_sum", "simulator")


@dataclass(frozen=True, slots=True)
class Reference:
    """A known optimum, or the best value known.

    Parameters
    ----------
    value : float
        The objective's value there.
    source : str
        Who says so: a formula, a paper, or the solver and the command that reproduce it.
    tolerance : float, default 1e-6
        How far, relative to ``max(1, |value|)``, an independent solver's answer may be from ``value``.
    is_optimum : bool, default True
        False when a better value may exist, as for most simulators and attacks.
    by_descent : bool, default True
        False when a local solver started near ``x0`` is not expected to get there.
    """

    value: float
    source: str
    tolerance: float = 1e-6
    is_optimum: bool = True
    by_descent: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What is expensive about a problem, made when it is first used.

    Parameters
    ----------
    objective : callable ``fun(x) -> float`` or FiniteSum
        What is minimized.
    x0 : (d,) float64
        The usual starting point.
    gradient : callable ``gradient(x) -> (d,)``, optional
        Gradient of a plain callable; a FiniteSum brings its own.
    bounds : (d, 2) float64, optional
        Lower and upper bounds.
    success : callable ``success(x) -> bool``, optional
        The field's own question, where it has one: is the image misclassified, does the amplifier meet its spec.
    """

    objective: Function | FiniteSum
    x0: Array
    gradient: Callable[[Array], Array] | None = None
    bounds: Array | None = None
    success: Callable[[Array], bool] | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """A minimization problem with everything one needs to judge a solver on it.

    Making one is free: data is read, and a model trained, when ``objective`` or ``x0`` is first asked for.

    Parameters
    ----------
    name : str
        Unique, lower case, family first: ``"logistic-a9a"``.
    dimension : int
        Number d of variables.
    kind : {"value", "finite_sum", "simulator"}
        A plain function, a FiniteSum, or a function that runs a simulator.
    description : str
        One sentence.
    build : callable ``build() -> Built``
        Makes objective, start and the rest. It must be picklable (a module's function, or a partial of one).
    cost : str
        What one evaluation costs, measured on one core of a small machine.
    licence : str
        Licence of the data or the model.
    reference : Reference, optional
        The optimum or the best value known.
    needs : tuple of str
        What has to be there beyond numpy, scipy and numba: ``"download"`` or names of PyPI packages.
    family : str
        Set by the registry: the module that holds it.

    Examples
    --------
    >>> import numpy as np
    >>> def sphere():
    ...     return Built(lambda x: float(x @ x), np.ones(2))
    >>> bowl = Problem("bowl", 2, "value", "A sphere.", sphere, cost="1 us", licence="none")
    >>> bowl.value(bowl.x0)
    2.0
    """

    name: str
    dimension: int
    kind: Kind
    description: str
    build: Callable[[], Built]
    cost: str
    licence: str
    reference: Reference | None = None
    needs: tuple[str, ...] = ()
    family: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Problem {self.name!r}: kind must be one of {KINDS}, got {self.kind!r}.")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "built"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def built(self) -> Built:
        """The expensive part, made once."""
        return self.build()

    @property
    def objective(self) -> Function | FiniteSum:
        """What ``vamo_bbo.minimize`` takes as its first argument."""
        return self.built.objective

    @property
    def x0(self) -> Array:
        """The usual starting point: (d,) float64, a fresh copy."""
        return np.array(self.built.x0, dtype=np.float64)

    @property
    def bounds(self) -> Array | None:
        """Lower and upper bounds, (d, 2), or None."""
        return self.built.bounds

    @property
    def has_gradient(self) -> bool:
        """Whether the exact gradient can be had."""
        if isinstance(self.objective, FiniteSum):
            return self.objective.has_gradient
        return self.built.gradient is not None

    def success(self, x: Array) -> bool | None:
        """Say whether ``x`` solves the problem in the field's own terms; None where the field has no such test."""
        return None if self.built.success is None else bool(self.built.success(x))

    def value(self, x: Array) -> float:
        """Return the full objective at ``x``."""
        objective = self.objective
        if not isinstance(objective, FiniteSum):
            return float(objective(x))
        total = sum(float(np.sum(objective.losses(x, idx))) for idx in _chunks(objective))
        return total / objective.n_samples

    def gradient(self, x: Array) -> Array:
        """Return the full gradient at ``x``, (d,)."""
        objective = self.objective
        if not isinstance(objective, FiniteSum):
            if self.built.gradient is None:
                raise ValueError(f"Problem {self.name!r} has no gradient.")
            return np.asarray(self.built.gradient(x))
        total = np.zeros(self.dimension)
        for idx in _chunks(objective):
            total += len(idx) * _mean_gradient(objective, x, idx)
        return total / objective.n_samples

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return the full objective and its gradient, in one pass over the data where the sum can do that."""
        objective = self.objective
        if not isinstance(objective, FiniteSum) or objective.value_and_grad is None:
            return self.value(x), self.gradient(x)
        value, gradient = 0.0, np.zeros(self.dimension)
        for idx in _chunks(objective):
            losses, mean = objective.value_and_grad(x, idx)
            value += float(np.sum(losses))
            gradient += len(idx) * np.asarray(mean)
        return value / objective.n_samples, gradient / objective.n_samples


def _mean_gradient(objective: FiniteSum, x: Array, idx: Array) -> Array:
    if objective.grad is not None:
        return np.asarray(objective.grad(x, idx))
    if objective.value_and_grad is None:
        raise ValueError("This finite sum has no gradient.")
    return np.asarray(objective.value_and_grad(x, idx)[1])


def _chunks(objective: FiniteSum) -> list[Array]:
    edges = range(0, objective.n_samples, objective.chunk_size)
    return [np.arange(lo, min(lo + objective.chunk_size, objective.n_samples)) for lo in edges]
