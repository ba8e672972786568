"""Iterate averaging, an option of every solver with iterates, and how a noisy run settles on its answer."""

import inspect

import numpy as np
import pytest

import vamo_bbo as vb
from tests.methods import NEED_GRADIENT, PLAIN
from vamo_bbo._errors import OptionError
from vamo_bbo.core.types import Answer, ProblemInfo
from vamo_bbo.solvers import METHODS

D = 4
AVERAGING = [name for name, factory in METHODS.items() if "averaging" in inspect.signature(factory).parameters]


def bowl(x):
    return float(((x - 1.0) ** 2).sum())


def test_every_solver_with_iterates_has_it():
    without = {"bayes", "cma", "fd-bfgs", "interpolation", "quadratic", "vamo-paper", "zo-nesterov"}
    assert set(METHODS) - set(AVERAGING) == without


@pytest.mark.parametrize("power", [0.0, 3.0])
@pytest.mark.parametrize("name", [n for n in [*PLAIN, *NEED_GRADIENT] if n in AVERAGING])
def test_the_average_is_the_polynomial_average_of_the_iterates(name, power):
    solver = METHODS[name](0.05, averaging=power)
    plain = METHODS[name](0.05)
    info = ProblemInfo(gradient="full" if name in NEED_GRADIENT else "none")
    states = [s.init(np.zeros(D), seed=3, backend="numpy", info=info) for s in (solver, plain)]
    iterates = []
    for _ in range(60):
        states = [step(s, state) for s, state in zip((solver, plain), states, strict=True)]
        if states[1].step > len(iterates):
            iterates.append(states[1].arrays["x"].copy())
    assert len(iterates) > 10
    weights = np.ones(1)
    for t in range(2, len(iterates) + 1):
        share = (power + 1) / (t + power)
        weights = np.append(weights * (1 - share), share)
    expected = weights @ np.array(iterates)
    np.testing.assert_array_equal(states[0].arrays["x"], states[1].arrays["x"])
    np.testing.assert_allclose(solver.recommend(states[0]), expected, rtol=1e-12, atol=1e-14)


def step(solver, state):
    from vamo_bbo.core.points import materialize

    answers = []
    for probe in solver.ask(state):
        x = materialize(state, probe, np.empty(D))
        gradient = 2 * (x - 1) if probe.want in ("gradient", "both") else None
        answers.append(Answer(probe.id, bowl(x), grad=gradient))
    return solver.tell(state, answers)


@pytest.mark.parametrize(
    ("name", "rate", "maxfev"),
    [("zo-sgd", 0.03, 800), ("spsa", 0.1, 800), ("zo-adamm", 0.2, 1200), ("zo-sign-sgd", 0.1, 800)],
)
def test_on_noise_the_average_is_better_than_the_last_iterate(name, rate, maxfev):
    def end(averaging, seed):
        noise = np.random.default_rng(seed)
        options = {"learning_rate": rate, "smoothing": 0.1, "averaging": averaging}
        if name == "spsa":
            options["step_decay"] = 0.0
        if name == "zo-sign-sgd":
            options["schedule"] = vb.schedules.Constant()
        result = vb.minimize(
            lambda x: bowl(x) + 0.3 * noise.standard_normal(),
            np.full(D, 1.5),
            method=name,
            options=options,
            noisy=True,
            rng=seed,
            maxfev=maxfev,
        )
        return bowl(result.x)

    last, average = (np.median([end(power, seed) for seed in range(5)]) for power in (None, 3.0))
    assert average < 0.6 * last


@pytest.mark.parametrize("averaging", [None, 0.0])
def test_a_deterministic_run_returns_the_average_only_where_it_is_best(averaging):
    seen = []

    def fun(x):
        seen.append(bowl(x))
        return seen[-1]

    options = {"learning_rate": 0.9, "averaging": averaging}
    result = vb.minimize(fun, np.zeros(D), method="zo-sgd", options=options, rng=1, maxfev=101)
    assert result.nfev == len(seen) <= 101
    assert result.fun == min(seen)
    assert result.fun == bowl(result.x)


def test_a_finite_sum_may_average():
    rng = np.random.default_rng(0)
    a, x = rng.normal(size=(64, D)), np.arange(D) / D
    b = a @ x + 0.5 * rng.normal(size=64)
    problem = vb.FiniteSum(
        lambda x, i: (a[i] @ x - b[i]) ** 2, 64, lambda x, i: 2 * a[i].T @ (a[i] @ x - b[i]) / len(i)
    )

    def end(averaging):
        options = {"learning_rate": 0.05, "averaging": averaging, "batch_size": 4}
        return np.median(
            [vb.minimize(problem, np.zeros(D), method="sgd", options=options, rng=s, maxjev=3000).fun for s in range(5)]
        )

    assert end(8.0) < end(None)


def test_a_noisy_run_takes_the_best_point_where_the_iterate_is_clearly_worse():
    """A step that is far too long: the last iterate is far away, the start is not."""
    noise = np.random.default_rng(0)
    result = vb.minimize(
        lambda x: bowl(x) + 0.01 * noise.standard_normal(),
        np.full(D, 1.2),
        method="zo-sgd",
        options={"learning_rate": 1.5, "smoothing": 0.1},
        noisy=True,
        rng=1,
        maxfev=300,
    )
    assert bowl(result.x) < 1.0
    assert abs(result.fun - bowl(result.x)) < 5 * result.fun_std + 1e-12


@pytest.mark.parametrize("wrong", [-1, -0.5, float("nan")])
def test_errors(wrong):
    with pytest.raises(OptionError, match="averaging"):
        vb.spsa(averaging=wrong)
