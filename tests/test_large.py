"""Every method takes steps beyond the sizes of tiles, with its own step size."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo import solvers

D = 70_001
"""More than one tile of every kind, not a multiple of one."""
TARGETS = np.linspace(-1.0, 1.0, 12)


def value(x):
    return float(x @ x) / D


def gradient(x):
    return 2 * x / D


def finite_sum():
    def losses(x, idx):
        return (TARGETS[idx] - x[idx]) ** 2 + value(x)

    def grad(x, idx):
        g = gradient(x)
        np.add.at(g, idx, 2 * (x[idx] - TARGETS[idx]) / len(idx))
        return g

    return vb.FiniteSum(losses, len(TARGETS), grad=grad, check_grad=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name", [n for n in solvers.METHODS if n not in ("bayes", "cma", "fd-bfgs", "interpolation", "quadratic")]
)
def test_a_few_steps(name, dtype):
    x0 = np.ones(D, dtype)
    values_only = name.startswith("zo-") or name == "spsa"
    sums = name in ("vamo", "vamo-paper", "svrg", "saga", "sarah", "storm", "asgd")
    fun = vb.FiniteSum(finite_sum().losses, len(TARGETS)) if name == "zo-svrg" else finite_sum() if sums else value
    jac = None if sums or values_only else gradient
    options = {"batch_size": 4} if sums else {}
    result = vb.minimize(fun, x0, method=name, jac=jac, rng=0, options={"maxiter": 4, **options})
    assert result.nit == 4, result.log or result.message
    assert result.x.dtype == dtype
    assert np.isfinite(result.x).all()
    assert not np.array_equal(result.x, x0)
