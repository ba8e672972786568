r"""Linear regression with losses that stop growing, so that outliers do not matter and the problem is not convex.

With residual :math:`r_i = a_i^\top x - y_i`:

* Geman-McClure: :math:`f_i = \frac{r^2}{2 (1 + r^2)}` (Geman and McClure, "Statistical methods for tomographic image
  reconstruction", 1987);
* Tukey's biweight: :math:`f_i = \frac{c^2}{6} (1 - (1 - (r/c)^2)^3)` for :math:`|r| \le c`, else
  :math:`\frac{c^2}{6}`, with c = 4.685 (Beaton and Tukey, Technometrics 16, 1974).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Literal

import numpy as np

from problems.data import require
from problems.datasets import standardized
from problems.linear import LinearSum, Link
from problems.problem import Array, Built, Problem, Reference

TUKEY_C = 4.685


def geman_mcclure(prediction: Array, targets: Array) -> Array:
    """Return r^2 / (2 (1 + r^2))."""
    square = (prediction - targets) ** 2
    return np.asarray(0.5 * square / (1 + square))


def geman_mcclure_slope(prediction: Array, targets: Array) -> Array:
    """Return its derivative r / (1 + r^2)^2."""
    residual = prediction - targets
    return np.asarray(residual / (1 + residual**2) ** 2)


def tukey(prediction: Array, targets: Array) -> Array:
    """Return the biweight loss."""
    inside = np.clip(1 - ((prediction - targets) / TUKEY_C) ** 2, 0.0, None)
    return np.asarray(TUKEY_C**2 / 6 * (1 - inside**3))


def tukey_slope(prediction: Array, targets: Array) -> Array:
    """Return its derivative r (1 - (r/c)^2)^2 inside, 0 outside."""
    residual = prediction - targets
    return np.asarray(residual * np.clip(1 - (residual / TUKEY_C) ** 2, 0.0, None) ** 2)


LINKS = {"geman-mcclure": Link(geman_mcclure, geman_mcclure_slope), "tukey": Link(tukey, tukey_slope)}


def build(loss: Literal["geman-mcclure", "tukey"], source: Literal["outliers", "diabetes"]) -> Built:
    """Return the regression started at zero."""
    rows, targets = _outliers() if source == "outliers" else _diabetes()
    return Built(LinearSum(rows, targets, LINKS[loss]).finite_sum(), np.zeros(rows.shape[1]))


def _outliers(n_samples: int = 1000, dimension: int = 50, share: float = 0.2, seed: int = 0) -> tuple[Array, Array]:
    """Return a linear model with noise 0.1 where a share of the targets is shifted by 10 to 20."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_samples, dimension))
    targets = rows @ (rng.standard_normal(dimension) / np.sqrt(dimension)) + 0.1 * rng.standard_normal(n_samples)
    shift = rng.uniform(10, 20, n_samples) * (rng.random(n_samples) < share)
    return rows, targets + shift


def _diabetes() -> tuple[Array, Array]:
    """Return scikit-learn's diabetes data, all standardized, a column of ones last."""
    bundle = require("sklearn.datasets", "scikit-learn", why="This data set").load_diabetes()
    targets = (bundle.target - bundle.target.mean()) / bundle.target.std()
    return standardized(bundle.data), targets


OPTIMA = {
    ("geman-mcclure", "outliers"): 0.1080484869,
    ("tukey", "outliers"): 0.7718969261,
    ("geman-mcclure", "diabetes"): 0.1200433144,
    ("tukey", "diabetes"): 0.2270527295,
}


def problems() -> Iterable[Problem]:
    """Return both losses on generated data with outliers and on scikit-learn's diabetes."""
    found = "best of L-BFGS-B from zero and 8 random starts: `python -m problems reference NAME`"
    losses: tuple[Literal["geman-mcclure", "tukey"], ...] = ("geman-mcclure", "tukey")
    for loss in losses:
        yield Problem(
            f"robust-{loss}-outliers",
            50,
            "finite_sum",
            f"Linear regression with the {loss} loss: 1,000 rows, a fifth of them outliers.",
            partial(build, loss, "outliers"),
            "0.1 ms a full value and gradient",
            "generated",
            Reference(OPTIMA[loss, "outliers"], found),
        )
        yield Problem(
            f"robust-{loss}-diabetes",
            11,
            "finite_sum",
            f"Linear regression with the {loss} loss: diabetes progression, 442 rows.",
            partial(build, loss, "diabetes"),
            "0.05 ms a full value and gradient",
            "BSD-3-Clause (scikit-learn)",
            Reference(OPTIMA[loss, "diabetes"], found),
            ("scikit-learn",),
        )
