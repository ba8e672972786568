"""The loop: budgets, stops, best point, reuse of x0, interrupts, crashes, callbacks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vamo_bbo as vb
from vamo_bbo.core.solver import State, Status
from vamo_bbo.core.types import Answer, Batch, Probe, ProblemInfo
from vamo_bbo.run.history import History, StepRecord
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.stop import Budget, Code, Plateau, default_limits


class Walk:
    """Asks for x itself and ``extra`` explicit points around it; goes to the best one."""

    def __init__(self, extra: int = 1, width: float = 0.5, rounds: float = math.inf) -> None:
        self.extra, self.width, self.rounds = extra, width, rounds

    def init(self, x0: Any, *, seed: int, backend: str, info: ProblemInfo, horizon: float | None = None) -> State:
        self.horizon = horizon
        return State(seed, "numpy", info, arrays={"x": x0.copy()}, versions={"x": 0})

    def ask(self, state: State) -> tuple[Probe, ...]:
        probes = [Probe((state.step, 0, 0, 0), state.anchor("x"))]
        for j in range(self.extra):
            offset = np.random.default_rng((state.seed, state.step, j)).normal(size=state.arrays["x"].size) * self.width
            probes.append(Probe((state.step, 0, 0, 1 + j), state.anchor("x"), point=state.arrays["x"] + offset))
        return tuple(p for p in probes if p.id not in state.inbox)

    def tell(self, state: State, answers: Sequence[Answer]) -> State:
        probes = {p.id: p for p in self.ask(state)}
        for a in answers:
            state.inbox[a.id] = a
            state.cache.setdefault("points", {})[a.id] = probes[a.id].point
        if len(state.inbox) == 1 + self.extra:
            good = [a for a in state.inbox.values() if a.error is None]
            point = state.cache["points"][min(good, key=lambda a: a.value).id] if good else None
            if point is not None:
                state.arrays["x"] = point
                state.versions["x"] += 1
            state.step += 1
            state.inbox.clear()
            state.cache.clear()
        return state

    def status(self, state: State) -> Status | None:
        return Status(0, True, "Walked enough.") if state.step >= self.rounds else None

    def recommend(self, state: State) -> Any:
        return state.arrays["x"]


def sphere(x: np.ndarray) -> float:
    return float(x @ x)


def run(fun: Any = sphere, method: Any = None, **options: Any) -> Any:
    return vb.minimize(fun, options.pop("x0", [3.0, 4.0]), method=method or Walk(), rng=0, **options)


@given(st.integers(1, 40), st.integers(0, 6))
def test_maxfev_is_exact_and_a_round_is_all_or_nothing(maxfev: int, extra: int) -> None:
    calls = []
    result = run(lambda x: calls.append(1) or sphere(x), Walk(extra), maxfev=maxfev)
    # x0 is evaluated once and reused by the first round, which then costs `extra` values.
    full = extra == 0 or maxfev >= 1 + extra
    rounds = 0 if not full else (maxfev - 1 - extra) // (extra + 1)
    assert result.nfev == result.nfev_samples == len(calls) == (1 + extra + rounds * (extra + 1) if full else 1)
    assert result.status == Code.MAXFEV
    assert not result.success


def test_the_best_evaluated_point_is_returned() -> None:
    values: list[float] = []
    points = []

    def record(x: np.ndarray) -> float:
        values.append(sphere(x))
        points.append(x.copy())
        return values[-1]

    result = run(record, Walk(3, width=5.0), maxfev=200)
    assert result.fun == min(values)
    assert result.x.tolist() == points[int(np.argmin(values))].tolist()
    assert result.fun == result.best_fun
    assert result.fun_std == 0


@pytest.mark.parametrize("method", [Walk(), vb.zo_sgd(n_directions=2), vb.spsa(), vb.zo_adamm()])
def test_the_best_point_has_the_best_value(method: Any) -> None:
    result = run(method=method, maxfev=300)
    assert sphere(result.x) == result.fun < 25


def test_x0_is_reused_only_where_the_objective_is_deterministic() -> None:
    for noisy, first_round in ((False, 2), (True, 3)):
        seen: list[list[float]] = []
        run(lambda x, seen=seen: seen.append(x.tolist()) or sphere(x), maxiter_of(1), noisy=noisy, maxfev=100)
        assert seen[:first_round].count([3.0, 4.0]) == first_round - 1


def maxiter_of(n: int) -> Walk:
    return Walk(rounds=n)


def test_maxiter() -> None:
    result = run(options={"maxiter": 5})
    assert (result.nit, result.status) == (5, Code.MAXITER)
    assert result.message == "Maximum number of iterations has been exceeded."


def test_f_target_stops_at_the_first_value_that_reaches_it() -> None:
    values: list[float] = []
    result = run(lambda x: values.append(sphere(x)) or values[-1], Walk(5), f_target=5.0)
    assert (result.status, result.success) == (Code.TARGET, True)
    assert values[-1] <= 5.0 < min(values[:-1])
    assert result.nfev == len(values)


@pytest.mark.parametrize("method", ["auto", "spsa", "zo-sgd", "cma", "quadratic", "interpolation"])
@pytest.mark.parametrize("options", [{}, {"maxfev": 1}, {"workers": map}, {"noisy": False}, {"asynchronous": True}])
def test_where_all_variables_are_fixed_x0_is_the_answer(method: str, options: Any) -> None:
    calls: list[Any] = []

    def fun(x: np.ndarray) -> float:
        calls.append(x)
        return float(x @ x)

    result = vb.minimize(fun, [1.0, 5.0], method=method, bounds=[(1, 1), (2, 2)], **options)
    assert result.x.tolist() == [1.0, 2.0]
    assert (result.fun, result.nfev, result.nit, result.success) == (5.0, 1, 0, True)
    assert len(calls) == 1
    assert result.message == "All independent variables were fixed by bounds."


@pytest.mark.parametrize("method", ["vamo", "storm", "sgd", "adam", "zo-adamm", "auto"])
def test_a_sum_whose_variables_are_all_fixed(method: str) -> None:
    grad = None if method == "zo-adamm" else lambda x, idx: 2 * x
    problem = vb.FiniteSum(lambda x, idx: idx + float(x @ x), 9, grad)
    result = vb.minimize(problem, [1.0], method=method, bounds=[(1, 1)])
    assert (result.x.tolist(), result.fun, result.success) == ([1.0], 5.0, True)


def test_a_run_without_gradients_has_no_horizon_of_zero() -> None:
    result = vb.minimize(lambda x: float(x @ x), [1.0], method="zo-sgd", maxjev=0, max_time=0.05)
    assert result.status == Code.MAX_TIME


@pytest.mark.parametrize("method", ["SLSQP", "L-BFGS-B", "COBYQA", "trust-constr"])
def test_the_answer_is_within_the_bounds_where_nothing_was_evaluated(method: str) -> None:
    result = vb.minimize(lambda x: x @ x, [5.0, 0.5], method=method, bounds=[(0, 1)] * 2, max_time=0.0)
    assert result.nfev == 0
    assert result.x.tolist() == [1.0, 0.5]


def test_f_target_at_x0_costs_one_evaluation() -> None:
    assert run(f_target=25.0).nfev == 1


def test_max_time_ends_the_run() -> None:
    result = run(max_time=0.05)
    assert result.status == Code.MAX_TIME
    assert result.nfev > 1


def test_the_solvers_own_ending() -> None:
    result = run(method=Walk(rounds=3))
    assert (result.nit, result.status, result.success, result.message) == (3, 0, True, "Walked enough.")


def test_tol_stops_on_a_plateau() -> None:
    result = run(lambda x: 1.0, tol=1e-6)
    assert (result.status, result.success) == (Code.CONVERGED, True)
    assert result.nit == 150


def test_ctrl_c_returns_the_best_point_so_far() -> None:
    values: list[float] = []

    def interrupted(x: np.ndarray) -> float:
        if len(values) == 17:
            raise KeyboardInterrupt
        values.append(sphere(x))
        return values[-1]

    result = run(interrupted, Walk(3))
    assert (result.status, result.success) == (Code.INTERRUPTED, False)
    assert result.fun == min(values)
    assert result.nfev == 17


def test_ctrl_c_in_a_finite_sum_evaluates_nothing_more() -> None:
    calls = []

    def losses(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return np.full(len(idx), sphere(x))

    result = vb.minimize(vb.FiniteSum(losses, 50), [1.0, 2.0], method="zo-sgd", rng=0)
    assert result.status == Code.INTERRUPTED
    assert len(calls) == 21
    assert np.isfinite(result.fun)


def test_a_crash_of_the_solver_keeps_the_best_point() -> None:
    class Buggy(Walk):
        def tell(self, state: State, answers: Sequence[Answer]) -> State:
            if state.step == 4:
                raise IndexError("off by one")
            return super().tell(state, answers)

    with pytest.warns(RuntimeWarning, match="IndexError: off by one"):
        result = run(method=Buggy())
    assert (result.status, result.nit) == (Code.SOLVER, 4)
    assert result.fun == sphere(result.x)
    assert "in tell" in result.log


def test_a_solver_that_asks_for_nothing_ends() -> None:
    class Silent(Walk):
        def ask(self, state: State) -> tuple[Probe, ...]:
            return ()

    with pytest.warns(RuntimeWarning, match="asks for nothing"):
        result = run(method=Silent())
    assert result.status == Code.SOLVER


def test_callback_by_name_gets_a_result() -> None:
    seen: list[Any] = []
    result = run(callback=lambda intermediate_result: seen.append(intermediate_result), options={"maxiter": 4})
    assert [r.nit for r in seen] == [1, 2, 3, 4]
    assert all(sphere(r.x) == r.fun for r in seen)
    assert seen[-1].fun == result.fun
    assert seen[-1].nfev == result.nfev


def test_callback_by_position_gets_a_copy_of_the_point() -> None:
    seen: list[Any] = []

    def callback(xk: np.ndarray) -> None:
        seen.append(xk.copy())
        xk[:] = 0

    run(callback=callback, options={"maxiter": 4})
    assert len(seen) == 4
    assert all(x.any() for x in seen)


def test_stop_iteration_from_the_callback() -> None:
    def callback(intermediate_result: Any) -> None:
        if intermediate_result.nit == 3:
            raise StopIteration

    result = run(callback=callback)
    assert (result.status, result.success, result.nit) == (99, False, 3)
    assert result.message == "`callback` raised `StopIteration`."


def test_history_has_a_record_per_step_with_exact_counts() -> None:
    result = run(method=Walk(2), options={"maxiter": 6})
    assert [r.nit for r in result.history] == [1, 2, 3, 4, 5, 6]
    assert [r.nfev for r in result.history] == [3, 6, 9, 12, 15, 18]
    best = [r.fun for r in result.history]
    assert best == sorted(best, reverse=True)
    assert result.history[0].value == 25.0


@given(st.integers(1, 500), st.integers(2, 20))
def test_history_is_bounded_and_keeps_first_and_last(count: int, limit: int) -> None:
    history = History(limit=limit)
    for k in range(count):
        history.append(StepRecord(k, 0.0))
    nits = history.column("nit")
    assert len(history) <= limit
    assert (nits[0], nits[-1]) == (0, count - 1)
    assert nits == sorted(set(nits))


def test_constant_objective_says_that_smoothing_is_too_small() -> None:
    assert "smoothing is too small" in run(lambda x: 1.0, vb.zo_sgd(), maxfev=200).message
    assert "smoothing" not in run(method=vb.zo_sgd(), maxfev=200).message


@pytest.mark.parametrize("name", ["maxfev", "maxjev", "max_time", "tol", "max_failures"])
@pytest.mark.parametrize("value", [-1, math.nan, "many", True])
def test_bad_limits_are_named(name: str, value: Any) -> None:
    with pytest.raises(vb.OptionError, match=f"{name} must be a number >= 0 or None"):
        run(**{name: value})


def test_noise_means_the_recommendation_with_its_error() -> None:
    rng = np.random.default_rng(1)
    result = run(lambda x: sphere(x) + rng.normal(), noisy=True, maxfev=400)
    assert result.nfev <= 400
    assert 0.05 < result.fun_std < 0.5
    assert result.best_fun < result.fun
    assert abs(result.fun - sphere(result.x)) < 5 * result.fun_std


class TestFiniteSum:
    @pytest.mark.parametrize("method", ["vamo", "sgd", "adam", "spsa", "residual", "zo-adamm"])
    @pytest.mark.parametrize("limits", [{"maxfev": 1}, {"maxfev": 7}, {"maxfev": 40, "maxjev": 3}, {"maxfev": 31}])
    def test_a_budget_below_32_samples_is_exact(self, method: str, limits: Any) -> None:
        seen = [0, 0]

        def losses(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
            seen[0] += len(idx)
            return (x[0] - idx) ** 2

        def grad(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
            seen[1] += len(idx)
            return 2 * (x - idx.mean())

        problem = vb.FiniteSum(losses, 50, None if method in ("spsa", "zo-adamm") else grad)
        result = vb.minimize(problem, [9.0], method=method, rng=0, **limits)
        assert [result.nfev_samples, result.njev_samples] == seen
        assert seen[0] <= limits["maxfev"]
        assert seen[1] <= limits.get("maxjev", np.inf)

    targets = np.linspace(-1, 3, 40)

    def problem(self, **changes: Any) -> vb.FiniteSum:
        t = self.targets
        parts = {"losses": lambda x, i: (x[0] - t[i]) ** 2, "grad": lambda x, i: np.array([2 * (x[0] - t[i]).mean()])}
        return vb.FiniteSum(n_samples=40, **{**parts, **changes})

    def full(self, x: Any) -> float:
        return float(((x[0] - self.targets) ** 2).mean())

    @given(st.integers(40, 4000))
    def test_samples_are_counted_exactly_and_the_answer_is_exact(self, maxfev: int) -> None:
        count = [0]

        def losses(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
            count[0] += len(idx)
            return (x[0] - self.targets[idx]) ** 2

        result = vb.minimize(self.problem(losses=losses, grad=None), [5.0], method="zo-sgd", rng=0, maxfev=maxfev)
        assert result.nfev_samples == count[0] <= maxfev
        if result.fun_std == 0:
            assert result.fun == pytest.approx(self.full(result.x))

    def test_gradient_budget(self) -> None:
        result = vb.minimize(self.problem(), [5.0], method="sgd", rng=0, maxjev=400)
        assert result.njev_samples <= 400
        assert result.status == Code.MAXJEV
        assert result.fun == pytest.approx(self.full(result.x))

    def test_a_subsample_is_stated_with_its_error(self) -> None:
        result = vb.minimize(
            self.problem(grad=None), [5.0], method="zo-sgd", rng=0, maxfev=200, options={"batch_size": 4}
        )
        assert "of 40 samples" in result.fun_source
        assert result.fun_std > 0

    def test_free_values_count_as_gradients(self) -> None:
        both = lambda x, i: ((x[0] - self.targets[i]) ** 2, np.array([2 * (x[0] - self.targets[i]).mean()]))  # noqa: E731
        problem = self.problem(grad=None, value_and_grad=both, check_grad=False)
        result = vb.minimize(problem, [5.0], method=vb.sgd(0.01), rng=0)
        assert result.nfev_samples == 40  # the answer alone
        assert result.njev_samples > 1000


def test_ledger_costs() -> None:
    info = ProblemInfo(n_samples=10, gradient="full")
    ledger = Ledger(info, maxfev=20, maxjev=7)
    anchor = State(0, "numpy", info, versions={"x": 0}).anchor("x")
    probes = [
        Probe((0, 0, 0, 0), anchor, batch=Batch("epoch", 0, 0, 4), want="values"),  # 3 of 10 samples
        Probe((0, 0, 0, 1), anchor, batch=Batch("iid", 0, 0, 4), want="both"),
        Probe((0, 0, 0, 2), anchor, batch=Batch("range", 2, 5, 3), want="gradient"),
    ]
    assert ledger.afford(probes) is None
    ledger.count(probes[:1])
    ledger.count(probes[1:])
    assert (ledger.nfev, ledger.nfev_samples, ledger.njev, ledger.njev_samples) == (2, 7, 2, 7)
    assert ledger.afford(probes[2:]) == "maxjev"
    assert ledger.afford([Probe((0, 0, 0, 3), anchor)]) is None
    assert ledger.left == 3
    assert ledger.afford(probes[:2]) == "maxfev"


def test_default_limits() -> None:
    assert default_limits(ProblemInfo(), 10**6, Budget()) == (100_000.0, 100_000.0)
    assert default_limits(ProblemInfo(n_samples=7000), 3, Budget()) == (700_000.0, math.inf)
    assert default_limits(ProblemInfo(n_samples=7, gradient="full"), 3, Budget()) == (100_000.0, 10_000.0)
    assert default_limits(ProblemInfo(), 3, Budget(max_time=1)) == (math.inf, math.inf)
    assert default_limits(ProblemInfo(), 3, Budget(maxfev=9, maxiter=1)) == (9.0, math.inf)


def test_plateau_needs_two_flat_windows() -> None:
    falling = Plateau(1e-3, window=10)
    assert not any(falling.add(100.0 / (1 + k)) for k in range(100))
    flat = Plateau(1e-3, window=10)
    assert next(k for k in range(40) if flat.add(1.0)) == 29


class TestMethods:
    def test_unknown_method(self) -> None:
        with pytest.raises(ValueError, match=r"Unknown solver zo_sdg; did you mean 'zo-sgd'\?"):
            run(method="zo_sdg")

    def test_names_ignore_case_and_dashes(self) -> None:
        assert run(method="ZO_SGD", maxfev=50).nfev == run(method="zo-sgd", maxfev=50).nfev

    def test_a_mistyped_option_is_named(self) -> None:
        with pytest.raises(vb.OptionError, match=r"no option 'smothing'; did you mean 'smoothing'\?"):
            run(method="zo-sgd", options={"smothing": 1})

    def test_options_do_not_go_to_a_configured_solver(self) -> None:
        with pytest.raises(vb.OptionError, match="belong into the configured solver"):
            run(method=vb.zo_sgd(), options={"n_directions": 1})

    def test_what_is_no_method(self) -> None:
        with pytest.raises(vb.OptionError, match="method must be a name or a solver"):
            run(method=3)


class TestScipyMethods:
    def test_counts_and_best_point(self) -> None:
        calls = []
        result = run(lambda x: calls.append(1) or sphere(x), "Nelder-Mead", maxfev=30)
        assert len(calls) == result.nfev == 30
        assert result.status == Code.MAXFEV
        assert result.fun == sphere(result.x)

    def test_finite_sum_is_used_in_full(self) -> None:
        problem = vb.FiniteSum(lambda x, i: (x[0] - i) ** 2.0, 5, lambda x, i: np.array([2 * (x[0] - i).mean()]))
        result = vb.minimize(problem, [9.0], method="L-BFGS-B")
        assert result.x[0] == pytest.approx(2.0)
        assert result.fun == pytest.approx(2.0)
