"""What a user sees who changes only the import: every case runs scipy's own ``minimize`` and ours, and compares.

A case compares every point at which the user's functions were called (with its dtype), the callback's arguments, the
warnings, the exception, printed text, and every field of the result with its type. Where we differ on purpose, the
difference is asserted, and listed with its reason in ``docs/coming_from_scipy.rst``.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import (
    BFGS,
    Bounds,
    LinearConstraint,
    NonlinearConstraint,
    OptimizeResult,
    OptimizeWarning,
    rosen,
    rosen_der,
    rosen_hess,
    rosen_hess_prod,
)

from vamo_bbo._errors import EvaluationError
from vamo_bbo.minimize import minimize
from vamo_bbo.scipy_layer.methods import METHODS

EXTRA = {"nfev_samples", "njev_samples", "n_failed", "failures", "history"}
NEEDS_JAC = ("Newton-CG",)
NEEDS_HESS = ("dogleg", "trust-ncg", "trust-exact", "trust-krylov")
BOUNDED = ("Nelder-Mead", "Powell", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP", "trust-constr")
CONSTRAINED = ("COBYLA", "COBYQA", "SLSQP", "trust-constr")
DIFFERENCES = ("BFGS", "CG", "L-BFGS-B", "TNC", "SLSQP", "trust-constr")


class Log:
    """What one call did to the outside world."""

    def __init__(self):
        self.points, self.callbacks, self.warned, self.error, self.text, self.result = [], [], [], None, "", None

    def seen(self, fun):
        """Return ``fun`` that records its points."""

        def recorded(x, *args):
            self.points.append((x.dtype, x.shape, (x + 0 if np.isfinite(x).all() else x * np.nan).tobytes(), args))
            return fun(x, *args)

        return recorded


def call(minimizer, kwargs):
    log = Log()
    kwargs = dict(kwargs)
    for name in ("fun", "jac", "hess"):
        if callable(kwargs.get(name)):
            kwargs[name] = log.seen(kwargs[name])
    if "callback" in kwargs and isinstance(kwargs["callback"], type):
        kwargs["callback"] = kwargs["callback"](log.callbacks).make()
    text = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(text):
        warnings.simplefilter("always")
        try:
            log.result = minimizer(**kwargs)
        except Exception as error:
            log.error = error
    log.warned = sorted({(w.category.__name__, str(w.message)) for w in caught})
    log.text = text.getvalue()
    return log


def same_value(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_value(p, q) for p, q in zip(a, b, strict=True))
    if isinstance(a, float | int | str | bool | np.generic) or a is None:
        return a == b or (a != a and b != b)
    return True


def compare(theirs, ours, *, skip=(), counts=True):
    assert type(ours.error) is type(theirs.error), (theirs.error, ours.error)
    assert str(ours.error) == str(theirs.error)
    assert ours.points == theirs.points
    assert ours.warned == theirs.warned
    assert ours.text == theirs.text
    assert len(ours.callbacks) == len(theirs.callbacks)
    for a, b in zip(theirs.callbacks, ours.callbacks, strict=True):
        assert same_value(a, b)
    if theirs.result is None:
        return
    a, b = theirs.result, ours.result
    assert isinstance(b, OptimizeResult)
    assert set(b) - EXTRA == set(a)
    for key in a:
        if key in skip or key == "execution_time":
            continue
        assert type(a[key]) is type(b[key]), key
        if key == "nfev":  # ours are the calls that were made; COBYLA's count misses one when it moves x0
            assert b[key] == len(ours.points) if counts else b[key] > 0
            continue
        assert same_value(a[key], b[key]), (key, a[key], b[key])


def check(skip=(), counts=None, **kwargs):
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    if counts is None:
        counts = not callable(kwargs.get("jac")) and not callable(kwargs.get("hess"))
    if theirs.result is not None and kwargs.get("method") != "COBYLA" and "nfev" not in skip:
        assert theirs.result.nfev == ours.result.nfev
    compare(theirs, ours, skip=skip, counts=counts)
    return ours


def quick(method):
    """Return options that keep the slow methods short; scipy's default in all others."""
    return {"maxiter": 25} if method in ("COBYLA", "COBYQA", "trust-constr") else None


