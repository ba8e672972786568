"""``method="auto"`` with a gradient that is not that of the values: noisy values, and wrong gradients."""

import math
import warnings

import numpy as np
import pytest
import scipy.optimize

import vamo_bbo as vb

X0 = [1.3, 0.7, 0.8, 1.9]
rosen, slope = scipy.optimize.rosen, scipy.optimize.rosen_der


def noisy(level=0.3):
    rng = np.random.default_rng(0)
    return lambda x: float(rosen(x) + level * rng.standard_normal())


def run(fun, jac, **options):
    if options.pop("paired", False):
        return vb.minimize(lambda x: (fun(x), jac(x)), X0, jac=True, rng=0, **options)
    return vb.minimize(fun, X0, jac=jac, rng=0, **options)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("declared", [None, True])
def test_noisy_values_do_not_stop_an_exact_gradient(paired, declared):
    result = run(noisy(), slope, paired=paired, noisy=declared)
    assert rosen(result.x) < 1e-8
    assert result.success
    assert "by gradients alone" in result.message
    assert abs(result.fun) < 0.5  # the mean of ten values with a deviation of 0.3
    assert 0.03 < result.fun_std < 0.3


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("declared", [None, True])
def test_a_budget_holds_over_both_stages_and_counts_are_those_of_the_objective(paired, declared):
    calls = {"fun": 0, "jac": 0}
    told = noisy()

    def fun(x):
        calls["fun"] += 1
        return told(x)

    def jac(x):
        calls["jac"] += 1
        return slope(x)

    result = run(fun, jac, paired=paired, noisy=declared, maxfev=60, maxjev=70)
    assert (result.nfev, result.njev) == (calls["fun"], calls["jac"])
    assert calls["fun"] <= 60
    assert calls["jac"] <= 70
    assert math.isfinite(result.fun)


def forgotten(g):
    g[2] = 0.0
    return g


def turned(g):
    g[1] *= -1.0
    return g


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("wrong", [forgotten, turned, lambda g: g + 5.0])
def test_a_wrong_gradient_is_noticed_and_left_out(wrong, paired):
    with pytest.warns(RuntimeWarning, match="disagrees with differences of the values"):
        result = run(rosen, lambda x: wrong(slope(x)), paired=paired)
    assert rosen(result.x) < 1e-6
    assert result.success
    assert "is left out" in result.message


def test_without_values_to_go_on_with_a_wrong_gradient_is_no_success():
    short = vb.minimize(lambda x: float(x @ x), np.ones(4), jac=lambda x: forgotten(2.0 * x), rng=0, maxfev=10)
    assert not short.success
    assert "disagrees" in short.message


@pytest.mark.parametrize(
    ("fun", "jac"),
    [
        (rosen, slope),
        (lambda x: float(np.abs(x).sum()), np.sign),
        (lambda x: float(np.cosh(x[:3]).sum()), lambda x: np.append(np.sinh(x[:3]), 0.0)),
        (lambda x: float(1e9 + x @ x), lambda x: 2.0 * x),
    ],
    ids=["smooth", "kinks", "a variable that does nothing", "rounding"],
)
def test_right_gradients_raise_no_alarm(fun, jac):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(fun, jac)
    assert "disagrees" not in result.message
    assert "noisy" not in result.message


def test_an_exact_run_costs_nothing_more():
    seen = []
    result = run(lambda x: seen.append(1) or float(rosen(x)), slope)
    plain = scipy.optimize.minimize(rosen, X0, jac=slope, method="L-BFGS-B", options={"maxcor": 50})
    assert result.nfev == len(seen) == plain.nfev


def test_the_callback_follows_the_second_stage():
    points = []
    result = run(noisy(), slope, callback=lambda intermediate_result: points.append(intermediate_result.x.copy()))
    assert np.array_equal(points[-1], result.x)
    assert rosen(points[-1]) < 1e-8
