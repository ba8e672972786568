"""Automatic step sizes: the scale found at x0, noise, smoothing, and steps judged by what they did."""

from __future__ import annotations

import numpy as np
import pytest
from loops import evaluate

from vamo_bbo import minimize, solvers
from vamo_bbo.core.calibration import FIRST_STEP, SIGNAL, judge
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, ProblemInfo

D = 10
CURVATURE = np.logspace(0, 1, D)


def quadratic(x):
    return float(0.5 * CURVATURE @ (x - 1.0) ** 2)


def noisy(sigma, seed=1):
    rng = np.random.default_rng(seed)
    return lambda x: quadratic(x) + sigma * rng.normal()


def start(solver, x0=None, info=None):
    return solver.init(np.zeros(D) if x0 is None else x0, seed=4, backend="numpy", info=info or ProblemInfo())


def advance(solver, state, f, steps):
    while state.step < steps:
        state = solver.tell(state, [evaluate(state, p, f, None, None) for p in solver.ask(state)])
    return state


METHODS = {
    "zo-sgd": solvers.zo_sgd(),
    "zo-sgd-1": solvers.zo_sgd(n_directions=1),
    "spsa": solvers.spsa(),
    "zo-adamm": solvers.zo_adamm(),
    "zo-sign-sgd": solvers.zo_sign_sgd(),
}


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", ["zo-sgd", "zo-sgd-1", "spsa"])
def test_first_step_has_the_stated_size_whatever_the_scale_of_f(name, factor):
    """Without noise the iterates do not change when f is multiplied by a constant (up to rounding)."""
    first = advance(METHODS[name], start(METHODS[name]), quadratic, 1).arrays["x"]
    scaled = advance(METHODS[name], start(METHODS[name]), lambda x: factor * quadratic(x), 1).arrays["x"]
    np.testing.assert_allclose(scaled, first, rtol=1e-6)
    rms = np.sqrt(np.mean(first**2))
    if name == "zo-sgd":
        assert rms == pytest.approx(FIRST_STEP, rel=1e-9)
    assert FIRST_STEP / 5 < rms < 5 * FIRST_STEP


@pytest.mark.parametrize("name", METHODS)
def test_a_deterministic_start_costs_three_values(name):
    state = start(METHODS[name])
    assert [p.direction for p in METHODS[name].ask(state)] == [None] * 3
    state = METHODS[name].tell(state, [evaluate(state, p, quadratic, None, None) for p in METHODS[name].ask(state)])
    assert state.scalars["noise_variance"] == 0.0
    assert "smoothing" not in state.scalars


@pytest.mark.parametrize("sigma", [1e-3, 1e-1, 1.0])
def test_noise_is_noticed_and_the_smoothing_stands_out_of_it(sigma):
    solver = solvers.spsa()
    state = advance(solver, start(solver), noisy(sigma), 1)
    noise = np.sqrt(state.scalars["noise_variance"])
    assert sigma / 4 < noise < 3 * sigma
    slope = np.sqrt(np.mean(CURVATURE**2 * 1.0) * D)  # rms of <g, u> at x0
    ideal = SIGNAL * np.sqrt(2.0) * noise / slope
    assert np.clip(ideal, 1e-4, 0.3) / 4 <= state.scalars["smoothing"] <= 4 * np.clip(ideal, 1e-4, 0.3)


def test_a_given_smoothing_is_kept():
    solver = solvers.spsa(smoothing=0.02, smoothing_decay=0.0)
    state = advance(solver, start(solver), noisy(0.1), 1)
    assert {abs(p.h) for p in solver.ask(state)} == {0.02}


@pytest.mark.parametrize("name", ["zo-sgd", "spsa", "zo-adamm"])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_steps_grow_to_the_scale_of_the_problem(name, shift):
    """From far away too: the start is 1 or 31 first-step lengths times a hundred from the optimum."""
    solver = METHODS[name]
    state = advance(solver, start(solver, np.full(D, -shift)), quadratic, 250)
    assert quadratic(solver.recommend(state)) < 0.05 * quadratic(np.full(D, -shift))