def derivatives(method):
    if method in NEEDS_JAC:
        return {"jac": rosen_der}
    return {"jac": rosen_der, "hess": rosen_hess} if method in NEEDS_HESS else {}


class Legacy:
    """``callback(xk)``; trust-constr's ``callback(xk, state)``."""

    stop_after = 10**9

    def __init__(self, log):
        self.log = log

    def make(self):
        def callback(xk, *rest):
            self.log.append((xk.copy(), len(rest)))
            if len(self.log) >= self.stop_after:
                raise StopIteration

        return callback


class Modern(Legacy):
    """``callback(intermediate_result)``."""

    def make(self):
        def callback(intermediate_result):
            self.log.append((intermediate_result.x.copy(), float(intermediate_result.fun)))
            if len(self.log) >= self.stop_after:
                raise StopIteration

        return callback


class LegacyStop(Legacy):
    stop_after = 2


class ModernStop(Modern):
    stop_after = 2


class Truthy(Legacy):
    """A true return value: ignored by most methods, an order to halt for trust-constr's and COBYLA's."""

    def make(self):
        return lambda xk, *rest: self.log.append(xk.copy()) or True


X0 = [-1.2, 1.0]


@pytest.mark.parametrize("method", METHODS)
def test_plain_call(method):
    check(fun=rosen, x0=X0, method=method, **derivatives(method))


@pytest.mark.parametrize("method", [m.upper() for m in METHODS])
def test_names_are_case_insensitive(method):
    d = derivatives(next(m for m in METHODS if m.upper() == method))
    check(fun=rosen, x0=X0, method=method, options={"maxiter": 6}, **d)


@pytest.mark.parametrize("method", METHODS)
def test_legacy_callback(method):
    check(fun=rosen, x0=X0, method=method, callback=Legacy, options=quick(method), **derivatives(method))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "TNC"])
def test_callback_with_intermediate_result(method):
    check(fun=rosen, x0=X0, method=method, callback=Modern, options=quick(method), **derivatives(method))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "TNC"])
@pytest.mark.parametrize("callback", [LegacyStop, ModernStop])
def test_callback_stops_the_run(method, callback):
    ours = check(fun=rosen, x0=X0, method=method, callback=callback, **derivatives(method))
    assert len(ours.callbacks) == 2


@pytest.mark.parametrize("method", ["Nelder-Mead", "L-BFGS-B", "trust-constr", "COBYQA", "COBYLA"])
def test_true_return_value_of_the_callback(method):
    check(fun=rosen, x0=X0, method=method, callback=Truthy, options=quick(method))


def test_tnc_takes_intermediate_result_where_scipy_fails():
    kwargs = {"fun": rosen, "x0": X0, "method": "TNC", "callback": Modern}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    assert theirs.error is not None
    assert ours.result.success
    assert all(value == rosen(x) for x, value in ours.callbacks)


def test_callback_error_propagates():
    def callback(xk):
        raise KeyError("mine")

    ours = check(fun=rosen, x0=X0, method="BFGS", callback=callback)
    assert isinstance(ours.error, KeyError)


@pytest.mark.parametrize("tol", [1e-2, 1e-9])
@pytest.mark.parametrize("method", METHODS)
def test_tol(method, tol):
    if (method, tol) == ("trust-krylov", 1e-9):
        tol = 1e-7  # below it divides by zero and evaluates at NaN, which scipy takes and we count as a failure
    check(fun=rosen, x0=X0, method=method, tol=tol, options=quick(method), **derivatives(method))


@pytest.mark.parametrize("method", METHODS)
def test_unknown_option_warns(method):
    ours = check(fun=rosen, x0=X0, method=method, options={"bogus": 1, "maxiter": 3}, **derivatives(method))
    if method != "trust-constr":  # which takes any option without a word
        assert any("Unknown solver options: bogus" in text for _, text in ours.warned)


