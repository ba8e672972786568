"""Method "interpolation": its model, and that bounds, failures, valleys and rounding do not stop it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from objectives import Counted, rosenbrock

import vamo_bbo as vb
from vamo_bbo.core.late import LATE
from vamo_bbo.core.types import Answer, ProblemInfo
from vamo_bbo.solvers._interpolation import interpolate
from vamo_bbo.solvers._regression import trust_region_step


def minimize(fun, x0, **kwargs):
    return vb.minimize(fun, x0, method="interpolation", **kwargs)


@pytest.mark.parametrize(("d", "n"), [(1, 2), (3, 4), (3, 7), (5, 20), (4, 2)])
def test_the_model_interpolates_and_changes_the_hessian_least(d, n):
    random = np.random.default_rng(n)
    rows, rises = random.standard_normal((n, d)) * 10.0 ** random.uniform(-2, 2, (n, 1)), random.standard_normal(n)
    prior = random.standard_normal((d, d))
    prior = prior + prior.T
    model = interpolate(rows, rises, prior)
    np.testing.assert_allclose([model.at(row) for row in rows], rises, rtol=1e-6, atol=1e-8)
    # any other quadratic through the values: add one that vanishes there
    upper = np.triu_indices(d)
    squares = np.array([np.outer(r, r)[upper] * np.where(upper[0] == upper[1], 0.5, 1.0) for r in rows])
    vanishing = scipy.linalg.null_space(np.column_stack([rows, squares]))
    for column in vanishing.T if n >= d else ():
        other = np.zeros((d, d))
        other[upper] = column[d:]
        other = other + np.triu(other, 1).T
        change = float(np.sum((model.hessian - prior) * other))
        assert abs(change) <= 1e-6 * (1.0 + np.abs(model.hessian - prior).max()) * max(np.abs(other).max(), 1e-12)


def test_lagrange_functions_are_one_at_their_point_and_zero_at_the_others():
    rows = np.random.default_rng(1).standard_normal((9, 4))
    model = interpolate(rows, np.zeros(9), np.zeros((4, 4)))
    for k in range(9):
        slope, hessian = model.lagrange(k)
        found = rows @ slope + 0.5 * ((rows @ hessian) * rows).sum(axis=1)
        np.testing.assert_allclose(found, np.eye(9)[k], atol=1e-7)


@pytest.mark.parametrize("seed", range(30))
def test_a_step_in_an_ellipsoid_and_a_box_is_no_worse_than_points_drawn_there(seed):
    random = np.random.default_rng(seed)
    d = 3
    slope, hessian = random.standard_normal(d), random.standard_normal((d, d))
    root = np.eye(d) + 0.5 * random.standard_normal((d, d))
    low, high = -random.uniform(0.0, 1.0, d), random.uniform(0.0, 1.0, d)
    rows = random.uniform(-1.5, 1.5, (20000, d))
    rows = rows[np.linalg.norm(rows @ root.T, axis=1) <= 1.0]
    inside = rows[((rows >= low) & (rows <= high)).all(axis=1)]
    for matrix, drawn in ((hessian @ hessian.T, inside), (hessian + hessian.T, rows)):
        box = (low, high) if drawn is inside else (np.full(d, -np.inf), np.full(d, np.inf))
        step = trust_region_step(slope, matrix, *box, root)
        assert (step >= box[0] - 1e-12).all()
        assert (step <= box[1] + 1e-12).all()
        values = drawn @ slope + 0.5 * ((drawn @ matrix) * drawn).sum(axis=1)
        found = float(slope @ step + 0.5 * step @ matrix @ step)
        # variables are fixed one after the other: within a box it need not be the minimum
        assert found <= (0.7 if drawn is inside else 1.0) * values.min() + 1e-9
    assert np.linalg.norm(root @ step) <= 1.0 + 1e-9


def test_a_quadratic_is_found_as_soon_as_there_are_points_for_it():
    random = np.random.default_rng(3)
    factor = random.standard_normal((4, 4)) + 3.0 * np.eye(4)
    result = minimize(lambda x: float(np.sum((factor @ (x - 0.7)) ** 2)), np.zeros(4), f_target=1e-10, maxfev=200)
    assert result.status == 5
    assert result.nfev <= 60


def test_it_needs_half_of_the_values_of_cobyqa_where_axes_differ():
    spent = {"interpolation": 0, "COBYQA": 0}
    for seed in range(3):
        random = np.random.default_rng(seed)
        axes = np.linalg.qr(random.standard_normal((5, 5)))[0] * 10.0 ** np.linspace(0.0, 2.0, 5)
        center = random.standard_normal(5)

        def fun(x, axes=axes, center=center):
            return float(np.sum(((x - center) @ axes) ** 2) + 0.1 * np.sum((x - center) ** 4))

        for method in spent:
            spent[method] += vb.minimize(fun, np.zeros(5), method=method, f_target=1e-3, maxfev=2000).nfev
    assert spent["interpolation"] < 0.5 * spent["COBYQA"]


def test_the_region_takes_the_shape_of_a_valley():
    solver = vb.interpolation()
    state = solver.init(np.ones(3), seed=0, backend="numpy", info=ProblemInfo())
    sizes = np.array([1.0, 1e2, 1e2])
    while solver.status(state) is None:
        answers = [
            Answer(p.id, value=float(np.sum(sizes * (p.point - 0.2) ** 4 + sizes * p.point**2)))
            for p in solver.ask(state)
        ]
        state = solver.tell(state, answers)
    lengths = np.linalg.norm(np.linalg.inv(state.arrays["root"]), axis=1)
    assert 5.0 < lengths[0] / lengths[1] < 30.0
    assert abs(np.linalg.det(state.arrays["root"]) - 1.0) < 1e-6


def test_points_that_fail_are_a_wall():
    def fun(x):
        if x[0] > 0.5 or x[1] > 0.5:
            raise ValueError("outside of the model")
        return float((x[0] - 1.0) ** 2 + (x[1] + 1.0) ** 2 + (x[2] - 2.0) ** 2)

    counted = Counted(fun)
    result = minimize(counted, np.zeros(3), maxfev=600)
    assert result.n_failed > 0
    assert result.x[0] > 0.45
    assert result.fun == min(counted.values) < 0.35  # 6 at the start, 0.25 at (0.5, -1, 2)


def test_steps_become_shorter_in_variables_in_which_both_have_failed():
    """Without a value there the model would not know these variables."""

    def fun(x):
        if abs(x[1]) > 0.02:
            raise ValueError("outside of the channel")
        return float((x[0] - 3.0) ** 2 + 50.0 * (x[1] - 0.01) ** 2 + (x[2] + 1.0) ** 2)

    result = minimize(fun, np.zeros(3), maxfev=100)
    assert result.fun < 1e-12


def test_a_flat_function_and_fixed_variables_end():
    flat = minimize(lambda x: 3.0, np.ones(4), maxfev=2000)
    assert (flat.success, flat.fun) == (True, 3.0)
    assert flat.nfev < 200
    fixed = minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (2, 2)])
    assert (fixed.success, fixed.fun) == (True, 5.0)
    one = minimize(lambda x: float(x @ x), [1.0, 2.0], bounds=[(1, 1), (-5, 5)])
    np.testing.assert_allclose(one.x, [1.0, 0.0], atol=1e-5)


def test_kinks_and_steps_are_descended():
    kink = minimize(lambda x: float(np.abs(x - 0.3).max() + np.abs(x).sum()), np.array([1.0, 2.0, -1.0]), maxfev=5000)
    assert kink.success
    assert kink.fun < 0.4
    stairs = minimize(lambda x: float(np.sum(np.floor(10 * np.abs(x - 0.33)) ** 2)), np.full(6, 3.7), maxfev=2000)
    assert stairs.fun <= 8.0


def test_a_value_that_is_known_is_not_paid_for():
    solver = vb.interpolation()
    state = solver.init(np.zeros(2), seed=0, backend="numpy", info=ProblemInfo())
    solver.begin(state, 5.0)
    asked = [p.point for p in solver.ask(state)]
    assert len(asked) == 2
    assert not any((p == 0.0).all() for p in asked)
    while solver.status(state) is None:
        answers = [Answer(p.id, value=float((p.point[0] - 1) ** 2 + (p.point[1] - 2) ** 2)) for p in solver.ask(state)]
        state = solver.tell(state, answers)
    np.testing.assert_allclose(solver.recommend(state), [1.0, 2.0], atol=1e-5)


@pytest.mark.parametrize("name", ["radius", "xtol"])
@pytest.mark.parametrize("value", [0.0, -1e-3, np.nan, np.inf, "1"])
def test_bad_options_are_refused(name, value):
    with pytest.raises(vb.OptionError, match=f"{name} must be a positive number"):
        vb.interpolation(**{name: value})


def test_a_tighter_tolerance_comes_closer():
    loose, tight = (minimize(rosenbrock, np.array([-1.2, 1.0]), options={"xtol": t}) for t in (1e-2, 1e-9))
    assert loose.nfev < tight.nfev
    assert tight.fun < 1e-12 < loose.fun


def test_what_it_is_not_for_is_refused():
    with pytest.raises(vb.CapabilityError, match="at most 300 variables, got 301"):
        minimize(lambda x: float(x @ x), np.ones(301))


def test_it_ends_where_noise_decides():
    rng = np.random.default_rng(4)
    ends = {}
    for sigma in (1e-1, 1e-4):
        fun = lambda x, s=sigma: float(((x - 1.0) ** 2).sum()) + s * rng.standard_normal()  # noqa: E731
        ends[sigma] = minimize(fun, np.full(6, 3.0), noisy=True, maxfev=2000)
        assert ends[sigma].success
        assert "noise hides" in ends[sigma].message
        assert float(((ends[sigma].x - 1.0) ** 2).sum()) < 30 * sigma
    assert 13 < ends[1e-1].nfev < ends[1e-4].nfev < 200


def test_a_second_value_at_the_center_undoes_a_lucky_draw():
    told = iter([0.0, *[9.0] * 100])  # x0 alone has drawn a low value
    solver = vb.interpolation()
    state = solver.init(np.zeros(2), seed=0, backend="numpy", info=ProblemInfo(noisy=True))
    while len(state.arrays["pairs"]) == 0:
        state = solver.tell(state, [Answer(probe.id, value=next(told)) for probe in solver.ask(state)])
    assert state.scalars["value"] == 4.5
    assert state.arrays["values"].min() == 4.5


def test_what_comes_too_late_is_left_out():
    solver = vb.interpolation()
    state = solver.init(np.zeros(3), seed=0, backend="numpy", info=ProblemInfo())
    turn = 0
    while solver.status(state) is None:
        turn += 1
        answers = [Answer(p.id, value=float(np.sum((p.point - [1, 2, 3]) ** 2))) for p in solver.ask(state)]
        if turn % 5 == 2:
            answers[0] = Answer(answers[0].id, error=LATE)
        state = solver.tell(state, answers)
    np.testing.assert_allclose(solver.recommend(state), [1, 2, 3], atol=0.05)


def test_a_step_in_a_very_thin_region_within_bounds():
    """The square of the region's matrix has a condition of 1e24, beyond what a Cholesky factorization takes."""
    rng = np.random.default_rng(0)
    thin = np.diag([1.0, 1e-4, 1e-9, 1e3]) @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    slope, factor = rng.normal(size=4), rng.normal(size=(4, 4))
    low, high = -1e-3 * rng.random(4), 1e-3 * rng.random(4)
    step = trust_region_step(slope, factor @ factor.T, low, high, thin)
    assert ((low <= step) & (step <= high)).all()
    assert slope @ step < 0
    assert np.linalg.norm(thin @ step) <= 1 + 1e-9
