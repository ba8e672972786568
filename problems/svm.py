r"""The nonconvex support vector machine, :math:`f_i(x) = 1 - \tanh(y_i a_i^\top x) + \frac\lambda2\|x\|^2`.

The sigmoid loss bounds what one wrong label can do (Mason, Baxter, Bartlett and Frean, "Boosting algorithms as gradient
descent", 1999); with it this is a common test of nonconvex stochastic methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems.linear import LinearSum, Link, Penalty
from problems.logistic import DATA_SETS, Loader
from problems.problem import Array, Built, Problem, Reference

WEIGHT = 1e-3


def sigmoid_loss(predictor: Array, signs: Array) -> Array:
    """Return 1 - tanh(y p)."""
    return np.asarray(1 - np.tanh(signs * predictor))


def sigmoid_loss_slope(predictor: Array, signs: Array) -> Array:
    """Return its derivative -y (1 - tanh(y p)^2)."""
    return np.asarray(-signs * (1 - np.tanh(signs * predictor) ** 2))


def build(load: Loader) -> Built:
    """Return the machine on the data of ``load``, started at zero."""
    rows, signs = load()
    problem = LinearSum(rows, signs, Link(sigmoid_loss, sigmoid_loss_slope), Penalty("l2", WEIGHT))
    return Built(problem.finite_sum(), np.zeros(rows.shape[1]))


OPTIMA = {"a9a": 0.3358951129, "spambase": 0.1635975893, "breast-cancer": 0.0424626567, "digits": 0.1499728047}
"""Best values found; other data sets of the logistic family work too, without a reference."""


def problems() -> Iterable[Problem]:
    """Return the machine on four data sets of the logistic family."""
    found = "best of L-BFGS-B from zero and 8 random starts: `python -m problems reference NAME`"
    for data in DATA_SETS:
        if data.name in OPTIMA:
            yield Problem(
                f"svm-{data.name}",
                data.dimension,
                "finite_sum",
                f"Nonconvex support vector machine (sigmoid loss): {data.title}.",
                partial(build, data.load),
                data.cost,
                data.licence,
                Reference(OPTIMA[data.name], found, is_optimum=data.name != "spambase"),
                data.needs,
            )
