"""Measured step sizes of the first-order solvers on finite sums."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from sklearn.datasets import load_digits

import problems
import vamo_bbo as vb
from vamo_bbo.core import sampling
from vamo_bbo.curvature import Curvature
from vamo_bbo.run.setup import seed_of
from vamo_bbo.step_sizes import MeasuredStep, check_batch

N, D = 240, 6
MAKERS = {"sgd": vb.sgd, "asgd": vb.asgd, "svrg": vb.svrg, "saga": vb.saga, "sarah": vb.sarah, "storm": vb.storm}


def least_squares(noise, f_scale=1.0, x_scale=1.0):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((N, D)) * np.arange(1, D + 1) ** -0.5
    targets = rows @ np.ones(D) + noise * rng.standard_normal(N)
    best = np.linalg.lstsq(rows, targets, rcond=None)[0] * x_scale

    def losses(x, idx):
        return 0.5 * f_scale * (rows[idx] @ (x / x_scale) - targets[idx]) ** 2

    def gradient(x, idx):
        return f_scale * rows[idx].T @ (rows[idx] @ (x / x_scale) - targets[idx]) / len(idx) / x_scale

    data = vb.FiniteSum(losses, N, grad=gradient)

    def gap(x):
        full = np.arange(N)
        lowest = losses(best, full).mean()
        return (losses(x, full).mean() - lowest) / (losses(np.zeros(D), full).mean() - lowest)

    return data, gap


def median_gap(name, **scales):
    """Return the median over three seeds: one run of sarah in fifteen stays above any limit that says something."""
    data, gap = least_squares(0.3, **scales)
    method = MAKERS[name](batch_size=8)
    return np.median([gap(vb.minimize(data, np.zeros(D), method=method, rng=k, maxjev=20 * N).x) for k in range(3)])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("f_scale", [1e-4, 1e4])
def test_untuned_steps_converge_whatever_the_scale_of_f(name, f_scale):
    assert median_gap(name, f_scale=f_scale) < 0.03


@pytest.mark.parametrize("name", MAKERS)
def test_untuned_steps_scale_with_x(name):
    assert median_gap(name, x_scale=1e2) < 0.03


def test_without_a_finite_sum_the_first_step_is_calibrated():
    result = vb.minimize(lambda x: float(x @ x), [1.0, 2.0], jac=lambda x: 2 * x, method=vb.sgd(), rng=0)
    assert result.fun < 1e-3


@pytest.mark.parametrize("solver", [vb.sgd(batch_size=8), vb.vamo(batch_size=8)], ids=["sgd", "vamo"])
def test_where_every_sample_can_be_fitted_convergence_is_linear(solver):
    data, gap = least_squares(0.0)
    result = vb.minimize(data, np.zeros(D), method=solver, rng=0, maxjev=20 * N)
    assert gap(result.x) < 1e-10


def test_noise_that_vanishes_lets_the_step_grow():
    rule, scalars = MeasuredStep(), {}
    factors = []
    for energy in [1.0, 0.5, 0.1, *[0.03 * 0.5**k for k in range(8)]]:
        scalars.update(noise_sum=10 * energy, noise_steps=10.0, step_squares=1.0, drift_products=0.5, drift_squares=1.0)
        rule.agree(scalars, early=False)
        factors.append(rule.share(scalars))
    assert factors[2] < factors[1] < rule.factor
    assert factors[-1] > factors[-2]


def test_noise_that_stays_keeps_shrinking_the_step():
    rule, scalars = MeasuredStep(), {}
    for _ in range(20):
        scalars.update(noise_sum=10.0, noise_steps=10.0, step_squares=1.0, drift_products=0.5, drift_squares=1.0)
        rule.agree(scalars, early=False)
    assert rule.share(scalars) == rule.lowest


@pytest.mark.parametrize(("way", "expected"), [(0.0, "lowest"), (0.5, "highest")])
def test_steps_that_make_way_under_noise_grow_although_successive_ones_do_not_agree(way, expected):
    """Each step undoes a tenth of the last one; nearly all of a pass's noise cancels, the common part does not."""
    rule, scalars, d, n, rng = MeasuredStep(), {}, 50, 40, np.random.default_rng(0)
    arrays = {name: np.zeros(d) for name in ("previous_step", "previous_gradient", "drift")}
    successive = 0.0
    for _ in range(20):
        for _ in range(n):
            noise = rng.standard_normal(d) / math.sqrt(d)
            step = noise - 0.4 * arrays["previous_step"] + way * np.eye(d)[0]
            rule.follow(arrays, scalars, gradient=noise, estimate=step, direction=step)
        successive += scalars["step_products"]
        rule.agree(scalars, early=False)
    assert successive < 0.0
    assert rule.share(scalars) == getattr(rule, expected)


