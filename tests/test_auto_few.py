"""``method="auto"`` with few values in a box: what begins, how far its first steps go, and where it does not apply."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb

BOX = [(0.05, 0.15), (100, 50000), (63070, 115600), (990, 1110), (63.1, 116), (700, 820), (1120, 1680), (9855, 12045)]
LOW, HIGH = np.array(BOX, dtype=float).T
X0 = LOW + np.array([0.37, 0.51, 0.29, 0.77, 0.39, 0.46, 0.58, 0.24]) * (HIGH - LOW)
FEW = 10 * (X0.size + 1)


def flow(x):
    """Return the flow through a borehole."""
    rw, r, tu, hu, tl, hl, length, kw = x
    log = np.log(r / rw)
    return 2 * np.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))


def trade(x):
    """Ask for much flow, and for small changes of the middle of the box."""
    return float(((flow(x) - 150.0) / 45.0) ** 2 + 0.15 * np.sum(((x - LOW) / (HIGH - LOW) - 0.4) ** 2))


class Counted:
    """An objective that keeps what it was asked."""

    def __init__(self, fun):
        self.fun, self.points = fun, []

    def __call__(self, x):
        self.points.append(np.array(x))
        return self.fun(x)


class Pool:
    """Eight workers, as far as a method can see."""

    _max_workers = 8

    def __init__(self):
        self.sizes = []

    def __call__(self, function, points):
        values = [function(point) for point in points]
        self.sizes.append(len(values))
        return values


def minimize(fun, x0=X0, bounds=BOX, **kwargs):
    return vb.minimize(fun, x0, bounds=bounds, rng=1, **{"maxfev": FEW // 2, **kwargs})


def rippled(x):
    u = (x - LOW) / (HIGH - LOW) - 0.6
    return float(np.sum(u * u) + 0.01 * np.sum(np.cos(60.0 * u)))


def test_ripples_that_are_small_against_the_box_do_not_hold_it_up():
    fun = Counted(rippled)
    result, descent = minimize(fun), minimize(rippled, method="fd-bfgs")
    assert result.message.startswith("auto chose interpolation (few values in a box")
    assert result.nfev == len(fun.points) == FEW // 2
    assert all(((x >= LOW) & (x <= HIGH)).all() for x in fun.points)
    assert result.fun + 0.08 < 0.5 * (descent.fun + 0.08)


def test_first_steps_are_a_quarter_of_the_box_or_less_where_a_bound_is_near():
    fun = Counted(lambda x: float(np.sum((x - 0.7) ** 2)))
    minimize(fun, np.array([0.5, 3.0, 1.0, 0.5]), [(0, 1000), (0, 10), (0, 1), (2 / 5, 3 / 5)], maxfev=20)
    steps = np.array(fun.points[2:6]) - fun.points[0]
    np.testing.assert_allclose(steps, np.diag([0.375, 2.5, -0.25, 0.05]), atol=1e-12)
    assert np.count_nonzero(fun.points[6] != fun.points[0]) > 1  # at once to where the lowest value is to be expected


def test_a_given_scale_is_the_first_step():
    fun = Counted(lambda x: float(x @ x))
    minimize(fun, np.array([0.5, 3.0]), [(0, 1000), (0, 10)], maxfev=20, x_scale=[0.1, 2.0])
    np.testing.assert_allclose(np.array(fun.points[2:4]) - fun.points[0], np.diag([0.1, 2.0]), atol=1e-12)


def test_a_variable_whose_first_point_has_failed_gets_another_one():
    def fails(x):
        if x[0] > 0.6:
            raise ArithmeticError("diverged")
        return float(np.sum((x - 0.3) ** 2) + x[0] * x[1])

    fun = Counted(fails)
    result = minimize(fun, np.array([0.5, 0.5, 0.5]), [(0, 1)] * 3, maxfev=24)
    assert any(x[0] == 0.25 and (x[1:] == 0.5).all() for x in fun.points)
    assert result.fun < 0.06 + 1e-6
    assert result.n_failed >= 1


def test_workers_have_rounds_of_a_process():
    pool, fun = Pool(), Counted(trade)
    result = minimize(fun, workers=pool)
    assert result.message.startswith("auto chose bayes (few values in a box")
    assert result.nfev == len(fun.points) == FEW // 2
    assert pool.sizes == [8, 8, 8, 8, 8, 3]  # d points of the box, then as many as there are workers; two are of x0
    assert result.fun < 0.2 * trade(X0)


def test_a_time_out_for_evaluations_changes_no_point():
    plain = minimize(trade, noisy=False, maxfev=18)
    assert minimize(trade, noisy=False, maxfev=18, eval_timeout=60).fun == pytest.approx(plain.fun, rel=1e-6)


def test_a_journal_goes_on_with_a_larger_budget(tmp_path):
    values = [minimize(trade, maxfev=most, journal=tmp_path / "run.db") for most in (FEW, 2 * FEW)]
    assert values[1].fun <= values[0].fun
    assert FEW < values[1].nfev <= 2 * FEW


@pytest.mark.parametrize(
    "change",
    [
        {"maxfev": FEW + 1},
        {"maxfev": None, "max_time": 1e-3},
        {"tol": 1e-6},
        {"options": {"gtol": 1e-6}},
        {"noisy": True},
        {"bounds": [*BOX[1:], (0, None)]},
    ],
)
def test_elsewhere_it_is_as_with_many(change):
    assert "few values" not in minimize(trade, **change).message


def test_the_answer_is_the_same_again():
    runs = [Counted(trade), Counted(trade)]
    for fun in runs:
        minimize(fun, maxfev=FEW)
    assert all((a == b).all() for a, b in zip(runs[0].points, runs[1].points, strict=True))
    assert len({x.tobytes() for x in runs[0].points}) == FEW - 1  # the start twice, to see whether there is noise
