"""``method="auto"`` under noise: it goes on where it has settled, spends a stated budget, and tells the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, NonlinearConstraint

import vamo_bbo as vb
from vamo_bbo.auto import noisy
from vamo_bbo.solvers.cma import EvolutionStrategy

D = 4
START = np.full(D, 3.3) + 0.01 * np.arange(D)
BOX = [(-10.0, 10.0)] * D


def ackley(x):
    """Return Ackley's function: 0 at 0, and about 9 at the local minimum next to ``START``."""
    return float(-20 * np.exp(-0.2 * np.sqrt(np.mean(x * x))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e)


def bowl(x):
    return float(((x - 1.0) ** 2).sum())


class Noisy:
    """A function with additive noise that keeps what it was asked."""

    def __init__(self, fun, sigma=0.01, seed=0, raises_at=None, exception=None, fails=lambda x: False):
        self.fun, self.sigma, self.rng = fun, sigma, np.random.default_rng(seed)
        self.raises_at, self.exception, self.fails = raises_at, exception, fails
        self.points = []

    def __call__(self, x):
        self.points.append(np.array(x))
        if len(self.points) == self.raises_at:
            raise self.exception
        return float("nan") if self.fails(x) else self.fun(x) + self.sigma * self.rng.standard_normal()


@pytest.mark.parametrize("bounds", [None, BOX])
@pytest.mark.parametrize("rng", [0, 1])
def test_the_rest_of_a_budget_finds_a_better_basin(bounds, rng):
    fun = Noisy(ackley, seed=rng)
    result = vb.minimize(fun, START, bounds=bounds, rng=rng, maxfev=1500)
    assert "then cma and quadratic" in result.message
    assert ackley(result.x) < 0.2
    assert abs(result.fun - ackley(result.x)) < 5 * result.fun_std < 0.05
    assert result.nfev == result.nfev_samples == len(fun.points) <= 1500
    counts = [record.nfev for record in result.history]
    assert counts == sorted(counts)


def test_a_bowl_is_averaged_further_where_the_search_finds_nothing():
    ends = [vb.minimize(Noisy(bowl, 0.1, s), np.zeros(D), rng=s, maxfev=1200) for s in range(3)]
    assert all("then cma and quadratic" in end.message for end in ends)
    assert np.median([bowl(end.x) for end in ends]) < 0.01  # the noise of one value is ten times that


def test_the_region_stays_wide_enough_to_see_the_flat_axes_of_an_ellipsoid():
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(15, 15)))[0]

    def ellipsoid(x):
        return float(np.logspace(0, 3, 15) @ (turned @ x) ** 2)

    start, bounds = np.full(15, 3.0), [(-5.0, 5.0)] * 15
    ends = [vb.minimize(Noisy(ellipsoid, 0.5, s), start, bounds=bounds, rng=s, maxfev=1600) for s in range(3)]
    assert np.median([ellipsoid(end.x) for end in ends]) < 2.0  # four standard deviations of a value


def searched(monkeypatch, fun, **kwargs):
    """Return how many values the population was told."""
    told, tell = [], EvolutionStrategy.tell

    def counting(self, state, answers):
        told.extend(answers)
        return tell(self, state, answers)

    monkeypatch.setattr(EvolutionStrategy, "tell", counting)
    vb.minimize(fun, START, rng=0, maxfev=1200, **kwargs)
    return len(told)


def test_a_search_that_comes_back_to_the_known_valley_is_ended(monkeypatch):
    assert 50 < searched(monkeypatch, Noisy(bowl, 0.1)) < 450  # without an end it takes 60 % of what is left, 600


@pytest.mark.parametrize("kwargs", [{"options": {"maxiter": 10**6}}, {"tol": 1e-8}])
def test_with_a_wish_of_when_to_stop_it_does_not_search(kwargs):
    result = vb.minimize(Noisy(ackley), START, bounds=BOX, rng=0, maxfev=600, **kwargs)
    assert "cma" not in result.message


def test_an_interpolating_model_comes_first_and_ends_where_noise_decides():
    fun = Noisy(bowl)
    result = vb.minimize(fun, np.zeros(D), rng=0, maxfev=300)
    assert "auto chose quadratic (no gradient, 4 variables, noisy): interpolation until" in result.message
    first = int(result.message.partition("interpolation until ")[2].split()[0])
    assert 2 * D + 1 < first < 60
    assert bowl(fun.points[first - 1]) < 0.1  # where the regression begins
    assert bowl(result.x) < 1e-3


