"""Sketches of a gradient covariance: against the covariance itself, in memory, and in bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from processes import printed

from vamo_bbo._errors import OptionError
from vamo_bbo.sketch import EXACT_BELOW, Diagonal, Guided, combination, preconditioner, projections, units_of


def make(sketch, size, dtype=np.float64):
    return {
        spec.name: np.zeros(spec.shape, dtype=dtype if spec.dtype == "x" else spec.dtype)
        for spec in sketch.arrays(size)
    }


def gradients(size, count, leading=8, seed=0):
    """Draw gradients whose covariance has a few large eigenvalues, and return it too."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, leading)))[0]
    scales = 10.0 * 0.7 ** np.arange(leading)
    rows = (rng.standard_normal((count, leading)) * scales) @ basis.T + 0.1 * rng.standard_normal((count, size))
    return rows + 3.0, (basis * scales**2) @ basis.T + 0.01 * np.eye(size)


@pytest.mark.parametrize("size", [40, 600])
def test_leading_eigenpairs_are_those_of_the_covariance(size):
    sketch, scalars = Guided(8), {}
    arrays = make(sketch, size)
    rows, covariance = gradients(size, 3000)
    for row in rows:
        sketch.add(arrays, scalars, row, 1.0)
    sketch.refresh(arrays, scalars, math.inf)
    factors = np.diag(arrays["units"]) if "units" in arrays else np.eye(size)
    covariance = factors @ covariance @ factors
    values, vectors = np.linalg.eigh(covariance)
    spectrum = arrays["spectrum"][:6] * np.trace(covariance) / scalars["sketch_trace"]
    np.testing.assert_allclose(spectrum, values[::-1][:6], rtol=0.25)
    overlap = np.linalg.norm(arrays["basis"][:4] @ vectors[:, ::-1][:, :8], axis=1)
    assert overlap.min() > 0.98
    assert scalars["sketch_trace"] == pytest.approx(1.0, rel=0.15)  # gradients count by what they are among the others


@pytest.mark.parametrize("size", [40, 600])
def test_the_metric_is_what_it_says(size):
    """P^-1 is the inverse of U' (lambda + rho) U plus the floor on the rest."""
    sketch, scalars = Guided(8), {}
    arrays = make(sketch, size)
    for row in gradients(size, 400)[0]:
        sketch.add(arrays, scalars, row, 4.0)
    sketch.refresh(arrays, scalars, math.inf)
    basis, spectrum = arrays["basis"], arrays["spectrum"]
    noise = scalars["sketch_trace"] / scalars["sketch_known"]
    floor = spectrum[-1] + noise
    p = floor * (np.eye(size) - basis.T @ basis) + (basis.T * (spectrum + noise)) @ basis
    if "units" in arrays:
        p /= np.outer(arrays["units"], arrays["units"])
    v = np.cos(np.arange(size))
    np.testing.assert_allclose(p @ sketch.apply(arrays, scalars, v), v, rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [40, 600])
def test_gradients_that_fall_count_alike(size):
    """Where every sample can be fitted noise falls fast: a covariance of the few first gradients is mostly chance."""
    shares = []
    for fall in (1.0, 0.99):
        sketch, scalars = Guided(8), {}
        arrays = make(sketch, size)
        rng = np.random.default_rng(0)
        for k in range(400):
            sketch.add(arrays, scalars, fall**k * rng.standard_normal(size), 1.0)
        sketch.refresh(arrays, scalars, math.inf)
        shares.append(arrays["spectrum"][0] / scalars["sketch_trace"])
    assert shares[1] < 1.6 * shares[0]  # as they are, they have the spectrum of 100: 1.8 and 3.7 times as much


@pytest.mark.parametrize("sketch", [Guided(8), Diagonal()])
def test_one_more_gradient_has_the_weight_of_its_samples(sketch):
    """As in a plain mean: a mini-batch of 4 after 400 of them."""
    arrays, scalars = make(sketch, 40), {}
    for row in gradients(40, 400)[0]:
        sketch.add(arrays, scalars, row, 4.0)
    sketch.refresh(arrays, scalars, math.inf)
    level = scalars.get("sketch_level", 1.0)  # by which a gradient is divided
    assert scalars["metric_share"] * level == pytest.approx(4.0 / 400)


def test_the_scale_of_gradients_does_not_matter_to_the_metric():
    v = np.sin(np.arange(30.0))
    results = []
    for scale in (1.0, 1e4):
        sketch, scalars = Guided(), {}
        arrays = make(sketch, 30)
        for row in gradients(30, 200)[0]:
            sketch.add(arrays, scalars, scale * row, 1.0)
        sketch.refresh(arrays, scalars, 100.0)
        results.append(sketch.apply(arrays, scalars, v))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9)


