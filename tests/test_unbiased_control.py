"""Corrections by stored gradients have no bias, because their coefficients depend on earlier batches only."""

from __future__ import annotations

from dataclasses import replace

import naive
import numpy as np
import pytest
from loops import evaluate

from vamo_bbo.core import sampling
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.solver import Context
from vamo_bbo.core.types import Batch, ProblemInfo
from vamo_bbo.gradient_tables import GradientTable
from vamo_bbo.rules import Descent
from vamo_bbo.sketch import Guided
from vamo_bbo.solvers import vamo

S = naive.Setting()
B, SEED = S.b, 5

RECIPES = {
    "saga": GradientTable(mixing=1.0),
    "adaptive": GradientTable(),
    "guided": GradientTable(preconditioner=Guided(3)),
    "projections": GradientTable("projections", preconditioner=Guided(3)),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("steps", [12, 31])
def test_the_mean_over_all_batches_is_the_full_gradient(name, steps):
    """Exact, by enumeration: with the past fixed, the correction averages to zero over the next batch."""
    recipe = RECIPES[name]
    solver = Composite(recipe, Descent(0.02), B, "fixed")
    state = solver.init(S.x0, seed=SEED, backend="numpy", info=ProblemInfo(n_samples=S.n, gradient="full"))
    while state.step < steps:
        state = solver.tell(state, [evaluate(state, p, S.losses, S.grad, S.n) for p in solver.ask(state)])
    ctx, x = Context(state, B, "fixed"), state.arrays["x"]
    count = ctx.n_batches
    plain, corrected = [], []
    for k in range(count):
        batch = Batch("fixed", 0, k, B)
        g = ctx.weight(batch) * S.grad(x, sampling.indices(batch, SEED, S.n))
        control = recipe.control(ctx, k)
        assert control is not None
        plain.append(g)
        corrected.append(recipe.corrected(ctx, g, control))
    full = S.grad(x, np.arange(S.n))
    np.testing.assert_allclose(np.mean(corrected, axis=0), full, rtol=0, atol=1e-13 * np.abs(plain).max())
    changed = np.abs(np.array(corrected) - plain).max()
    assert changed > 1e-3 * np.abs(plain).max(), "the correction did nothing, so the test shows nothing"


@pytest.mark.parametrize("mixing", ["directions", "vector"])
def test_learned_corrections_of_the_value_table_average_to_zero(mixing):
    """Exact too: over the batches of an epoch the deviations cancel, and the coefficients are the past's."""
    size = 4
    solver = vamo(0.02, control="values", mixing=mixing, n_directions=3, batch_size=size, smoothing=1e-6)
    info = ProblemInfo(n_samples=S.n, gradient="full")
    state = solver.init(S.x0, seed=SEED, backend="numpy", info=info)
    count = sampling.n_batches(S.n, size)
    assert S.n % size == 0
    while state.step < 2 * count - 1:
        state = solver.tell(state, [evaluate(state, p, S.losses, S.grad, S.n) for p in solver.ask(state)])
    recipe, total, largest = solver.recipe.values, np.zeros(S.x0.size), 0.0
    assert recipe.coefficients(Context(state, size)) is not None
    for position in range(count):
        there = replace(state, step=count + position, cache={})
        ctx = Context(there, size)
        part = np.zeros(S.x0.size)
        recipe.correction(ctx, recipe.deviations(ctx)).fill(ctx.directions, 0, ctx.size, part)
        total, largest = total + part, max(largest, float(np.abs(part).max()))
    assert largest > 1e-3
    np.testing.assert_allclose(total, 0, atol=1e-9 * largest)


def test_the_vector_form_removes_more_than_its_directions():
    """Near the snapshot: variance of the corrected gradient, relative to the plain one, for the three forms."""
    left = {}
    for mixing in ("optimal", "directions", "vector"):
        solver = vamo(1e-9, control="values", mixing=mixing, n_directions=4, batch_size=B, epoch_length=400)
        info = ProblemInfo(n_samples=S.n, gradient="full")
        state = solver.init(S.x0, seed=SEED, backend="numpy", info=info)
        full, plain, corrected = S.grad(S.x0, np.arange(S.n)), 0.0, 0.0
        while state.step < 300:
            before, step = state.arrays["x"].copy(), state.step
            answers = [evaluate(state, p, S.losses, S.grad, S.n) for p in solver.ask(state)]
            state = solver.tell(state, answers)
            if state.step > max(step, 100):
                plain += float(np.sum((answers[0].grad - full) ** 2))
                corrected += float(np.sum(((before - state.arrays["x"]) / 1e-9 - full) ** 2))
        left[mixing] = corrected / plain
    assert left["vector"] < left["directions"] <= 1.01 * left["optimal"] < 1.0


def bias_of(lagged: bool, batches: int = 400_000, memory: float = 0.95) -> float:
    """Return the mean of a c over the deviation of c, for skewed noise and a regression coefficient a of g on c."""
    rng = np.random.default_rng(7)
    skewed = rng.exponential(size=batches) - 1.0
    c = skewed + 0.3 * rng.standard_normal(batches)
    g = skewed**2 + skewed
    total, products, squares = 0.0, 0.0, 1.0
    for gk, ck in zip((g - g.mean()).tolist(), (c - c.mean()).tolist(), strict=True):
        if not lagged:
            products, squares = memory * products + gk * ck, memory * squares + ck * ck
        total += products / squares * ck
        if lagged:
            products, squares = memory * products + gk * ck, memory * squares + ck * ck
    return total / batches / float(np.std(c)) / float(np.std(g))


def test_a_lagged_coefficient_has_no_bias_and_one_with_the_current_batch_has():
    """The reason for the lag: the same estimator including the present batch is biased by per cents."""
    assert abs(bias_of(lagged=True)) < 2e-3
    assert abs(bias_of(lagged=False)) > 1e-2


def test_the_coefficient_moves_from_sgd_to_saga():
    """0 while the table is useless or empty, near 1 when the run has converged."""
    recipe = GradientTable()
    solver = Composite(recipe, Descent(0.05), B, "fixed")
    state = solver.init(S.x0, seed=SEED, backend="numpy", info=ProblemInfo(n_samples=S.n, gradient="full"))
    ctx = Context(state, B, "fixed")
    assert recipe.coefficient(ctx) == 0.0
    while state.step < 400:
        state = solver.tell(state, [evaluate(state, p, S.losses, S.grad, S.n) for p in solver.ask(state)])
    assert recipe.coefficient(ctx) > 0.95
