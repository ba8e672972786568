"""Method "quadratic": the fit against plain least squares and interpolation, the step, and what the solver does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.core.types import Answer, ProblemInfo
from vamo_bbo.solvers._regression import fit, trust_region_step

D = 3
FAR = np.full(D, 1e9)


def features(rows):
    """Return what the coefficients of a quadratic are multiplied with."""
    pairs = [rows[:, i] * rows[:, j] for i in range(rows.shape[1]) for j in range(i, rows.shape[1])]
    return np.column_stack([np.ones(len(rows)), rows, *pairs])


def sample(n, noise=0.0, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, D))
    return rows, 2.0 + rows @ [1.0, -2.0, 0.5] + rows[:, 0] ** 2 - 3.0 * rows[:, 1] * rows[:, 2] + noise * rng.normal(
        size=n
    )


def test_many_points_give_the_least_squares():
    rows, values = sample(200, noise=0.1)
    model = fit(rows, values, np.ones(200), 0.0)
    coefficients, *_ = np.linalg.lstsq(features(rows), values, rcond=None)
    point = np.array([0.3, -0.2, 0.5])
    expected = (features(point[None]) @ coefficients)[0] - coefficients[0]
    assert abs(model.at(point) - expected) < 5e-3
    assert 0.008 < model.variance < 0.012


def test_few_points_are_interpolated_with_the_least_hessian():
    rows, values = sample(7)
    model = fit(rows, values, np.ones(7), 0.0)
    np.testing.assert_allclose([model.value + model.at(row) for row in rows], values, atol=1e-5)
    n = len(rows)
    kernel, linear = 0.5 * (rows @ rows.T) ** 2, np.column_stack([np.ones(n), rows])
    system = np.block([[kernel, linear], [linear.T, np.zeros((D + 1, D + 1))]])  # Powell's conditions
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros(D + 1)]))[:n]
    np.testing.assert_allclose(model.hessian, (rows.T * weights) @ rows, atol=1e-3)


def test_errors_are_those_of_least_squares_and_cover_the_truth():
    rows, values = sample(300, noise=0.1)
    model = fit(rows, values, np.ones(300), 0.0)
    point = np.array([0.5, 0.5, -1.0])
    x = features(rows)
    contrast = (features(point[None]) - features(np.zeros((1, D))))[0]
    expected = 0.1 * np.sqrt(contrast @ np.linalg.solve(x.T @ x, contrast))
    assert abs(model.errors(point[None])[0] / expected - 1.0) < 0.1


def test_an_outlier_moves_the_model_little():
    rows, values = sample(60, noise=0.01)
    values[7] += 100.0
    model = fit(rows, values, np.ones(60), 0.0)
    assert np.abs(model.slope - [1.0, -2.0, 0.5]).max() < 1.0


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_step_is_the_best_of_the_ball_and_the_box(shift):
    rng = np.random.default_rng(3)
    for _ in range(20):
        a = rng.normal(size=(D, D))
        hessian, slope = a @ a.T - shift * np.eye(D), rng.normal(size=D)
        s = trust_region_step(slope, hessian, -FAR, FAR)
        others = rng.normal(size=(2000, D))
        others *= rng.random((2000, 1)) ** (1 / D) / np.linalg.norm(others, axis=1, keepdims=True)
        values = others @ slope + 0.5 * ((others @ hessian) * others).sum(1)
        assert np.linalg.norm(s) <= 1.0 + 1e-9
        assert slope @ s + 0.5 * s @ hessian @ s <= values.min() + 1e-9
        low, high = -0.1 * np.ones(D), 0.2 * np.ones(D)
        boxed = trust_region_step(slope, hessian, low, high)
        assert (boxed >= low).all()
        assert (boxed <= high).all()


def noisy(fun, sigma, seed=0):
    rng = np.random.default_rng(seed)
    return lambda x: fun(x) + sigma * rng.standard_normal()


def test_noise_of_a_bowl_is_averaged():
    result = vb.minimize(
        noisy(lambda x: float(((x - 1.0) ** 2).sum()), 0.1),
        np.zeros(6),
        method="quadratic",
        noisy=True,
        rng=1,
        maxfev=700,
    )
    assert ((result.x - 1.0) ** 2).sum() < 0.01  # the noise of one value is ten times that


def test_noise_that_is_a_share_of_the_value_falls_with_it():
    turned = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]

    def ellipsoid(x):
        return float(np.logspace(0, 2, 6) @ (turned @ (x - 0.5)) ** 2)

    def run(law, seed):
        rng, x0 = np.random.default_rng(seed), np.full(6, 2.0)
        fun = lambda x: law(ellipsoid(x), rng.standard_normal())  # noqa: E731
        return ellipsoid(vb.minimize(fun, x0, method="quadratic", noisy=True, rng=seed, maxfev=300).x)

    relative = [run(lambda value, z: value * (1.0 + 0.05 * z), seed) for seed in range(3)]
    equal = [run(lambda value, z: value + 0.05 * z, seed) for seed in range(3)]
    assert np.median(relative) < 1e-6  # from 200; its noise is not there to average
    assert np.median(equal) < 0.01


def test_a_curved_valley_is_followed_under_noise():
    def valley(x):
        return float(100.0 * ((x[1:] - x[:-1] ** 2) ** 2).sum() + ((1.0 - x[:-1]) ** 2).sum())

    ends = [
        valley(
            vb.minimize(noisy(valley, 0.1, s), np.full(3, -1.0), method="quadratic", noisy=True, rng=s, maxfev=800).x
        )
        for s in range(3)
    ]
    assert np.median(ends) < 1.0 < valley(np.full(3, -1.0)) / 100


def test_bounds_hold_and_the_corner_is_found():
    points = []

    def fun(x):
        points.append(np.array(x))
        return float(((x - [2.0, -3.0, 0.5]) ** 2).sum())

    box = [(-1.0, 1.0)] * 3
    result = vb.minimize(noisy(fun, 0.01), np.zeros(3), method="quadratic", noisy=True, bounds=box, rng=1, maxfev=200)
    assert np.abs(points).max() <= 1.0
    np.testing.assert_allclose(result.x, [1.0, -1.0, 0.5], atol=0.05)


def test_failed_points_are_left_out():
    def fun(x):
        return float("nan") if x[0] > 1.2 else float(((x - 1.0) ** 2).sum())

    result = vb.minimize(noisy(fun, 0.01), np.zeros(3), method="quadratic", noisy=True, rng=1, maxfev=300)
    assert result.n_failed > 0
    assert np.abs(result.x - 1.0).max() < 0.1


def test_a_pickled_run_goes_on_the_same():
    def fun(x):
        return float(((x - 1.0) ** 2).sum()) + 1e-3 * np.sin(1e6 * float(x.sum()))

    straight, moved = (vb.Optimizer(np.zeros(3), "quadratic", rng=1, noisy=True) for _ in range(2))
    for _ in range(60):
        for optimizer in (straight, moved):
            trials = optimizer.ask()
            optimizer.tell(trials, [fun(t.x) for t in trials])
        moved = pickle.loads(pickle.dumps(moved))
    np.testing.assert_array_equal(straight.result.x, moved.result.x)
    assert np.abs(straight.result.x - 1.0).max() < 0.05


def test_without_noise_it_converges():
    result = vb.minimize(lambda x: float(((x - 1.0) ** 4).sum()), np.zeros(2), method="quadratic", rng=1, maxfev=400)
    assert result.fun < 1e-6


@pytest.mark.parametrize("radius", [0.0, -1.0, np.inf])
def test_a_bad_radius_is_refused(radius):
    with pytest.raises(vb.OptionError, match="radius must be a positive number"):
        vb.quadratic(radius)


def test_what_it_cannot_do_is_said():
    with pytest.raises(vb.CapabilityError, match="at most 300 variables, got 301; use 'cma' or 'spsa'"):
        vb.minimize(lambda x: float(x @ x), np.ones(301), method="quadratic")


def test_with_patience_it_ends_where_noise_hides_what_is_left():
    calls = []

    def fun(x):
        calls.append(1)
        return float(((x - 1.0) ** 2).sum())

    method = vb.quadratic(patience=10)
    result = vb.minimize(noisy(fun, 0.1), np.full(4, 5.0), method=method, noisy=True, rng=1, maxfev=5000)
    assert (result.status, result.success) == (0, True)
    assert "no progress beyond the noise in 50 values" in result.message
    assert len(calls) < 500
    assert ((result.x - 1.0) ** 2).sum() < 0.1


def test_patience_outlasts_a_slow_valley():
    def valley(x):
        return float(100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2)

    ends = [
        vb.minimize(
            noisy(valley, 1e-3, s),
            np.array([-1.2, 1.0]),
            method=vb.quadratic(patience=10),
            noisy=True,
            rng=s,
            maxfev=2000,
        )
        for s in range(6)
    ]
    assert [end.status for end in ends] == [0] * 6
    assert np.median([valley(end.x) for end in ends]) < 0.1 < valley(np.array([-1.2, 1.0])) / 100


def test_known_points_take_the_place_of_the_first_ones():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(60, 6))
    bowl = noisy(lambda x: float(((x - 1.0) ** 2).sum()), 1e-3)
    known = [(point, bowl(point)) for point in points]
    options = {"method": "quadratic", "noisy": True, "rng": 1, "maxfev": 12}  # four more than a first round
    with_them = vb.minimize(bowl, np.zeros(6), known_points=known, **options)
    best = min(known, key=lambda pair: pair[1])[0]
    without = vb.minimize(bowl, best, **options)
    assert ((with_them.x - 1.0) ** 2).sum() < 0.5 * ((without.x - 1.0) ** 2).sum()


def test_points_that_are_all_the_same_give_a_finite_model():
    model = fit(np.zeros((20, D)), np.random.default_rng(1).normal(size=20), np.ones(20), 0.0)
    assert np.isfinite(model.slope).all()
    assert np.isfinite(model.hessian).all()


@pytest.mark.parametrize("patience", [0.0, -1.0, np.nan])
def test_a_bad_patience_is_refused(patience):
    with pytest.raises(vb.OptionError, match="patience must be a positive number"):
        vb.quadratic(patience=patience)


def bowl(seed=0, noise=0.1, fails=()):
    rng, calls = np.random.default_rng(seed), []

    def fun(x):
        calls.append(np.array(x))
        if len(calls) in fails:
            raise RuntimeError("diverged")
        return float(((x - 1.0) ** 2).sum() + noise * rng.normal())

    return fun, calls


def test_rounds_have_as_many_points_as_wanted_apart_and_inside_the_bounds():
    fun, calls = bowl()
    solver = vb.quadratic(n_points=6)
    result = vb.minimize(fun, np.zeros(4), method=solver, noisy=True, rng=1, maxfev=200, bounds=[(-0.5, 0.9)] * 4)
    assert all(((x >= -0.5) & (x <= 0.9)).all() for x in calls)
    np.testing.assert_allclose(result.x, 0.9, atol=0.2)
    state = solver.init(np.zeros(4), seed=1, backend="numpy", info=ProblemInfo(noisy=True))
    sizes, pairs = [], 0
    for _ in range(20):
        points = [probe.point for probe in solver.ask(state)]
        sizes.append(len(points))
        distinct = len({point.tobytes() for point in points})
        pairs += distinct < len(points)
        assert distinct >= len(points) - 1
        state = solver.tell(state, [Answer(p.id, fun(p.point)) for p in solver.ask(state)])
    assert sizes == [6] * 20
    assert pairs > 1  # two values at the center, now and then


def test_rounds_of_many_points_come_closer_than_as_many_of_one():
    far = []
    for n_points in (1, 8):
        ends = []
        for seed in range(4):
            fun, _ = bowl(seed)
            solver = vb.quadratic(n_points=n_points)
            state = solver.init(np.full(5, 3.0), seed=seed, backend="numpy", info=ProblemInfo(noisy=True))
            for _ in range(15):
                state = solver.tell(state, [Answer(p.id, fun(p.point)) for p in solver.ask(state)])
            ends.append(np.linalg.norm(solver.recommend(state) - 1.0))
        far.append(np.median(ends))
    assert far[1] < 0.5 * far[0]


def test_the_center_does_not_move_to_a_step_that_failed():
    fun, _ = bowl()
    solver = vb.quadratic(n_points=4)
    state = solver.init(np.full(3, 3.0), seed=0, backend="numpy", info=ProblemInfo(noisy=True))
    for _ in range(12):
        probes = solver.ask(state)
        before = solver.recommend(state).copy()
        answers = [Answer(p.id, fun(p.point)) for p in probes[1:]]
        state = solver.tell(state, [Answer(probes[0].id, error="diverged"), *answers])
        np.testing.assert_array_equal(solver.recommend(state), before)


def test_exact_values_leave_a_round_well_placed():
    """Without noise the Hessian is known exactly, and what the placing knows of noise would be zero."""
    solver = vb.quadratic(n_points=8)
    result = vb.minimize(lambda x: float(((x - 1.0) ** 2).sum()), np.zeros(3), method=solver, rng=0, maxfev=200)
    assert result.fun < 1e-6


def test_n_points_is_a_number_of_points():
    with pytest.raises(vb.OptionError, match=r"quadratic: n_points must be a whole number >= 1, got 1\.5"):
        vb.quadratic(n_points=1.5)
