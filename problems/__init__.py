"""The problem zoo: objectives to minimize, each with its data, its known optimum and where that comes from.

The package is used from a checkout and is not part of the wheel. ``python -m problems list`` shows what there is;
in Python::

    import problems

    problem = problems.get("logistic-breast-cancer")
    result = vamo_bbo.minimize(problem.objective, problem.x0)
"""

from problems.data import DataUnavailable
from problems.problem import Built, Problem, Reference
from problems.registry import find, get, names

__all__ = ["Built", "DataUnavailable", "Problem", "Reference", "find", "get", "names"]
