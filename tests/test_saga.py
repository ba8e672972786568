"""SAGA, STORM and averaged SGD are the algorithms they say they are."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from loops import run

from vamo_bbo import solvers
from vamo_bbo._errors import OptionError
from vamo_bbo.core import sampling
from vamo_bbo.core.types import Batch

S = naive.Setting()
ETA, B, SEED = S.eta, S.b, 11


def fixed_batches():
    return [sampling.indices(Batch("fixed", 0, k, B), SEED, S.n) for k in range(sampling.n_batches(S.n, B))]


def visited(steps):
    return [sampling.batch_of_step("fixed", SEED, S.n, B, t).b for t in range(steps)]


def saga_loop(steps):
    x, batches = S.x0.astype(float), fixed_batches()
    weights = [len(batches) * len(i) / S.n for i in batches]
    table = np.zeros((len(batches), x.size))
    for t, k in enumerate(visited(steps)):
        g = weights[k] * S.grad(x, batches[k])
        v = g if t < len(batches) else g - table[k] + table.mean(axis=0)
        table[k] = g
        x = x - ETA * v
        yield x.copy()


def storm_loop(steps, decay):
    x, previous, v = S.x0.astype(float), None, None
    for t in range(steps):
        i = sampling.indices(sampling.batch_of_step("epoch", SEED, S.n, B, t), SEED, S.n)
        g = S.grad(x, i)
        v = g if v is None else g + (1 - decay) * (v - S.grad(previous, i))
        previous, x = x, x - ETA * v
        yield x.copy()


def averages(xs, power):
    average = np.zeros_like(S.x0, dtype=float)
    for t, x in enumerate(xs, start=1):
        average = average + (power + 1) / (t + power) * (x - average)
    return average


def test_saga_matches_its_naive_loop():
    xs = run(solvers.saga(ETA, batch_size=B), S.x0, losses=S.losses, grad=S.grad, n=S.n, steps=60, seed=SEED)
    for k, (x, expected) in enumerate(zip(xs, saga_loop(60), strict=True)):
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12, err_msg=f"step {k}")


@pytest.mark.parametrize("decay", [0.3, 1.0])
def test_storm_matches_its_naive_loop(decay):
    solver = solvers.storm(ETA, decay=decay, batch_size=B)
    xs = run(solver, S.x0, losses=S.losses, grad=S.grad, n=S.n, steps=60, seed=SEED)
    for k, (x, expected) in enumerate(zip(xs, storm_loop(60, decay), strict=True)):
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12, err_msg=f"step {k}")


def test_averaged_sgd_takes_sgd_steps_and_recommends_the_average():
    states = []
    solver = solvers.asgd(ETA, averaging=3.0, batch_size=B)
    keywords = {"losses": S.losses, "grad": S.grad, "n": S.n, "steps": 25, "seed": SEED}
    xs = list(run(solver, S.x0, **keywords, each=lambda state, answers: states.append(state)))
    plain = list(run(solvers.sgd(ETA, batch_size=B), S.x0, **keywords))
    np.testing.assert_allclose(xs, plain, rtol=0, atol=1e-14)
    np.testing.assert_allclose(solver.recommend(states[-1]), averages(xs, 3.0), rtol=0, atol=1e-13)


def test_bad_options_are_named():
    with pytest.raises(OptionError, match="decay must satisfy 0 < decay <= 1, got 0"):
        solvers.storm(decay=0)
    with pytest.raises(OptionError, match="averaging must be at least 0, got -1"):
        solvers.asgd(averaging=-1)
