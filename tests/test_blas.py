"""Small linear algebra runs on one thread, and afterwards there are as many as before."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 - its library is loaded with it

import vamo_bbo as vb
from vamo_bbo import _blas

LIBRARIES = _blas._loaded()
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="no OpenBLAS of a wheel")


@pytest.fixture(autouse=True)
def two_threads():
    usual = numbers()
    for library in LIBRARIES:
        library.set(2)
    yield
    for library, number in zip(LIBRARIES, usual, strict=True):
        library.set(number)


def numbers():
    return [library.get() for library in LIBRARIES]


def test_within_there_is_one_thread_however_deep():
    with _blas.one_thread():
        with _blas.one_thread():
            assert set(numbers()) == {1}
        assert set(numbers()) == {1}
    assert set(numbers()) == {2}


def test_an_error_restores_the_number():
    with pytest.raises(ZeroDivisionError), _blas.one_thread():
        _ = 1 / 0
    assert set(numbers()) == {2}


def test_threads_that_overlap_restore_the_number_when_the_last_has_left():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with _blas.one_thread():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with _blas.one_thread():
        thread.start()
        inside.wait()
    assert set(numbers()) == {1}
    leave.set()
    thread.join()
    assert set(numbers()) == {2}


@pytest.mark.parametrize("method", ["quadratic", "interpolation", "bayes", "cma"])
def test_models_decompose_on_one_thread_and_the_objective_has_all(method, monkeypatch):
    seen = []
    for name in ("eigh", "qr", "cholesky", "inv"):
        plain = getattr(np.linalg, name)
        monkeypatch.setattr(np.linalg, name, lambda *a, f=plain, **k: (seen.append(numbers()), f(*a, **k))[1])
    solver = vb.Optimizer(np.full(3, 0.7), method, bounds=[(0.0, 1.0)] * 3, rng=0)
    for _ in range(12):
        trials = solver.ask()
        assert set(numbers()) == {2}
        solver.tell(trials, [float(((t.x - 0.2) ** 2).sum()) for t in trials])
    assert seen
    assert all(set(one) == {1} for one in seen)
