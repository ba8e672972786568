"""The end of a run of ``vamo``: all samples at once, where mini-batches no longer pay."""

import pickle

import numpy as np
import pytest
import scipy.optimize

import vamo_bbo as vb
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.run.setup import seed_of, setup
from vamo_bbo.whole_sum import LEFT, WholeSum

N, D = 300, 8
RNG = np.random.default_rng(7)
ROWS = RNG.standard_normal((N, D)) * np.geomspace(1.0, 0.02, D)
TARGETS = ROWS @ np.ones(D) + 0.3 * RNG.standard_normal(N)
LABELS = np.sign(ROWS @ np.arange(1.0, D + 1) + RNG.standard_normal(N))


def logistic(x, i):
    return np.logaddexp(0.0, -LABELS[i] * (ROWS[i] @ x)) + 5e-4 * (x @ x)


def logistic_slope(x, i):
    slope = -LABELS[i] / (1.0 + np.exp(LABELS[i] * (ROWS[i] @ x)))
    return slope @ ROWS[i] / len(i) + 1e-3 * x


def squares(x, i):
    return 0.5 * (ROWS[i] @ x - TARGETS[i]) ** 2


def squares_slope(x, i):
    return (ROWS[i] @ x - TARGETS[i]) @ ROWS[i] / len(i)


SUMS = {"logistic": (logistic, logistic_slope), "squares": (squares, squares_slope)}
ALL = np.arange(N)


def best_of(losses, slope):
    found = scipy.optimize.minimize(
        lambda x: (losses(x, ALL).mean(), slope(x, ALL)), np.zeros(D), jac=True, method="BFGS", options={"gtol": 1e-10}
    )
    return found.fun


def gap(losses, slope, x):
    best = best_of(losses, slope)
    return (losses(x, ALL).mean() - best) / (losses(np.zeros(D), ALL).mean() - best)


class Spy:
    """A gradient that notes how many samples it was asked for."""

    def __init__(self, slope):
        self.slope, self.sizes = slope, []

    def __call__(self, x, i):
        self.sizes.append(len(i))
        return self.slope(x, i)

    @property
    def whole(self):
        return self.sizes.count(N)


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_converges_and_says_so(name, seed):
    losses, slope = SUMS[name]
    result = vb.minimize(vb.FiniteSum(losses, N, grad=slope), np.zeros(D), method="vamo", rng=seed)
    assert result.success
    assert result.status == 0
    assert gap(losses, slope, result.x) < 1e-10
    assert result.njev_samples < 30 * N
    assert result.fun == pytest.approx(losses(result.x, ALL).mean(), rel=1e-12)


@pytest.mark.parametrize("f_scale", [1e-6, 1e6])
def test_the_size_of_f_does_not_matter(f_scale):
    data = vb.FiniteSum(
        lambda x, i: f_scale * logistic(x, i), N, grad=lambda x, i: f_scale * logistic_slope(x, i), check_grad=False
    )
    result = vb.minimize(data, np.zeros(D), method="vamo", rng=0)
    assert result.success
    assert gap(logistic, logistic_slope, result.x) < 1e-10


def least_squares(n, d, smallest, noise):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, d)) * np.geomspace(1.0, smallest, d)
    targets = rows @ np.ones(d) + noise * rng.standard_normal(n)
    whole = []

    def slope(x, i):
        if len(i) == n:
            whole.append(x.copy())
        return (rows[i] @ x - targets[i]) @ rows[i] / len(i)

    return vb.FiniteSum(lambda x, i: 0.5 * (rows[i] @ x - targets[i]) ** 2, n, grad=slope), whole


def test_where_every_sample_can_be_fitted_mini_batches_go_on_until_nothing_is_left():
    data, whole = least_squares(600, 60, 1.0, 0.0)
    result = vb.minimize(data, np.zeros(60), method="vamo", rng=0)
    assert result.success
    assert np.abs(whole[0] - 1.0).max() < 1e-3
    np.testing.assert_allclose(result.x, np.ones(60), rtol=1e-5)


