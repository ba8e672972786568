"""Warm starts: pairs (x, f) that are known before the run."""

import math

import numpy as np
import pytest

import vamo_bbo as vb
from tests.methods import NEED_GRADIENT, PLAIN
from vamo_bbo._errors import OptionError

D = 3
SCIPY = ["Nelder-Mead", "Powell", "BFGS", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP", "trust-constr", "Newton-CG"]


def bowl(x):
    return float(((np.asarray(x) - 1.0) ** 2).sum())


def slope(x):
    return 2.0 * (np.asarray(x) - 1.0)


def pairs(count=60):
    return [(x, bowl(x)) for x in np.random.default_rng(0).normal(size=(count, D))]


def call(method, fun=bowl, **more):
    if method in NEED_GRADIENT or method == "Newton-CG":
        more["jac"] = slope
    return vb.minimize(fun, np.full(D, 5.0), method=method, rng=1, **more)


@pytest.mark.parametrize("method", ["auto", *PLAIN, *NEED_GRADIENT, *SCIPY])
def test_a_run_starts_at_the_best_known_point_and_counts_none_of_them(method):
    seen = []

    def counted(x):
        seen.append(np.array(x))
        return bowl(x)

    known = pairs()
    best = min(known, key=lambda pair: pair[1])
    result = call(method, counted, known_points=known, maxfev=40)
    np.testing.assert_allclose(seen[0], best[0], rtol=1e-12)
    assert result.nfev == len(seen) <= 40
    assert result.fun <= best[1]
    values = [record.value for record in result.history][: len(known)]
    np.testing.assert_array_equal(values, [f for _, f in known])
    assert [r.nfev for r in result.history][: len(known)] == [0] * len(known)


@pytest.mark.parametrize("method", ["spsa", "cma", "L-BFGS-B", "COBYQA", "auto"])
def test_a_known_point_can_be_the_answer(method):
    result = call(method, known_points=[(np.ones(D), -1.0)], maxfev=12)
    assert result.fun == -1.0
    np.testing.assert_array_equal(result.x, np.ones(D))


def test_what_cannot_be_used_is_left_out():
    known = [(np.zeros(D), math.nan), (np.full(D, 9.0), -1.0), (np.full(D, 0.5), 0.75)]
    seen = []
    vb.minimize(
        lambda x: (seen.append(np.array(x)), bowl(x))[1],
        np.zeros(D),
        method="zo-sgd",
        bounds=[(-2, 2)] * D,
        known_points=known,
        maxfev=1,
    )
    np.testing.assert_allclose(seen, [np.full(D, 0.5)])


def test_constraints_come_before_the_value():
    known = [(np.zeros(D), 3.0), (np.full(D, 2.0), 3.5)]
    seen = []
    vb.minimize(
        lambda x: (seen.append(np.array(x)), bowl(x))[1],
        np.zeros(D),
        constraints={"type": "ineq", "fun": lambda x: x.sum() - 4},
        known_points=known,
        maxfev=30,
    )
    np.testing.assert_allclose(seen[0], np.full(D, 2.0))


def test_fixed_and_scaled_variables():
    seen = []
    result = vb.minimize(
        lambda x: (seen.append(np.array(x)), bowl(x))[1],
        [4.0, 2.0],
        method="spsa",
        bounds=[(None, None), (2.0, 2.0)],
        x_scale=[10.0, 1.0],
        known_points=[([3.0, 2.0], 5.0), ([1.0, 0.0], 1.0)],
        maxfev=20,
    )
    np.testing.assert_allclose(seen[0], [3.0, 2.0])
    assert all(x[1] == 2.0 for x in seen)
    assert result.history[0].value == 5.0


def test_a_space_takes_dicts():
    space = vb.Space(a=vb.Real(0, 4), b=vb.Integer(0, 9))
    seen = []
    result = vb.minimize(
        lambda p: (seen.append(p), (p["a"] - 1) ** 2 + p["b"])[1],
        space,
        method="cma",
        known_points=[({"a": 3.0, "b": 2}, 6.0), ({"a": 1.0, "b": 0}, 0.0)],
        maxfev=20,
    )
    assert seen[0] == {"a": 1.0, "b": 0}
    assert result.params == {"a": 1.0, "b": 0}


def test_cma_takes_its_distribution_from_the_best_tenth():
    stretched = np.random.default_rng(1).normal(size=(400, 2)) * [2.0, 0.05] + [3.0, -1.0]
    known = [(x, float(x[0] * 0)) for x in stretched[:40]] + [(x, 1.0) for x in stretched[40:]]
    optimizer = vb.Optimizer([0.0, 0.0], "cma", rng=1)
    for x, f in known:
        optimizer.tell_point(x, f)
    points = np.array([t.x for t in optimizer.ask()])
    state = optimizer.state
    spread = np.diag(state.arrays["covariance"]) * state.scalars["sigma"] ** 2
    np.testing.assert_allclose(state.arrays["mean"], stretched[:40].mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(spread, stretched[:40].var(axis=0) + 0.2**2, rtol=1e-6)
    assert np.abs(points - [3.0, -1.0]).max() < 10.0


def test_a_warm_cma_needs_fewer_values_than_a_cold_one():
    def values(known, seed):
        return vb.minimize(
            bowl, np.full(D, 5.0), method="cma", rng=seed, known_points=known, f_target=1e-4, maxfev=5000
        ).nfev

    assert np.median([values(pairs(), s) for s in range(7)]) < 0.8 * np.median([values(None, s) for s in range(7)])


def test_optimizer_and_minimize_agree():
    known = pairs()
    optimizer = vb.Optimizer(np.full(D, 5.0), "zo-sgd", rng=1, options={"learning_rate": 0.1})
    for x, f in known:
        optimizer.tell_point(x, f)
    first = optimizer.ask()[0].x
    np.testing.assert_array_equal(first, min(known, key=lambda pair: pair[1])[0])
    assert optimizer.best_value == min(f for _, f in known)
    assert [r.value for r in optimizer.history] == [f for _, f in known]
    assert optimizer.nfev == 0


@pytest.mark.parametrize("wrong", [3, [3.0], [([1.0], 2.0)], [([1.0, math.nan, 0.0], 2.0)], [(np.zeros(D), "low")]])
def test_errors(wrong):
    with pytest.raises((OptionError, TypeError), match=r"known_points|iterable"):
        call("spsa", known_points=wrong)
