"""Bad input gets one sentence that names the argument, the value it had and what is allowed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.backends import get

N, D = 6, 3
A = np.arange(N * D, dtype=np.float64).reshape(N, D) / 10


def sphere(x):
    return float(x @ x)


def losses(x, i):
    return (A[i] @ x - 1.0) ** 2


def grad(x, i):
    return 2 * A[i].T @ (A[i] @ x - 1.0) / len(i)


def data(**changes):
    keywords = {"losses": losses, "n_samples": N, "grad": grad, **changes}
    return vb.FiniteSum(keywords.pop("losses"), keywords.pop("n_samples"), **keywords)


X0 = np.zeros(D)

CASES = {
    "mistyped option": (
        lambda: vb.minimize(sphere, X0, method="zo-sgd", options={"smothing": 0.1}),
        "smothing.*did you mean 'smoothing'",
    ),
    "mistyped method": (lambda: vb.minimize(sphere, X0, method="zo-sdg"), "zo-sdg.*did you mean 'zo-sgd'"),
    "x0 of rank 2": (lambda: vb.minimize(sphere, [[1.0, 2.0]]), r"'x0' must only have one dimension.*\(1, 2\)"),
    "empty x0": (lambda: vb.minimize(sphere, []), "x0 must have at least one element"),
    "NaN in x0": (lambda: vb.minimize(sphere, [0.0, np.nan]), "x0 must be finite, got nan at position 1"),
    "losses of the wrong length": (
        lambda: vb.minimize(data(losses=lambda x, i: np.zeros(2)), X0, method="sgd"),
        r"losses must return one value per sample.*got shape \(2,\)",
    ),
    "grad of the wrong shape": (
        lambda: vb.minimize(data(grad=lambda x, i: np.zeros(D + 1)), X0, method="sgd"),
        r"grad must return a gradient of shape \(3,\), got shape \(4,\)",
    ),
    "grad of the wrong dtype": (
        lambda: vb.minimize(data(grad=lambda x, i: np.zeros(D, dtype=complex)), X0, method="sgd"),
        "grad must return real numbers, got an array of dtype complex128",
    ),
    "negative budget": (lambda: vb.minimize(sphere, X0, method="zo-sgd", maxfev=-5), "maxfev must be .*got -5"),
    "a budget as text": (lambda: vb.minimize(sphere, X0, maxfev="50"), "maxfev must be a number .* got '50'"),
    "a callback that is none": (
        lambda: vb.minimize(sphere, X0, method="spsa", callback=3),
        "callback must be callable",
    ),
    "nothing to minimize": (lambda: vb.minimize(None, X0), "fun must be a callable or a FiniteSum, got None"),
    "negative time": (lambda: vb.minimize(sphere, X0, method="zo-sgd", max_time=-1.0), "max_time must be .*got -1.0"),
    "no samples": (lambda: data(n_samples=0), "n_samples must be a positive integer, got 0"),
    "losses not callable": (lambda: vb.FiniteSum(3.0, 5), "losses must be callable, got 3.0"),
    "batch larger than the data": (
        lambda: vb.minimize(data(), X0, method=vb.sgd(batch_size=7)),
        "batch_size must be at most n_samples=6, got 7",
    ),
    "no gradient for a method that needs one": (
        lambda: vb.minimize(data(grad=None), X0, method="svrg"),
        r"needs FiniteSum\(\.\.\., grad=\.\.\.\)",
    ),
    "no gradient of a callable": (lambda: vb.minimize(sphere, X0, method="adam"), "needs jac="),
    "no finite sum": (lambda: vb.minimize(sphere, X0, method="vamo"), "needs a FiniteSum"),
    "unknown backend": (lambda: vb.minimize(sphere, X0, method="zo-sgd", backend="numbda"), "numbda.*'numba'"),
    "unknown backend of auto": (lambda: vb.minimize(sphere, X0, backend="numbda"), "numbda.*'numba'"),
    "unknown backend of scipy's": (lambda: vb.minimize(sphere, X0, method="BFGS", backend="numbda"), "numbda.*'numba'"),
    "a callback that is none, under auto": (lambda: vb.minimize(sphere, X0, callback=3), "callback must be callable"),
    "a tolerance as text": (lambda: vb.minimize(sphere, X0, tol="1e-3"), "tol must be a number .* got '1e-3'"),
    "options that are no dict": (lambda: vb.minimize(sphere, X0, options=[1]), r"options must be a dict, got \[1\]"),
    "a seed as text": (lambda: vb.minimize(sphere, X0, method="spsa", rng="a"), "rng must be .* got 'a'"),
    "an unknown method that is like none": (lambda: vb.minimize(sphere, X0, method="tpe"), "tpe; known are .*cma"),
    "one bound for all that is no list": (
        lambda: vb.minimize(sphere, X0, bounds=(0, 1)),
        r"bounds must be .*got \(0, 1\)",
    ),
    "lower and upper bounds as two lists": (
        lambda: vb.minimize(sphere, X0, bounds=([0, 0, 0], [1, 1, 1])),
        r"bounds must be 3 \(min, max\) pairs",
    ),
    "too many bounds": (lambda: vb.minimize(sphere, X0, bounds=[(0, 1)] * 4), "bounds must be 3"),
    "bounds as text": (lambda: vb.minimize(sphere, X0, bounds="box"), "bounds must be .*got 'box'"),
    "bounds as a number": (lambda: vb.minimize(sphere, X0, bounds=1), "bounds must be .*got 1"),
    "bounds in a dict": (lambda: vb.minimize(sphere, X0, bounds={"a": (0, 1)}), "bounds must be .*got {'a'"),
    "bounds in the wrong order": (
        lambda: vb.minimize(sphere, X0, bounds=[(1, 0)] * D),
        "upper bound is less than the corresponding lower bound",
    ),
    "a bound that is NaN": (lambda: vb.minimize(sphere, X0, bounds=[(0, np.nan)] * D), "bounds must not be NaN"),
    "x0 as a dict": (
        lambda: vb.minimize(sphere, {"a": vb.Real(0, 1)}),
        r"x0 must be .*a Space of named parameters; got {'a': Real\(.* of type dict",
    ),
    "a space of pairs": (lambda: vb.Space(a=(0, 1)), r"needs at least one Real.*'a' is \(0, 1\)"),
    "a space without names": (lambda: vb.Space([vb.Real(0, 1)]), "Space: takes names"),
    "options without an order": (lambda: vb.Choice({"a", "b"}), "Choice: needs a list"),
    "known points of a space": (
        lambda: vb.minimize(sphere, vb.Space(a=vb.Real(0, 1)), known_points={"a": 0.5}),
        "known_points of a Space must be pairs .* got 'a'",
    ),
    "unknown on_error": (lambda: vb.minimize(sphere, X0, method="zo-sgd", on_error="ignore"), "on_error must be"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_what_was_wrong(case):
    call, message = CASES[case]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert isinstance(caught.value, vb.VamoError)
    assert "\n" not in str(caught.value)


def test_bounds_from_an_iterator_hold_everywhere():
    result = vb.minimize(sphere, X0 + 0.5, bounds=zip([0.25] * D, [1.0] * D, strict=True), maxfev=60, rng=0)
    np.testing.assert_array_equal(result.x, np.full(D, 0.25))


def test_a_method_may_be_given_by_its_function():
    limits = {"options": {"sigma": 0.1}, "maxfev": 40, "rng": 0}
    given, named = (vb.minimize(sphere, X0 + 1, method=method, **limits) for method in (vb.cma, "cma"))
    np.testing.assert_array_equal(given.x, named.x)


def test_options_of_a_choice_may_be_arrays():
    space = vb.Space(k=vb.Choice([np.ones(2), np.ones(3)]))
    assert space.from_unit([0.9])["k"].size == 3


def test_vector_valued_fun_gets_scipys_sentence():
    with pytest.raises(ValueError, match="The user-provided objective function must return a scalar value"):
        vb.minimize(lambda x: x, X0, method="zo-sgd")


def test_cupy_without_a_device_says_so():
    with contextlib.suppress(vb.BackendUnavailable):
        get("cupy")
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ImportError, match="cupy") as caught:
        vb.minimize(sphere, X0, method="zo-sgd", backend="cupy")
    assert isinstance(caught.value, vb.VamoError)


def test_a_wrong_gradient_is_noticed_at_x0():
    with pytest.warns(RuntimeWarning, match="grad"):
        vb.minimize(data(grad=lambda x, i: -grad(x, i)), X0, method="sgd", maxjev=60, rng=0)


def test_the_callers_arrays_are_neither_written_nor_kept():
    x0 = np.ones(D)
    x0.flags.writeable = False
    seen = []

    def fun(x):
        seen.append(x)
        return sphere(x)

    result = vb.minimize(fun, x0, method="zo-sgd", rng=0, maxfev=100)
    assert not np.shares_memory(result.x, x0)
    values = [sphere(x) for x in seen]  # points the caller kept were not overwritten later
    assert min(values) == result.fun
    seen[0][...] = 1e9
    np.testing.assert_array_equal(x0, np.ones(D))