@pytest.mark.parametrize("method", METHODS)
def test_maxiter(method):
    check(fun=rosen, x0=X0, method=method, options={"maxiter": 4}, **derivatives(method))


@pytest.mark.parametrize("option", ["maxfev", "maxfun", "return_all", "eps", "ftol", "xtol", "gtol"])
@pytest.mark.parametrize("method", ["Nelder-Mead", "Powell", "BFGS", "L-BFGS-B", "TNC", "COBYQA", "SLSQP"])
def test_scipy_options_mean_what_they_mean_in_scipy(method, option):
    value = {"maxfev": 20, "maxfun": 20, "return_all": True}.get(option, 1e-4)
    check(fun=rosen, x0=X0, method=method, options={option: value})


@pytest.mark.parametrize("method", ["Nelder-Mead", "Powell", "BFGS", "CG", "SLSQP", "trust-constr", "COBYLA"])
def test_disp_prints_the_same(method):
    def without_time(log):
        log.text = log.text.partition("execution time")[0]
        return log

    kwargs = {"fun": rosen, "x0": X0, "method": method, "options": {**(quick(method) or {}), "disp": True}}
    theirs, ours = (without_time(call(m, kwargs)) for m in (scipy.optimize.minimize, minimize))
    compare(theirs, ours)


@pytest.mark.parametrize("args", [(2.0,), 2.0, [2.0], np.array([2.0])])
def test_args(args):
    ours = check(fun=lambda x, a: float(np.sum(a * (x - 1) ** 2)), x0=X0, args=args, method="BFGS")
    assert ours.result.success


def test_args_reach_jac_and_hess():
    check(
        fun=lambda x, a: a * rosen(x),
        jac=lambda x, a: a * rosen_der(x),
        hess=lambda x, a: a * rosen_hess(x),
        x0=X0,
        args=(3.0,),
        method="Newton-CG",
    )


BOUNDS = {
    "pairs": [(-2, 0.5), (0, 2)],
    "none in pairs": [(None, 0.5), (0, None)],
    "infinities": [(-np.inf, 0.5), (0, np.inf)],
    "Bounds": Bounds([-2, 0], [0.5, 2]),
    "Bounds broadcast": Bounds(-2, 0.5),
    "Bounds keep_feasible": Bounds([-2, 0], [0.5, 2], keep_feasible=True),
    "one pair for all": [(-2, 0.5)],
    "array": np.array([[-2, 0.5], [0, 2]]),
    "crossed": [(1, 0), (0, 1)],
    "too many": [(0, 1)] * 3,
    "one fixed": [(-2, 0.5), (0.3, 0.3)],
    "all fixed": [(0.2, 0.2), (0.3, 0.3)],
    "x0 outside": [(2, 3), (2, 3)],
    "no pairs": [1, 2],
}


