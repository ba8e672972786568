"""Answers that come after their round was closed: nothing that was paid for is lost, and a resume repeats it all."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from benchmarks.asynchronous import Virtual, random_time
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.late import LATE, STALEST
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe, ProblemInfo
from vamo_bbo.estimators import CentralDifference, ForwardDifference
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent
from vamo_bbo.run import session, snapshot
from vamo_bbo.run.load import load
from vamo_bbo.run.stop import Code
from vamo_bbo.solvers import noise_handling

D = 6
SLOPE = np.arange(1.0, D + 1)


def line(x: np.ndarray) -> float:
    return float(SLOPE @ x)


def bowl(x: np.ndarray) -> float:
    return float(SLOPE @ (x - 1) ** 2)


def answered(state: State, probe: Probe, fun: Any = line) -> Answer:
    return Answer(probe.id, fun(materialize(state, probe, np.empty(D))))


def late(probe: Probe) -> Answer:
    return Answer(probe.id, error=LATE)


def began(solver: Any, seed: int = 0) -> State:
    state: State = solver.init(np.zeros(D), seed=seed, backend="numpy", info=ProblemInfo())
    return state


@pytest.mark.parametrize("law", ["rademacher", "sphere", "normal", "coordinate", "block"])
@pytest.mark.parametrize("central", [False, True])
def test_a_late_direction_joins_the_average_of_a_later_round(law: str, central: bool) -> None:
    rate, q = 0.1, 3
    estimator = (CentralDifference if central else ForwardDifference)(q, law=law)
    solver = Composite(Plain(estimator), Descent(rate))
    state = began(solver)
    probes = solver.ask(state)
    tail = 2 if central else 1
    values = {p.id: answered(state, p) for p in probes}
    state = solver.tell(state, [values[p.id] for p in probes[:-tail]] + [late(p) for p in probes[-tail:]])
    assert state.step == 1
    assert set(state.late) == {p.id for p in probes[-tail:]}
    again = pickle.loads(pickle.dumps(state))
    assert repr(again.late) == repr(state.late)

    before = state.arrays["x"].copy()
    fresh = solver.ask(state)
    answers = [answered(state, p) for p in fresh]
    other = solver.tell(again, answers)  # the same round without the late direction
    without = other.arrays["x"] - before
    state = solver.tell(state, [values[p.id] for p in probes[-tail:]])
    assert solver.ask(state) == fresh
    state = solver.tell(state, answers)
    assert not state.late
    moved = state.arrays["x"] - before
    # Of a linear function the difference quotient is exact wherever it is measured, so that q + 1 directions of equal
    # weight are averaged: the step of the late direction alone is what closes the gap.
    alone = (q + 1) * moved - q * without
    u = _drawn(solver, probes[-1])
    np.testing.assert_allclose(alone, (alone @ u) / (u @ u) * u, atol=1e-9)
    factor = {"coordinate": D, "block": q}.get(law, 1)
    length = np.sqrt(D) / np.linalg.norm(u) if law == "sphere" else 1.0
    step = state.scalars["step_size"]
    np.testing.assert_allclose(alone, -step * factor * length**2 * (SLOPE @ u) * u, rtol=1e-5, atol=1e-9)


def _drawn(solver: Any, probe: Probe) -> Any:
    """Return the raw direction of ``probe``."""
    state = began(solver)
    return (materialize(state, probe._replace(anchor=state.anchor("x")), np.empty(D)) - state.arrays["x"]) / probe.h


def test_a_leg_of_a_difference_can_be_late_alone() -> None:
    solver = vb.spsa(0.1, n_directions=2)
    state = began(solver)
    probes = solver.ask(state)
    state = solver.tell(state, [answered(state, p) for p in probes[:3]] + [late(probes[3])])
    assert math.isfinite(state.late[probes[3].id].reference)
    state = solver.tell(state, [Answer(probes[3].id, 0.0)])
    assert state.late[probes[3].id].value == 0.0
    state = solver.tell(state, [answered(state, p) for p in solver.ask(state)])
    assert not state.late


def test_late_answers_in_any_order_lead_to_the_same_state() -> None:
    solver = vb.zo_sgd(0.1, n_directions=8)
    ends = []
    for order in ([5, 6, 7, 8], [8, 6, 5, 7]):
        state = began(solver)
        probes = solver.ask(state)
        values = [answered(state, p) for p in probes]
        state = solver.tell(state, values[:5] + [late(p) for p in probes[5:]])
        fresh = [answered(state, p) for p in solver.ask(state)]
        state = solver.tell(state, fresh[:3])
        for k in order:
            state = solver.tell(state, [values[k]])
        state = solver.tell(state, fresh[3:])
        ends.append(state.arrays["x"].tobytes())
    assert ends[0] == ends[1]


def test_what_never_comes_or_fails_is_forgotten() -> None:
    solver = vb.zo_sgd(0.01, n_directions=4)
    state = began(solver)
    probes = solver.ask(state)
    values = [answered(state, p) for p in probes]
    state = solver.tell(state, values[:3] + [late(p) for p in probes[3:]])
    state = solver.tell(state, [Answer(probes[3].id, error="crashed")])
    assert set(state.late) == {probes[4].id}
    for _ in range(STALEST + 2):
        state = solver.tell(state, [answered(state, p) for p in solver.ask(state)])
    assert not state.late
    before = state.arrays["x"].copy()
    state = solver.tell(state, [values[4]])
    assert state.scalars["ignored"] == 1
    np.testing.assert_array_equal(state.arrays["x"], before)


def test_a_step_taken_back_forgets_what_is_late() -> None:
    solver = vb.zo_sgd(0.1, n_directions=4)
    state = began(solver)
    probes = solver.ask(state)
    state = solver.tell(state, [answered(state, p) for p in probes[:3]] + [late(p) for p in probes[3:]])
    state = solver.tell(state, [Answer(p.id, error="crashed") for p in solver.ask(state)])
    assert state.attempt == 1
    assert not state.late


class TestCma:
    def test_late_points_join_a_later_generation(self) -> None:
        solver = vb.cma(population_size=8)
        state = began(solver)
        probes = solver.ask(state)
        values = [answered(state, p, bowl) for p in probes]
        state = solver.tell(state, values[:5] + [late(p) for p in probes[5:]])
        assert state.step == 1
        assert len(state.late) == 3
        low = Answer(probes[6].id, -1.0)
        state = solver.tell(state, [low])
        state = solver.tell(state, [answered(state, p, bowl) for p in solver.ask(state)])
        assert set(state.late) == {probes[5].id, probes[7].id}
        assert state.scalars["best_value"] == -1.0
        np.testing.assert_array_equal(state.arrays["best"], probes[6].point)
        assert len(solver.ask(state)) == 8

    def test_a_point_far_out_is_moved_towards_the_mean(self) -> None:
        solver = vb.cma(0.1, population_size=8)
        state = began(solver)
        probes = solver.ask(state)
        state = solver.tell(state, [answered(state, p, bowl) for p in probes[:7]] + [late(probes[7])])
        state.late[probes[7].id] = state.late[probes[7].id]._replace(point=np.full(D, 1e6), value=-1e9)
        state = solver.tell(state, [answered(state, p, bowl) for p in solver.ask(state)])
        assert abs(state.arrays["x"]).max() < 1.0

    @pytest.mark.parametrize("separable", [False, True])
    def test_generations_of_any_size_converge(self, separable: bool) -> None:
        solver = vb.cma(population_size=9, separable=separable)
        state = began(solver)
        waiting: list[Answer] = []
        rng = np.random.default_rng(0)
        for _ in range(300):
            probes = solver.ask(state)
            answers = [answered(state, p, bowl) for p in probes]
            state = solver.tell(state, waiting)
            kept = int(rng.integers(5, 10))
            waiting = answers[kept:]
            state = solver.tell(state, answers[:kept] + [late(p) for p in probes[kept:]])
        assert state.scalars["best_value"] < 1e-8

    def test_repeated_values_are_those_of_the_points_they_are_taken_for(self) -> None:
        solver = vb.cma(population_size=8, noise_handling=True)
        state = began(solver)
        state.scalars.update(replicates=3.0, stuck=1.0)
        points = [p.point for p in solver.ask(state)]
        order = noise_handling.points_of(8, state.scalars)
        assert len(points) == len(order) == 3 * (8 + 2)
        for point, k in zip(points, order, strict=True):
            np.testing.assert_array_equal(point, points[k])


class Counting:
    """Fails in the calls that are named."""

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.calls, self.fails = 0, fails

    def __call__(self, x: np.ndarray) -> float:
        self.calls += 1
        if self.calls in self.fails:
            raise RuntimeError("diverged")
        return bowl(x)


class Pools:
    """Four workers in simulated time instead of processes; Ctrl-C after ``limit`` answers."""

    def __init__(self) -> None:
        self.made: list[Virtual] = []
        self.limit = math.inf

    def resolve(self, workers: Any, objective: Any, **settings: Any) -> Virtual:
        left = [self.limit]

        class Limited(Virtual):
            collected = 0
            timeouts: tuple[float | None, ...] = ()

            def collect(self, timeout: float | None = None) -> list[Answer]:
                self.collected += 1
                self.timeouts = (*self.timeouts, timeout)
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return super().collect(timeout)

        self.made.append(Limited(objective, 4, random_time))
        return self.made[-1]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Pools:
    made = Pools()
    monkeypatch.setattr(session, "resolve", made.resolve)
    return made


METHODS = [vb.zo_sgd(0.02, n_directions=9), vb.zo_sgd(), vb.spsa(n_directions=6), vb.zo_adamm(), vb.cma()]


def run(fun: Any, path: Path | None = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {"method": METHODS[0], "rng": 3, "maxfev": 250, "workers": 4, "asynchronous": True}
    return vb.minimize(fun, np.zeros(D), journal=path, **{**defaults, **options})


def steps(result: Any) -> list[Any]:
    return [(r.nit, r.fun, r.nfev, r.n_failed, r.step_size) for r in result.history]


@pytest.mark.parametrize("way", ["answers", "snapshots"])
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_repeats_the_order_of_arrivals(
    tmp_path: Path, pools: Pools, monkeypatch: pytest.MonkeyPatch, method: Any, way: str
) -> None:
    if way == "snapshots":
        monkeypatch.setattr(snapshot, "WORTH", 0.0)
        monkeypatch.setattr(snapshot, "SHARE", 0.0)
    open_late, real = [0], snapshot.restore
    monkeypatch.setattr(
        snapshot, "restore", lambda run, shot, h: (open_late.append(len(shot.data["late"])), real(run, shot, h))
    )
    for stop_at in (40, 131):
        path = tmp_path / f"{stop_at}.db"
        pools.limit = stop_at
        first = run(Counting((20, 33)), path, method=method)
        assert first.status == Code.INTERRUPTED
        pools.limit = 0
        again = run(bowl, path, method=method)  # takes what is journaled, and no new evaluation
        assert again.status == Code.INTERRUPTED
        assert steps(again)[-1] == steps(first)[-1]
        assert again.x.tobytes() == first.x.tobytes()
        pools.limit = math.inf
        whole = run(bowl, path, method=method)
        assert whole.nfev <= 250
        pools.limit = 0
        repeated = run(bowl, path, method=method)
        assert steps(repeated)[-1] == steps(whole)[-1]
        assert repeated.x.tobytes() == whole.x.tobytes()
    assert max(open_late) > 0 or way == "answers"  # snapshots hold what was late then


@pytest.mark.parametrize("method", [vb.zo_sgd(1e-9, n_directions=9, smoothing=0.02), vb.cma()])
def test_a_late_value_can_be_the_best(tmp_path: Path, pools: Pools, method: Any) -> None:
    lowest: dict[float, np.ndarray] = {}

    class Noted(Counting):
        def __call__(self, x: np.ndarray) -> float:
            value = super().__call__(x)
            lowest[value] = x.copy()
            return value

    result = run(Noted(), tmp_path / "run.db", method=method)
    assert result.fun == min(lowest)
    np.testing.assert_array_equal(result.x, lowest[result.fun])


@pytest.mark.parametrize("limit", [{}, {"options": {"maxiter": 20}}])
def test_the_end_of_a_budget_waits_for_what_is_paid_for(tmp_path: Path, pools: Pools, limit: dict[str, Any]) -> None:
    fun = Counting()
    result = run(fun, tmp_path / "run.db", **limit)
    assert not pools.made[0].working
    assert fun.calls == result.nfev
    assert sum(math.isfinite(value) for value in load(tmp_path / "run.db").evaluations["value"]) == result.nfev
    pools.limit = 0
    again = run(bowl, tmp_path / "run.db", **limit)  # also what came last is in the journal
    assert again.status == result.status != Code.INTERRUPTED
    assert again.x.tobytes() == result.x.tobytes()


def test_waiting_at_the_end_can_be_interrupted_and_keeps_to_max_time(pools: Pools) -> None:
    whole = run(bowl)
    collected = pools.made[0].collected
    pools.limit = collected - 1
    assert run(bowl).status == Code.INTERRUPTED
    pools.limit = math.inf
    ends = []
    for limit in (None, 1e4):
        assert run(bowl, max_time=limit).nfev == whole.nfev
        ends.append(pools.made[-1].timeouts[-1])
    assert ends[0] is None
    assert 0.0 < ends[1] < 1e4


def test_late_failures_are_recorded_once(tmp_path: Path, pools: Pools) -> None:
    path = tmp_path / "run.db"
    fails = tuple(range(10, 200, 3))
    result = run(Counting(fails), path)
    data = load(path)
    assert len(data.failures) == result.n_failed
    assert result.n_failed <= len(fails)
    assert len({f.id for f in data.failures}) == len(data.failures)
    came = sum(error is None or not error.startswith("late") for error in data.evaluations["error"].tolist())
    assert came == result.nfev


def test_every_evaluation_counts_once_and_no_worker_idles(pools: Pools) -> None:
    result = run(bowl)
    pool = pools.made[0]
    assert result.nfev <= 250
    assert pool.begun >= result.nfev - 1
    waits = run(bowl, asynchronous=False)
    assert pool.now < 0.8 * pools.made[1].now
    assert abs(waits.nfev - result.nfev) < 10
