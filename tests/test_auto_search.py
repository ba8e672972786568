"""``method="auto"`` spends a stated budget: where the local methods end, it looks for something better."""

from __future__ import annotations

import time

import numpy as np
import pytest

import vamo_bbo as vb

D = 4
START = np.full(D, 3.3) + 0.01 * np.arange(D)
BOX = [(-10.0, 10.0)] * D


class Ackley:
    """Ackley's function, 0 at 0 and about 9 at the local minimum next to ``START``; it keeps what it was asked."""

    def __init__(self, raises_at=None, exception=None, fails=lambda x: False):
        self.points, self.values = [], []
        self.raises_at, self.exception, self.fails = raises_at, exception, fails

    def __call__(self, x):
        self.points.append(np.array(x))
        if len(self.points) == self.raises_at:
            raise self.exception
        value = -20 * np.exp(-0.2 * np.sqrt(np.mean(x * x))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e
        self.values.append(np.nan if self.fails(x) else float(value))
        return self.values[-1]


def bowl(x):
    return float(((x - 1.0) ** 2).sum())


@pytest.mark.parametrize("bounds", [None, BOX])
def test_the_rest_of_a_budget_finds_a_better_basin(bounds):
    fun = Ackley()
    result = vb.minimize(fun, START, bounds=bounds, rng=0, maxfev=1500)
    assert result.fun == min(fun.values) < 1e-3
    assert fun(result.x) == result.fun
    assert result.nfev == result.nfev_samples == len(fun.points) - 1 <= 1500
    assert "cma then used" in result.message
    counts = [record.nfev for record in result.history]
    assert counts == sorted(counts)
    assert [record.fun for record in result.history] == sorted((r.fun for r in result.history), reverse=True)


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"maxfev": 1500, "tol": 1e-8}, {"maxfev": 1500, "options": {"ftol": 1e-9}}],
)
def test_without_a_budget_or_with_a_tolerance_it_stops_at_the_minimum(kwargs):
    fun = Ackley()
    result = vb.minimize(fun, START, bounds=BOX, rng=0, **kwargs)
    assert "cma" not in result.message
    assert result.success
    assert len(fun.points) < 300


def test_a_smooth_bowl_is_descended_first_and_stays_solved():
    short, long = [], []
    first = vb.minimize(lambda x: short.append(bowl(x)) or short[-1], np.zeros(D), rng=0)
    result = vb.minimize(lambda x: long.append(bowl(x)) or long[-1], np.zeros(D), rng=0, maxfev=500)
    assert long[: len(short)] == short
    assert result.fun <= first.fun
    assert result.success
    assert result.status == 0


def test_the_same_seed_gives_the_same_run():
    first, second, third = (vb.minimize(Ackley(), START, bounds=BOX, rng=rng, maxfev=600) for rng in (7, 7, 8))
    np.testing.assert_array_equal(first.x, second.x)
    assert first.nfev == second.nfev
    assert not np.array_equal(first.x, third.x)


def test_bounds_fixed_variables_and_float32_hold():
    fun = Ackley()
    bounds = [(-10.0, 10.0), (3.31, 3.31), (1.0, None), (None, 10.0)]
    result = vb.minimize(fun, START.astype(np.float32), bounds=bounds, rng=0, maxfev=900)
    points = np.array(fun.points)
    assert "cma then used" in result.message
    assert (points[:, 1] == points[0, 1]).all()
    assert points[:, 2].min() >= 1.0
    assert points[:, [0, 3]].max() <= 10.0
    assert points[:, 0].min() >= -10.0
    assert result.x.dtype == vb.minimize(Ackley(), START.astype(np.float32), bounds=bounds).x.dtype
    assert result.fun == min(fun.values)


def test_failures_are_recorded_and_never_the_answer():
    fun = Ackley(fails=lambda x: x[0] < -0.5)
    result = vb.minimize(fun, START, bounds=BOX, rng=0, maxfev=1500)
    assert result.n_failed == int(np.isnan(fun.values).sum()) > 0
    assert result.fun == np.nanmin(fun.values) < 1e-2
    assert result.x[0] >= -0.5


def test_a_callback_sees_every_stage_and_can_end_the_search():
    seen = []

    def callback(intermediate_result):
        seen.append((intermediate_result.nit, intermediate_result.nfev))
        if intermediate_result.nfev > 700:
            raise StopIteration

    result = vb.minimize(Ackley(), START, bounds=BOX, rng=0, maxfev=1500, callback=callback)
    assert seen == sorted(seen)
    assert seen[-2][1] <= 700 < seen[-1][1] == result.nfev
    assert (result.status, result.success) == (99, False)


def test_ctrl_c_and_a_target_end_the_search_with_the_best_point():
    fun = Ackley(700, KeyboardInterrupt())
    result = vb.minimize(fun, START, bounds=BOX, rng=0, maxfev=1500)
    assert (result.status, result.success, result.nfev) == (7, False, 700)
    assert result.fun == min(fun.values)
    fun = Ackley()
    result = vb.minimize(fun, START, bounds=BOX, rng=0, f_target=1.0)
    assert (result.status, result.success) == (5, True)
    assert fun.values[-1] == result.fun <= 1.0 < min(fun.values[:-1])


def test_a_limit_of_time_is_a_budget_too(monkeypatch):
    fun = Ackley()
    monkeypatch.setattr(time, "perf_counter", lambda: float(len(fun.points)))  # a second per value
    result = vb.minimize(fun, START, bounds=BOX, rng=0, max_time=1500)
    assert result.fun == min(fun.values) < 1e-3
    assert 1400 < result.nfev <= 1501


def test_rows_and_workers_get_whole_generations():
    widths = []

    def rows(points):
        widths.append(len(points))
        return np.array([Ackley()(x) for x in points])

    result = vb.minimize(rows, START, bounds=BOX, rng=0, maxfev=1500, vectorized=True)
    assert result.nfev == sum(widths)
    assert sum(width >= 8 for width in widths) > 20
    assert result.fun < 1e-3


def test_a_chaotic_objective_comes_down_to_its_ripple():
    """Differences see nothing but the ripple, of height 1."""
    d = 30

    def rough(x):
        return float((x - 1.0) @ (x - 1.0)) + np.sin(1e4 * float(x @ np.arange(1, d + 1)))

    result = vb.minimize(rough, -np.ones(d), rng=0, maxfev=60 * (d + 1))
    assert result.fun < 2.0 < 4 * d