@pytest.mark.parametrize("form", BOUNDS)
@pytest.mark.parametrize("method", ["Nelder-Mead", "Powell", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP"])
def test_forms_of_bounds(method, form):
    # a fixed variable makes a hidden extra evaluation in none of them: the points must agree too
    check(fun=rosen, x0=X0, method=method, bounds=BOUNDS[form], options=quick(method))


@pytest.mark.parametrize("form", ["pairs", "Bounds", "crossed", "one fixed", "x0 outside"])
def test_forms_of_bounds_in_trust_constr(form):
    check(fun=rosen, x0=X0, method="trust-constr", bounds=BOUNDS[form], options={"maxiter": 30})


@pytest.mark.parametrize("method", ["TNC", "SLSQP", "L-BFGS-B"])
def test_fixed_variable_with_intermediate_result_prints_nothing(method):
    kwargs = {"fun": rosen, "x0": X0, "method": method, "bounds": [(-2, 2), (1, 1)], "callback": Modern}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    assert ours.text == ""
    assert ours.result.x[1] == 1
    assert all(value == rosen(x) for x, value in ours.callbacks)
    if theirs.error is None:
        assert np.array_equal(theirs.result.x, ours.result.x)


@pytest.mark.parametrize("method", [None, *METHODS])
def test_jac_true(method):
    calls = []

    def fun(x):
        calls.append(x)
        return rosen(x), rosen_der(x)

    d = {} if method not in NEEDS_HESS else {"hess": rosen_hess}
    ours = check(("nfev", "njev"), fun=fun, x0=X0, method=method, jac=True, options={"maxiter": 30}, **d)
    assert 2 * ours.result.nfev == len(calls)  # scipy counts what its cache answers; calls of both runs are here


def test_jac_true_pays_once():
    ours = check(fun=lambda x: (rosen(x), rosen_der(x)), x0=X0, method="L-BFGS-B", jac=True)
    points = [p[2] for p in ours.points]
    assert len(points) == len(set(points)) == ours.result.nfev == ours.result.njev


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs", False, None, "bogus", 1])
@pytest.mark.parametrize("method", [*DIFFERENCES, "Nelder-Mead"])
def test_ways_to_give_jac(method, jac):
    check(
        fun=lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
        x0=X0,
        method=method,
        jac=jac,
        options=quick(method),
    )


@pytest.mark.parametrize("method", METHODS)
def test_callable_jac(method):
    d = {**derivatives(method), "jac": rosen_der}
    check(fun=rosen, x0=X0, method=method, options=quick(method), **d)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "given", ["bounds", "constraints", "hess", "hessp", "return_all"], ids=lambda name: f"ignored-{name}"
)
def test_warnings_about_what_a_method_does_not_use(method, given):
    extra = {
        "bounds": {"bounds": [(-3, 3), (-3, 3)]},
        "constraints": {"constraints": {"type": "ineq", "fun": lambda x: x[0] + 3}},
        "hess": {"hess": rosen_hess, "jac": rosen_der},
        "hessp": {"hessp": rosen_hess_prod, "jac": rosen_der},
        "return_all": {"options": {"return_all": True}},
    }[given]
    extra.setdefault("options", {})["maxiter"] = 5
    check(fun=rosen, x0=X0, method=method, **{**derivatives(method), **extra})


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"bounds": [(-2, 2), (-2, 2)]},
        {"constraints": {"type": "ineq", "fun": lambda x: x[0] - 0.1}},
        {"constraints": [], "bounds": None},
        {"constraints": {"type": "eq", "fun": lambda x: x[0] - 0.1}, "bounds": [(-2, 2), (-2, 2)]},
    ],
)
def test_method_none_is_scipys_choice(extra):
    check(fun=rosen, x0=X0, method=None, **extra)


CONSTRAINTS = {
    "ineq": {"type": "ineq", "fun": lambda x: 1 - x[0] - x[1]},
    "eq": {"type": "eq", "fun": lambda x: x[0] + x[1] - 1},
    "list": [
        {"type": "ineq", "fun": lambda x: 1 - x[0]},
        {"type": "ineq", "fun": lambda x: np.array([x[1], 2 - x[1]])},
    ],
    "args and jac": {
        "type": "ineq",
        "fun": lambda x, a: a - x[0] - x[1],
        "jac": lambda x, a: np.array([-1.0, -1.0]),
        "args": (1.0,),
    },
    "linear": LinearConstraint([[1, 1]], -np.inf, 1),
    "linear list": [LinearConstraint(np.eye(2), [-1, -1], [0.8, 0.8])],
    "nonlinear": NonlinearConstraint(lambda x: x[0] ** 2 + x[1] ** 2, -np.inf, 1),
    "nonlinear eq": NonlinearConstraint(lambda x: x[0] + x[1], 1, 1),
}


@pytest.mark.parametrize("form", CONSTRAINTS)
@pytest.mark.parametrize("method", CONSTRAINED)
def test_forms_of_constraints(method, form):
    check(fun=rosen, x0=[0.1, 0.2], method=method, constraints=CONSTRAINTS[form], options=quick(method))


@pytest.mark.parametrize("bad", [{"type": "bogus", "fun": rosen}, {"fun": rosen}, {"type": "eq"}, 3])
@pytest.mark.parametrize("method", ["SLSQP", "COBYQA"])
def test_wrong_constraints_raise_the_same(method, bad):
    ours = check(fun=rosen, x0=X0, method=method, constraints=bad)
    assert ours.error is not None