def test_mini_batches_go_on_while_a_pass_brings_the_gradient_down_fast():
    rows = np.random.default_rng(3).standard_normal((2000, D))
    labels, before = np.sign(rows @ np.ones(D) + 2.0 * np.random.default_rng(4).standard_normal(2000)), []

    def slope(x, i):
        before.append(len(i))
        return -labels[i] / (1.0 + np.exp(labels[i] * (rows[i] @ x))) @ rows[i] / len(i)

    data = vb.FiniteSum(lambda x, i: np.logaddexp(0.0, -labels[i] * (rows[i] @ x)), 2000, grad=slope)
    result = vb.minimize(data, np.zeros(D), method="vamo", rng=0)
    assert result.success
    assert sum(before[: before.index(2000)]) > 3.5 * 2000


def test_the_first_gradients_do_not_make_the_metric():
    """Where f falls by orders of magnitude they are larger than all others, and hid small singular values."""
    data, whole = least_squares(1000, 30, 0.02, 0.3)
    result = vb.minimize(data, np.zeros(30), method="vamo", rng=0, maxjev=14_000)
    everything = np.arange(1000)
    best = scipy.optimize.minimize(
        lambda x: (data.losses(x, everything).mean(), data.grad(x, everything)), np.zeros(30), jac=True, tol=1e-12
    ).fun
    start = data.losses(np.zeros(30), everything).mean()
    assert whole
    assert (result.fun - best) / (start - best) < 1e-5


def test_without_a_gradient_the_end_is_by_differences():
    result = vb.minimize(vb.FiniteSum(squares, N), np.zeros(D), method="vamo", rng=0, maxfev=40 * (D + 1) * N)
    assert gap(squares, squares_slope, result.x) < 1e-9


@pytest.mark.parametrize("passes", [4, LEFT + 4])
def test_a_small_budget_is_left_to_mini_batches(passes):
    spy = Spy(logistic_slope)
    vb.minimize(vb.FiniteSum(logistic, N, grad=spy), np.zeros(D), method="vamo", rng=0, maxjev=passes * N)
    assert spy.whole == 0


@pytest.mark.parametrize("noisy", [False, True])
def test_with_bounds_or_noise_all_steps_are_on_mini_batches(noisy):
    spy = Spy(logistic_slope)
    bounds = None if noisy else [(-9.0, 9.0)] * D
    data = vb.FiniteSum(logistic, N, grad=spy)
    vb.minimize(data, np.zeros(D), method="vamo", rng=0, maxjev=20 * N, bounds=bounds, noisy=noisy)
    assert spy.whole == 0


def test_a_sum_in_pieces_is_the_same_sum():
    runs = [
        vb.minimize(vb.FiniteSum(logistic, N, grad=logistic_slope, chunk_size=size), np.zeros(D), method="vamo", rng=0)
        for size in (N, 70)
    ]
    assert all(run.success for run in runs)
    np.testing.assert_allclose(runs[0].x, runs[1].x, atol=1e-6)


def test_a_failed_evaluation_of_all_samples_shortens_the_step():
    calls = []

    def slope(x, i):
        if len(i) == N:
            calls.append(1)
            if len(calls) in (2, 5):
                raise ArithmeticError("out of range")
        return logistic_slope(x, i)

    result = vb.minimize(vb.FiniteSum(logistic, N, grad=slope), np.zeros(D), method="vamo", rng=0)
    assert result.n_failed == 2
    assert result.success
    assert gap(logistic, logistic_slope, result.x) < 1e-9


def test_values_that_differ_from_call_to_call_give_the_run_back_to_mini_batches():
    noise, points = np.random.default_rng(0), []

    def slope(x, i):
        points.append((len(i), x.copy()))
        return logistic_slope(x, i)

    data = vb.FiniteSum(lambda x, i: logistic(x, i) + 0.01 * noise.standard_normal(), N, grad=slope, check_grad=False)
    result = vb.minimize(data, np.zeros(D), method="vamo", rng=0, maxjev=30 * N)
    sizes = [size for size, _ in points]
    first, last = sizes.index(N), len(sizes) - 1 - sizes[::-1].index(N)
    assert not result.success
    assert last - first < 15
    assert sum(sizes[last:]) > 10 * N
    assert gap(logistic, logistic_slope, points[-1][1]) < 1e-8 < gap(logistic, logistic_slope, points[first][1])


