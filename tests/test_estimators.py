"""Estimators against theory: unbiased, exact where they must be, with the right error order and variance."""

from __future__ import annotations

import numpy as np
import pytest
from loops import evaluate

import vamo_bbo as vb
from vamo_bbo import solvers
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo._typing import Law, Tag
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.solver import Context, Request, Stream
from vamo_bbo.core.types import Answer, Batch, ProblemInfo
from vamo_bbo.estimators import (
    CentralDifference,
    CoordinateDifference,
    Difference,
    ForwardDifference,
    parse_law,
)
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Plain, mixing_coefficients
from vamo_bbo.rules import Descent

D = 12
G = np.linspace(-1.0, 2.0, D)
LAWS = ["rademacher", "normal", "sphere", "coordinate", "block"]


def context(d=D, x=None, info=None, seed=3, dtype=np.float64):
    x0 = (np.zeros(d) if x is None else x).astype(dtype)
    state = Composite(Plain(ForwardDifference()), Descent(0.1)).init(
        x0, seed=seed, backend="numpy", info=info or ProblemInfo()
    )
    return Context(state)


def measure(estimator, ctx, f, step=0, batches=(None,), grad=None, n=None, spoil=None):
    request = Request("x", estimator, ctx.anchor("x"), batches, Stream(Tag.MAIN, step))
    probes = estimator.plan(request, ctx, 0)
    answers = [evaluate(ctx.state, p, f, grad, n) for p in probes]
    if spoil is not None:
        answers = [spoil(k, a) for k, a in enumerate(answers)]
    return estimator.reduce(request, ctx, probes, answers)