@pytest.mark.parametrize("x0", [[1, 2], np.array([1, 2], dtype=np.int8), 3, 3.5, np.float32(2.0), (1.0, 2.0)])
@pytest.mark.parametrize("method", ["Nelder-Mead", "BFGS", "L-BFGS-B", "SLSQP", "COBYQA"])
def test_forms_of_x0(method, x0):
    if method == "SLSQP" and isinstance(x0, np.float32):
        pytest.skip("scipy raises an exception: see the test of float32")
    check(fun=lambda x: float(((x - 3) ** 2).sum()), x0=x0, method=method)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("TNC", "SLSQP")])
def test_float32_is_seen_as_scipy_shows_it(method):
    x0 = np.array([-1.2, 1.0], dtype=np.float32)
    check(fun=lambda x: float(rosen(x)), x0=x0, method=method, options={"maxiter": 20}, **derivatives(method))


@pytest.mark.parametrize("method", ["TNC", "SLSQP"])
def test_float32_becomes_float64_where_scipy_fails(method):
    x0 = np.array([-1.2, 1.0], dtype=np.float32)
    theirs = call(scipy.optimize.minimize, {"fun": rosen, "x0": x0, "method": method})
    assert theirs.error is not None
    check(fun=rosen, x0=x0.astype(np.float64), method=method)
    assert minimize(rosen, x0, method=method).success


def test_nan_at_x0_raises_where_scipy_returns_nan():
    with pytest.raises(EvaluationError, match="at x0"):
        minimize(lambda x: np.nan, X0, method="BFGS")


@pytest.mark.parametrize("x0", [[[1.0, 2.0]], np.zeros((2, 2)), "abc", [], [1 + 2j, 3]])
@pytest.mark.parametrize("method", ["Nelder-Mead", "BFGS", "L-BFGS-B"])
def test_wrong_x0_raises_the_same(method, x0):
    kwargs = {"fun": lambda x: float((x**2).sum()), "x0": x0, "method": method}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    assert type(theirs.error) is type(ours.error)
    assert str(theirs.error) == str(ours.error)


@pytest.mark.parametrize("method", ["bogus", "nelder mead"])
def test_unknown_method_names_itself(method):
    kwargs = {"fun": rosen, "x0": X0, "method": method}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    assert isinstance(ours.error, ValueError)
    assert str(ours.error).startswith(str(theirs.error))


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
@pytest.mark.parametrize("method", ["Nelder-Mead", "BFGS", "L-BFGS-B", "SLSQP", "Powell", "COBYLA"])
def test_arrays_of_one_element_count_as_numbers(method, shape):
    check(fun=lambda x: np.reshape(rosen(x), shape), x0=X0, method=method, options=quick(method))


@pytest.mark.parametrize("value", [np.zeros(2), None, "text", [1.0, 2.0], {}, 1 + 2j])
@pytest.mark.parametrize("method", ["Nelder-Mead", "BFGS", "L-BFGS-B", "SLSQP", "Powell"])
def test_what_is_no_number_raises_the_same(method, value):
    check(fun=lambda x: value, x0=X0, method=method)


def test_wrong_shape_of_jac_raises_the_same():
    check(fun=rosen, jac=lambda x: np.zeros(3), x0=X0, method="BFGS")


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "SLSQP", "Nelder-Mead", "COBYQA", "trust-constr"])
def test_an_objective_that_writes_to_its_argument(method):
    def fun(x):
        value = rosen(x)
        x[:] = np.nan
        return value

    check(fun=fun, x0=X0, method=method)


def test_x0_is_not_written():
    x0 = np.array(X0)
    x0.flags.writeable = False
    check(fun=rosen, x0=x0, method="BFGS")


@pytest.mark.parametrize("method", ["BFGS", "Nelder-Mead", "COBYQA"])
def test_stop_iteration_of_the_objective_propagates(method):
    def fun(x):
        raise StopIteration("mine")

    ours = check(fun=fun, x0=X0, method=method)
    assert isinstance(ours.error, StopIteration)


