r"""Nonconvex least squares through a sigmoid, the synthetic problem of the zeroth-order variance reduction papers.

.. math:: f_i(x) = \Bigl(y_i - \frac{1}{1 + e^{-a_i^\top x}}\Bigr)^2, \qquad a_i \sim N(0, I_d)

Liu, Kailkhura, Chen, Ting, Chang and Amini, "Zeroth-Order Stochastic Variance Reduction for Nonconvex Optimization",
2018, arXiv:1805.10367, section 6, uses this loss with class labels; VAMO (arXiv:2505.13954) a synthetic one like it.
In the ``planted`` problems :math:`y_i` is the model's own output at a hidden point, so that the minimum is 0. The
labelled one adds :math:`\frac{10^{-3}}2\|x\|^2`: without it the infimum is the share of labels that no hyperplane
gets right, and lies at infinity.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from problems.linear import SQUARED_SIGMOID, LinearSum, Penalty, sigmoid
from problems.problem import Built, Problem, Reference


def build(n_samples: int, dimension: int, *, planted: bool, flipped: float = 0.1, seed: int = 0) -> Built:
    """Return the problem on generated data, started at zero.

    Parameters
    ----------
    n_samples, dimension : int
        Size.
    planted : bool
        Targets are the model's outputs at a hidden point; otherwise they are its labels, 0 or 1.
    flipped : float, default 0.1
        Share of labels that are wrong.
    seed : int, default 0
        For numpy's generator.
    """
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_samples, dimension))
    hidden = rng.standard_normal(dimension) * (2.0 / np.sqrt(dimension))
    targets = sigmoid(rows @ hidden)
    if not planted:
        targets = np.where((targets > 0.5) ^ (rng.random(n_samples) < flipped), 1.0, 0.0)
    penalty = Penalty() if planted else Penalty("l2", 1e-3)
    return Built(LinearSum(rows, targets, SQUARED_SIGMOID, penalty).finite_sum(), np.zeros(dimension))


def problems() -> Iterable[Problem]:
    """Return the planted and the labelled problem, and a larger planted one."""
    exact = Reference(0.0, "by construction: the targets are the model's outputs at a hidden point", 1e-9)
    found = "best of L-BFGS-B from zero and 8 random starts: `python -m problems reference NAME`"
    for name, size, planted, cost, reference in (
        ("planted", (1000, 100), True, "0.1 ms", exact),
        ("labels", (1000, 100), False, "0.1 ms", Reference(LABELS_OPTIMUM, found, is_optimum=False)),
        ("planted-large", (5000, 1000), True, "5 ms", exact),
    ):
        yield Problem(
            f"least-squares-{name}",
            size[1],
            "finite_sum",
            f"Nonconvex least squares through a sigmoid, n = {size[0]:,}, {'planted' if planted else 'noisy labels'}.",
            partial(build, *size, planted=planted),
            cost,
            "generated",
            reference,
        )


LABELS_OPTIMUM = 0.0988040301