def test_kinks_are_no_end():
    """Least absolute deviations: a line search ends at kinks, and nothing that was reached is lost."""
    data = vb.FiniteSum(
        lambda x, i: np.abs(ROWS[i] @ x - TARGETS[i]),
        N,
        grad=lambda x, i: np.sign(ROWS[i] @ x - TARGETS[i]) @ ROWS[i] / len(i),
    )
    best = scipy.optimize.linprog(
        np.r_[np.zeros(D), np.full(N, 1 / N)],
        A_ub=np.block([[ROWS, -np.eye(N)], [-ROWS, -np.eye(N)]]),
        b_ub=np.r_[TARGETS, -TARGETS],
        bounds=[(None, None)] * D + [(0, None)] * N,
    ).fun
    start = np.abs(TARGETS).mean()
    result = vb.minimize(data, np.zeros(D), method="vamo", rng=0)
    assert (result.fun - best) / (start - best) < 5e-3


def test_without_any_curvature_there_is_no_end():
    slopes = np.random.default_rng(0).standard_normal((N, 3)) + 1.0
    data = vb.FiniteSum(lambda x, i: slopes[i] @ x, N, grad=lambda x, i: slopes[i].mean(axis=0))
    assert not vb.minimize(data, np.zeros(3), method="vamo", rng=0).success


def test_an_l1_penalty_is_reached_by_mini_batches_after_all():
    """L-BFGS goes on for ever with steps that gain next to nothing."""
    rng, weight = np.random.default_rng(1), 0.02
    rows = rng.standard_normal((1000, 20))
    labels = np.sign(rows[:, :4].sum(axis=1) + rng.standard_normal(1000))
    every = np.arange(1000)

    def smooth(x, i):
        return np.logaddexp(0.0, -labels[i] * (rows[i] @ x))

    def smooth_slope(x, i):
        return -labels[i] / (1.0 + np.exp(labels[i] * (rows[i] @ x))) @ rows[i] / len(i)

    def split(z):
        g = smooth_slope(z[:20] - z[20:], every)
        return smooth(z[:20] - z[20:], every).mean() + weight * z.sum(), np.r_[g, -g] + weight

    best = scipy.optimize.minimize(
        split, np.zeros(40), jac=True, bounds=[(0, None)] * 40, method="L-BFGS-B", options={"ftol": 1e-15}
    ).fun
    spy = Spy(lambda x, i: smooth_slope(x, i) + weight * np.sign(x))
    data = vb.FiniteSum(lambda x, i: smooth(x, i) + weight * np.abs(x).sum(), 1000, grad=spy)
    result = vb.minimize(data, np.zeros(20), method="vamo", rng=0)
    assert 0 < spy.sizes.count(1000) < 12
    assert (result.fun - best) / (np.log(2.0) - best) < 5e-3


def test_a_state_that_is_pickled_at_every_step_goes_the_same_way():
    problem = setup(vb.FiniteSum(logistic, N, grad=logistic_slope), np.zeros(D))
    objective, solver, ends = problem.objective, vb.vamo(), []
    for store in (False, True):
        state = solver.init(problem.z0, seed=seed_of(0), backend="numpy", info=objective.info)
        while solver.status(state) is None:
            probes = solver.ask(state)
            x = [state.arrays[probe.anchor.name].copy() for probe in probes]
            state = solver.tell(state, [objective.evaluate(*both, state.seed) for both in zip(probes, x, strict=True)])
            if store:
                state = pickle.loads(pickle.dumps(state))
        assert state.scalars["whole"] > 0
        ends.append((state.step, solver.recommend(state).copy()))
    assert ends[0][0] == ends[1][0]
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_a_journal_goes_on_in_the_middle_of_the_end(tmp_path):
    data, path = vb.FiniteSum(logistic, N, grad=logistic_slope), tmp_path / "run.db"
    straight = vb.minimize(data, np.zeros(D), method="vamo", rng=0)
    steps = straight.nit - 3
    vb.minimize(data, np.zeros(D), method="vamo", rng=0, journal=path, options={"maxiter": steps}, maxjev=30 * N)
    resumed = vb.minimize(data, np.zeros(D), method="vamo", rng=0, journal=path)
    assert resumed.success
    np.testing.assert_array_equal(resumed.x, straight.x)


def test_a_wide_problem_keeps_its_mini_batches():
    table = vb.vamo().recipe.table
    info = ProblemInfo(n_samples=N, gradient="full")
    assert WholeSum.suits(table, info, 200)
    assert not WholeSum.suits(table, info, 201)
    assert not WholeSum.suits(vb.vamo(preconditioner="diagonal").recipe.table, info, 9)