def test_exception_at_x0_keeps_its_class():
    def fun(x):
        raise ZeroDivisionError("mine")

    kwargs = {"fun": fun, "x0": X0, "method": "BFGS"}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    assert type(ours.error) is type(theirs.error) is ZeroDivisionError
    assert str(ours.error) == "mine"
    assert len(ours.points) == 3  # x0 has three tries


@pytest.mark.parametrize("method", ["trust-constr"])
@pytest.mark.parametrize("hess", ["2-point", "cs", BFGS(), rosen_hess])
def test_forms_of_hess(method, hess):
    check(fun=rosen, jac=rosen_der, hess=hess, x0=X0, method=method)


def test_callable_method_gets_what_scipy_gives_it():
    calls = []

    def method(fun, x0, args, **kwargs):
        calls.append((x0, args, sorted(kwargs)))
        return OptimizeResult(x=x0, fun=fun(x0, *args), success=True, nfev=1, status=0, message="done")

    kwargs = {"fun": rosen, "x0": X0, "method": method, "options": {"alpha": 3}, "tol": 1e-3}
    theirs, ours = call(scipy.optimize.minimize, kwargs), call(minimize, kwargs)
    compare(theirs, ours)
    assert calls[0][2] == calls[1][2]


def test_positional_parameters_have_scipys_order():
    a = scipy.optimize.minimize(rosen, X0, (), "BFGS", rosen_der, None, None, None, (), 1e-3, None, {"maxiter": 5})
    b = minimize(rosen, X0, (), "BFGS", rosen_der, None, None, None, (), 1e-3, None, {"maxiter": 5})
    assert np.array_equal(a.x, b.x)
    assert a.message == b.message


def test_options_and_bounds_of_the_user_are_not_written():
    options, bounds = {"maxiter": 5}, [(-2.0, 2.0), (-2.0, 2.0)]
    minimize(rosen, X0, method="L-BFGS-B", options=options, bounds=bounds, tol=1e-3)
    assert options == {"maxiter": 5}
    assert bounds == [(-2.0, 2.0), (-2.0, 2.0)]


def test_result_is_scipys_class_with_attribute_errors():
    result = minimize(rosen, X0, method="BFGS")
    assert isinstance(result, OptimizeResult)
    with pytest.raises(AttributeError):
        result.bogus  # noqa: B018


def test_user_workers_option_still_evaluates_the_differences():
    seen = []

    def mapper(function, points):
        points = list(points)
        seen.append(len(points))
        return map(function, points)

    result = minimize(rosen, np.zeros(5), method="L-BFGS-B", options={"workers": mapper})
    assert result.success
    assert set(seen) == {5}
    assert result.nfev == 6 * len(seen)


@pytest.mark.parametrize("method", DIFFERENCES)
def test_vectorized_differences_are_one_call(method):
    rows = []

    def fun(x):
        rows.append(len(x))
        return ((x - 1) ** 2).sum(axis=1)

    plain = minimize(lambda x: float(((x - 1) ** 2).sum()), np.zeros(4), method=method)
    result = minimize(fun, np.zeros(4), method=method, vectorized=True)
    np.testing.assert_allclose(result.x, plain.x, atol=1e-6)
    assert max(rows) == 4
    assert sum(rows) == result.nfev


def test_warning_class_is_scipys():
    with pytest.warns(OptimizeWarning, match="Unknown solver options: bogus"):
        minimize(rosen, X0, method="BFGS", options={"bogus": 1})


@pytest.mark.parametrize(("method", "default"), [("COBYLA", 1000), ("TNC", 100)])
def test_a_stated_budget_is_not_cut_short_by_a_default_of_the_method(method, default):
    def rosen(x):
        return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))

    start = np.tile([-1.2, 1.0], 5)
    assert minimize(rosen, start, method=method, maxfev=1500).nfev > default
    option = {"COBYLA": "maxiter", "TNC": "maxfun"}[method]
    assert minimize(rosen, start, method=method, maxfev=1500, options={option: 60}).nfev < 1000
