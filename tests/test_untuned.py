"""Measured step sizes of the first-order solvers on finite sums."""

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.step_sizes import MeasuredStep

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


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("f_scale", [1e-4, 1e4])
def test_untuned_steps_converge_whatever_the_scale_of_f(name, f_scale):
    data, gap = least_squares(0.3, f_scale=f_scale)
    result = vb.minimize(data, np.zeros(D), method=MAKERS[name](batch_size=8), rng=0, maxjev=20 * N)
    assert gap(result.x) < 0.03


@pytest.mark.parametrize("name", MAKERS)
def test_untuned_steps_scale_with_x(name):
    data, gap = least_squares(0.3, x_scale=1e2)
    result = vb.minimize(data, np.zeros(D), method=MAKERS[name](batch_size=8), rng=0, maxjev=20 * N)
    assert gap(result.x) < 0.03


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
        scalars.update(noise_sum=10 * energy, noise_steps=10.0, step_products=-1.0, step_squares=1.0)
        rule.agree(scalars, early=False)
        factors.append(rule.share(scalars))
    assert factors[2] < factors[1] < rule.factor
    assert factors[-1] > factors[-2]


def test_noise_that_stays_keeps_shrinking_the_step():
    rule, scalars = MeasuredStep(), {}
    for _ in range(20):
        scalars.update(noise_sum=10.0, noise_steps=10.0, step_products=-1.0, step_squares=1.0)
        rule.agree(scalars, early=False)
    assert rule.share(scalars) == rule.lowest


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
