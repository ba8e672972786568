"""``method="auto"`` lets a descent and a model take turns: nothing is paid for twice, and scales do not matter."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise

import numpy as np
import pytest
from objectives import Counted

import vamo_bbo as vb
from vamo_bbo.auto import smooth
from vamo_bbo.auto.descent import Descent
from vamo_bbo.auto.units import find_units
from vamo_bbo.run.failures import FailurePolicy
from vamo_bbo.run.stop import Budget
from vamo_bbo.scipy_layer.objective import Watched

TIMES = np.linspace(0.0, 10.0, 40)


def wood(x):
    a, b = x[1] - x[0] ** 2, x[3] - x[2] ** 2
    rest = 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2) + 19.8 * (x[1] - 1) * (x[3] - 1)
    return 100 * a**2 + (1 - x[0]) ** 2 + 90 * b**2 + (1 - x[2]) ** 2 + rest


WOOD = np.array([-3.0, -1.0, -3.0, -1.0])


def rate(parameters):
    """Fit a saturation curve whose two parameters differ by a factor of 2,000; 0 at (3.2e-4, 0.7)."""
    found = 1e3 * parameters[0] * TIMES / (parameters[1] + TIMES)
    return float(np.sum((found - 0.32 * TIMES / (0.7 + TIMES)) ** 2))


def test_the_descent_goes_on_from_what_the_model_has_found(monkeypatch):
    """Else the values of a turn of the model would be lost to it."""
    fun, starts = Counted(wood), []
    move = Descent.move

    def seen(self, x, value):
        before = self.method.state.scalars["value"]
        move(self, x, value)
        starts.append((before, self.method.state.scalars["value"], value))

    monkeypatch.setattr(Descent, "move", seen)
    monkeypatch.setattr(smooth, "FIRST", 3)
    result = vb.minimize(fun, WOOD, maxfev=1000, rng=0, options={"maxiter": 10**6})
    assert result.fun < 1e-9
    assert any(after < before for before, after, _ in starts)
    assert all(after == before or after == value < before for before, after, value in starts)


def test_no_value_is_paid_for_twice_and_the_budget_is_exact():
    fun = Counted(wood)
    result = vb.minimize(fun, WOOD, maxfev=1200, rng=0, options={"maxiter": 10**6})  # its own ends: no search after it
    points = [x.tobytes() for x in fun.points[1:]]  # the first two are one point, to see whether there is noise
    assert len(set(points)) == len(points)
    assert result.nfev == len(fun.points) <= 1200
    assert result.fun < 1e-9


class Bordered:
    """A quadratic whose lowest value, at 1, is beyond a plane behind which every evaluation fails."""

    def __init__(self, d):
        self.scales, self.normal = np.logspace(0, 1, d), np.abs(np.cos(np.arange(d)))
        self.limit = 0.5 * self.normal.sum()
        self.lowest = self.limit**2 / np.sum(self.normal**2 / self.scales)  # by Lagrange's multiplier

    def __call__(self, x):
        if self.normal @ x > self.limit:
            raise RuntimeError("the simulation diverged")
        return float(self.scales @ (x - 1.0) ** 2)

    def gap(self, method):
        """Return what is left after 100 (d + 1) values."""
        x0 = np.zeros(self.scales.size)
        result = vb.minimize(self, x0, method=method, maxfev=100 * (x0.size + 1), rng=0)
        return (result.fun - self.lowest) / (self(x0) - self.lowest)


@pytest.mark.parametrize("d", [6, 30])
def test_a_population_joins_where_failures_hold_the_descent_up(d):
    fun = Bordered(d)
    assert fun.gap("fd-bfgs") > 0.03
    assert fun.gap("auto") < 0.002


def test_failures_here_and_there_are_no_border(monkeypatch):
    """One point of seven fails; nothing but the descent and the model runs."""
    monkeypatch.setattr(smooth, "local_population", None)  # to call it would be an error

    counted = count(1)

    def fun(x):
        if next(counted) % 7 == 0:
            raise OSError("no licence")
        return wood(x)

    result = vb.minimize(fun, WOOD, maxfev=500, rng=0, options={"maxiter": 10**6})
    assert result.n_failed > 50
    assert result.fun < 10.0  # 19192 at the start


def test_the_callback_sees_iterations_in_order():
    seen = []
    vb.minimize(wood, WOOD, maxfev=400, rng=0, callback=lambda intermediate_result: seen.append(intermediate_result))
    assert [one.nit for one in seen] == list(range(1, len(seen) + 1))
    assert all(a.nfev <= b.nfev for a, b in pairwise(seen))


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-2, 1e2, 1e4])
def test_parameters_of_different_size_are_fitted(scale):
    result = vb.minimize(lambda p: rate(p * np.array([1.0, scale])), [1e-3, 5.0 / scale], maxfev=300, rng=0)
    assert result.fun < 1e-6


@pytest.mark.parametrize("raises_at", [50, 100, 150])
def test_ctrl_c_in_any_turn_gives_the_best_point(raises_at):
    def interrupted(x):
        if len(fun.points) == raises_at:
            raise KeyboardInterrupt
        return wood(x)

    fun = Counted(interrupted)
    result = vb.minimize(fun, WOOD, maxfev=400, rng=0)
    assert (result.status, result.success, result.fun) == (7, False, min(fun.values))


@pytest.mark.parametrize(("method", "options"), [("fd-bfgs", {}), ("L-BFGS-B", {"maxcor": 50, "maxls": 20})])
def test_a_descent_that_is_ahead_ends_the_run_as_it_would_alone(method, options):
    first, second = Counted(lambda x: float(x @ x)), Counted(lambda x: float(x @ x))
    alone = vb.minimize(first, np.ones(6), method=method, options=options)
    result = vb.minimize(second, np.ones(6), options=options)
    np.testing.assert_allclose(result.x, alone.x, atol=1e-7)
    assert result.success
    assert method in result.message
    assert 0 <= result.nfev - alone.nfev <= 1


def test_coarse_values_are_left_to_the_model():
    result = vb.minimize(lambda x: float(np.sum(np.floor(10 * np.abs(x - 0.33)) ** 2)), np.full(6, 3.7))
    assert "interpolation" in result.message
    assert result.fun <= 4.0


def test_bounds_hold_in_every_turn():
    fun = Counted(wood)
    bounds = [(-4.0, 0.5), (-2.0, 5.0), (-3.0, -3.0), (None, 0.7)]
    result = vb.minimize(fun, WOOD, bounds=bounds, maxfev=300, rng=0)
    points = np.array(fun.points)
    assert points[:, 0].max() <= 0.5
    assert points[:, 3].max() <= 0.7
    assert (points[:, 2] == -3.0).all()
    assert result.fun == min(fun.values)


def test_the_unit_of_f_does_not_matter_below_one():
    ends = [vb.minimize(lambda x, s=s: s * wood(x + 1.0), np.full(4, 0.1)).fun / s for s in (1e-2, 1e-6)]
    assert max(ends) < 1e-8 * wood(np.full(4, 1.1))
    assert vb.minimize(lambda x: 1e-6 * wood(x + 1.0), np.full(4, 0.1), method="L-BFGS-B").fun > 1e-3 * 1e-6


def test_many_variables_leave_no_trail_of_points():
    d = 400
    start = 10.0 ** np.linspace(-2, 2, d)
    vb.minimize(lambda x: float(np.sum((x / start - 1.5) ** 2)), start, maxfev=d + 5)
    tracemalloc.start()
    result = vb.minimize(lambda x: float(np.sum((x / start - 1.5) ** 4)), start, maxfev=20 * (d + 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.nfev > 18 * d
    assert peak < 0.5 * result.nfev * start.nbytes


def test_many_variables_are_left_to_the_descent():
    result = vb.minimize(lambda x: float(np.sum((x - 1) ** 4)), np.zeros(smooth.MODELS + 1))
    assert "interpolation" not in result.message
    assert result.fun < 1e-3


CHARGE = np.linspace(0.0, 5e-3, 50)


def capacitor(p):
    """Fit the charging of a capacitor, behind a resistor known at 1 kOhm to a tenth; 0 at (5, 1e3, 1e-6)."""
    volts = p[0] * (1.0 - np.exp(-CHARGE / (p[1] * p[2])))
    return float(np.mean((volts - 5.0 * (1.0 - np.exp(-CHARGE / 1e-3))) ** 2) + 1e-2 * (p[1] / 1e3 - 1.0) ** 2)


@pytest.mark.parametrize("bounds", [None, [(0.0, 20.0), (10.0, 1e5), (1e-8, 1e-4)]])
def test_units_are_read_off_the_start(bounds):
    fun = Counted(capacitor)
    result = vb.minimize(fun, [3.0, 3e3, 3e-7], bounds=bounds, maxfev=300, rng=0)
    np.testing.assert_allclose(result.x, [5.0, 1e3, 1e-6], rtol=1e-3)
    points = [x.tobytes() for x in fun.points[1:80]]
    assert len(set(points)) == len(points)  # what it took to find out is not paid for again
    assert vb.minimize(capacitor, [3.0, 3e3, 3e-7], method="L-BFGS-B", bounds=bounds).fun > 1e-6


@pytest.mark.parametrize("d", [3, 20, 60])
def test_a_start_of_random_numbers_says_nothing_about_units(d):
    start = np.random.default_rng(d).standard_normal(d) * np.array([1e-3] + [1.0] * (d - 1))
    for fun in (lambda x: float(x @ x), lambda x: float(np.sum(np.cosh(x - 1.0))), lambda x: float(np.sum(x))):
        watched = Watched(fun, Budget(), FailurePolicy())
        watched(start)
        assert find_units(watched, start, ())[0] is None
        assert watched.nfev <= d + 1


def test_units_of_zeros_come_from_the_box_and_fixed_variables_stay():
    seen = Counted(lambda x: float((x[0] / 1e4 - 0.3) ** 2 + (x[1] - 0.2) ** 2 + (1e5 * x[2] - 0.1) ** 2 + x[3]))
    result = vb.minimize(seen, np.zeros(4), bounds=[(-1e4, 1e4), (-1, 1), (-1e-5, 1e-5), (0, 0)])
    np.testing.assert_allclose(result.x, [3e3, 0.2, 1e-6, 0.0], rtol=1e-3)
    assert (np.array(seen.points)[:, 3] == 0.0).all()
    assert result.nfev < 60


def test_the_result_of_a_run_in_other_units_is_in_those_of_the_user():
    result = vb.minimize(capacitor, [3.0, 3e3, 3e-7], rng=0)
    steps = 1e-6 * result.x
    slopes = [(capacitor(result.x + e) - capacitor(result.x - e)) / (2 * e.max()) for e in np.diag(steps)]
    assert result.success
    np.testing.assert_allclose(result.jac * result.x, slopes * result.x, atol=1e-5)


def test_a_budget_that_ends_while_units_are_sought_is_kept():
    for maxfev in range(10, 16):
        fun = Counted(lambda x: float(((x / SIZES - 1.0) ** 2).sum()))
        result = vb.minimize(fun, 0.5 * SIZES, maxfev=maxfev)
        assert result.nfev == len(fun.points) <= maxfev
        assert result.fun == min(fun.values)


SIZES = 10.0 ** np.arange(-6, 6)


def test_units_under_noise_and_for_a_population():
    noise = np.random.default_rng(3)
    start = np.array([3.0, 3e3, 3e-7])
    noisy = vb.minimize(lambda p: capacitor(p) + 1e-3 * noise.standard_normal(), start, maxfev=600, rng=0)
    np.testing.assert_allclose([noisy.x[0], noisy.x[1] * noisy.x[2]], [5.0, 1e-3], rtol=0.05)
    fun = Counted(lambda p: capacitor(p) + 1e-6 * noise.standard_normal())
    with ThreadPoolExecutor(2) as pool:
        result = vb.minimize(fun, start, workers=pool, maxfev=800, rng=0)
    assert result.message.startswith("auto chose quadratic")
    assert result.nfev == len(fun.points)
    np.testing.assert_allclose([result.x[0], result.x[1] * result.x[2]], [5.0, 1e-3], rtol=1e-2)


def test_several_workers_share_gradients_and_generations_and_no_model_takes_turns():
    class Pool:
        def __init__(self):
            self.sizes, self.before = [], []

        def __call__(self, function, points):
            points = list(points)
            self.sizes.append(len(points))
            self.before.append(len(fun.points))
            return [function(point) for point in points]

    pool, fun = Pool(), Counted(wood)
    result = vb.minimize(fun, WOOD, workers=pool, maxfev=1500, rng=0)
    assert result.message.startswith("auto chose fd-bfgs")
    assert "interpolation" not in result.message
    assert "cma then used" in result.message
    assert result.nfev == len(fun.points)
    assert result.fun < 1e-9
    assert pool.sizes.count(5) > 20  # a trial point, and the gradient there
    assert (np.diff(pool.before) == pool.sizes[:-1]).all()  # nothing is asked for outside of it
    assert max(pool.sizes) > 4  # generations of the search


def test_noise_alone_shows_no_units():
    noise = np.random.default_rng(4)
    found = []
    for _ in range(20):
        watched = Watched(lambda x: float(noise.standard_normal()), Budget(), FailurePolicy())
        watched.differs_at(SIZES, ())
        watched.noise = 1.0
        found.append(find_units(watched, SIZES, (), noisy=True)[0])
    assert all(one is None for one in found)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_a_given_scale_is_the_unit_of_every_stage(noise):
    """The rest of the budget is searched, too: only the far valley has the low value."""
    random = np.random.default_rng(5)

    def two_valleys(x):
        fine = (x[1] * 1e5 - 0.2) ** 2 + noise * random.standard_normal()
        return float(min((x[0] / 1e4) ** 2, (x[0] / 1e4 - 1.5) ** 2 - 1.0) + fine)

    result = vb.minimize(two_valleys, [1e2, 1e-6], x_scale=[1e4, 1e-5], maxfev=900, rng=0)
    np.testing.assert_allclose(result.x, [1.5e4, 2e-6], rtol=0.1)
    assert "cma" in result.message


@pytest.mark.parametrize("noise", [0.0, 1e-2])
@pytest.mark.parametrize("answer", [lambda v: np.array([v]), np.float64, np.array], ids=["array", "float64", "0-d"])
def test_an_objective_may_write_to_x_and_answer_in_an_array(noise, answer):
    random = np.random.default_rng(6)

    def fun(x):
        seen.append(x.copy())
        value = float(np.sum((x / SIZES[:3] - 1.0) ** 2)) + noise * random.standard_normal()
        x[:] = 7.0
        return answer(value)

    for size in (SIZES[:3], np.full(3, 2.0) * SIZES[:3]):
        seen = []
        bounds = [(0.0, 3 * s) for s in SIZES[:3]]
        result = vb.minimize(fun, 0.4 * size, bounds=bounds, maxfev=200, rng=0)
        assert result.nfev == len(seen) <= 200
        assert (np.array(seen) <= 3 * SIZES[:3]).all()
        np.testing.assert_allclose(result.x / SIZES[:3], 1.0, atol=0.3 if noise else 1e-3)


def test_fixed_variables_leave_nothing_to_search():
    result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (2, 2)], maxfev=200)
    assert (result.fun, result.success) == (5.0, True)
    scaled = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (2, 2)], x_scale=[1, 5], maxfev=3)
    assert scaled.fun == 5.0


@pytest.mark.parametrize("paired", [False, True])
def test_an_exact_gradient_is_used_in_the_units_of_the_start(paired):
    gradients = []

    def slope(p):
        gradients.append(p.copy())
        return np.array([capacitor(p + 1e-30j * e).imag / 1e-30 for e in np.eye(3)])

    def capacitor(p):
        volts = p[0] * (1.0 - np.exp(-CHARGE / (p[1] * p[2])))
        return np.mean((volts - 5.0 * (1.0 - np.exp(-CHARGE / 1e-3))) ** 2) + 1e-2 * (p[1] / 1e3 - 1.0) ** 2

    start = np.array([3.0, 3e3, 3e-7])
    value = Counted(lambda p: capacitor(p))
    both = (lambda p: (value(p), slope(p))) if paired else value
    result = vb.minimize(both, start, jac=True if paired else slope, rng=0)
    np.testing.assert_allclose(result.x, [5.0, 1e3, 1e-6], rtol=1e-2)
    assert (result.nfev, result.njev) == (len(value.points), len(gradients))
    assert np.abs(result.jac * result.x).max() < 1e-3
    value.points.clear()
    gradients.clear()
    limited = vb.minimize(both, start, jac=True if paired else slope, maxjev=12, maxfev=15)
    assert (limited.nfev, limited.njev) == (len(value.points), len(gradients))
    assert limited.njev <= 12
    if not paired:
        assert vb.minimize(both, start, jac=slope, maxjev=0).njev == 0
    assert limited.nfev <= 15


def test_a_gradient_that_fails_at_the_start_leaves_the_units_alone():
    def slope(x):
        raise ZeroDivisionError

    result = vb.minimize(lambda x: float(np.sum((x / SIZES[:3] - 1.0) ** 2)), 0.5 * SIZES[:3], jac=slope, maxfev=100)
    assert result.n_failed > 0


def test_a_run_without_a_step_is_not_taken_for_one_that_is_stuck():
    result = vb.minimize(lambda x: float(np.sum((x - 1) ** 2)), np.zeros(3), options={"maxiter": 0})
    assert "Maximum number of iterations" in result.message
    assert "no slope" not in result.message
