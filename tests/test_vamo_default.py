"""The default solver of finite sums: untuned, scale-free, safe, and what "auto" picks."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo import testing
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.recipes import ControlVariate

RNG = np.random.default_rng(0)
N, D = 400, 12
ROWS = RNG.standard_normal((N, D)) * np.geomspace(1.0, 0.05, D)
SIGNS = np.where(RNG.random(N) < 1 / (1 + np.exp(-ROWS @ np.full(D, 3.0))), 1.0, -1.0)


def logistic(f_scale=1.0, x_scale=1.0, **keywords):
    """L2-regularized logistic regression, f times ``f_scale`` as a function of x times ``x_scale``."""

    def losses(x, i):
        z = x / x_scale
        return f_scale * (np.logaddexp(0.0, -SIGNS[i] * (ROWS[i] @ z)) + 0.5e-2 * (z @ z))

    def grad(x, i):
        z = x / x_scale
        slope = -SIGNS[i] * 0.5 * (1 - np.tanh(0.5 * SIGNS[i] * (ROWS[i] @ z)))
        return f_scale / x_scale * (slope @ ROWS[i] / len(i) + 1e-2 * z)

    return vb.FiniteSum(losses, N, grad, check_grad=False, **keywords)


def full(problem, x):
    return float(np.mean(problem.losses(x, np.arange(N))))


@pytest.fixture(scope="module")
def optimum():
    problem = logistic()
    result = vb.minimize(problem, np.zeros(D), method="L-BFGS-B", options={"maxiter": 1000}, tol=1e-14)
    return full(problem, result.x)


def gap(problem, x, optimum, f_scale=1.0):
    start = full(problem, np.zeros(D))
    return (full(problem, x) - f_scale * optimum) / (start - f_scale * optimum)


@pytest.mark.parametrize("control", ["auto", "gradients", "projections"])
def test_it_converges_without_tuning(control, optimum):
    problem = logistic()
    result = vb.minimize(problem, np.zeros(D), method=vb.vamo(control=control), rng=1, maxjev=25 * N, maxfev=25 * N)
    assert gap(problem, result.x, optimum) < 1e-5


@pytest.mark.parametrize("control", ["gradients", "projections"])
def test_variables_may_have_units_of_their_own(control, optimum):
    problem = logistic(x_scale=np.random.default_rng(5).permutation(np.geomspace(1e-2, 1e2, D)))
    result = vb.minimize(problem, np.zeros(D), method=vb.vamo(control=control), rng=1, maxjev=25 * N, maxfev=25 * N)
    assert gap(problem, result.x, optimum) < 1e-5


@pytest.mark.parametrize("start", [1e-6, 1e-2])
def test_a_gradient_that_is_small_because_others_start_near_zero_has_no_small_unit(start):
    """Weights of features to a power that is learned, too. Taken for units, they were left where they were."""
    rng = np.random.default_rng(3)
    logs = 0.5 * rng.standard_normal((N, 6))
    targets = np.exp(1.5 * logs) @ np.array([1.0, -1.0, 2.0, 0.5, -0.5, 1.5])

    def residuals(x, i):
        features = np.exp(logs[i] * (1.0 + x[6:]))
        return features, features @ x[:6] - targets[i]

    def grad(x, i):
        features, r = residuals(x, i)
        return np.r_[features.T @ r, x[:6] * ((features * logs[i]).T @ r)] / len(i)

    data = vb.FiniteSum(lambda x, i: 0.5 * residuals(x, i)[1] ** 2, N, grad=grad)
    x0 = np.r_[start * rng.standard_normal(6), np.zeros(6)]
    result = vb.minimize(data, x0, method="vamo", rng=1, maxjev=20 * N, maxfev=20 * N)
    assert full(data, result.x) < 0.05 * full(data, x0)


@pytest.mark.parametrize("preconditioner", ["guided", "diagonal", "none"])
@pytest.mark.parametrize("control", ["gradients", "none"])
def test_every_metric_makes_progress(preconditioner, control, optimum):
    problem = logistic()
    method = vb.vamo(control=control, preconditioner=preconditioner)
    result = vb.minimize(problem, np.zeros(D), method=method, rng=1, maxjev=20 * N, maxfev=20 * N)
    assert gap(problem, result.x, optimum) < 3e-2


@pytest.mark.parametrize("f_scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("x_scale", [1e-2, 1.0, 1e2])
def test_scales_of_f_and_x_do_not_matter(f_scale, x_scale, optimum):
    problem, worst = logistic(f_scale, x_scale), []
    start = full(problem, np.zeros(D))
    result = vb.minimize(
        problem,
        np.zeros(D),
        method="vamo",
        rng=2,
        maxjev=15 * N,
        maxfev=15 * N,
        callback=lambda x: worst.append(full(problem, x)),
    )
    assert gap(problem, result.x, optimum, f_scale) < 1e-3
    assert max(worst) < 2 * start


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    runs = [vb.minimize(logistic(), np.zeros(D), method="vamo", rng=r, maxjev=5 * N).x for r in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 0


def test_a_diverging_step_is_taken_back():
    """A measured step that is far too long is caught by the check on a fixed subsample."""
    from dataclasses import replace

    solver = vb.vamo(preconditioner="none")
    reckless = replace(solver.recipe.table.step, factor=1e3, highest=1e3)
    recipe = replace(solver.recipe, table=replace(solver.recipe.table, step=reckless))
    problem = logistic()
    result = vb.minimize(problem, np.zeros(D), method=replace(solver, recipe=recipe), rng=1, maxjev=20 * N)
    assert full(problem, result.x) < full(problem, np.zeros(D))


def test_values_take_no_value_between_snapshots():
    counts = []
    vb.minimize(
        logistic(),
        np.zeros(D),
        method=vb.vamo(0.1, control="values", n_directions=3, batch_size=20),
        rng=1,
        options={"maxiter": 40},
        maxfev=100 * N,
        callback=lambda intermediate_result: counts.append(intermediate_result.nfev_samples),
    )
    steps = np.diff(counts)
    assert len(steps) == 39
    assert np.count_nonzero(steps) == 1
    assert steps.max() == 4 * N


def resolved(info, size=10, **options):
    solver = vb.vamo(**options)
    found = solver.recipe.resolve(info, size, solver._batch_size(info, size))
    found = getattr(found, "recipe", found)  # of a measured step
    if found is solver.recipe.random:
        return "random"
    return "values" if isinstance(found, ControlVariate) else found.storage


@pytest.mark.parametrize(
    "options",
    [
        {"control": "projections", "rank": 3},
        {"control": "none", "preconditioner": "diagonal", "sampling": "iid"},
        {"control": "values", "mixing": "directions"},
        {"control": "values", "mixing": "vector"},
    ],
    ids=str,
)
def test_the_contract_of_solvers(options):
    testing.check_solver(vb.vamo(**options))


FULL = ProblemInfo(n_samples=1000, gradient="full")


@pytest.mark.parametrize(
    ("options", "info", "expected"),
    [
        ({}, FULL, "gradients"),
        ({"n_directions": 4}, FULL, "values"),
        ({"memory": 8.0 * 125 * 5, "rank": 4}, FULL, "projections"),
        ({"memory": 100.0}, FULL, "none"),
        ({"sampling": "iid"}, FULL, "none"),
        ({"sampling": "iid"}, ProblemInfo(n_samples=1000, gradient="full", grad_cost=50.0), "values"),
        ({"sampling": "iid"}, ProblemInfo(n_samples=1000, gradient="full", grad_cost=5.0), "none"),
        ({}, ProblemInfo(n_samples=1000, gradient="partial", unknown=np.arange(10) < 9), "gradients"),
        ({}, ProblemInfo(n_samples=1000), "gradients"),
        ({"control": "values"}, ProblemInfo(n_samples=1000), "random"),
        ({"control": "none"}, FULL, "none"),
    ],
)
def test_auto_follows_its_rule(options, info, expected):
    assert resolved(info, **options) == expected


def test_what_it_refuses_it_refuses_in_words():
    with pytest.raises(OptionError, match="control must be 'auto', 'values'"):
        vb.vamo(control="table")
    with pytest.raises(OptionError, match="are options of control='values', got control='gradients'"):
        vb.vamo(control="gradients", mixing=1.0)
    with pytest.raises(CapabilityError, match="FiniteSum"):
        vb.minimize(lambda x: float(x @ x), [1.0], method="vamo", jac=lambda x: 2 * x)
    with pytest.raises(CapabilityError, match="all coordinates"):
        vb.vamo(control="gradients").init(np.zeros(1001), seed=1, backend="numpy", info=ProblemInfo(n_samples=9))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_value_table_measures_its_step(scale):
    """Steps of a fixed first length left 1e-3 of the gap, and diverged on some networks."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((400, 6)) * np.arange(1, 7) ** -0.5
    targets = rows @ np.ones(6) + 0.1 * rng.standard_normal(400)
    best = np.linalg.lstsq(rows, targets, rcond=None)[0]
    data = vb.FiniteSum(
        lambda x, i: scale * (rows[i] @ x - targets[i]) ** 2,
        400,
        grad=lambda x, i: 2 * scale * rows[i].T @ (rows[i] @ x - targets[i]) / len(i),
    )
    result = vb.minimize(data, np.zeros(6), method=vb.vamo(control="values"), rng=0, maxjev=30 * 400)
    assert np.abs(result.x - best).max() < 1e-3