def test_no_iterations_are_none():
    result = vb.minimize(Noisy(bowl), np.zeros(D), rng=0, maxfev=300, options={"maxiter": 0})
    assert (result.success, result.x.tolist()) == (False, [0.0] * D)


def test_the_same_seed_gives_the_same_run():
    first, second = (vb.minimize(Noisy(ackley), START, rng=7, maxfev=700) for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    assert first.fun == second.fun


def test_bounds_and_fixed_variables_hold():
    fun = Noisy(ackley)
    bounds = [(-10.0, 10.0), (3.31, 3.31), (1.0, None), (None, 10.0)]
    result = vb.minimize(fun, START, bounds=bounds, rng=0, maxfev=900)
    points = np.array(fun.points)
    assert "then cma and quadratic" in result.message
    assert (points[:, 1] == 3.31).all()
    assert points[:, 2].min() >= 1.0
    assert points[:, [0, 3]].max() <= 10.0
    assert points[:, 0].min() >= -10.0


def test_failures_are_counted_and_never_the_answer():
    fun = Noisy(bowl, fails=lambda x: x[0] > 1.2)
    result = vb.minimize(fun, np.zeros(D), rng=0, maxfev=900)
    assert result.n_failed == sum(bool(x[0] > 1.2) for x in fun.points) > 0
    assert bowl(result.x) < 0.01


def test_a_population_goes_on_where_failures_hold_the_models_up():
    """In the unit ball, which holds (1, 1, 1, 1) at a distance of 1."""
    gaps = []
    for seed in range(3):
        fun = Noisy(bowl, 0.03, seed, fails=lambda x: bool(x @ x > 1.0))
        result = vb.minimize(fun, np.full(D, -0.4), rng=seed, maxfev=400)
        assert "many failures held up, then cma" in result.message
        gaps.append(bowl(result.x) - 1.0)
    assert 0.0 <= np.median(gaps) < 0.05  # 7 at the start


def test_a_search_whose_generations_all_fail_is_over(monkeypatch):
    """It was asked again and again, for no point at all."""
    fun, searched, run, calls = Noisy(bowl, 0.1), noisy._searched, noisy._run, []

    def shut(*args):
        fun.fails = lambda x: True
        return searched(*args)

    def counted(*args, **kwargs):
        calls.append(args)
        assert len(calls) < 100
        return run(*args, **kwargs)

    monkeypatch.setattr(noisy, "_searched", shut)
    monkeypatch.setattr(noisy, "_run", counted)
    result = vb.minimize(fun, np.zeros(D), rng=0, maxfev=2000)
    assert "then cma" in result.message
    assert result.n_failed > 20
    assert bowl(result.x) < 0.5


@pytest.mark.parametrize("raises_at", [100, 400, 800])
def test_ctrl_c_returns_what_is_known(raises_at):
    fun = Noisy(ackley, raises_at=raises_at, exception=KeyboardInterrupt())
    result = vb.minimize(fun, START, rng=0, maxfev=1500)
    assert (result.status, result.success, result.nfev) == (7, False, raises_at)
    assert np.isfinite(result.fun)


def test_a_target_and_a_callback_end_the_search():
    result = vb.minimize(Noisy(ackley), START, rng=0, f_target=1.0)
    assert (result.status, result.success) == (5, True)
    assert result.best_fun <= 1.0
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.nfev)
        if seen[-1] > 700:
            raise StopIteration

    result = vb.minimize(Noisy(ackley), START, rng=0, maxfev=1500, callback=callback)
    assert (result.status, result.success) == (99, False)
    assert seen[-2] <= 700 < seen[-1]


def two_valleys(x):
    """Hock and Schittkowski's problem 44: -15 at (0, 3, 0, 4), and a local minimum of -13."""
    return float(x[0] - x[1] - x[2] - x[0] * x[2] + x[0] * x[3] + x[1] * x[2] - x[1] * x[3])


