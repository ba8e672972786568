"""Constraints: scipy's objects as rows, and the augmented Lagrangian over our solvers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, NonlinearConstraint

import vamo_bbo as vb
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.constraints import rows_of
from vamo_bbo.lagrangian import Lagrangian

CIRCLE = NonlinearConstraint(lambda x: x[0] ** 2 + x[1] ** 2, -np.inf, 2.0)
LINE = {"type": "eq", "fun": lambda x: x[0] + x[1] - 1}
FORMS = {
    "dict ineq": ({"type": "ineq", "fun": lambda x: 1 - x[0] - x[1]}, [2.0, 1.0], 2.0),
    "dict eq": (LINE, [2.0, 1.0], 2.0),
    "dict args": ({"type": "ineq", "fun": lambda x, a: a - x[0], "args": (1.0,)}, [2.5, 0.0], 1.5),
    "linear": (LinearConstraint([[1, 1], [1, -1]], [0, -1], [2, 1]), [2.0, 1.0], 1.0),
    "nonlinear": (CIRCLE, [1.0, 2.0], 3.0),
    "list": ([LINE, CIRCLE], [1.0, 2.0], 3.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_violation_of_every_form(form):
    constraints, x, violation = FORMS[form]
    assert rows_of(constraints).violation(np.array(x)) == pytest.approx(violation)


def test_no_constraints():
    assert len(rows_of(())) == len(rows_of(None)) == 0
    assert rows_of(()).violation(np.zeros(2)) == 0.0


@pytest.mark.parametrize("bad", [3, [3], {"type": "bogus", "fun": abs}, {"type": "eq"}])
def test_what_is_no_constraint(bad):
    with pytest.raises((OptionError, TypeError)):
        rows_of(bad)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=2), st.floats(0.1, 100))
def test_lagrangian_equals_the_objective_where_rows_are_slack_and_is_above_elsewhere(x, penalty):
    x = np.array(x)
    lagrangian = Lagrangian(lambda x: float(x.sum()), (), rows_of([LINE, CIRCLE]), penalty)
    h, g = x.sum() - 1, max(0.0, (x**2).sum() - 2.0)
    assert lagrangian(x) == pytest.approx(x.sum() + 0.5 * penalty * (h**2 + g**2), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("form", ["dict ineq", "dict eq", "linear", "nonlinear"])
@pytest.mark.parametrize("method", ["cma", "spsa"])
def test_known_solutions(method, form):
    solution = {
        "dict ineq": ([0.5, 0.5], 4.5),
        "dict eq": ([0.5, 0.5], 4.5),
        "linear": ([1.0, 1.0], 2.0),
        "nonlinear": ([1.0, 1.0], 2.0),
    }[form]
    result = vb.minimize(
        lambda x: float(((x - 2) ** 2).sum()),
        [0.2, -0.3],
        method=method,
        constraints=FORMS[form][0],
        rng=1,
        maxfev=1500,
    )
    assert result.success
    assert result.maxcv <= 1e-3
    assert result.nfev <= 1500
    np.testing.assert_allclose(result.x, solution[0], atol=0.05)
    assert result.fun == pytest.approx(solution[1], rel=0.01)


def test_noisy_objective():
    noise = np.random.default_rng(0)
    result = vb.minimize(
        lambda x: float(((x - 2) ** 2).sum()) * (1 + 1e-3 * noise.standard_normal()),
        [0.2, -0.3],
        method="cma",
        constraints=CIRCLE,
        bounds=[(-5, 5)] * 2,
        noisy=True,
        rng=1,
        maxfev=4000,
    )
    assert result.maxcv <= 1e-2
    assert 0 < result.fun_std < 0.01
    np.testing.assert_allclose(result.x, 1.0, atol=0.05)


def test_budget_failures_and_stops():
    calls = []

    def fun(x):
        calls.append(x)
        if len(calls) % 5 == 0:
            raise RuntimeError("boom")
        return float(((x - 2) ** 2).sum())

    result = vb.minimize(fun, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=300)
    assert result.nfev == len(calls) <= 300
    assert result.n_failed >= 50

    def stop(xk):
        raise StopIteration

    calls.clear()
    result = vb.minimize(fun, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=300, callback=stop)
    assert (result.status, result.success) == (99, False)


def test_box_is_never_left():
    seen = []

    def fun(x):
        seen.append(x.copy())
        return float((x**2).sum())

    vb.minimize(fun, [1.5, 1.5], method="spsa", constraints=LINE, bounds=[(1, 2), (-3, 2)], rng=1, maxfev=500)
    assert (np.array(seen) >= [1, -3]).all()
    assert (np.array(seen) <= 2).all()


def test_finite_sums_are_sent_to_scipy():
    problem = vb.FiniteSum(lambda x, i: np.full(len(i), float((x**2).sum())), 4)
    with pytest.raises(CapabilityError, match="SLSQP"):
        vb.minimize(problem, [1.0, 1.0], method="zo-svrg", constraints=LINE)
