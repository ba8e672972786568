"""Gradients whose unknown coordinates are measured by differences, and the solvers that work on them."""

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo._errors import CapabilityError
from vamo_bbo._typing import Tag
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.solver import Context, Request, Stream
from vamo_bbo.core.types import Answer, Batch, ProblemInfo
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Plain
from vamo_bbo.rules import Descent

N, D = 800, 6
RNG = np.random.default_rng(3)
ROWS = RNG.standard_normal((N, D)) * np.arange(1, D + 1) ** -0.5
SIGNS = np.where((ROWS.sum(axis=1) > 0) ^ (RNG.random(N) < 0.1), 1.0, -1.0)


def losses(x, idx):
    return np.logaddexp(0.0, -SIGNS[idx] * (ROWS[idx] @ x)) + 0.01 * float(x @ x)


def grad(x, idx):
    weights = -SIGNS[idx] / (1.0 + np.exp(SIGNS[idx] * (ROWS[idx] @ x)))
    return ROWS[idx].T @ weights / len(idx) + 0.02 * x


def partial(x, idx):
    g = grad(x, idx)
    g[[1, 4]] = np.nan
    return g


BEST = vb.minimize(vb.FiniteSum(losses, N, grad=grad), np.zeros(D), method="L-BFGS-B", tol=1e-14).x


def far(result):
    return np.abs(result.x - BEST).max()


def test_vamo_measures_missing_coordinates_on_its_mini_batches():
    """With random directions and a step of a fixed first length 0.6 was left."""
    problem = vb.FiniteSum(losses, N, grad=partial)
    result = vb.minimize(problem, np.zeros(D), rng=0, maxjev=10 * N, maxfev=40 * N)
    assert result.message.startswith("auto chose vamo ")
    assert far(result) < 2e-3


def test_vamo_works_without_a_gradient_at_all():
    """Random directions are at 0.2 after so many values."""
    result = vb.minimize(vb.FiniteSum(losses, N), np.zeros(D), rng=0, maxfev=5 * (D + 1) * N)
    assert result.message.startswith("auto chose vamo ")
    assert far(result) < 0.02
    assert result.njev_samples == 0


@pytest.mark.parametrize("method", ["sgd", "svrg", "saga"])
def test_the_others_of_the_family_measure_their_step_on_it(method):
    """Steps of a fixed first length left 0.4 and more, and saga refused."""
    problem = vb.FiniteSum(losses, N, grad=partial)
    assert far(vb.minimize(problem, np.zeros(D), method=method, rng=0, maxjev=10 * N, maxfev=40 * N)) < 0.1


def measured(x0, info, grad=None, **options):
    """Return what a mini-batch of all samples shows at ``x0``, and the points at which values were asked for."""
    estimator = FirstOrder(**options)
    state = Composite(Plain(estimator), Descent(0.1)).init(np.array(x0), seed=1, backend="numpy", info=info)
    ctx, seen = Context(state, N), []
    batch = Batch("range", 0, N, N)
    request = Request("x", estimator, ctx.anchor("x"), (batch,), Stream(Tag.MAIN, 0))
    probes, answers = estimator.plan(request, ctx, 0), []
    for probe in probes:
        if probe.want == "gradient":
            answers.append(Answer(probe.id, grad=grad.copy(), n_samples=N))
            continue
        x = np.array(x0)
        if info.lower is not None:
            x = x.clip(info.lower + probe.h, info.upper - probe.h)
        if probe.direction is not None:
            x[probe.direction[2]] += probe.h
        seen.append(x)
        answers.append(Answer(probe.id, values=losses(x, np.arange(N)), n_samples=N))
    return estimator.reduce(request, ctx, probes, answers).gradient, seen


@pytest.mark.parametrize("x", [np.linspace(-1.0, 1.0, D), np.full(D, 50.0)])
def test_unknown_coordinates_are_those_of_the_gradient(x):
    whole = grad(x, np.arange(N))
    given = np.where(np.arange(D) % 2, whole, 0.0)
    info = ProblemInfo(n_samples=N, gradient="partial", unknown=(np.arange(D) % 2 == 0).astype(np.uint8))
    found, points = measured(x, info, given)
    np.testing.assert_array_equal(found[1::2], whole[1::2])
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-7)
    assert len(points) == 1 + D // 2
    found, points = measured(x, ProblemInfo(n_samples=N), alone=True)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-7)
    assert len(points) == 1 + D


def test_differences_stay_within_the_bounds():
    lower, upper = np.full(D, -1.0), np.r_[np.ones(D - 1), -1.0 + 1e-7]
    x = np.r_[upper[:-1], lower[-1]]
    found, points = measured(x, ProblemInfo(n_samples=N, lower=lower, upper=upper), alone=True)
    assert all((lower <= p).all() and (p <= upper).all() for p in points)
    np.testing.assert_allclose(found, grad(x, np.arange(N)), atol=1e-5)


def test_many_unknown_coordinates_are_refused_or_measured_along_random_directions():
    few = FirstOrder(single=2)
    info = ProblemInfo(n_samples=N, gradient="partial", unknown=np.ones(3, dtype=np.uint8))
    assert not few.exact(info, 6)
    assert few.exact(ProblemInfo(n_samples=N, gradient="full"), 6)
    assert few.cost(info, 6) == (7, 1)  # six directions and the base
    with pytest.raises(CapabilityError, match="needs FiniteSum"):
        few.check(ProblemInfo(n_samples=N), 2)
    many = vb.FiniteSum(lambda x, idx: np.full(len(idx), float(x @ x)), 9)
    with pytest.raises(CapabilityError, match="at most 1000 to be measured"):
        vb.minimize(many, np.ones(1001), method=vb.vamo(control="gradients"), maxfev=1000)


def test_a_failed_difference_leaves_its_coordinate():
    """Beside a region where the losses fail, the others go on."""

    def fragile(x, idx):
        return np.full(len(idx), np.nan) if x[0] > 0 else losses(x, idx)

    result = vb.minimize(vb.FiniteSum(fragile, N), np.zeros(D), method="vamo", rng=0, maxfev=3 * (D + 1) * N)
    assert result.x[0] <= 0
    assert np.mean(losses(result.x, np.arange(N))) < 0.9 * np.log(2)


def test_the_value_of_a_sum_is_the_mean_over_its_pieces():
    info = ProblemInfo(n_samples=4, gradient="full", chunk_size=3)
    state = Composite(Plain(FirstOrder()), Descent(0.1), batch_size=2).init(
        np.zeros(2), seed=0, backend="numpy", info=info
    )
    ctx, measure = Context(state, 2), FirstOrder(of_sums=True)
    request = Request("whole", measure, ctx.anchor("x"), ctx.full_pass(), Stream(Tag.MAIN, 0))
    probes = measure.plan(request, ctx, 0)
    assert [probe.want for probe in probes] == ["both", "both"]
    answers = [
        Answer(probe.id, value, grad=np.full(2, value), n_samples=count)
        for probe, value, count in zip(probes, (1.0, 5.0), (3, 1), strict=True)
    ]
    measured = measure.reduce(request, ctx, probes, answers)
    assert measured.value == 2.0
    np.testing.assert_array_equal(measured.gradient, [2.0, 2.0])