@pytest.mark.parametrize(("network", "sign"), [(False, -1), (True, 1)])
def test_in_the_first_half_pass_only_networks_go_by_the_sum_of_the_steps(network, sign):
    rule, scalars = MeasuredStep(network=network), {}
    scalars.update(step_products=-0.1, step_squares=1.0, drift_products=3.0, drift_squares=1.0)
    rule.agree(scalars, early=True)
    assert sign * (rule.share(scalars) - rule.factor) > 0


@pytest.mark.parametrize(("way", "factor"), [(0.1, 0.8), (0.9, 0.9**0.25), (1.0, 1.0), (3.0, 3.0**0.25), (99.0, 2.0)])
def test_on_networks_c_follows_how_far_steps_make_way(way, factor):
    """A pass has four refreshes: what its steps come to moves c once, and only so far at a time."""
    scalars = {"step_squares": 1.0, "drift_products": way * 1.1, "drift_squares": 1.0, "step_factor": 1.0}
    rule = MeasuredStep(network=True)
    rule.agree(scalars, early=False)
    assert rule.share(scalars) == pytest.approx(factor)


def followed(rule, scalars, products, times):
    """Let the rule see ``times`` refreshes with this correlation of successive steps; return the last c."""
    for _ in range(times):
        scalars.update(noise_sum=10.0, noise_steps=10.0, step_products=products, step_squares=1.0, step_count=4.0)
        rule.agree(scalars, early=False)
    return rule.share(scalars)


def test_steps_that_agree_strongly_leave_the_range_and_then_only_f_decides():
    rule, scalars = MeasuredStep(), {}
    assert followed(rule, scalars, 0.1, 30) == rule.highest
    assert followed(rule, scalars, 0.5, 3) == 8 * rule.highest
    assert rule.is_long(scalars)
    assert followed(rule, scalars, -0.5, 3) == 8 * rule.highest


def test_the_first_agreement_of_a_run_is_no_evidence():
    rule, scalars = MeasuredStep(), {}
    assert followed(rule, scalars, 0.5, 1) == rule.factor * rule.grow
    assert followed(rule, scalars, 0.5, 1) == 2 * rule.factor * rule.grow


def test_a_long_step_at_most_doubles_when_the_curvature_falls():
    rule, scalars, arrays = MeasuredStep(), {}, {"curvatures": np.ones((2, 40))}
    scalars.update(n_short_probes=40.0, step_factor=64.0)
    rule.update(arrays, scalars)
    before = scalars["learning_rate"]
    arrays["curvatures"][:] = 0.1
    rule.update(arrays, scalars)
    assert scalars["learning_rate"] == pytest.approx(2 * before)
    assert rule.share(scalars) == pytest.approx(12.8)


