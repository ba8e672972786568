"""Constraints: scipy's objects as rows, and the augmented Lagrangian over our solvers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, NonlinearConstraint

import vamo_bbo as vb
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.constraints import rows_of
from vamo_bbo.lagrangian import Lagrangian
from vamo_bbo.projection import Projection

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


@pytest.mark.parametrize("handling", ["projection", "lagrangian"])
@pytest.mark.parametrize("form", ["dict ineq", "dict eq", "linear", "nonlinear"])
@pytest.mark.parametrize("method", ["cma", "spsa"])
def test_known_solutions(method, form, handling):
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
        options={"constraint_handling": handling},
    )
    assert result.maxcv <= (1e-6 if handling == "projection" else 1e-3)
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
    assert result.maxcv <= 1e-6
    assert 0 < result.fun_std < 0.01
    np.testing.assert_allclose(result.x, 1.0, atol=0.05)


@pytest.mark.parametrize("handling", ["projection", "lagrangian"])
def test_budget_failures_and_stops(handling):
    options = {"constraint_handling": handling}
    calls = []

    def fun(x):
        calls.append(x)
        if len(calls) % 5 == 0:
            raise RuntimeError("boom")
        return float(((x - 2) ** 2).sum())

    result = vb.minimize(fun, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=300, options=options)
    assert result.nfev == len(calls) <= 300
    assert result.n_failed >= 50

    def stop(xk):
        raise StopIteration

    calls.clear()
    result = vb.minimize(
        fun, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=300, callback=stop, options=options
    )
    assert (result.status, result.success) == (99, False)


@pytest.mark.parametrize("handling", ["projection", "lagrangian"])
def test_box_is_never_left(handling):
    seen = []

    def fun(x):
        seen.append(x.copy())
        return float((x**2).sum())

    bounds = [(1, 2), (-3, 2)]
    options = {"constraint_handling": handling}
    vb.minimize(fun, [1.5, 1.5], method="spsa", constraints=LINE, bounds=bounds, rng=1, maxfev=500, options=options)
    assert (np.array(seen) >= [1, -3]).all()
    assert (np.array(seen) <= 2).all()


def test_finite_sums_are_sent_to_scipy():
    problem = vb.FiniteSum(lambda x, i: np.full(len(i), float((x**2).sum())), 4)
    with pytest.raises(CapabilityError, match="SLSQP"):
        vb.minimize(problem, [1.0, 1.0], method="zo-svrg", constraints=LINE)


@pytest.mark.parametrize("form", FORMS)
def test_jacobians_of_every_form(form):
    constraints, x, _ = FORMS[form]
    rows, x = rows_of(constraints), np.array(x)
    step = 1e-6
    central = [(rows.evaluate(x + step * e)[0] - rows.evaluate(x - step * e)[0]) / (2 * step) for e in np.eye(2)]
    np.testing.assert_allclose(rows.jacobian(x), np.transpose(central), rtol=1e-5, atol=1e-6)


def test_given_jacobians_are_used():
    called = []

    def slope(x, scale):
        called.append(1)
        return scale * np.ones(2)

    row = {"type": "eq", "fun": lambda x, scale: scale * x.sum(), "jac": slope, "args": (3.0,)}
    np.testing.assert_array_equal(rows_of(row).jacobian(np.zeros(2)), [[3.0, 3.0]])
    assert called


def projection_of(constraints, low=-np.inf, high=np.inf, anchor=None):
    ones = np.ones(2)
    return Projection(rows_of(constraints), low * ones, high * ones, ones, anchor)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.sampled_from(sorted(FORMS)), st.lists(st.floats(-3, 3), min_size=2, max_size=2))
def test_a_projection_is_feasible_near_and_stays(form, z):
    projection = projection_of(FORMS[form][0])
    x = projection.nearest(np.array(z))
    assert x is not None
    assert projection.violation(x) <= 1e-6
    np.testing.assert_allclose(projection.nearest(x), x, atol=1e-6)
    if projection.violation(np.array(z)) == 0:
        np.testing.assert_array_equal(x, z)


def test_a_projection_keeps_the_box_where_the_row_alone_would_leave_it():
    x = projection_of(LINE, low=0.0, high=0.75).nearest(np.array([3.0, -4.0]))
    np.testing.assert_allclose(x, [0.75, 0.25], atol=1e-7)


def test_a_point_without_projection_is_moved_towards_a_feasible_one():
    def root(x):
        return math.sqrt(x[0]) - 1.0  # ValueError below 0

    projection = projection_of({"type": "eq", "fun": root}, anchor=np.array([1.0, 0.0]))
    assert projection.nearest(np.array([-50.0, 3.0])) is None
    x = projection(np.array([-50.0, 3.0]))
    assert x[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("method", ["cma", "spsa", "zo-sgd"])
def test_every_evaluated_point_is_feasible(method):
    worst = []

    def fun(x):
        worst.append(rows_of([LINE, CIRCLE]).violation(x))
        return float(((x - 3) ** 2).sum())

    shown = []
    result = vb.minimize(
        fun, [5.0, -9.0], method=method, constraints=[LINE, CIRCLE], rng=1, maxfev=200, callback=shown.append
    )
    assert max(worst) <= 1e-6
    assert len(worst) == result.nfev
    assert max(rows_of([LINE, CIRCLE]).violation(x) for x in shown) <= 1e-6
    assert result.fun == pytest.approx(float(((result.x - 3) ** 2).sum()), rel=1e-9)


def test_vectorized_objectives_and_constraints():
    result = vb.minimize(
        lambda x: ((x - 2) ** 2).sum(axis=1),
        [0.2, -0.3],
        method="cma",
        constraints=CIRCLE,
        vectorized=True,
        rng=1,
        maxfev=600,
    )
    np.testing.assert_allclose(result.x, 1.0, atol=1e-3)


def test_where_nothing_is_feasible_the_lagrangian_says_how_much_is_violated():
    contradiction = [{"type": "eq", "fun": lambda x: x[0] - 1}, {"type": "eq", "fun": lambda x: x[0] + 1}]
    result = vb.minimize(lambda x: float(x @ x), [0.0, 0.0], method="cma", constraints=contradiction, rng=1, maxfev=200)
    assert not result.success
    assert result.maxcv >= 0.9


def test_constraint_handling_is_checked():
    with pytest.raises(OptionError, match="constraint_handling"):
        vb.minimize(
            lambda x: float(x @ x), [0.0], method="cma", constraints=LINE, options={"constraint_handling": "magic"}
        )


def hill(x):
    return float(((x - 2) ** 2).sum())


def test_auto_with_a_journal_takes_one_of_ours(tmp_path):
    call = {"constraints": CIRCLE, "rng": 1, "maxfev": 200, "journal": tmp_path / "run.db"}
    first = vb.minimize(hill, [0.0, 0.0], **call)
    assert "auto chose cma" in first.message
    np.testing.assert_allclose(first.x, 1.0, atol=0.05)
    again = vb.minimize(hill, [0.0, 0.0], **call)
    np.testing.assert_array_equal(again.x, first.x)


@pytest.mark.slow
def test_worker_processes_project_too():
    result = vb.minimize(hill, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=200, workers=2)
    here = vb.minimize(hill, [0.0, 0.0], method="cma", constraints=CIRCLE, rng=1, maxfev=200)
    np.testing.assert_array_equal(result.x, here.x)
