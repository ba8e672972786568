"""Acceleration along random directions, and perturbations that follow the steps."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.core.solver import directions_of
from vamo_bbo.core.types import Answer, ProblemInfo

D = 300
STIFF = np.geomspace(1.0, 1000.0, D)


def stiff(x):
    return float(STIFF @ (x * x))


@pytest.mark.parametrize("seed", range(3))
def test_the_momentum_pays_on_an_ill_conditioned_function(seed):
    found = {
        name: vb.minimize(stiff, np.ones(D), method=name, rng=seed, maxfev=50 * D).fun
        for name in ("zo-nesterov", "zo-sgd")
    }
    assert found["zo-nesterov"] < 0.6 * found["zo-sgd"]


def steps(fun, x0, count, **options):
    """Yield where every round was measured, and the solver's state after it."""
    solver = vb.zo_nesterov(**options)
    state = solver.init(np.array(x0, dtype=float), seed=0, backend="numpy", info=ProblemInfo())
    for _ in range(count):
        at, answers = state.arrays["x"].copy(), []
        for probe in solver.ask(state):
            x = at.copy()
            if probe.direction is not None:
                directions_of(state).perturb(x, probe.direction, probe.h, 0, x.size, x)
            answers.append(Answer(probe.id, fun(x)))
        state = solver.tell(state, answers)
        yield at, state


def test_a_step_after_which_f_has_risen_is_taken_back_and_the_momentum_starts_anew():
    good, restarts = None, 0
    for at, state in steps(stiff, np.ones(D), 400):
        if state.attempt:
            restarts += 1
            assert stiff(at) > stiff(good)
            assert np.array_equal(state.arrays["x"], good)
            continue
        if good is not None and np.array_equal(at, good):  # measured anew: the first step of a momentum is a plain one
            assert np.allclose(state.arrays["far"], state.arrays["x"], rtol=0, atol=1e-14)
            assert state.scalars["theta"] == pytest.approx(next_theta(8 / D))
        good = at
    assert restarts > 3


def next_theta(theta):
    return (np.sqrt(theta**4 + 4 * theta**2) - theta**2) / 2


def test_a_rise_cuts_the_step_size_more_the_first_time_and_a_crash_damps_it_instead():
    paces, calls = [], 0
    for _, state in steps(stiff, np.ones(D), 300):
        paces.append(state.scalars.get("pace", 1.0))
    ratios = np.array(paces[1:]) / np.array(paces[:-1])
    cuts = ratios[ratios < 1]
    assert cuts[0] == pytest.approx(0.25)
    assert cuts[1:] == pytest.approx(0.7)

    def crashes(x):
        nonlocal calls
        calls += 1
        return np.nan if 100 < calls < 110 else float(x @ x)

    found = [(s.scalars["damping"], s.scalars.get("pace", 1.0)) for _, s in steps(crashes, np.arange(1.0, 31.0), 14)]
    damped = next(k for k, (damping, _) in enumerate(found) if damping < 1)
    assert found[damped + 1][1] == found[damped][1]


@pytest.mark.parametrize("method", [vb.zo_sgd, vb.zo_nesterov])
def test_perturbations_follow_the_steps_so_that_no_floor_is_left(method):
    found = [
        vb.minimize(lambda x: float(x @ x), np.ones(20), method=method(smoothing=s), rng=0, maxfev=6000).fun
        for s in (None, 1e-4)
    ]
    assert found[0] < 1e-14
    assert found[1] > 1e-10


@pytest.mark.parametrize("method", [vb.zo_sgd, vb.zo_nesterov])
def test_values_of_few_digits_keep_perturbations_that_they_show(method):
    """An offset of 1e4 in single precision: a unit of the last digit is 1e-3."""
    base = np.random.default_rng(0).normal(size=20)

    def single(x):
        return float(np.float32(np.float32(1e4) + np.float32(100 * np.sum((x - base) ** 2))))

    result = vb.minimize(single, np.zeros(20), method=method(), rng=0, maxfev=6000)
    assert result.fun - 1e4 < 0.1  # it starts at 2000 above


def test_values_of_three_digits_lengthen_the_perturbations():
    def rounded(x):
        return float(f"{1.0 + x @ x:.3g}")

    start = np.random.default_rng(1).normal(size=30)
    short, adapted = (
        vb.minimize(rounded, start, method=vb.zo_nesterov(smoothing=s), rng=0, maxfev=6000).fun for s in (1e-4, None)
    )
    assert adapted < 0.1 * short