def test_a_step_at_most_doubles_between_two_refreshes_when_the_curvature_falls():
    rule, scalars, arrays = MeasuredStep(), {"n_short_probes": 40.0, "step_squares": 1.0}, {}
    arrays["curvatures"] = np.ones((2, 40))
    rule.update(arrays, scalars)
    before = scalars["learning_rate"]
    arrays["curvatures"][:] = 0.01
    for growth in (2.0, 4.0):
        scalars.update(step_squares=1.0, drift_products=1.5, drift_squares=1.0)
        rule.agree(scalars, early=False)
        for _ in range(3):
            rule.update(arrays, scalars)
        assert scalars["learning_rate"] == pytest.approx(growth * before)


def test_a_first_step_that_overshoots_is_shortened_as_often_as_it_takes():
    """|x|, far from its kink: every probe shows the curvature 2 / length, the first one next to none."""
    rule, scalars, arrays = MeasuredStep(), {}, {"curvatures": np.zeros((2, 40))}
    distance, curvature, overshot, looks = 1.0, 1e-6, False, 0
    while rule.looks_again(arrays, scalars, 0, curvature, overshot=overshot):
        looks += 1
        overshot = scalars["learning_rate"] > distance
        curvature = 2.0 / scalars["learning_rate"] if overshot else 0.0
    assert 0.01 * distance < scalars["learning_rate"] < distance
    assert looks <= 11
    assert "looks" not in scalars


@pytest.mark.parametrize("solver", [vb.vamo(batch_size=8), vb.sgd(batch_size=8), vb.svrg(batch_size=8)])
def test_where_losses_are_next_to_linear_the_first_steps_do_not_fly_off(solver):
    """Far from the minimum of a robust loss its curvature is nearly nothing, and a step of 1/L leads anywhere."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((N, D))
    answers = rows @ np.full(D, 20.0)

    def losses(x, idx):
        return np.sqrt(1.0 + (rows[idx] @ x - answers[idx]) ** 2) - 1.0

    def gradient(x, idx):
        gap = rows[idx] @ x - answers[idx]
        return rows[idx].T @ (gap / np.sqrt(1.0 + gap**2)) / len(idx)

    seen, everything = [], np.arange(N)
    vb.minimize(
        vb.FiniteSum(losses, N, grad=gradient), np.zeros(D), method=solver, rng=0, maxjev=2 * N, maxfev=20 * N,
        callback=lambda intermediate_result: seen.append(float(losses(intermediate_result.x, everything).mean())),
    )  # fmt: skip
    assert max(seen) < 1.1 * losses(np.zeros(D), everything).mean()


def test_outliers_are_cut_and_ordinary_steps_are_not():
    rule, scalars = MeasuredStep(), {"typical_square": 4.0}
    assert rule.cut(scalars, 4.0 * 99) == 1.0
    assert rule.cut(scalars, 4.0 * 400) == 0.5


def test_probes_with_a_heavy_tail_are_followed_by_probes_as_long_as_a_step():
    rule, arrays = Curvature(), {"curvatures": np.zeros((2, 40))}
    x, direction = np.zeros(4), np.ones(4)

    def lengths(probes):
        scalars = {"learning_rate": 0.5}
        for probe in probes:
            rule.record(arrays, scalars, probe)
        found = []
        for _ in range(4):
            found.append(rule.distance(x, direction, scalars))
            rule.record(arrays, scalars, 2.0)
        return found, rule.value(arrays, scalars)

    assert lengths([1.0, 2.0, 3.0] * 4)[0] == [5e-4] * 4
    far, value = lengths([1.0] * 10 + [900.0, 800.0])
    assert far == [0.5] * 4
    assert value == 2.0


def relu_network(seed):
    """Return a classifier of digits with two hidden layers of ReLU units, and its start: kinks everywhere."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, widths, rng = inputs / 16, (64, 32, 32, 10), np.random.default_rng(seed)
    shapes = [(rows, columns) for columns, rows in pairwise(widths)]
    cuts = np.cumsum([rows * columns for rows, columns in shapes])[:-1]

    def forward(x, idx):
        w = [part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True)]
        layers = [inputs[idx]]
        for matrix in w[:-1]:
            layers.append(np.maximum(layers[-1] @ matrix.T, 0))
        scores = layers[-1] @ w[-1].T
        return w, layers, scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)

    def grad(x, idx):
        w, layers, logs = forward(x, idx)
        back = np.exp(logs) / len(idx)
        back[np.arange(len(idx)), labels[idx]] -= 1 / len(idx)
        parts = []
        for matrix, layer in zip(w[::-1], layers[::-1], strict=True):
            parts.append((back.T @ layer).ravel())
            back = back @ matrix * (layer > 0)
        return np.concatenate(parts[::-1])

    def losses(x, idx):
        return -forward(x, idx)[2][np.arange(len(idx)), labels[idx]]

    x0 = np.concatenate([rng.uniform(-1, 1, s).ravel() / np.sqrt(s[1]) for s in shapes])
    # The check at x0 compares with differences of values, which kinks spoil.
    return vb.FiniteSum(losses, len(labels), grad=grad, check_grad=False), x0.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_with_kinks_is_trained_without_tuning(seed):
    data, x0 = relu_network(seed)
    result = vb.minimize(data, x0, method=vb.vamo(), rng=seed, maxjev=10 * data.n_samples)
    assert data.losses(result.x, np.arange(data.n_samples)).mean() < 0.2  # Adam at 0.001, 0.003, 0.01: 0.2, 0.1, 0.04


