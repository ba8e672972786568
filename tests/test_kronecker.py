"""The Kronecker metric: what it is for gradients that have that form, its invariances, its bits, and what it gains."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from processes import printed

import vamo_bbo as vb
from vamo_bbo import testing
from vamo_bbo._errors import OptionError
from vamo_bbo.kronecker import LARGEST_SIDE, POWER, Kronecker, product

ROWS, COLUMNS = 4, 6
SHAPES = [(ROWS, COLUMNS), (ROWS,), (1, 3)]
SIZE = ROWS * COLUMNS + ROWS + 3


def learn(metric, rows, batch_size=1.0, *, rounds=2, memory=math.inf):
    """Return the metric's state after these gradients, refreshed after each of so many equal parts."""
    size = rows.shape[1]
    arrays = {s.name: np.zeros(s.shape, "float64" if s.dtype == "x" else s.dtype) for s in metric.arrays(size)}
    scalars: dict[str, float] = {}
    for part in np.array_split(rows, rounds):
        for row in part:
            metric.add(arrays, scalars, row, batch_size)
        metric.refresh(arrays, scalars, memory)
    return arrays, scalars


def matrix_of(metric, arrays, scalars, size):
    return np.array([metric.apply(arrays, scalars, e) for e in np.eye(size)])


def mixing(size, seed):
    """Return a well-conditioned matrix without symmetry, with singular values from 1 to 4."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2))
    return (left * np.geomspace(1.0, 4.0, size)) @ right


def factored(count, seed=0):
    """Draw gradients A Z B + mean, and return their covariance (A A') x (B' B) too."""
    a, b = mixing(ROWS, 1), mixing(COLUMNS, 2)
    noise = np.random.default_rng(seed).standard_normal((count, ROWS, COLUMNS))
    return (a @ noise @ b).reshape(count, -1) + 2.0, np.kron(a @ a.T, b.T @ b)


def test_it_whitens_gradients_of_kronecker_form():
    """P^-1 is the inverse covariance to the power p, once what was measured in the first bases is forgotten."""
    metric = Kronecker([(ROWS, COLUMNS)])
    rows, covariance = factored(20_000)
    found = matrix_of(metric, *learn(metric, rows, rounds=20, memory=3000.0), ROWS * COLUMNS)
    values, vectors = np.linalg.eigh(covariance)
    white = (vectors * values ** (POWER / 2)) @ vectors.T
    assert values[-1] / values[0] > 100
    np.testing.assert_allclose(white @ found @ white, np.eye(len(values)), atol=0.15)


def test_it_is_symmetric_and_positive():
    metric = Kronecker(SHAPES)
    rows = np.random.default_rng(1).standard_normal((30, SIZE))
    found = matrix_of(metric, *learn(metric, rows), SIZE)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12 * np.abs(found).max())
    assert np.linalg.eigvalsh(found)[0] > 0
    assert np.abs(found[:24, 24:]).max() == 0.0  # layers do not mix


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scaling_gradients_scales_the_metric(scale):
    metric, v = Kronecker(SHAPES), np.cos(np.arange(SIZE))
    rows = np.random.default_rng(2).standard_normal((50, SIZE)) * np.linspace(1.0, 3.0, SIZE)
    plain = metric.apply(*learn(metric, rows), v)
    scaled = metric.apply(*learn(metric, scale * rows), v)
    np.testing.assert_allclose(scale ** (2 * POWER) * scaled, plain, rtol=1e-7)


def test_rotating_a_layer_rotates_the_step():
    """A metric of coordinates depends on them; this one turns with the layer's inputs and outputs."""
    metric = Kronecker([(ROWS, COLUMNS)])
    rows = factored(300)[0].reshape(-1, ROWS, COLUMNS)
    u, w = (np.linalg.qr(np.random.default_rng(s).standard_normal((n, n)))[0] for s, n in ((3, ROWS), (4, COLUMNS)))

    def step(turn):
        # Bases as they are at the end from the first gradient on: the same ones in both runs.
        arrays, scalars = learn(metric, np.array([turn(g).ravel() for g in rows]))
        arrays["rotated"][...] = 0
        scalars["sketch_known"] = 0.0
        for g in rows:
            metric.add(arrays, scalars, turn(g).ravel(), 1.0)
        metric.refresh(arrays, scalars, math.inf)
        return metric.apply(arrays, scalars, turn(rows[0]).ravel()).reshape(ROWS, COLUMNS)

    np.testing.assert_allclose(step(lambda g: u @ g @ w.T), u @ step(lambda g: g) @ w.T, rtol=1e-6, atol=1e-8)


def test_a_refresh_without_gradients_changes_nothing():
    metric = Kronecker(SHAPES)
    arrays, scalars = learn(metric, np.random.default_rng(5).standard_normal((40, SIZE)))
    before, total = matrix_of(metric, arrays, scalars, SIZE), arrays["rotated"].sum()
    metric.refresh(arrays, scalars, math.inf)
    np.testing.assert_allclose(matrix_of(metric, arrays, scalars, SIZE), before, rtol=1e-7, atol=1e-9)
    assert arrays["rotated"].sum() == pytest.approx(total)