def test_units_of_coordinates_matter_neither_to_the_metric_nor_to_projections():
    rng, v, found = np.random.default_rng(3), np.sin(np.arange(30.0)), []
    units, rows = rng.permutation(np.geomspace(1e-3, 1e3, 30)), rng.standard_normal((400, 30))
    rows @= rng.standard_normal((30, 30))
    for factors in (np.ones(30), units):
        sketch, scalars = Guided(), {}
        arrays = make(sketch, 30)
        for row in rows:
            sketch.add(arrays, scalars, factors * row, 1.0)
        sketch.refresh(arrays, scalars, math.inf)
        found.append(factors * sketch.apply(arrays, scalars, factors * v))
        back = sketch.expand(arrays, sketch.project(arrays, factors * v))
        np.testing.assert_allclose(back / factors, v, atol=1e-9)
    assert np.linalg.norm(found[0] - found[1]) < 0.25 * np.linalg.norm(found[0])


def test_units_make_deviations_alike_and_rare_ones_count_less():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 12))
    assert np.ptp(units_of(rows)) < 0.6
    rows *= np.geomspace(1e-2, 1e2, 12)
    rows[:, 5] = 0.0
    rows[7, 5] = 1e-8
    units = units_of(rows)
    assert units[0] / units[10] > 1e3
    assert units[5] < 1e5  # one gradient of sixty: half of the exponent


def test_streaming_memory_is_rank_plus_four_vectors():
    size, rank = 10_000, 16
    held = sum(math.prod(spec.shape) for spec in Guided(rank).arrays(size))
    assert held <= (rank + 4) * size + 4 * rank


def test_gradients_that_do_not_differ_leave_the_direction():
    sketch, scalars = Guided(), {}
    arrays = make(sketch, 5)
    for _ in range(20):
        sketch.add(arrays, scalars, np.ones(5), 1.0)
    sketch.refresh(arrays, scalars, 100.0)
    np.testing.assert_allclose(sketch.apply(arrays, scalars, np.arange(5.0)), np.arange(5.0))


def test_the_diagonal_is_the_variance():
    sketch, scalars = Diagonal(), {}
    arrays = make(sketch, 50)
    rows = np.random.default_rng(1).standard_normal((4000, 50)) * np.linspace(1, 5, 50) + 2.0
    for row in rows:
        sketch.add(arrays, scalars, row, 1.0)
    sketch.refresh(arrays, scalars, math.inf)
    np.testing.assert_allclose(arrays["variance"], np.linspace(1, 5, 50) ** 2, rtol=0.15)
    noise = arrays["variance"].sum() / 4000
    np.testing.assert_allclose(sketch.apply(arrays, scalars, np.ones(50)) * (arrays["variance"] + noise), 1.0)


@pytest.mark.parametrize("shape", [(3, 7), (16, 5000)])
def test_products_in_pieces_are_the_products(shape):
    rng = np.random.default_rng(2)
    basis, v, c = rng.standard_normal(shape), rng.standard_normal(shape[1]), rng.standard_normal(shape[0])
    np.testing.assert_allclose(projections(basis, v), basis @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(combination(c, basis), c @ basis, rtol=1e-12, atol=1e-12)


SCRIPT = """
import hashlib, math, numpy as np
from vamo_bbo.sketch import Guided
digest = hashlib.sha256()
for rank, size in ((16, 200), (None, 200), (16, 5000)):
    sketch, scalars = Guided(rank), {}
    arrays = {s.name: np.zeros(s.shape) for s in sketch.arrays(size)}
    for row in np.random.default_rng(3).standard_normal((120, size)):
        sketch.add(arrays, scalars, row, 1.0)
    sketch.refresh(arrays, scalars, math.inf)
    digest.update(sketch.apply(arrays, scalars, np.cos(np.arange(size))).tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_blas_threads_changes_no_bit():
    assert printed(SCRIPT, 1) == printed(SCRIPT, 2)


def test_bad_options_are_named():
    with pytest.raises(OptionError, match="rank must be a positive integer or None, got 0"):
        Guided(0)
    with pytest.raises(OptionError, match="preconditioner must be 'guided', 'diagonal' or 'none', got 'full'"):
        preconditioner("full")
    assert Guided().count(EXACT_BELOW) == EXACT_BELOW