ROWS = LinearConstraint(
    [[1, 2, 0, 0], [4, 1, 0, 0], [3, 4, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2], [0, 0, 1, 1]], ub=[8, 12, 12, 8, 8, 5]
)
ABOVE = [(0, None)] * 4


def test_with_constraints_another_start_finds_the_better_valley():
    fun = Noisy(two_valleys)
    result = vb.minimize(fun, np.zeros(4), bounds=ABOVE, constraints=ROWS, rng=0, maxfev=400)
    assert "found a better valley" in result.message
    assert two_valleys(result.x) < -14.9
    assert result.maxcv == 0.0
    assert result.nfev == result.nfev_samples == len(fun.points) <= 400
    assert abs(result.fun - two_valleys(result.x)) < 5 * result.fun_std < 0.05


@pytest.fixture
def without_models(monkeypatch):
    """As with more variables: COBYQA and COBYLA."""
    monkeypatch.setattr("vamo_bbo.auto.run.is_modelled", lambda call: False)


@pytest.mark.usefixtures("without_models")
def test_without_models_the_better_of_two_methods_is_the_answer():
    fun = Noisy(two_valleys)
    result = vb.minimize(fun, np.zeros(4), bounds=ABOVE, constraints=ROWS, rng=0, maxfev=400)
    assert "COBYLA then took" in result.message
    assert "and was better" in result.message
    assert two_valleys(result.x) < -14.9
    assert result.maxcv == 0.0
    assert result.nfev == result.nfev_samples == len(fun.points) <= 400
    assert abs(result.fun - two_valleys(result.x)) < 5 * result.fun_std < 0.05
    alone = vb.minimize(Noisy(two_valleys), np.zeros(4), method="COBYQA", bounds=ABOVE, constraints=ROWS)
    assert two_valleys(alone.x) > -13.5


@pytest.mark.parametrize("maxfev", [1, 2, 10, 15, 30, 100])
@pytest.mark.parametrize("fails", [lambda x: False, lambda x: x[1] > 1.5])
def test_with_constraints_the_budget_is_kept_and_failures_are_survived(maxfev, fails):
    fun = Noisy(two_valleys, fails=fails)
    result = vb.minimize(fun, np.full(4, 0.1), bounds=ABOVE, constraints=ROWS, rng=0, maxfev=maxfev)
    assert result.nfev == len(fun.points) <= maxfev
    assert result.n_failed == sum(fails(x) for x in fun.points)
    assert ROWS.A @ result.x == pytest.approx(np.minimum(ROWS.A @ result.x, ROWS.ub), abs=1e-6)


@pytest.mark.usefixtures("without_models")
def test_with_constraints_an_answer_off_them_is_led_back():
    circle = NonlinearConstraint(lambda x: x @ x, 1.0, 1.0)
    result = vb.minimize(Noisy(lambda x: float(x.sum())), [3.0, -2.0, 2.0], constraints=circle, rng=0, maxfev=12)
    assert abs(result.x @ result.x - 1.0) < 1e-6
    assert result.maxcv == 0.0


@pytest.mark.usefixtures("without_models")
def test_with_constraints_and_a_fixed_variable_it_is_cobyqa_alone():
    bounds = [(0, None), (0, None), (0, 0), (0, None)]
    result = vb.minimize(Noisy(two_valleys), np.zeros(4), bounds=bounds, constraints=ROWS, rng=0, maxfev=300)
    assert "COBYLA" not in result.message
    assert result.x[2] == 0.0


@pytest.mark.parametrize("raises_at", [20, 60, 74, 100])
def test_with_constraints_ctrl_c_returns_what_is_known(raises_at):
    fun = Noisy(two_valleys, raises_at=raises_at, exception=KeyboardInterrupt())
    result = vb.minimize(fun, np.zeros(4), bounds=ABOVE, constraints=ROWS, rng=0, maxfev=400)
    assert result.nfev == len(fun.points) >= raises_at
    assert np.isfinite(result.fun)
    assert two_valleys(result.x) < -5


def test_with_constraints_and_a_wish_of_when_to_stop_it_is_cobyqa_alone():
    result = vb.minimize(Noisy(two_valleys), np.zeros(4), bounds=ABOVE, constraints=ROWS, maxfev=300, tol=1e-6)
    assert "COBYLA" not in result.message