def dense(measured, ctx):
    out = np.empty(ctx.size)
    measured.estimate.fill(ctx.directions, 0, ctx.size, out)
    return out


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("central", [False, True])
def test_mean_over_directions_is_the_gradient(law, central):
    """On a linear function E[estimate] = g; a z-test over 1200 seeded steps with a fixed threshold of 4.5 sigma."""
    estimator = Difference(3, 1e-3, parse_law(law), central=central)
    ctx = context()
    rows = np.array([dense(measure(estimator, ctx, lambda x: G @ x, step), ctx) for step in range(1200)])
    z = (rows.mean(axis=0) - G) / (rows.std(axis=0) / np.sqrt(len(rows)) + 1e-15)
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("law", LAWS)
def test_one_direction_recovers_its_own_slope(law):
    """For one direction and a linear function the estimate is w <g, u> u with the law's factor w."""
    ctx = context()
    measured = measure(ForwardDifference(1, 1e-3, law), ctx, lambda x: G @ x)
    (u,) = measured.directions
    raw = np.empty(D)
    ctx.directions.fill(u, 0, D, raw)
    scale = np.sqrt(D) / np.linalg.norm(raw) if law == "sphere" else 1.0
    w = {"coordinate": D}.get(law, 1.0)
    np.testing.assert_allclose(dense(measured, ctx), w * (G @ raw) * raw * scale**2, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(measured.differences, [(G @ raw) * scale], rtol=1e-9)


def test_block_directions_over_all_blocks_give_projections_that_sum_to_the_gradient_norm():
    """With q = d blocks of one coordinate the estimate is the exact gradient."""
    ctx = context()
    measured = measure(ForwardDifference(D, 1e-3, "block"), ctx, lambda x: G @ x)
    np.testing.assert_allclose(dense(measured, ctx), G, atol=1e-9)


def test_coordinate_sweep_is_exact_on_a_quadratic():
    ctx = context(x=np.ones(D))
    measured = measure(CoordinateDifference(1e-2), ctx, lambda x: 0.5 * x @ (G * x))
    np.testing.assert_allclose(dense(measured, ctx), G, atol=1e-9)
    assert measured.value == pytest.approx(0.5 * G.sum() + 0.5 * np.mean(G) * 1e-4)


def test_error_order_in_the_smoothing():
    """Forward differences err by O(mu), central ones by O(mu^2), on a cubic."""

    def f(x):
        return float(np.sum(x**3 + x**2))

    def error(make, mu):
        ctx = context(x=np.full(D, 0.7))
        exact = measure(make(4, 1e-6), ctx, f)
        return np.abs(np.subtract(measure(make(4, mu), ctx, f).differences, exact.differences)).max()

    for make, order in ((ForwardDifference, 1), (CentralDifference, 2)):
        slope = np.log10(error(make, 1e-1) / error(make, 1e-2))
        assert slope == pytest.approx(order, abs=0.15)


def test_failed_leg_removes_its_direction_and_renormalizes():
    ctx = context()
    whole = measure(ForwardDifference(4, 1e-3), ctx, lambda x: G @ x)

    def fail(k, answer):
        return Answer(answer.id, error="ValueError: crash") if k == 2 else answer

    part = measure(ForwardDifference(4, 1e-3), ctx, lambda x: G @ x, spoil=fail)
    assert part.directions == whole.directions[:1] + whole.directions[2:]
    np.testing.assert_allclose(part.weights, np.full(3, 1 / 3))
    np.testing.assert_array_equal(part.differences, np.delete(whole.differences, 1))


@pytest.mark.parametrize("estimator", [ForwardDifference(4), FirstOrder()])
def test_failed_base_or_gradient_fails_the_measurement(estimator):
    ctx = context(info=ProblemInfo(gradient="full"))

    def fail(k, answer):
        return Answer(answer.id, error="ValueError: crash") if k == 0 else answer

    assert measure(estimator, ctx, lambda x: G @ x, grad=lambda x: G, spoil=fail) is None


def test_a_sample_that_fails_in_one_leg_leaves_that_difference_only():
    """Never a quotient of means over different samples: it would be of size 1/mu."""
    n = 6
    slopes = np.arange(n) + 1.0
    info = ProblemInfo(n_samples=n)
    ctx = context(info=info)

    def losses(x, i):
        return slopes[i] * (G @ x) + 100.0 * i

    def spoil(k, answer):
        if k != 1:
            return answer
        values = answer.values.copy()
        values[3] = np.nan
        return answer._replace(values=values)

    batches = (Batch("range", 0, n, n),)
    whole = measure(ForwardDifference(2, 1e-3), ctx, losses, batches=batches, n=n)
    part = measure(ForwardDifference(2, 1e-3), ctx, losses, batches=batches, n=n, spoil=spoil)
    keep = np.delete(slopes, 3)
    assert part.differences[0] == pytest.approx(whole.differences[0] * keep.mean() / slopes.mean(), rel=1e-8)
    assert part.differences[1] == whole.differences[1]


def test_partial_gradient_keeps_known_coordinates_exactly_and_fills_the_others():
    unknown = np.zeros(D, dtype=np.uint8)
    unknown[[2, 7, 8]] = 1
    info = ProblemInfo(gradient="partial", unknown=unknown)
    ctx = context(info=info)

    def grad(x):
        g = G.copy()
        g[unknown == 1] = np.nan
        return g

    few, rows = FirstOrder(ForwardDifference(2, 1e-3), single=2), []
    for step in range(1200):
        measured = measure(few, ctx, lambda x: G @ x, step, grad=grad)
        rows.append(dense(measured, ctx))
    rows = np.array(rows)
    np.testing.assert_array_equal(rows[:, unknown == 0], np.tile(G[unknown == 0], (1200, 1)))
    z = (rows.mean(axis=0) - G)[unknown == 1] / (rows.std(axis=0)[unknown == 1] / np.sqrt(1200))
    assert np.abs(z).max() < 4.0


def test_unbounded_laws_are_refused_inside_bounds():
    bounded = ProblemInfo(lower=-np.ones(3), upper=np.ones(3))
    for law in ("normal", "sphere"):
        with pytest.raises(CapabilityError, match="law='rademacher'"):
            solvers.zo_sgd(law=law).init(np.zeros(3), seed=0, backend="numpy", info=bounded)


def test_smoothing_is_capped_at_half_the_smallest_width():
    narrow = ProblemInfo(lower=np.array([-1.0, 0.0]), upper=np.array([1.0, 1e-3]))
    state = solvers.zo_sgd(0.1, smoothing=0.5).init(np.zeros(2), seed=0, backend="numpy", info=narrow)
    assert {abs(p.h) for p in solvers.zo_sgd(0.1, smoothing=0.5).ask(state)} == {5e-4}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Difference(0), "n_directions must be a positive integer, got 0"),
        (lambda: Difference(2.5), "n_directions must be a positive integer, got 2.5"),
        (lambda: Difference(smoothing=-1.0), "smoothing must be positive and finite, got -1.0"),
        (lambda: parse_law("radmacher"), "did you mean 'rademacher'"),
        (lambda: solvers.sgd(-0.1), "learning_rate must be positive or None, got -0.1"),
        (lambda: solvers.adam(beta1=1.0), "beta1 must satisfy 0 <= beta1 < 1, got 1.0"),
        (lambda: solvers.vamo(mixing="best"), "mixing must be 'paper', 'optimal' or a finite number, got 'best'"),
        (lambda: solvers.sgd(batch_size=0), "batch_size must be a positive integer, got 0"),
        (lambda: solvers.sgd(sampling="random"), "sampling must be 'auto', 'epoch', 'fixed' or 'iid', got 'random'"),
        (lambda: solvers.svrg(epoch_length=0), "epoch_length must be at least 1, got 0"),
        (lambda: solvers.zo_svrg(variant="ave"), "variant must be 'plain', 'average' or 'coordinate', got 'ave'"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def _one_step_ratio(law, q, d, alpha, draws=400):
    """Return Var(v) / Var(g_I) at the snapshot for random linear samples f_i(x) = <g_i, x>."""
    rng = np.random.default_rng(8)
    g = rng.normal(size=(40, d))
    g -= g.mean(axis=0)
    ctx = context(d=d)
    control = ForwardDifference(q, 1e-3, law)
    removed = total = 0.0
    for step in range(draws):
        us = control.directions(Request("x", control, ctx.anchor("x"), (), Stream(Tag.FULL, step)), ctx)
        raw = np.empty((q, d))
        for row, u in zip(raw, us, strict=True):
            ctx.directions.fill(u, 0, d, row)
        norms2 = (raw**2).sum(axis=1)
        scale2 = d / norms2 if law == "sphere" else np.ones(q)
        weight = 1.0 if law == "block" else 1.0 / q
        a = mixing_coefficients(alpha, parse_law(law), us, d, norms2)
        corrected = g - ((g @ raw.T) * (a * weight * scale2)) @ raw
        removed += (corrected**2).sum()
        total += (g**2).sum()
    return removed / total


@pytest.mark.parametrize("q", [1, 5, 20])
@pytest.mark.parametrize("alpha", ["paper", "optimal", 0.05])
def test_variance_at_the_snapshot_for_sphere_directions(q, alpha):
    """1 - 2a + a^2 (d + q - 1) / q, the formula of the documentation, within 0.015."""
    d = 50
    a = mixing_coefficients(alpha, Law.SPHERE, range(q), d, [1.0])[0]
    theory = 1 - 2 * a + a * a * (d + q - 1) / q
    assert _one_step_ratio("sphere", q, d, alpha) == pytest.approx(theory, abs=0.015)


@pytest.mark.parametrize("q", [4, 16, 50])
def test_variance_at_the_snapshot_for_blocks_is_one_minus_q_over_d(q):
    assert _one_step_ratio("block", q, 50, "optimal") == pytest.approx(1 - q / 50, abs=0.015)


def test_central_differences_leave_the_neighborhood_of_a_region_that_fails():
    # At rms length 0.1 every pair of points has a leg in the failing region, whatever the signs.
    def wall(x):
        if x[0] < -1.5:
            raise ArithmeticError("no solution here")
        return float(np.sum((x - 0.5) ** 2))

    result = vb.minimize(wall, np.array([-1.45, 2.0]), method=vb.spsa(0.2, smoothing=0.1), maxfev=1000, rng=0)
    assert result.n_failed > 0
    assert result.fun < 0.1
