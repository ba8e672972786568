"""What the local methods "fd-bfgs" and "interpolation" have in common."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import Counted, rosenbrock

import vamo_bbo as vb

METHODS = pytest.mark.parametrize("method", ["fd-bfgs", "interpolation"])


@METHODS
@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(0, 2**32), st.floats(0.0, 4.0), st.booleans())
def test_any_convex_quadratic_in_any_box(method, d, seed, decades, boxed):
    random = np.random.default_rng(seed)
    q = np.linalg.qr(random.standard_normal((d, d)))[0]
    matrix = (q * 10.0 ** np.linspace(0, decades, d)) @ q.T
    center, x0 = random.standard_normal(d), random.standard_normal(d)
    bounds = np.sort(random.standard_normal((d, 2)), axis=1) if boxed else None
    fun = Counted(lambda x: float(0.5 * (x - center) @ matrix @ (x - center)))
    result = vb.minimize(fun, x0, method=method, bounds=bounds, maxfev=5000)
    known = scipy.optimize.minimize(
        fun.fun, result.x, jac=lambda x: matrix @ (x - center), bounds=bounds, method="L-BFGS-B", tol=1e-14
    )
    assert result.success, result.message
    assert result.fun - known.fun <= 1e-6 * max(fun.values[0], 1e-3)
    if bounds is not None:
        points = np.array(fun.points)
        assert (points >= bounds[:, 0]).all()
        assert (points <= bounds[:, 1]).all()


@METHODS
@pytest.mark.parametrize("digits", [4, 5, 7])
def test_values_of_few_digits(method, digits):
    def fun(x):
        return float(f"{1.0 + np.sum((x - 0.3) ** 2):.{digits}g}")

    result = vb.minimize(fun, np.full(4, 2.0), method=method, maxfev=4000)
    assert result.success
    assert np.abs(result.x - 0.3).max() < (0.1 if digits == 4 else 1e-2)


@METHODS
def test_single_precision(method):
    fun = Counted(lambda x: float(np.sum((x - np.float32(0.7)) ** 2)))
    result = vb.minimize(fun, np.zeros(5, dtype=np.float32), method=method, maxfev=1000)
    assert {p.dtype for p in fun.points} == {np.dtype(np.float32)}
    assert result.x.dtype == np.float32
    assert np.abs(result.x - 0.7).max() < 1e-3


@METHODS
def test_workers_change_no_point(method):
    alone, together = Counted(rosenbrock), Counted(rosenbrock)
    start = np.array([-1.2, 1.0, 2.0])
    first = vb.minimize(alone, start, method=method, maxfev=300)
    with ThreadPoolExecutor(3) as pool:
        second = vb.minimize(together, start, method=method, maxfev=300, workers=pool)
    np.testing.assert_array_equal(first.x, second.x)
    assert sorted(p.tobytes() for p in alone.points) == sorted(p.tobytes() for p in together.points)