def settled(rule, scalars, squares, *, reduced, passes=1):
    """Let the rule see passes whose estimates have this mean square; return c."""
    for _ in range(4 * passes):
        scalars.update(noise_sum=10.0, noise_steps=10.0, step_products=0.1, step_squares=1.0, step_count=4.0)
        scalars.update(pass_squares=4 * squares, pass_count=4.0)
        rule.agree(scalars, early=False, reduced=reduced)
    return rule.share(scalars)


def test_where_reduced_noise_does_not_fall_c_gets_a_ceiling():
    rule, scalars = MeasuredStep(), {}
    assert settled(rule, scalars, 1.0, reduced=True, passes=8) < 0.5 * rule.highest
    low = rule.share(scalars)
    for k in range(1, 9):  # progress raises it again
        settled(rule, scalars, 0.5**k, reduced=True)
    assert low < rule.share(scalars) <= rule.highest


def walked(rule, steps):
    """Let the rule follow a pass of these steps where |v|^2 does not fall; return the ceiling of c."""
    scalars = {"pass_before": 1.0, "agreed": 1.0}
    arrays = {name: np.zeros(steps.shape[1]) for name in ("previous_step", "previous_gradient", "drift")}
    for part in np.split(steps, 4):
        for step in part:
            rule.follow(arrays, scalars, gradient=step, estimate=step, direction=step)
        rule.agree(scalars, early=False, reduced=True)
    return scalars["ceiling"]


def test_steps_that_add_up_are_no_noise_and_lower_nothing():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((160, 20))
    noise -= noise.mean(axis=0) * 0.5
    drift = noise + 1.0
    size = np.sqrt(np.mean(np.sum(noise**2, axis=1)))
    assert walked(MeasuredStep(), noise / size) < 2.0
    size = np.sqrt(np.mean(np.sum(drift**2, axis=1)))
    assert walked(MeasuredStep(strong=np.inf), drift / size) == MeasuredStep().highest


def test_noise_that_is_not_reduced_puts_no_ceiling_on_c():
    rule, scalars = MeasuredStep(), {}
    assert settled(rule, scalars, 1.0, reduced=False, passes=10) == rule.highest
    assert "ceiling" not in scalars


@pytest.mark.parametrize("seed", range(3))
def test_stored_gradients_converge_linearly_though_curvatures_differ_much_among_samples(seed):
    data = problems.get("logistic-l2-digits")
    everything = np.arange(data.objective.n_samples)

    def gap(x):
        return float(np.mean(data.objective.losses(x, everything))) - data.reference.value

    result = vb.minimize(data.objective, data.x0, method="vamo", rng=seed, maxjev=40 * len(everything))
    assert gap(result.x) < 2e-7 * gap(data.x0)