def test_a_vector_has_its_variances():
    metric = Kronecker([(5,)])
    rows = np.random.default_rng(6).standard_normal((400, 5)) * np.arange(1.0, 6.0) + 7.0
    arrays, scalars = learn(metric, rows)
    np.testing.assert_allclose(arrays["rotated"], rows.var(axis=0), rtol=1e-10)
    found = matrix_of(metric, arrays, scalars, 5)
    assert np.count_nonzero(found - np.diag(np.diag(found))) == 0


def test_a_batch_counts_as_its_samples():
    """Means of b samples, given as such, have the covariance of single ones."""
    rows = np.random.default_rng(7).standard_normal((40_000, 12))
    single, batches = rows[:10_000], rows.reshape(10_000, 4, 12).mean(axis=1)
    metric = Kronecker([(3, 4)])
    totals = [learn(metric, r, b)[0]["rotated"].sum() for r, b in ((single, 1.0), (batches, 4.0))]
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


def test_long_sides_and_vectors_take_no_matrices():
    long = LARGEST_SIDE + 1
    names = {s.name for s in Kronecker([(8, long), (long,), (1, 8), (4, 2, 2, 3)]).arrays(10 * long + 8 - long + 48)}
    assert names - {"center", "rotated", "metric"} == {
        "left0",
        "left0_basis",
        "left3",
        "left3_basis",
        "right3",
        "right3_basis",
    }


def test_a_longer_side_gets_its_basis_on_request():
    long = LARGEST_SIDE + 1
    names = {s.name for s in Kronecker([(8, long)], largest=long).arrays(8 * long)}
    assert {"left0_basis", "right0_basis"} <= names


def test_gradients_that_do_not_differ_leave_the_direction():
    metric, v = Kronecker([(2, 3)]), np.arange(6.0)
    np.testing.assert_allclose(metric.apply(*learn(metric, np.zeros((20, 6))), v), v, atol=1e-12)


def test_it_pays_on_a_factored_least_squares_problem():
    """Predictions u' W v with inputs of condition 100 on either side: the whole has 10^4."""
    rng = np.random.default_rng(8)
    n = 600
    u = rng.standard_normal((n, 5)) * np.geomspace(1.0, 0.1, 5) @ mixing(5, 9)
    v = rng.standard_normal((n, 7)) * np.geomspace(1.0, 0.1, 7) @ mixing(7, 10)
    rows = np.einsum("ki,kj->kij", u, v).reshape(n, 35)
    targets = rows @ rng.standard_normal(35) + 0.1 * rng.standard_normal(n)

    def grad(x, i):
        return rows[i].T @ (rows[i] @ x - targets[i]) / len(i)

    data = vb.FiniteSum(lambda x, i: 0.5 * (rows[i] @ x - targets[i]) ** 2, n, grad)
    best = np.linalg.lstsq(rows, targets, rcond=None)[0]

    def gap(metric):
        result = vb.minimize(
            data, np.zeros(35), method=vb.vamo(preconditioner=metric), rng=1, maxjev=10 * n, maxfev=1e9
        )
        return np.mean((rows @ (result.x - best)) ** 2)

    assert gap(Kronecker([(5, 7)])) < 0.2 * min(gap("none"), gap("diagonal"))


def test_the_contract_of_solvers():
    testing.check_solver(vb.vamo(preconditioner=Kronecker([(2, 3), (1,)])))


SCRIPT = """
import hashlib, math, numpy as np
from vamo_bbo.kronecker import Kronecker
digest = hashlib.sha256()
for shape in ((40, 64), (200, 200), (96, 700)):
    metric, size, scalars = Kronecker([shape]), math.prod(shape), {}
    arrays = {s.name: np.zeros(s.shape, "float32" if s.dtype == "x" else s.dtype) for s in metric.arrays(size)}
    for row in np.random.default_rng(3).standard_normal((6, size)).astype("float32"):
        metric.add(arrays, scalars, row, 1.0)
    metric.refresh(arrays, scalars, math.inf)
    digest.update(metric.apply(arrays, scalars, np.cos(np.arange(size, dtype="float32"))).tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_blas_threads_changes_no_bit():
    assert printed(SCRIPT, 1) == printed(SCRIPT, 2)


@pytest.mark.parametrize("shape", [(3, 4, 5), (70, 90, 80), (1, 3000, 200)])
def test_products_in_pieces_are_the_products(shape):
    rng = np.random.default_rng(2)
    m, k, n = shape
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-10, atol=1e-10)


def test_it_takes_the_trainable_parameters_of_a_module():
    parts = [SimpleNamespace(shape=(3, 2), requires_grad=True), SimpleNamespace(shape=(9,), requires_grad=False)]
    assert Kronecker.of(SimpleNamespace(parameters=lambda: parts)) == Kronecker([(3, 2)])


def test_bad_options_are_named():
    with pytest.raises(OptionError, match="shapes must be the parameters' shapes"):
        Kronecker([])
    with pytest.raises(OptionError, match="shapes must be the parameters' shapes"):
        Kronecker([(3, 0)])
    with pytest.raises(OptionError, match="largest must be at least 1, got 0"):
        Kronecker([(3, 2)], largest=0)
    with pytest.raises(OptionError, match="shapes must have as many entries as x, 7, got 6"):
        Kronecker([(2, 3)]).arrays(7)
    with pytest.raises(OptionError, match=r"or an object such as vb.Kronecker.of\(module\), got 3"):
        vb.vamo(preconditioner=3)
