"""Our methods inside scipy's own functions: the traps of scipy's protocol for custom methods."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.optimize as so

import vamo_bbo as vb
from tests.methods import PLAIN
from vamo_bbo._errors import OptionError
from vamo_bbo.scipy_layer.plugin import as_scipy_method


def bowl(x, center=0.5):
    return float(((x - center) ** 2).sum())


def double_well(x):
    return float(((x**2 - 1) ** 2 + 0.2 * x).sum())


@pytest.mark.parametrize("name", PLAIN)
def test_every_method_runs_inside_scipys_minimize(name):
    result = so.minimize(bowl, [2.0, -1.0], method=as_scipy_method(name, rng=1, maxfev=400))
    assert isinstance(result, so.OptimizeResult)
    assert result.fun < bowl(np.array([2.0, -1.0]))
    assert result.nfev <= 400


def test_options_of_the_call_override_those_of_the_object():
    method = as_scipy_method("spsa", rng=1, maxfev=400)
    assert so.minimize(bowl, [2.0], method=method, options={"maxfev": 20}).nfev <= 20
    assert so.minimize(bowl, [2.0], method=method, options={"maxiter": 3}).nit == 3


def test_unknown_options_warn_in_scipys_words():
    with pytest.warns(so.OptimizeWarning, match="Unknown solver options: bogus"):
        so.minimize(bowl, [2.0], method=as_scipy_method("spsa", rng=1, maxfev=20), options={"bogus": 1})


def test_tol_arrives_as_an_option():
    result = so.minimize(bowl, [2.0, 1.0], method=as_scipy_method("spsa", rng=1, maxfev=10**5), tol=1e-3)
    assert result.status == 0
    assert result.nfev < 10**5


def test_args_and_bounds_in_any_form():
    for bounds in ([(0, 0.25)], [(0, 0.25), (None, 0.25)], so.Bounds(0, 0.25)):
        result = so.minimize(
            bowl, [0.1, 0.1], args=(0.5,), method=as_scipy_method("cma", rng=1, maxfev=300), bounds=bounds
        )
        np.testing.assert_allclose(result.x, 0.25, atol=1e-2)


@pytest.mark.parametrize("modern", [True, False])
def test_callback_is_introspected_and_may_stop(modern):
    seen = []

    def with_result(intermediate_result):
        seen.append(intermediate_result.fun)
        if len(seen) == 3:
            raise StopIteration

    def with_point(xk):
        seen.append(bowl(xk))
        xk[:] = np.nan
        if len(seen) == 3:
            raise StopIteration

    result = so.minimize(
        bowl,
        [2.0, 1.0],
        method=as_scipy_method("spsa", rng=1, maxfev=400),
        callback=with_result if modern else with_point,
    )
    assert len(seen) == 3
    assert np.isfinite(seen).all()
    assert (result.status, result.success) == (99, False)
    assert result.message.startswith("`callback` raised `StopIteration`")


def test_jac_true_pays_once():
    calls = []

    def fun(x):
        calls.append(x.copy())
        return bowl(x), 2 * (x - 0.5)

    result = so.minimize(fun, [2.0, 1.0], jac=True, method=as_scipy_method("L-BFGS-B"))
    assert result.success
    assert len({c.tobytes() for c in calls}) == len(calls)


def test_strings_for_jac_arrive_as_none():
    result = so.minimize(bowl, [2.0], jac="3-point", method=as_scipy_method("auto"))
    assert result.success
    assert result.message.startswith("auto chose")


def test_basinhopping():
    result = so.basinhopping(
        double_well,
        [0.9, 0.9],
        niter=20,
        stepsize=2.0,
        rng=3,
        minimizer_kwargs={"method": as_scipy_method("auto"), "options": {"maxfev": 60}},
    )
    np.testing.assert_allclose(result.x, -1.02, atol=0.05)


def test_dual_annealing():
    result = so.dual_annealing(
        double_well,
        [(-2, 2)] * 2,
        maxiter=20,
        rng=3,
        minimizer_kwargs={"method": as_scipy_method("auto"), "bounds": [(-2, 2)] * 2},
    )
    np.testing.assert_allclose(result.x, -1.02, atol=0.05)


@pytest.mark.parametrize("name", ["auto", "L-BFGS-B", "cma"])
def test_shgo(name):
    options = {"sigma": 0.02} if name == "cma" else {}  # a local search from every start
    method = as_scipy_method(name, rng=1, maxfev=300, **options)
    result = so.shgo(double_well, [(-2, 2)] * 2, minimizer_kwargs={"method": method})
    assert result.success
    np.testing.assert_allclose(result.x, -1.02, atol=0.05)


def test_it_is_a_frozen_picklable_value():
    method = as_scipy_method("spsa", rng=1)
    assert pickle.loads(pickle.dumps(method)) == method
    with pytest.raises(AttributeError):
        method.method = "cma"


def test_a_configured_solver():
    result = so.minimize(bowl, [2.0, 1.0], method=as_scipy_method(vb.zo_sgd(n_directions=2), rng=1, maxfev=300))
    assert result.fun < 1.0


def test_same_seed_same_result():
    with warnings.catch_warnings():
        runs = [so.minimize(bowl, [2.0], method=as_scipy_method("spsa", rng=7, maxfev=60)).x for _ in range(2)]
    assert np.array_equal(*runs)


def test_what_is_no_method():
    with pytest.raises(OptionError, match="a name or a solver"):
        as_scipy_method(3)