@pytest.mark.parametrize("method", [vb.vamo(batch_size=8), vb.sarah(batch_size=8)])
def test_a_check_sample_with_its_minimum_elsewhere_does_not_throw_a_run_back(method):
    """Once a pass the run was returned to where the check sample, of which two terms weigh most, was at its lowest."""
    n, d, rng = 1600, 5, np.random.default_rng(0)
    rows, weights = rng.standard_normal((n, d)), np.full(n, 0.2)
    checked = sampling.indices(check_batch(n), seed_of(3), n)
    answers = rows @ np.ones(d)
    weights[checked[:2]] = 40.0
    answers[checked[:2]] *= -2.0

    def losses(x, idx):
        return weights[idx] * (np.sqrt(1.0 + (rows[idx] @ x - answers[idx]) ** 2) - 1.0)

    def gradient(x, idx):
        gap = rows[idx] @ x - answers[idx]
        return rows[idx].T @ (weights[idx] * gap / np.sqrt(1.0 + gap**2)) / len(idx)

    data, everything = vb.FiniteSum(losses, n, grad=gradient), np.arange(n)
    best = scipy.optimize.minimize(
        lambda x: losses(x, everything).mean(), np.zeros(d), jac=lambda x: gradient(x, everything), method="BFGS"
    ).fun
    result = vb.minimize(data, np.zeros(d), method=method, rng=3, maxjev=20 * n)
    assert losses(result.x, everything).mean() - best < 1e-2 * (losses(np.zeros(d), everything).mean() - best)


@pytest.mark.parametrize(("preconditioner", "most"), [("guided", 2.0), ("diagonal", 2.0), (vb.Kronecker([(8,)]), 3.0)])
def test_a_feature_that_is_rare_and_large_is_not_overshot(preconditioner, most):
    """The first gradient along it is divided by a metric that knows nothing of it: x went to 19 and more, not 0.1."""
    n, rng = 800, np.random.default_rng(0)
    rows = rng.standard_normal((n, 8))
    labels = np.where(rows[:, :7].sum(1) + rng.standard_normal(n) > 0, 1.0, -1.0)
    rows[:, 7] = 0.0
    rows[:3, 7], labels[:3] = 40.0, (1.0, 1.0, -1.0)

    def losses(x, idx):
        return np.logaddexp(0.0, -labels[idx] * (rows[idx] @ x)) + 5e-4 * (x @ x)

    def gradient(x, idx):
        slopes = -labels[idx] / (1.0 + np.exp(labels[idx] * (rows[idx] @ x)))
        return rows[idx].T @ slopes / len(idx) + 1e-3 * x

    largest = 0.0

    def callback(intermediate_result):
        nonlocal largest
        largest = max(largest, abs(float(intermediate_result.x[7])))

    for seed in (1, 4, 5):
        vb.minimize(
            vb.FiniteSum(losses, n, grad=gradient), np.zeros(8), method=vb.vamo(preconditioner=preconditioner),
            rng=seed, maxjev=4 * n, callback=callback,
        )  # fmt: skip
    assert largest < most


@pytest.mark.parametrize("name", MAKERS)
def test_a_failing_probe_does_not_stop_a_run(name):
    data, gap = least_squares(0.3)
    calls = 0

    def flaky(x, idx):
        nonlocal calls
        calls += 1
        if calls % 9 == 5:
            raise ValueError("planted")
        return data.grad(x, idx)

    broken = vb.FiniteSum(data.losses, N, grad=flaky)
    result = vb.minimize(broken, np.zeros(D), method=MAKERS[name](batch_size=8), rng=0, maxjev=10 * N)
    assert gap(result.x) < 0.1
