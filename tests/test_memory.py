"""What a large run holds: the iterate and one scratch vector, and never the caller's array."""

import tracemalloc

import numpy as np

import vamo_bbo as vb

SIZE, PIECE = 1_000_000, 65536


def blockwise(x):
    return float(sum(x[k : k + PIECE].dot(x[k : k + PIECE]) for k in range(0, x.size, PIECE)))


def descend(x0, steps):
    solver = vb.zo_sgd(1e-3, n_directions=8)
    return vb.minimize(blockwise, x0, method=solver, rng=0, backend="numba", options={"maxiter": steps})


def test_zo_sgd_holds_two_vectors():
    descend(np.ones(10, dtype=np.float32), 1)
    x0 = np.ones(SIZE, dtype=np.float32)
    tracemalloc.start()
    result = descend(x0, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.nit == 3
    assert peak <= 2.2 * x0.nbytes


def test_a_large_start_is_neither_written_nor_returned():
    x0 = np.ones(SIZE, dtype=np.float32)
    result = descend(x0, 2)
    assert (x0 == 1).all()
    assert x0.flags.writeable
    assert not np.shares_memory(result.x, x0)
    assert not np.array_equal(result.x, x0)
    result = descend(x0, 0)
    assert not np.shares_memory(result.x, x0)
