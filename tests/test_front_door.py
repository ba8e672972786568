"""Every method in every situation: no unhandled exception, exact counts, best point kept, inside the bounds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

import vamo_bbo as vb
from tests.methods import NEED_GRADIENT, PLAIN
from vamo_bbo._errors import EvaluationError, OptionError
from vamo_bbo.scipy_layer.methods import METHODS as FOREIGN

D = 3
CENTER = np.array([0.3, 0.6, 0.45])
WEIGHTS = np.array([1.0, 3.0, 0.5])
X0 = np.array([0.9, 0.1, 0.8])
NEEDS_JAC = (*NEED_GRADIENT, "Newton-CG", "dogleg", "trust-ncg", "trust-exact", "trust-krylov")
NEEDS_HESS = ("dogleg", "trust-ncg", "trust-exact", "trust-krylov")
BOUNDED = ("Nelder-Mead", "Powell", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP", "trust-constr")
STRICT = ("Nelder-Mead", "Powell", "L-BFGS-B", "TNC", "COBYQA", "SLSQP")  # scipy: the others may step outside
OURS = [*PLAIN, *NEED_GRADIENT]
ALL = ["auto", *OURS, *FOREIGN]
LIMIT = 150


class Recorder:
    """An objective that records what happens, and misbehaves on request."""

    def __init__(self, *, fail_each=None, raise_at=None, nan_below=None):
        self.fail_each, self.raise_at, self.nan_below = fail_each, raise_at, nan_below
        self.calls, self.values, self.points = 0, [], []

    def __call__(self, x):
        self.calls += 1
        self.points.append(np.array(x))
        if self.raise_at is not None and self.calls == self.raise_at:
            raise KeyboardInterrupt  # as Ctrl-C does
        if self.fail_each and self.calls % self.fail_each == 0:
            raise RuntimeError("boom")
        if self.nan_below is not None and x[0] < self.nan_below:
            return np.nan
        value = float((WEIGHTS * (x - CENTER) ** 2).sum())
        self.values.append(value)
        return value


def jac(x):
    return 2 * WEIGHTS * (x - CENTER)


def run(method, fun, x0=X0, **kwargs):
    if method in NEEDS_JAC:
        kwargs["jac"] = jac
    if method in NEEDS_HESS:
        kwargs["hess"] = lambda x: np.diag(2 * WEIGHTS)
    kwargs.setdefault("maxfev", LIMIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = vb.minimize(fun, x0, method=method, rng=1, **kwargs)
    assert isinstance(result, OptimizeResult)
    assert isinstance(result.message, str)
    assert result.message
    assert isinstance(result.success, bool | np.bool_)
    assert result.nfev == fun.calls <= kwargs["maxfev"]
    assert result.x.shape == (D,)
    assert np.isfinite(result.x).all()
    return result


def keeps_best(result, fun, slack=1e-8):
    """The returned point is an evaluated one; none was better by more than rounding of differences."""
    assert result.fun <= min(fun.values) + slack
    assert min(np.abs(p - result.x).max() for p in fun.points) <= 1e-12


@pytest.mark.parametrize("method", ALL)
def test_plain(method):
    fun = Recorder()
    result = run(method, fun)
    assert result.fun < 0.99 * float((WEIGHTS * (X0 - CENTER) ** 2).sum())
    keeps_best(result, fun, slack=1e-4)


@pytest.mark.parametrize("method", ALL)
def test_bounds(method):
    fun = Recorder()
    lower, upper = np.array([0.5, 0.0, 0.0]), np.ones(D)
    result = run(method, fun, bounds=list(zip(lower, upper, strict=True)))
    assert result.fun <= fun.values[0]
    if method in OURS or method == "auto" or method in STRICT:
        for point in fun.points:
            assert (point >= lower - 1e-15).all()
            assert (point <= upper + 1e-15).all()


@pytest.mark.parametrize("method", ALL)
def test_callback_stop(method):
    fun, seen = Recorder(), []

    def callback(xk, *rest):
        seen.append(np.array(xk))
        if len(seen) == 2:
            raise StopIteration

    result = run(method, fun, callback=callback)
    assert len(seen) <= 2
    if len(seen) == 2:
        assert result.fun <= fun.values[0]
        if method in OURS:
            assert (result.status, result.success) == (99, False)


@pytest.mark.parametrize("budget", [1, 2, D])
@pytest.mark.parametrize("method", ALL)
def test_tiny_budgets(method, budget):
    fun = Recorder()
    result = run(method, fun, maxfev=budget)
    assert result.fun == min(fun.values)
    assert not result.success or result.fun < 1e-12  # a Newton step solves a quadratic


@pytest.mark.parametrize("method", ALL)
def test_failure_at_each_third_call(method):
    fun = Recorder(fail_each=3)
    result = run(method, fun)
    assert result.n_failed == fun.calls // 3
    if result.n_failed:  # a Newton step solves a quadratic
        assert result.failures[0].error == "RuntimeError: boom"
        assert "RuntimeError" in result.failures[0].log
    keeps_best(result, fun, slack=0.0)


@pytest.mark.parametrize("method", ALL)
def test_nan_half_space(method):
    fun = Recorder(nan_below=0.5)  # the minimum itself is in the forbidden half
    result = run(method, fun)
    assert result.x[0] >= 0.5
    assert np.isfinite(result.fun)
    assert result.fun <= fun.values[0]
    if result.n_failed:
        keeps_best(result, fun, slack=0.0)


@pytest.mark.parametrize("at", [2, 9])
@pytest.mark.parametrize("method", ALL)
def test_ctrl_c(method, at):
    fun = Recorder(raise_at=at)
    kwargs = {"jac": jac} if method in NEEDS_JAC else {}
    if method in NEEDS_HESS:
        kwargs["hess"] = lambda x: np.diag(2 * WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = vb.minimize(fun, X0, method=method, rng=1, maxfev=LIMIT, **kwargs)
    if fun.calls >= at:
        assert "Interrupted" in result.message
        assert not result.success
        assert result.fun == min(fun.values)
        assert result.nfev in (at - 1, at)


@pytest.mark.parametrize("method", ALL)
def test_float32(method):
    fun = Recorder()
    result = run(method, fun, x0=X0.astype(np.float32))
    if method in OURS:
        assert {p.dtype for p in fun.points} == {np.dtype(np.float32)}
        assert result.x.dtype == np.float32
    assert result.fun < fun.values[0]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["maxfev", "interrupt"])
def test_best_so_far_at_every_stop(seed, kind):
    """200 random stopping points: 10 draws for each of 10 methods, by budget and by Ctrl-C."""
    rng = np.random.default_rng(seed)
    for method in ("L-BFGS-B", "Nelder-Mead", "COBYQA", "SLSQP", "Powell", "BFGS", "spsa", "zo-sgd", "cma", "auto"):
        stop = int(rng.integers(1, 60))
        fun = Recorder(raise_at=stop + 1) if kind == "interrupt" else Recorder()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            limit = {"maxfev": stop} if kind == "maxfev" else {"maxfev": LIMIT}
            result = vb.minimize(fun, X0, method=method, rng=seed, **limit)
        if kind == "maxfev" and result.status != 1:
            continue  # it ended by itself
        if kind == "interrupt" and "Interrupted" not in result.message:
            continue
        assert result.fun == min(fun.values)
        assert np.array_equal(result.x, fun.points[int(np.argmin(fun.values))])


@pytest.mark.parametrize("method", ["spsa", "zo-sgd", "cma", "L-BFGS-B", "Nelder-Mead"])
def test_target_time_and_failures_end_a_run(method):
    fun = Recorder()
    result = run(method, fun, f_target=0.2, maxfev=2000)
    assert result.success
    assert result.status == 5
    assert result.fun <= 0.2
    fun = Recorder()
    assert run(method, fun, max_time=0.0, maxfev=2000).status in (1, 4)
    fun = Recorder(fail_each=2)
    result = run(method, fun, max_failures=3, maxfev=2000)
    assert result.status == 6
    assert 4 <= result.n_failed <= 3 + 6  # our solvers close the round


@pytest.mark.parametrize("method", ["spsa", "L-BFGS-B", "COBYQA"])
def test_raise_and_callable_policies(method):
    with pytest.raises(EvaluationError) as caught:
        run(method, Recorder(fail_each=5), on_error="raise")
    assert isinstance(caught.value.__cause__, RuntimeError)
    records = []
    fun = Recorder(fail_each=5)
    run(method, fun, on_error=lambda record: records.append(record) or 7.0)
    assert len(records) == fun.calls // 5


def test_retries_are_counted():
    fun = Recorder(fail_each=5)
    result = run("L-BFGS-B", fun, retries=1)
    assert result.nfev == fun.calls


@pytest.mark.parametrize("method", ["spsa", "L-BFGS-B", "auto"])
def test_x_scale(method):
    def fun(x):
        return float(((x / [1.0, 1e4]) ** 2).sum())

    result = vb.minimize(fun, [1.0, 1e4], method=method, x_scale=[1.0, 1e4], rng=1, maxfev=600)
    assert np.abs(result.x / [1.0, 1e4]).max() < 0.2


@pytest.mark.parametrize("method", ["spsa", "cma", "zo-adamm"])
def test_noisy_runs_end_with_a_re_estimate(method):
    noise = np.random.default_rng(0)
    result = vb.minimize(
        lambda x: float(((x - CENTER) ** 2).sum()) + noise.normal(scale=0.01),
        X0,
        method=method,
        noisy=True,
        rng=1,
        maxfev=600,
    )
    assert 0 < result.fun_std < 0.01
    assert result.nfev <= 600


def test_space_gets_a_dict_and_gives_params():
    space = vb.Space(a=vb.Real(0, 2), b=vb.Real(1e-3, 10, log=True), c="fixed")
    seen = []

    def fun(p):
        seen.append(p)
        return (p["a"] - 1) ** 2 + (np.log10(p["b"]) + 1) ** 2

    for method in ("auto", "spsa", "cma", "Nelder-Mead"):
        result = vb.minimize(fun, space, method=method, rng=1, maxfev=300)
        assert set(result.params) == {"a", "b", "c"}
        assert abs(result.params["a"] - 1) < 0.1
        assert 0.05 < result.params["b"] < 0.2
    assert all(p["c"] == "fixed" and 0 <= p["a"] <= 2 and 1e-3 <= p["b"] <= 10 for p in seen)


def test_callback_of_a_space_sees_params():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.params["a"])

    for method in ("spsa", "Nelder-Mead"):
        vb.minimize(
            lambda p: (p["a"] - 1) ** 2, vb.Space(a=vb.Real(0, 2)), method=method, rng=1, maxfev=50, callback=callback
        )
    assert len(seen) > 10
    assert all(0 <= a <= 2 for a in seen)


def test_a_space_goes_to_bayes_and_then_to_cma():
    space = vb.Space(n=vb.Integer(1, 9), kind=vb.Choice(["x", "y", "z"]), r=vb.Real(-1, 1))

    def fun(p):
        return (p["n"] - 7) ** 2 + (p["kind"] != "z") + p["r"] ** 2

    result = vb.minimize(fun, space, rng=1, maxfev=300)
    assert result.message.startswith("auto chose bayes (a space, 3 variables, deterministic): bayes used 200 values")
    assert "then cma" in result.message
    assert (result.params["n"], result.params["kind"]) == (7, "z")
    assert result.fun < 1e-6
    assert 280 < result.nfev <= 300
    for method in ("spsa", "Nelder-Mead"):
        with pytest.raises(vb.CapabilityError, match="cma"):
            vb.minimize(fun, space, method=method, rng=1)


@pytest.mark.parametrize(
    ("kwargs", "chosen"),
    [
        ({}, "fd-bfgs"),
        ({"jac": jac}, "L-BFGS-B"),
        ({"constraints": {"type": "ineq", "fun": lambda x: x[0]}}, "interpolation"),
        ({"jac": jac, "constraints": {"type": "ineq", "fun": lambda x: x[0]}}, "SLSQP"),
        ({"x0": np.ones(1500)}, "zo-nesterov"),
        ({"x0": np.ones(LIMIT)}, "zo-nesterov"),  # fewer values than two gradients by differences
        ({"x0": np.ones(1500), "bounds": [(0, 2)] * 1500}, "zo-sgd"),
    ],
)
def test_auto_says_what_and_why(kwargs, chosen):
    kwargs = {"x0": X0, **kwargs}
    fun = Recorder() if len(kwargs["x0"]) == D else lambda x: float((x**2).sum())
    result = vb.minimize(fun, method="auto", rng=1, maxfev=LIMIT, **kwargs)
    assert result.message.startswith(f"auto chose {chosen} (")
    if isinstance(fun, Recorder):
        assert result.nfev == fun.calls


@pytest.mark.parametrize("maxfev", [None, 50, 100])
def test_auto_lets_a_model_take_turns_with_a_slow_descent(maxfev):
    values = []

    def rosen(x):
        values.append(float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2))
        return values[-1]

    result = vb.minimize(rosen, [-1.2, 1.0], maxfev=maxfev)
    assert result.nfev == len(values)
    if maxfev is None:
        assert result.success
        assert result.fun < 1e-10
    else:
        assert len(values) <= maxfev
        assert result.fun == min(values)


def test_auto_on_a_simulator_that_prints_few_digits():
    def printed(x):
        return float(f"{float(((x - 0.3) ** 2).sum()) + 1:.5f}")

    result = vb.minimize(printed, [2.0, -1.0, 1.0], maxfev=300)
    assert "interpolation" in result.message
    assert result.fun < 1 + 1e-4


def test_auto_notices_noise():
    noise = np.random.default_rng(0)
    calls = []

    def fun(x):
        calls.append(x)
        return float(((x - CENTER) ** 2).sum()) + noise.normal(scale=0.01)

    result = vb.minimize(fun, X0, rng=1, maxfev=300)
    assert "auto chose quadratic (no gradient, 3 variables, noisy)" in result.message
    assert result.nfev == len(calls) == 300
    assert 0 < result.fun_std < 0.01
    assert abs(result.fun - float(((result.x - CENTER) ** 2).sum())) < 5 * result.fun_std
    assert result.best_fun < result.fun
    assert np.abs(result.x - CENTER).max() < 0.2


def test_ctrl_c_in_a_noisy_run_returns_what_is_known():
    noise, calls = np.random.default_rng(0), []

    def fun(x):
        calls.append(x)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return float(((x - CENTER) ** 2).sum()) + noise.normal(scale=0.01)

    result = vb.minimize(fun, X0, rng=1, maxfev=300)
    assert (result.status, result.success, len(calls)) == (7, False, 40)
    assert np.isfinite(result.fun)


def test_auto_on_a_finite_sum():
    data = np.random.default_rng(0).normal(size=(40, 3))
    problem = vb.FiniteSum(lambda x, i: ((data[i] - x) ** 2).sum(1), 40, lambda x, i: 2 * (x - data[i].mean(0)))
    result = vb.minimize(problem, np.zeros(3), rng=1)
    assert result.message.startswith("auto chose vamo (a finite sum of 40 terms, gradients)")
    np.testing.assert_allclose(result.x, data.mean(0), atol=1e-6)


def test_scipy_methods_take_the_full_sum():
    data = np.random.default_rng(0).normal(size=(40, 3))
    problem = vb.FiniteSum(lambda x, i: ((data[i] - x) ** 2).sum(1), 40, lambda x, i: 2 * (x - data[i].mean(0)))
    for method in ("L-BFGS-B", "Nelder-Mead"):
        result = vb.minimize(problem, np.zeros(3), method=method)
        np.testing.assert_allclose(result.x, data.mean(0), atol=1e-3)
        assert result.nfev_samples == 40 * result.nfev
    limited = vb.minimize(problem, np.zeros(3), method="L-BFGS-B", maxfev=100)
    assert limited.nfev_samples == 80


def test_workers_evaluate_differences():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        for workers in (pool, map, lambda f, xs: pool.map(f, xs)):
            result = vb.minimize(Recorder(), X0, method="L-BFGS-B", workers=workers)
            np.testing.assert_allclose(result.x, CENTER, atol=1e-4)


def test_worker_processes_evaluate_differences_of_a_lambda():
    pytest.importorskip("cloudpickle")
    result = vb.minimize(lambda x: float(((x - 0.5) ** 2).sum()), np.zeros(4), method="L-BFGS-B", workers=2)
    np.testing.assert_allclose(result.x, 0.5, atol=1e-5)


def test_ignored_derivatives_warn():
    with pytest.warns(RuntimeWarning, match="does not use gradient information"):
        vb.minimize(Recorder(), X0, method="spsa", jac=jac, maxfev=20, rng=1)
    with pytest.warns(RuntimeWarning, match="does not use Hessian information"):
        vb.minimize(Recorder(), X0, method="zo-sgd", hess=jac, maxfev=20, rng=1)


def test_disp_prints_the_message(capsys):
    result = vb.minimize(Recorder(), X0, method="spsa", maxfev=20, rng=1, options={"disp": True})
    assert result.message in capsys.readouterr().out


@pytest.mark.parametrize("method", ["spsa", "L-BFGS-B"])
def test_progress_line(method, capsys):
    plain = vb.minimize(Recorder(), X0, method=method, maxfev=60, rng=1)
    shown = vb.minimize(Recorder(), X0, method=method, maxfev=60, rng=1, progress=True)
    assert capsys.readouterr().err
    assert np.array_equal(plain.x, shown.x)


def test_maxfev_in_options_as_in_scipy():
    assert vb.minimize(Recorder(), X0, method="spsa", options={"maxfev": 20}, rng=1).nfev <= 20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "bogus"}, "Unknown solver bogus"),
        ({"method": "spssa"}, "did you mean 'spsa'"),
        ({"method": "spsa", "options": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"method": "spsa", "maxfev": 0}, "maxfev"),
        ({"method": "L-BFGS-B", "maxfev": -1}, "maxfev"),
        ({"method": "L-BFGS-B", "x_scale": -1}, "x_scale"),
        ({"method": "L-BFGS-B", "workers": 0}, "workers"),
        ({"method": "spsa", "on_error": "bogus"}, "on_error"),
        ({"method": "L-BFGS-B", "on_error": "bogus"}, "on_error"),
        ({"method": "spsa", "bounds": [(1, 0)] * 3}, "upper bound is less"),
    ],
)
def test_errors_name_the_argument(kwargs, message):
    with pytest.raises(OptionError, match=message):
        vb.minimize(Recorder(), X0, **kwargs)


@pytest.mark.parametrize("method", ALL)
def test_callback_sees_step_size_noise_and_counts(method):
    shown = []
    run(method, Recorder(), callback=lambda intermediate_result: shown.append(intermediate_result))
    names = ["nit", "nfev", "njev", "nfev_samples", "njev_samples", "n_failed", "elapsed", "step_size", "noise"]
    assert shown
    for name in names:
        assert all(isinstance(float(result[name]), float) for result in shown)
    assert [r.nit for r in shown] == sorted(r.nit for r in shown)
    assert [r.nfev for r in shown] == sorted(r.nfev for r in shown)
    if method in OURS:
        assert shown[-1].step_size > 0


@pytest.mark.parametrize("method", ["spsa", "zo-sgd", "zo-adamm"])
def test_callback_sees_the_noise(method):
    rng = np.random.default_rng(3)
    shown = []
    vb.minimize(
        lambda x: float(((x - 1) ** 2).sum() + 0.1 * rng.standard_normal()),
        np.zeros(4),
        method=method,
        noisy=True,
        rng=1,
        maxfev=400,
        callback=lambda intermediate_result: shown.append(intermediate_result.noise),
    )
    assert 0.02 < np.median(shown) < 0.5


@pytest.mark.parametrize(("d", "maxfev", "path"), [(4, 600, "quadratic"), (21, 2500, "then cma")])
def test_auto_on_noise_goes_on_where_noise_hides_the_slope(d, maxfev, path):
    """A curved valley: an interpolating model cannot follow it once noise hides its slope."""
    noise = np.random.default_rng(5)
    calls = []

    def valley(x):
        calls.append(1)
        value = 100.0 * float(((x[1:] - x[:-1] ** 2) ** 2).sum()) + float(((1 - x[:-1]) ** 2).sum())
        return value + 1e-2 * noise.standard_normal()

    shown = []
    x0 = np.full(d, -1.0)
    result = vb.minimize(valley, x0, rng=1, maxfev=maxfev, callback=lambda xk: shown.append(np.array(xk)))
    assert ("COBYQA ended after" in result.message) == (d > 20)
    assert path in result.message
    assert result.nfev == len(calls) <= maxfev
    assert result.fun_std > 0
    counts = [record.nfev for record in result.history]
    assert counts == sorted(counts)
    assert [record.nit for record in result.history] == sorted(record.nit for record in result.history)
    assert counts[-1] <= result.nfev
    assert len(shown) > 10
