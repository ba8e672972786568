"""The generator standard (gest-api): our solvers in Xopt, Optimas, libEnsemble and rsopt."""

from __future__ import annotations

import math
from typing import Any

from gest_api import Generator
from gest_api.vocs import VOCS, ContextualVariable, ContinuousVariable, MaximizeObjective, MinimizeObjective

from vamo_bbo.optimizer import Optimizer
from vamo_bbo.space import Choice, Real, Space

__all__ = ["VamoGenerator"]


class VamoGenerator(Generator):  # type: ignore[misc]
    """Suggest points of a :class:`gest_api.vocs.VOCS` with one of our solvers, and ingest their results.

    Points have an ``"_id"``. Results come back in any order and in part; NaN is a failed evaluation; a result without
    ``"_id"`` is a foreign point, which can be the best.

    Parameters
    ----------
    vocs : VOCS
        Continuous variables with finite domains, or discrete ones (with ``method="cma"``); one objective; no
        constraints.
    method : str or solver, default "spsa"
        The solver.
    **options
        Further arguments of :class:`vamo_bbo.Optimizer`, such as ``rng``.

    Raises
    ------
    ValueError
        The problem has several objectives, constraints, or a variable that cannot be searched.

    Examples
    --------
    >>> from gest_api.vocs import VOCS
    >>> generator = VamoGenerator(VOCS(variables={"a": [0, 4]}, objectives={"f": "MINIMIZE"}), "zo-sgd", rng=0)
    >>> for _ in range(40):
    ...     points = generator.suggest(None)
    ...     generator.ingest([{**point, "f": (point["a"] - 1) ** 2} for point in points])
    >>> abs(generator.best["a"] - 1) < 0.1
    True
    """

    returns_id = True

    def __init__(self, vocs: VOCS, method: Any = "spsa", **options: Any) -> None:
        super().__init__(vocs)
        self.vocs = vocs
        [(self.objective, kind)] = vocs.objectives.items()
        self.sign = -1.0 if isinstance(kind, MaximizeObjective) else 1.0
        self.space = Space({name: _parameter(name, variable) for name, variable in vocs.variables.items()})
        self.optimizer = Optimizer(self.space, method, **options)
        self.open: dict[int, Any] = {}
        self.waiting: list[dict[str, Any]] = []
        self.count = 0

    def _validate_vocs(self, vocs: VOCS) -> None:
        kinds = [type(v) for v in vocs.objectives.values()]
        if len(kinds) != 1 or not issubclass(kinds[0], (MinimizeObjective, MaximizeObjective)):
            raise ValueError(f"VamoGenerator needs one objective to minimize or maximize, got {list(vocs.objectives)}.")
        if vocs.constraints:
            raise ValueError(f"VamoGenerator cannot accept constraints, got {list(vocs.constraints)}.")
        for name, variable in vocs.variables.items():
            _parameter(name, variable)

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """Return the next points: ``num_points`` of them, or all that the solver wants now.

        Raises
        ------
        ValueError
            Fewer points are open: the solver waits for results.
        """
        points = self.waiting + [self._point(trial) for trial in self._ask(num_points)]
        self.waiting = []
        if num_points is not None and len(points) < num_points:
            self.waiting = points  # handed out by the next call
            raise ValueError(f"{num_points} points were asked for, {len(points)} are open: ingest results first.")
        return points

    def _ask(self, num_points: int | None) -> list[Any]:
        missing = None if num_points is None else max(0, num_points - len(self.waiting))
        return list(self.optimizer.ask(missing))

    def _point(self, trial: Any) -> dict[str, Any]:
        self.open[self.count] = trial
        self.count += 1
        return {**trial.params, **self._constants(), "_id": self.count - 1}

    def _constants(self) -> dict[str, Any]:
        return {name: constant.value for name, constant in self.vocs.constants.items()}

    def ingest(self, results: list[dict[str, Any]]) -> None:
        """Take evaluated points."""
        for result in results:
            value = self.sign * float(result[self.objective])
            trial = self.open.pop(result["_id"], None) if "_id" in result else None
            if trial is not None:
                self.optimizer.tell([trial], [value])
            elif "_id" not in result and math.isfinite(value):
                params = {name: result[name] for name in self.space.names}
                self.optimizer.tell_point(self.space.to_unit(params), value)

    @property
    def best(self) -> dict[str, Any]:
        """The parameters of the best result so far."""
        params: dict[str, Any] = self.optimizer.result.params
        return params


def _parameter(name: str, variable: Any) -> Any:
    if isinstance(variable, ContinuousVariable) and not isinstance(variable, ContextualVariable):
        return Real(*variable.domain)
    values = getattr(variable, "values", None)
    if values is None or len(values) < 2:
        raise ValueError(f"VamoGenerator cannot search the variable {name!r}: {variable!r}.")
    return Choice(sorted(values, key=repr))
