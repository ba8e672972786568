"""Bayesian optimization: the process, and what it proposes."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.core.late import LATE
from vamo_bbo.core.types import Answer, ProblemInfo
from vamo_bbo.solvers import _process
from vamo_bbo.solvers.bayes import KEPT, told_values

MIXED = vb.Space(rate=vb.Real(1e-6, 1, log=True), n=vb.Integer(1, 40), kind=vb.Choice(["a", "b", "c"]), x=vb.Real(0, 1))


def mixed(p):
    """Minimum 0 at rate = 1e-3, n = 31, kind = "b", x = 0.2."""
    return (
        (math.log10(p["rate"]) + 3) ** 2 / 4 + ((p["n"] - 31) / 8) ** 2 + (p["kind"] != "b") + 4 * (p["x"] - 0.2) ** 2
    )


def boxed(d=2, **more):
    return ProblemInfo(lower=np.zeros(d), upper=np.ones(d), **more)


def advance(solver, state, fun, rounds):
    for _ in range(rounds):
        probes = solver.ask(state)
        state = solver.tell(state, [Answer(p.id, value=fun(p.point)) for p in probes])
    return state


def test_the_gradient_of_the_density_is_right():
    rng = np.random.default_rng(0)
    points, values, options = rng.random((15, 3)), rng.normal(size=15), np.array([0, 0, 3])
    rows, owner = _process.features(points, options)
    squares = np.zeros((3, 15, 15))
    for column, j in zip(rows.T, owner, strict=True):
        squares[j] += (column[:, None] - column) ** 2
    logs = _process.start_of(3) + rng.normal(size=5) / 3
    _, gradient = _process._minus_log_density(logs, squares, values)
    for k, e in enumerate(np.eye(5) * 1e-5):
        ends = [_process._minus_log_density(logs + s * e, squares, values)[0] for s in (1, -1)]
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


def test_the_process_meets_its_values_and_doubts_what_is_far():
    points = np.array([[0.1, 0.1], [0.2, 0.1], [0.3, 0.9]])
    values = np.array([1.0, -1.0, 0.5])
    logs = np.array([3.0, 3.0, 0.0, math.log(1e-7)])
    process = _process.Process.of(points, values, np.array([0, 2]), logs)
    mean, deviation = process.at(np.concatenate([points, [[0.9, 0.9]]]))
    np.testing.assert_allclose(mean[:3], values, atol=1e-4)
    assert deviation[:3].max() < 1e-2 < 0.5 < deviation[3]
    same = process.at(np.array([[0.1, 0.4]]))  # the same option as 0.1
    np.testing.assert_allclose(same[0], 1.0, atol=1e-4)


def test_the_improvement_is_that_of_the_formula_also_far_below():
    mean, deviation = np.array([0.3, -0.2, 1.0]), np.array([0.5, 0.1, 0.3])
    draws = np.random.default_rng(0).standard_normal((400_000, 1)) * deviation + mean
    np.testing.assert_allclose(
        np.exp(_process.log_improvement(mean, deviation, 0.1)), np.maximum(0.1 - draws, 0).mean(axis=0), rtol=0.03
    )
    for z in (1.0, 1e3):  # no jump where the formula changes
        far = _process.log_improvement(z * np.array([1 - 1e-3, 1 - 1e-12, 1 + 1e-12, 1 + 1e-3]), np.ones(4), 0.0)
        assert far[0] > far[1:3].max() >= far[1:3].min() > far[3]
        assert abs(far[1] - far[2]) < 1e-4 * abs(far[0] - far[3]) + 1e-5
    assert math.isfinite(_process.log_improvement(np.array([1e9]), np.ones(1), 0.0)[0])


def test_outliers_and_failures_do_not_hide_the_rest():
    told = told_values(np.array([0.0, 0.1, 0.2, 0.3, np.nan, 1e12]), 0.5)
    assert told[4] == told[5] == told.max()
    assert np.ptp(told[:4]) > 0.5
    assert np.isfinite(told_values(np.array([1.0, 1.0, 1.0, np.nan]), 0.5)).all()


def test_it_finds_a_mixed_optimum_in_few_values_and_random_search_does_not():
    random = np.random.default_rng(0)
    drawn = [min(mixed(MIXED.from_unit(random.random(4))) for _ in range(60)) for _ in range(5)]
    found = [vb.minimize(mixed, MIXED, method="bayes", rng=seed, maxfev=60) for seed in range(5)]
    assert np.median([r.fun for r in found]) < 0.1 * np.median(drawn)
    assert sum(r.params["kind"] == "b" for r in found) >= 4
    assert all(r.nfev == 60 for r in found)


def test_a_combination_is_not_evaluated_twice_and_a_small_space_is_exhausted():
    seen = []

    def fun(p):
        seen.append((p["n"], p["kind"]))
        return abs(p["n"] - 3) + (p["kind"] == "x")

    space = vb.Space(n=vb.Integer(1, 5), kind=vb.Choice(["x", "y", "z"]))
    result = vb.minimize(fun, space, method="bayes", rng=1, maxfev=100)
    assert len(seen) == len(set(seen)) == 15
    assert result.success
    assert "every combination" in result.message
    assert result.fun == 0


def test_a_value_that_never_changes_is_no_trouble():
    result = vb.minimize(lambda p: 1.0, MIXED, method="bayes", rng=1, maxfev=25)
    assert (result.fun, result.nfev) == (1.0, 25)


def test_where_points_fail_fewer_are_tried():
    failed = []

    def fun(p):
        failed.append(p["x"] > 0.5)
        if p["x"] > 0.5:
            raise FloatingPointError("diverged")
        return mixed(p)

    space = MIXED.starting_at({"x": 0.4})
    result = vb.minimize(fun, space, method="bayes", rng=3, maxfev=60)
    assert result.n_failed == sum(failed)
    assert 0 < np.mean(failed[30:]) < 0.4 or not any(failed[30:])
    assert result.fun < 0.5


def test_points_of_a_round_differ_and_the_last_round_fits_the_budget():
    solver = vb.bayes(n_points=4)
    state = solver.init(np.full(2, 0.5), seed=1, backend="numpy", info=boxed(), horizon=10)
    state = advance(solver, state, lambda x: float(((x - 0.3) ** 2).sum()), 1)
    sizes = []
    for _ in range(2):
        points = np.array([p.point for p in solver.ask(state)])
        sizes.append(len(points))
        gaps = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(len(points))
        assert gaps.min() > 1e-3
        state = advance(solver, state, lambda x: float(((x - 0.3) ** 2).sum()), 1)
    assert sizes == [4, 2]


def test_late_values_join_and_their_points_are_not_asked_again():
    solver = vb.bayes(n_points=2)
    state = advance(solver, solver.init(np.full(2, 0.5), seed=1, backend="numpy", info=boxed()), np.sum, 1)
    first, second = solver.ask(state)
    state = solver.tell(state, [Answer(first.id, value=1.0), Answer(second.id, error=LATE)])
    waiting = solver.ask(state)
    assert all(np.linalg.norm(p.point - second.point) > 1e-6 for p in waiting)
    state = solver.tell(state, [Answer(second.id, value=-7.0)])
    state = solver.tell(state, [Answer(p.id, value=1.0) for p in waiting])
    assert -7.0 in state.arrays["values"]
    np.testing.assert_array_equal(state.arrays["x"], second.point)


def test_it_goes_on_after_more_values_than_it_keeps():
    solver = vb.bayes(n_points=60)
    state = solver.init(np.full(2, 0.5), seed=1, backend="numpy", info=boxed())
    state = advance(solver, state, lambda x: float(((x - 0.3) ** 2).sum()), 5)
    values = state.arrays["values"]
    assert len(values) == KEPT
    assert state.scalars["told"] > KEPT + 40
    np.testing.assert_allclose(state.arrays["x"], 0.3, atol=1e-2)
    again = pickle.loads(pickle.dumps(state))
    assert repr(solver.ask(again)) == repr(solver.ask(state))


def test_known_points_are_known():
    random = np.random.default_rng(0)
    known = [(p, mixed(p)) for p in (MIXED.from_unit(random.random(4)) for _ in range(40))]
    result = vb.minimize(mixed, MIXED, method="bayes", rng=1, maxfev=15, known_points=known)
    assert result.fun < 0.5 * min(value for _, value in known)


@pytest.mark.parametrize("bounds", [None, [(0, 1), (0, None)]])
def test_it_needs_a_box(bounds):
    with pytest.raises(vb.CapabilityError, match="bayes needs finite bounds"):
        vb.minimize(lambda x: x @ x, [0.5, 0.5], method="bayes", bounds=bounds)


@pytest.mark.parametrize("n", [0, 1.5, True, "4"])
def test_points_of_a_round_are_counted(n):
    with pytest.raises(vb.OptionError, match="n_points must be a whole number >= 1, got"):
        vb.bayes(n_points=n)


def test_the_first_round_is_a_hypercube_beside_the_start_or_what_is_known():
    x0, solver = np.full(6, 0.5), vb.bayes()
    first = [p.point for p in solver.ask(solver.init(x0, seed=1, backend="numpy", info=boxed(6)))]
    assert len(first) == 7
    np.testing.assert_array_equal(first[0], x0)
    np.testing.assert_array_equal(np.sort(np.array(first[1:]) * 6 // 1, axis=0), np.tile(np.arange(6.0)[:, None], 6))
    known = boxed(6, known_points=np.array([x0, x0 + 0.1]), known_values=np.array([1.0, 2.0]))
    rest = [p.point for p in solver.ask(solver.init(x0, seed=1, backend="numpy", info=known))]
    assert len(rest) == 5
    short = [p.point for p in solver.ask(solver.init(x0, seed=1, backend="numpy", info=boxed(6), horizon=8))]
    assert len(short) == 4


def test_a_late_combination_is_not_asked_again():
    solver, levels = vb.bayes(n_points=2), np.array([3, -3])
    state = solver.init(np.full(2, 0.5), seed=1, backend="numpy", info=boxed(levels=levels))
    state = advance(solver, state, np.sum, 1)
    first, second = solver.ask(state)
    state = solver.tell(state, [Answer(first.id, value=1.0), Answer(second.id, error=LATE)])
    asked = []
    while probes := solver.ask(state):
        asked += [p.point.tolist() for p in probes]
        state = solver.tell(state, [Answer(p.id, value=float(p.point.sum())) for p in probes])
    assert second.point.tolist() not in asked
    assert solver.status(state) is None  # its value may still come


def test_it_learns_which_parameters_matter():
    solver = vb.bayes()
    state = solver.init(np.full(4, 0.5), seed=1, backend="numpy", info=boxed(4))
    state = advance(solver, state, lambda x: float(np.sin(5 * x[0]) + (x[1] - 0.3) ** 2), 30)
    for logs in state.arrays["logs"]:
        assert min(logs[:2]) > max(logs[2:4]) + 1


def test_under_noise_a_combination_may_be_evaluated_again():
    noise, seen = np.random.default_rng(0), []

    def fun(p):
        seen.append(p["n"])
        return p["n"] + noise.normal()

    result = vb.minimize(fun, vb.Space(n=vb.Integer(1, 4)), method="bayes", noisy=True, rng=1, maxfev=40)
    assert len(seen) == result.nfev >= 36
    assert result.params["n"] == 1
