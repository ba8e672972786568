r"""Logistic regression with a penalty that is not convex, and with the usual L2 one.

.. math:: f_i(x) = \log(1 + e^{-y_i a_i^\top x}) + \lambda \sum_j \frac{x_j^2}{1 + x_j^2}, \qquad \lambda = 10^{-3}

is the standard nonconvex test of stochastic gradient papers (for example Antoniadis, Gijbels and Nikolova, "Penalized
likelihood regression for generalized linear models with non-quadratic penalties", 2011, for the penalty). The
``logistic-l2`` variant has :math:`\frac\lambda2\|x\|^2` instead and is strongly convex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from problems import datasets
from problems.datasets import Rows
from problems.linear import LOGISTIC, LinearSum, Penalty
from problems.problem import Array, Built, Problem, Reference

WEIGHT = 1e-3
SOURCE = "best of L-BFGS-B from zero and 8 random starts: `python -m problems reference NAME`"

Loader: TypeAlias = Callable[[], tuple[Rows, Array]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A binary data set and what is known of it.

    Parameters
    ----------
    name, title : str
        For the problem's name and description.
    load : callable ``load() -> (rows, signs)``
        The data.
    dimension : int
        Columns, the one of ones included.
    cost, licence : str
        As for a Problem.
    optima : (float, float)
        Reference values with the bounded and with the L2 penalty.
    needs : tuple of str
        As for a Problem.
    """

    name: str
    title: str
    load: Loader
    dimension: int
    cost: str
    licence: str
    optima: tuple[float, float]
    needs: tuple[str, ...] = ("download",)


_KEEL = datasets.KEEL.licence
_UCI = "BSD-3-Clause (scikit-learn); UCI data, CC BY 4.0"


def _keel(name: str, title: str, positive: str, dimension: int, cost: str, optima: tuple[float, float]) -> DataSet:
    return DataSet(name, title, partial(datasets.keel, name, [positive]), dimension, cost, _KEEL, optima)


def _bundled(name: str, title: str, load: Loader, dimension: int, cost: str, optima: tuple[float, float]) -> DataSet:
    return DataSet(name, title, load, dimension, cost, _UCI, optima, ("scikit-learn",))


_mnist_3_8: Loader = partial(datasets.mnist_pair, 3, 8)

DATA_SETS = (
    DataSet(
        "a9a",
        "Adult income as LIBSVM encodes it, 32,561 sparse rows",
        datasets.a9a,
        123,
        "2.9 ms a full value and gradient",
        datasets.ADULT.licence,
        (0.334425986808, 0.3332968727),
    ),
    DataSet(
        "mnist-3-8",
        "MNIST digits 3 and 8, 11,982 images",
        _mnist_3_8,
        785,
        "7 ms a full value and gradient",
        datasets.MNIST.licence,
        (0.1120001083, 0.1051460503),
    ),
    _keel("spambase", "spam or not, 4,597 mails", "1", 58, "0.4 ms", (0.2106203445, 0.2254280497)),
    _keel("mushroom", "edible or not, 5,644 one-hot rows", "e", 98, "0.7 ms", (0.0069790722, 0.0396733709)),
    _keel("german", "credit risk, 1,000 rows", "1", 62, "0.1 ms", (0.4555216409, 0.4536262357)),
    _keel("ionosphere", "radar returns, 351 rows", "g", 34, "0.04 ms", (0.1754206138, 0.2141929925)),
    _keel("sonar", "mine or rock, 208 rows", "M", 61, "0.04 ms", (0.0399996547, 0.1976687873)),
    _bundled(
        "breast-cancer", "Wisconsin, 569 rows", datasets.breast_cancer, 31, "0.07 ms", (0.0465066374, 0.0598294719)
    ),
    _bundled(
        "digits", "even or odd 8x8 digit, 1,797 images", datasets.digits, 62, "0.13 ms", (0.1772283674, 0.1773158493)
    ),
)

LOCAL_MINIMA = frozenset({"mushroom", "sonar", "breast-cancer", "mnist-3-8"})
"""Data sets where random starts end in better minima of the bounded penalty than a start at zero does."""


def build(load: Loader, penalty: Literal["bounded", "l2"], weight: float = WEIGHT) -> Built:
    """Return the logistic regression on the data of ``load``, started at zero."""
    rows, signs = load()
    problem = LinearSum(rows, signs, LOGISTIC, Penalty(penalty, weight))
    return Built(problem.finite_sum(), np.zeros(rows.shape[1]))


def problems() -> Iterable[Problem]:
    """Return one problem for every data set and penalty."""
    kinds: tuple[tuple[Literal["bounded", "l2"], str, str], ...] = (
        ("bounded", "logistic", "nonconvex penalty"),
        ("l2", "logistic-l2", "L2 penalty, convex"),
    )
    for data in DATA_SETS:
        for number, (penalty, prefix, words) in enumerate(kinds):
            settled = penalty == "l2" or data.name not in LOCAL_MINIMA
            yield Problem(
                f"{prefix}-{data.name}",
                data.dimension,
                "finite_sum",
                f"Logistic regression ({words}): {data.title}.",
                partial(build, data.load, penalty),
                data.cost,
                data.licence,
                Reference(data.optima[number], SOURCE, is_optimum=settled),
                data.needs,
            )
