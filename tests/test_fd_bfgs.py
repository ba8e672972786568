"""Method "fd-bfgs": what it finds, what it pays, and that bounds, failures, units and rounding do not stop it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.optimize
from objectives import Counted, rosenbrock

import vamo_bbo as vb
from vamo_bbo.core.late import LATE
from vamo_bbo.core.types import Answer, ProblemInfo


def minimize(fun, x0, **kwargs):
    return vb.minimize(fun, x0, method="fd-bfgs", **kwargs)


def test_a_trial_point_costs_one_value():
    """Descents whose line searches want the slope of every trial point pay d + 1 values for it."""
    d = 30
    fun = Counted(rosenbrock)
    result = minimize(fun, np.tile([-1.2, 1.0], d // 2), maxfev=40 * (d + 1))
    steps = [np.flatnonzero(a != b).size for a, b in zip(fun.points[:-1], fun.points[1:], strict=True)]
    trials = sum(size > 2 for size in steps) / 2  # each is far from the point before it, and from the one behind it
    assert result.nit > 25
    assert result.nfev == len(fun.points)
    assert result.nfev < (result.nit + 2) * (d + 1) + 2 * trials


def test_it_needs_fewer_values_than_scipy_on_differences():
    for x0 in (np.tile([-1.2, 1.0], 5), np.array([2.0, -1.0, 0.5, 0.0])):
        fun = Counted(rosenbrock)
        scipy.optimize.minimize(fun, x0, method="L-BFGS-B", options={"maxfun": 10**6})
        reached = np.flatnonzero(np.array(fun.values) <= 1e-6)
        result = minimize(rosenbrock, x0, f_target=1e-6)
        assert result.status == 5
        assert reached.size == 0 or result.nfev < reached[0]


@pytest.mark.parametrize("decades", [2, 4])
def test_variables_in_different_units(decades):
    sizes = 10.0 ** np.linspace(-decades / 2, decades / 2, 6)
    fun = Counted(lambda x: float(np.sum(np.cosh(x * sizes - 1.0)) - 6.0))
    result = minimize(fun, np.zeros(6), f_target=1e-4, maxfev=400)
    assert result.status == 5
    assert result.nfev < 100


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_unit_of_f_changes_no_step_of_a_large_function(factor):
    first, second = Counted(lambda x: 1e6 * rosenbrock(x)), Counted(lambda x: factor * 1e6 * rosenbrock(x))
    for fun in (first, second):
        minimize(fun, np.array([-1.2, 1.0, 0.3]), maxfev=120)
    np.testing.assert_allclose(first.points[:60], second.points[:60], rtol=1e-12)


def test_points_that_fail_are_measured_on_the_other_side():
    def fun(x):
        if x[0] > 0.0 or x[1] > 0.5:
            raise ValueError("outside of the model")
        return float((x[0] - 1.0) ** 2 + (x[1] + 1.0) ** 2 + (x[2] - 2.0) ** 2)

    counted = Counted(fun)
    result = minimize(counted, np.zeros(3), maxfev=400)
    assert result.n_failed > 0
    np.testing.assert_allclose(result.x, [0.0, -1.0, 2.0], atol=2e-2)
    assert result.fun == min(counted.values)


def test_a_flat_function_and_fixed_variables_end_at_once():
    flat = minimize(lambda x: 3.0, np.ones(4))
    assert (flat.success, flat.fun) == (True, 3.0)
    assert flat.nfev <= 40
    fixed = minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (2, 2)])
    assert (fixed.success, fixed.fun) == (True, 5.0)
    one = minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (-5, 5)])
    np.testing.assert_allclose(one.x, [1.0, 0.0], atol=1e-5)


def test_a_kink_ends_the_run_with_a_reason():
    result = minimize(lambda x: float(np.abs(x - 0.3).max() + np.abs(x).sum()), np.array([1.0, 2.0, -1.0]), maxfev=5000)
    assert result.success
    assert "no better point" in result.message or "ftol" in result.message
    assert result.fun < 0.5


@pytest.mark.parametrize("slope", [None, np.array([-2.0, -4.0])])
def test_what_is_known_of_the_start_is_not_paid_for(slope):
    solver = vb.fd_bfgs()
    state = solver.init(np.zeros(2), seed=0, backend="numpy", info=ProblemInfo())
    solver.begin(state, 5.0, slope)
    asked = [p.point for p in solver.ask(state)]
    assert len(asked) == 2
    assert not any((p == 0.0).all() for p in asked)
    while solver.status(state) is None:
        answers = [Answer(p.id, value=float((p.point[0] - 1) ** 2 + (p.point[1] - 2) ** 2)) for p in solver.ask(state)]
        state = solver.tell(state, answers)
    np.testing.assert_allclose(solver.recommend(state), [1.0, 2.0], atol=1e-5)


@pytest.mark.parametrize("name", ["ftol", "gtol"])
@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf])
def test_bad_tolerances_are_refused(name, value):
    with pytest.raises(vb.OptionError, match=f"{name} must be a number >= 0"):
        vb.fd_bfgs(**{name: value})


def test_tighter_tolerances_come_closer():
    loose, tight = (minimize(rosenbrock, np.array([-1.2, 1.0]), options={"ftol": t, "gtol": t}) for t in (1e-2, 1e-12))
    assert loose.nfev < tight.nfev
    assert tight.fun < 1e-12 < loose.fun


def test_what_it_is_not_for_is_refused():
    with pytest.raises(vb.CapabilityError, match="deterministic"):
        minimize(lambda x: float(x @ x), np.ones(3), noisy=True)
    with pytest.raises(vb.CapabilityError, match="at most 1000 variables, got 1001"):
        minimize(lambda x: float(x @ x), np.ones(1001))
    with pytest.raises(vb.CapabilityError, match="cannot search Integer or Choice"):
        minimize(lambda n: float(n), vb.Space(n=vb.Integer(0, 9)))


def test_a_sum_is_taken_whole():
    random = np.random.default_rng(2)
    rows, labels = random.standard_normal((300, 4)), np.sign(random.standard_normal(300))

    def losses(x, i):
        return np.logaddexp(0.0, -labels[i] * (rows[i] @ x)) + 0.01 * (x @ x)

    whole = minimize(lambda x: float(np.mean(losses(x, np.arange(300)))), np.zeros(4))
    summed = minimize(vb.FiniteSum(losses, 300, chunk_size=64), np.zeros(4))
    assert summed.success
    np.testing.assert_allclose(summed.x, whole.x, atol=1e-6)


def test_what_comes_too_late_is_no_failure():
    solver = vb.fd_bfgs()
    state = solver.init(np.zeros(3), seed=0, backend="numpy", info=ProblemInfo())
    for turn in range(200):
        if solver.status(state) is not None:
            break
        probes = solver.ask(state)
        late = len(probes) == 3 and turn > 2
        answers = [Answer(p.id, value=float(np.sum((p.point - [1, 2, 3]) ** 4))) for p in probes]
        if late:
            answers[turn % 3] = Answer(probes[turn % 3].id, error=LATE)
        state = solver.tell(state, answers)
        assert not np.isinf([state.arrays["plus"], state.arrays["minus"]]).any()
    np.testing.assert_allclose(solver.recommend(state), [1, 2, 3], atol=0.05)


def told(solver, state, rounds=10**6):
    for _ in range(rounds):
        if solver.status(state) is not None:
            break
        answers = [Answer(p.id, value=rosenbrock(p.point)) for p in solver.ask(state)]
        state = solver.tell(state, answers)
    return state


@pytest.mark.parametrize("rounds", range(3, 12))
def test_it_goes_on_from_a_better_point_of_others(rounds):
    solver = vb.fd_bfgs()
    start = np.array([-1.2, 1.0, 0.5])
    state = told(solver, solver.init(start, seed=0, backend="numpy", info=ProblemInfo()), rounds)
    stale = solver.ask(state)
    before = np.array(state.arrays["x"])
    solver.move(state, before + 1.0, rosenbrock(before) + 1.0)
    np.testing.assert_array_equal(state.arrays["x"], before)
    near = np.array([0.9, 0.8, 0.64])
    solver.move(state, near, rosenbrock(near))
    np.testing.assert_array_equal(solver.recommend(state), near)
    assert not {p.id for p in stale} & {p.id for p in solver.ask(state)}  # answers of the round given up are stale
    state = told(solver, state)
    np.testing.assert_allclose(solver.recommend(state), 1.0, atol=1e-3)


class Rounds:
    """A map-like pool that counts how often it is called."""

    def __init__(self):
        self.sizes = []

    def __call__(self, function, points):
        points = list(points)
        self.sizes.append(len(points))
        return [function(point) for point in points]


def few_digits(x):
    return float(f"{np.sum((x - 0.3) ** 4) + np.sum(x**2):.6g}")


@pytest.mark.parametrize("n_points", [3, 6, 50])
@pytest.mark.parametrize(
    ("fun", "bounds", "dtype"),
    [
        (rosenbrock, None, float),
        (rosenbrock, [(-2.0, 0.8)] * 5, float),
        (lambda x: np.nan if x[0] > 0.5 else rosenbrock(x), None, float),
        (few_digits, None, float),
        (lambda x: float(rosenbrock(x)), None, np.float32),
    ],
)
def test_what_is_evaluated_ahead_saves_rounds_and_changes_nothing_else(fun, bounds, dtype, n_points):
    ends, pools = [], []
    for count in (1, n_points):
        pools.append(Rounds())
        x0 = np.array([-1.2, 1.0, -0.5, 0.4, 0.1], dtype=dtype)
        solver = vb.fd_bfgs(n_points=count)
        ends.append(vb.minimize(fun, x0, method=solver, bounds=bounds, workers=pools[-1], maxfev=5000))
    alone, ahead = ends
    assert ahead.x.tobytes() == alone.x.tobytes()
    assert (ahead.nit, ahead.status) == (alone.nit, alone.status)
    rounds = [sum(-(-size // n_points) for size in pool.sizes) for pool in pools]
    assert rounds[1] < 0.95 * rounds[0]
    assert sum(pools[1].sizes) < 2.5 * sum(pools[0].sizes)


def test_values_ahead_go_with_the_state():
    """A round that is answered in parts, in any order, by a state that was pickled in between."""
    solver = vb.fd_bfgs(n_points=4)
    state = solver.init(np.array([-1.2, 1.0, 0.5]), seed=0, backend="numpy", info=ProblemInfo())
    while solver.status(state) is None:
        for probe in reversed(solver.ask(state)):
            state = pickle.loads(pickle.dumps(state))
            late = probe.id[3] == 2 and len(solver.ask(state)) == 4
            state = solver.tell(
                state, [Answer(probe.id, error=LATE) if late else Answer(probe.id, rosenbrock(probe.point))]
            )
    assert rosenbrock(solver.recommend(state)) < 1e-9


@pytest.mark.parametrize("n_points", [0, 2.0, True])
def test_points_of_a_round_are_counted(n_points):
    with pytest.raises(vb.OptionError, match="n_points must be a whole number >= 1"):
        vb.fd_bfgs(n_points=n_points)