def test_a_step_that_did_harm_is_taken_back_and_halved():
    solver = solvers.zo_sgd()
    state = advance(solver, start(solver), quadratic, 3)
    good, growth = state.arrays["last_good"].copy(), state.scalars["growth"]
    worse = [Answer(p.id, 1e3) for p in solver.ask(state)]
    state = solver.tell(state, worse)
    np.testing.assert_array_equal(state.arrays["x"], good)
    assert (state.step, state.attempt, state.scalars["growth"]) == (3, 1, growth / 2)
    state = solver.tell(state, [Answer(p.id, 900.0 + k) for k, p in enumerate(solver.ask(state))])
    assert state.step == 4  # the last good point is measured anew, whatever its value


def test_random_failures_do_not_stop_a_run():
    """One failure in ten evaluations halves single steps; it does not wear the step size down."""
    ends = []
    for seed in range(5):
        rng = np.random.default_rng(seed)

        def fragile(x, rng=rng):
            if rng.random() < 0.1:
                raise ArithmeticError("no convergence")
            return quadratic(x)

        ends.append(minimize(fragile, np.zeros(D), method="zo-sgd", rng=seed, maxfev=2000).fun)
    assert np.median(ends) < 1e-3 * quadratic(np.zeros(D))


def test_a_given_learning_rate_is_left_alone():
    solver = solvers.zo_sgd(0.5)
    state = advance(solver, start(solver), quadratic, 3)
    state = solver.tell(state, [Answer(p.id, 1e9 + k) for k, p in enumerate(solver.ask(state))])
    assert (state.step, state.scalars["growth"]) == (4, 1.0)


def test_judging_ignores_changes_within_the_noise():
    state = State(0, "numpy", ProblemInfo())
    state.scalars.update(growth=1.0, noise_variance=1.0, noise_weight=30.0)
    assert judge(state, 10.0)
    assert all(judge(state, value) for value in (12.0, 9.0, 13.0, 7.0))
    assert state.scalars["growth"] == 1.0
    assert judge(state, 5.0)  # fallen by more than 3 sqrt(2) noise since the reference
    assert state.scalars["growth"] > 1.0
    assert not judge(state, 9.5)


def test_a_second_value_of_the_last_good_point_corrects_the_noise():
    """Underestimated noise takes good steps back; each time the repeated value raises the estimate."""
    state = State(0, "numpy", ProblemInfo())
    state.scalars.update(growth=1.0, noise_variance=0.01, noise_weight=2.0)
    assert judge(state, 10.0)
    assert not judge(state, 13.0)
    assert judge(state, 8.0)
    assert state.scalars["noise_variance"] == pytest.approx((2 * 0.01 + 0.5 * 2.0**2) / 3)


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_spsa_makes_progress_under_noise_it_was_not_told_of(sigma):
    """400 values from (0, 0, 0, 0) to (1, 1, 1, 1), f(x0) = 4: the median of 9 seeds ends within 0.2."""
    ends = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        result = minimize(
            lambda x, g=rng: float(np.sum((x - 1) ** 2) + sigma * g.normal()),
            np.zeros(4),
            method="spsa",
            rng=seed,
            maxfev=400,
        )
        ends.append(np.sum((result.x - 1.0) ** 2))
    assert np.median(ends) < 0.2


def test_mini_batches_are_not_judged():
    """Values of different mini-batches do not compare: a finite sum keeps its calibrated step."""
    data = np.linspace(-3.0, 3.0, 12)

    def losses(x, i):
        return (x[0] - data[i]) ** 2 + x[1:] @ x[1:]

    solver = solvers.zo_sgd(batch_size=2)
    state = solver.init(np.ones(D), seed=1, backend="numpy", info=ProblemInfo(n_samples=12))
    while state.step < 30:
        state = solver.tell(state, [evaluate(state, p, losses, None, 12) for p in solver.ask(state)])
    assert state.scalars["growth"] == 1.0


@pytest.mark.parametrize(("second", "growth"), [(1.06, 1.0), (1.0, 0.5)])
def test_noise_that_shows_later_revises_a_verdict(second, growth):
    state = start(solvers.spsa())
    state.scalars["growth"] = 1.0
    assert judge(state, 1.0)
    assert not judge(state, 1.05)  # no noise is known: the step did harm
    assert state.scalars["growth"] == 0.5
    assert judge(state, second)  # the point before that step, once more
    assert state.scalars["growth"] == growth
