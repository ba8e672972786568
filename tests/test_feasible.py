"""Constraints that are met by the models themselves: the feasible set, and "auto" within it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, NonlinearConstraint

import vamo_bbo as vb
from vamo_bbo.constraints import rows_of
from vamo_bbo.feasible import FEASIBLE, FeasibleSet

DISC = NonlinearConstraint(lambda x: x @ x, -np.inf, 1.0)
SPHERE = NonlinearConstraint(lambda x: x @ x, 1.0, 1.0)


def feasible_set(constraints, d=2, low=-np.inf, high=np.inf):
    return FeasibleSet(rows_of(constraints), np.full(d, low), np.full(d, high), np.ones(d))


def nearest_to(target):
    return lambda x: float(((x - target) ** 2).sum())


class Recorded:
    """An objective that keeps its points, with noise."""

    def __init__(self, fun, noise=0.0):
        self.fun, self.noise, self.rng, self.points = fun, noise, np.random.default_rng(0), []

    def __call__(self, x):
        self.points.append(x.copy())
        return self.fun(x) + self.noise * float(self.rng.standard_normal())


@pytest.mark.parametrize("row", [DISC, LinearConstraint([[1, 2], [3, 1]], ub=[1, 1])])
def test_the_nearest_point_violates_no_inequality(row):
    """Not by a rounding error either: what it leaves may be under a root."""
    x = feasible_set(row).nearest(np.array([2.0, 3.0]))
    c, _, upper = rows_of(row).evaluate(x)
    assert (c <= upper).all()
    assert (c > upper - 1e-6).any()


def test_tangent_directions_are_those_that_equations_leave():
    plane = {"type": "eq", "fun": lambda x: x.sum()}
    x = np.array([1.0, -1.0, 0.0]) / math.sqrt(2.0)
    basis = feasible_set([SPHERE, plane, DISC], 3).tangent(x)
    assert basis.shape == (3, 1)
    np.testing.assert_allclose(np.abs(basis[:, 0] @ [1, 1, -2]) / math.sqrt(6.0), 1.0, atol=1e-6)
    assert feasible_set(DISC).tangent(x[:2]) is None


def test_the_lowest_point_is_within_the_region_the_box_and_the_rows():
    slope, start = np.array([-1.0, -1.0]), np.array([0.7, 0.7])
    x = np.zeros(2)
    ball = feasible_set([]).lowest(x, 0.5, np.eye(2), slope, np.zeros((2, 2)), start / np.linalg.norm(start))
    np.testing.assert_allclose(ball, 0.5 / math.sqrt(2.0), atol=1e-6)
    box = feasible_set([], high=0.1).lowest(x, 0.5, np.eye(2), slope, np.zeros((2, 2)), start)
    np.testing.assert_allclose(box, 0.1, atol=1e-6)
    row = {"type": "ineq", "fun": lambda x: 0.1 - x[0] ** 2}
    cut = feasible_set(row).lowest(x, 0.5, np.eye(2), slope, np.zeros((2, 2)), start)
    np.testing.assert_allclose(cut, [math.sqrt(0.1), math.sqrt(0.25 - 0.1)], atol=1e-6)


def test_differences_of_rows_stay_below_a_bound_and_where_there_is_a_value():
    row = {"type": "ineq", "fun": lambda x: math.sqrt(1.0 - x[0]) if x[0] <= 1.0 else np.nan}
    assert np.isfinite(rows_of(row).jacobian(np.array([1.0]))).all()
    seen = []
    row = {"type": "ineq", "fun": lambda x: seen.append(x[0]) or x[0] ** 2}
    slope = rows_of(row).jacobian(np.array([1.0]), np.array([1.0]))
    assert max(seen) <= 1.0
    np.testing.assert_allclose(slope, 2.0, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_auto_meets_constraints_at_every_point(noise):
    fun = Recorded(nearest_to(np.array([2.0, 1.0, 0.0])), noise)
    result = vb.minimize(fun, [3.0, 3.0, 3.0], constraints=DISC, bounds=[(-4, 4)] * 3, rng=0, maxfev=60)
    assert max(rows_of(DISC).violation(x) for x in fun.points) <= FEASIBLE
    assert result.maxcv == 0.0
    assert result.nfev == len(fun.points) <= 60
    np.testing.assert_allclose(result.x, np.array([2.0, 1.0, 0.0]) / math.sqrt(5.0), atol=0.05 if noise else 1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_auto_on_a_surface(noise):
    fun = Recorded(nearest_to(np.array([2.0, 1.0, 0.0])), noise)
    result = vb.minimize(fun, [0.0, 0.0, 3.0], constraints=SPHERE, rng=0, maxfev=60)
    assert max(abs(x @ x - 1.0) for x in fun.points) <= FEASIBLE
    np.testing.assert_allclose(result.x, np.array([2.0, 1.0, 0.0]) / math.sqrt(5.0), atol=0.05 if noise else 1e-4)


@pytest.mark.parametrize("fails", ["objective", "constraint"])
def test_what_has_no_value_outside_is_not_called_there(fails):
    def root(x):
        return math.sqrt(x[0]) - x[1]

    def objective(x):
        return (x[0] - 0.1) ** 2 + (x[1] - 1.0) ** 2 - (math.sqrt(root(x)) if fails == "objective" else 0.0)

    row = {"type": "ineq", "fun": root}
    result = vb.minimize(objective, [4.0, 3.0], constraints=row, bounds=[(0, None), (None, None)])
    assert result.n_failed == 0
    assert result.success
    assert result.fun < (-0.0467 if fails == "objective" else 0.2252)


def test_auto_goes_along_many_planes():
    """COBYQA ends at one of their edges."""
    rng = np.random.default_rng(3)
    normals, cost = rng.normal(size=(10, 4)), rng.normal(size=4)
    rows = NonlinearConstraint(lambda x: normals @ x, -np.inf, 1.0)
    result = vb.minimize(lambda x: float(cost @ x + 0.5 * x @ x), np.zeros(4), constraints=rows)
    exact = vb.minimize(
        lambda x: float(cost @ x + 0.5 * x @ x), np.zeros(4), constraints=rows, jac=lambda x: cost + x, method="SLSQP"
    )
    assert result.message.startswith("auto chose interpolation")
    assert result.fun == pytest.approx(exact.fun, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("workers", [1, 2])
def test_constraints_may_leave_one_point(noise, workers):
    rows = [{"type": "eq", "fun": lambda x: x[0] - 1.0}, {"type": "eq", "fun": lambda x: x[1] - x[0]}]
    fun = Recorded(nearest_to(np.full(2, 2.0)), noise)
    with ThreadPoolExecutor(workers) as pool:
        result = vb.minimize(fun, np.zeros(2), constraints=rows, workers=pool if workers > 1 else 1, maxfev=40)
    np.testing.assert_allclose(result.x, 1.0, atol=1e-6)
    assert result.nfev <= 40


def test_what_no_point_meets_is_left_to_cobyqa():
    never = {"type": "ineq", "fun": lambda x: -1.0 - x[0] ** 2}
    result = vb.minimize(nearest_to(np.zeros(2)), [1.0, 1.0], constraints=never, maxfev=60)
    assert result.message.startswith("auto chose COBYQA")
    assert not result.success


def test_units_of_the_user_and_a_fixed_variable():
    row = {"type": "ineq", "fun": lambda x: 1.0 - x[0] - 1e-3 * x[1]}
    fun = nearest_to(np.array([2.0, 2.0, 0.0]))
    scaled = vb.minimize(lambda x: fun(x * [1, 1e-3, 1]), np.zeros(3), constraints=row, x_scale=[1, 1e3, 1])
    np.testing.assert_allclose(scaled.x * [1, 1e-3, 1], [0.5, 0.5, 0.0], atol=1e-3)
    bounds = [(None, None), (0.25e3, 0.25e3), (None, None)]
    fixed = vb.minimize(lambda x: fun(x * [1, 1e-3, 1]), np.zeros(3), constraints=row, bounds=bounds)
    np.testing.assert_allclose(fixed.x, [0.75, 0.25e3, 0.0], atol=1e-3)
