"""What "auto" runs on finite sums, on plain functions with a journal, and with a gradient that is noisy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vamo_bbo as vb

N, D = 200, 6
RNG = np.random.default_rng(0)
A = RNG.normal(size=(N, D))
TARGET = A @ np.arange(1.0, D + 1)


def losses(x, idx):
    return 0.5 * (A[idx % N] @ x - TARGET[idx % N]) ** 2


def grad(x, idx):
    return A[idx % N].T @ (A[idx % N] @ x - TARGET[idx % N]) / len(idx)


def chosen(problem, **options):
    result = vb.minimize(problem, np.zeros(D), rng=0, **options)
    assert result.message.startswith("auto chose ")
    return result.message.split()[2], result


BOX = [(-50.0, 50.0)] * D


def test_few_samples_with_gradients_are_minimized_by_full_gradients():
    method, result = chosen(vb.FiniteSum(losses, N, grad=grad), bounds=BOX)
    assert method == "L-BFGS-B"
    np.testing.assert_allclose(result.x, np.arange(1, D + 1), atol=1e-4)


@pytest.mark.parametrize("samples", [N // 2, 4 * N])
def test_without_bounds_mini_batches_begin_however_few_the_samples_and_the_run_converges(samples):
    method, result = chosen(vb.FiniteSum(losses, samples, grad=grad))
    assert method == "vamo"
    assert result.success
    np.testing.assert_allclose(result.x, np.arange(1, D + 1), atol=1e-4)


@pytest.mark.parametrize("budget", [{"maxjev": 5 * N}, {"workers": 2}])
def test_few_samples_and_a_small_budget_or_workers_are_left_to_mini_batches(budget):
    problem = vb.FiniteSum(losses, N, value_and_grad=lambda x, i: (losses(x, i), grad(x, i)))
    assert chosen(problem, maxfev=10 * N, bounds=BOX, **budget)[0] == "vamo"


def test_many_samples_with_gradients_are_vamos():
    assert chosen(vb.FiniteSum(losses, 4 * N, grad=grad), maxjev=20 * N)[0] == "vamo"


def test_a_partial_gradient_is_vamos_however_few_samples():
    def partial(x, idx):
        g = grad(x, idx)
        g[0] = np.nan
        return g

    assert chosen(vb.FiniteSum(losses, N, grad=partial), maxjev=25 * N, maxfev=100 * N)[0] == "vamo"


def test_without_a_gradient_the_budget_decides():
    problem = vb.FiniteSum(losses, N)
    method, result = chosen(problem, maxfev=140 * N, bounds=BOX)
    assert method == "L-BFGS-B"
    np.testing.assert_allclose(result.x, np.arange(1, D + 1), atol=1e-3)
    with ThreadPoolExecutor(2) as pool:
        method, result = chosen(problem, maxfev=140 * N, workers=pool, bounds=BOX)
    assert method == "fd-bfgs"
    np.testing.assert_allclose(result.x, np.arange(1, D + 1), atol=1e-3)
    few = {"options": {"maxiter": 5}}
    assert chosen(problem, maxfev=140 * N, **few)[0] == "vamo"
    assert chosen(problem, maxfev=130 * N, bounds=BOX, **few)[0] == "vamo"
    assert chosen(vb.FiniteSum(losses, 4 * N), maxfev=140 * 4 * N, **few)[0] == "vamo"
    assert chosen(problem, maxfev=7 * N, noisy=True)[0] == "zo-adamm"
    assert chosen(problem, maxfev=6 * N)[0] == "zo-adamm"


def test_every_gradient_is_counted_and_the_limit_is_exact():
    counted = [0]

    def counting(x, idx):
        counted[0] += len(idx)
        return grad(x, idx)

    problem = vb.FiniteSum(losses, N, grad=counting)
    result = chosen(problem, maxjev=21 * N + 3)[1]
    assert counted[0] == result.njev_samples <= 21 * N + 3


def test_maxjev_limits_scipys_methods_on_a_sum():
    rows, counted = A * np.geomspace(1, 1e3, D), [0]

    def value_and_grad(x, idx):
        counted[0] += len(idx)
        rest = np.cosh(rows[idx] @ x - TARGET[idx])
        return rest, rows[idx].T @ np.sinh(rows[idx] @ x - TARGET[idx]) / len(idx)

    problem = vb.FiniteSum(lambda x, i: value_and_grad(x, i)[0], N, value_and_grad=value_and_grad)
    result = vb.minimize(problem, np.zeros(D), method="L-BFGS-B", maxjev=7 * N)
    assert result.njev_samples == counted[0] == 7 * N
    assert "gradient" in result.message


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"noisy": True}, "quadratic"),
        ({"noisy": True, "workers": 2}, "quadratic"),
        ({"noisy": True, "workers": 2, "asynchronous": True}, "cma"),
        ({"noisy": "seed"}, "spsa"),
        ({"noisy": False}, "cma"),
    ],
)
def test_with_a_journal_our_solver_for_the_noise_is_chosen(tmp_path, options, method):
    result = vb.minimize(fragile, np.zeros(3), journal=tmp_path / "run.db", maxfev=60, rng=0, **options)
    assert result.message.startswith(f"auto chose {method} ")


def fragile(x, seed=0):
    return float(((x - 1) ** 2).sum())


def bowl(x):
    return float(np.arange(1, 5) @ x**2)


def noisy_slope(sigma):
    noise = np.random.default_rng(0)
    return lambda x: 2.0 * np.arange(1, 5) * x + sigma * noise.standard_normal(4)


def test_a_noisy_gradient_is_noticed():
    """L-BFGS-B's line search fails on it, and left 1e-3 to 0.3 of the gap."""
    start = np.ones(4)
    result = vb.minimize(bowl, start, jac=noisy_slope(1.0), rng=0, maxjev=600)
    assert result.message.startswith("auto chose adam (noisy gradient")
    assert bowl(result.x) < 0.03 * bowl(start)
    assert result.njev <= 600
    told = vb.minimize(bowl, start, jac=noisy_slope(1.0), rng=0, maxjev=600, noisy=True)
    assert told.message.startswith("auto chose adam (noisy gradient")


@pytest.mark.parametrize("options", [{}, {"noisy": False}, {"maxjev": 9}, {"options": {"gtol": 1e-6}}])
def test_whether_a_gradient_is_exact_costs_one(options):
    counted = [0]

    def slope(x):
        counted[0] += 1
        return noisy_slope(0.0)(x)

    result = vb.minimize(bowl, np.ones(4), jac=slope, **options)
    alone = vb.minimize(
        bowl, np.ones(4), jac=noisy_slope(0.0), method="L-BFGS-B", **{"options": {"maxcor": 50}} | options
    )
    assert result.message.startswith("auto chose L-BFGS-B (exact gradient")
    assert result.njev == counted[0] == alone.njev + (not options)
