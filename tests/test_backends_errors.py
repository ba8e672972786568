"""What a backend does not accept is one clear error, the same on every backend, and nothing is copied in silence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from backend_cases import SEED, same_bits

from vamo_bbo._errors import BackendUnavailable, OptionError, StateError
from vamo_bbo._typing import Direction, Law, StoredDirection
from vamo_bbo.backends import get

D = 12
U = Direction(Law.RADEMACHER, 0, 0, 4)
X = np.zeros(D)


def readonly(d: int = D) -> np.ndarray:
    x = np.zeros(d)
    x.flags.writeable = False
    return x


@pytest.fixture(params=["numpy", "numba", "auto"])
def backend(request):
    return get(request.param)


@pytest.fixture
def bound(backend):
    arrays = {"rows": np.zeros((2, D)), "mask": np.ones(D), "short": np.zeros((2, D - 1)), "fine": np.ones(D, np.uint8)}
    return backend.bind(SEED, D, arrays)


BASE = np.zeros(2 * D)
PERTURB = {
    "x is not contiguous": (BASE[::2], X, (0, D), "contiguous"),
    "out is not contiguous": (X, np.zeros(2 * D)[::2], (0, D), "contiguous"),
    "out is an integer": (X, np.zeros(D, np.int64), (0, D), "int64"),
    "x is half precision": (np.zeros(D, np.float16), np.zeros(D, np.float16), (0, D), "float16"),
    "types differ": (X.astype(np.float32), np.zeros(D), (0, D), "dtype"),
    "out is read-only": (X, readonly(), (0, D), "read-only"),
    "out overlaps": (BASE[:D], BASE[1 : D + 1], (0, D), "overlap"),
    "x is a list": ([0.0] * D, np.zeros(D), (0, D), "list"),
    "x is too short": (X[:-1], np.zeros(D), (0, D), "shape"),
    "out is a matrix": (X, np.zeros((1, D)), (0, D), "shape"),
    "lo > hi": (X, np.zeros(D), (5, 3), "lo=5, hi=3"),
    "hi > d": (X, np.zeros(D), (0, D + 1), f"hi={D + 1}"),
    "lo < 0": (X, np.zeros(D), (-1, D - 1), "lo=-1"),
}


@pytest.mark.parametrize("case", PERTURB)
def test_arrays_that_perturb_refuses(bound, case):
    x, out, (lo, hi), message = PERTURB[case]
    with pytest.raises(OptionError, match=message):
        bound.perturb(x, U, 0.1, lo, hi, out)


NAMES = {
    "step < 0": Direction(Law.RADEMACHER, -1, 0, 4),
    "step too large": Direction(Law.NORMAL, 2**48, 0, 4),
    "step far too large": Direction(Law.NORMAL, 2**70, 0, 4),
    "index too large": Direction(Law.NORMAL, 0, 2**32, 4),
    "count < 0": Direction(Law.COORDINATE, 0, 0, -1),
    "tag too large": Direction(Law.RADEMACHER, 0, 0, 4, tag=256),
    "no blocks": Direction(Law.BLOCK, 0, 0, 0),
    "more blocks than coordinates": Direction(Law.BLOCK, 0, 0, D + 1),
    "coordinate outside": Direction(Law.COORDINATE, 0, D, 0),
    "unknown law": Direction(9, 0, 0, 1),
    "not a direction": (0, 0, 0, 1),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_are_refused(bound, case):
    u = NAMES[case]
    out = np.zeros(D)
    with pytest.raises(OptionError, match="direction"):
        bound.perturb(X, u, 0.1, 0, D, out)
    with pytest.raises(OptionError, match="direction"):
        bound.accumulate([(1.0, u)], [], 0, D, out)
    with pytest.raises(OptionError, match="direction"):
        bound.project(X, [u])
    with pytest.raises(OptionError, match="direction"):
        bound.norm2(u)
    with pytest.raises(OptionError, match="direction"):
        bound.fill(u, 0, D, out)
    with pytest.raises(OptionError, match="direction"):
        bound.perturb_rows(X, [u], [0.1], out[None])
    assert not out.any()


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (StoredDirection("nothing", 0, 0), "no state array 'nothing'"),
        (StoredDirection("rows", 0, 2), "row 2"),
        (StoredDirection("short", 0, 0), "row 0"),
        (U._replace(mask="nothing"), "no state array 'nothing'"),
        (U._replace(mask="mask"), "expected uint8"),
    ],
)
def test_state_arrays_that_do_not_fit(bound, u, message):
    with pytest.raises(StateError, match=message):
        bound.perturb(X, u, 0.1, 0, D, np.zeros(D))
    with pytest.raises(StateError, match=message):
        bound.accumulate([(1.0, u)], [], 0, D, np.zeros(D))


@pytest.mark.parametrize("warm", [False, True])
def test_other_operations_check_their_arrays_too(bound, warm):
    out = np.zeros(D)
    if warm:  # from the second call on there is a shorter way to the kernels
        bound.accumulate([(1.0, U)], [(1.0, X)], 0, D, out)
        bound.project(X, [U])
    with pytest.raises(OptionError, match="overlap"):
        bound.perturb_pair(X, U, 0.1, 0, D, out, out)
    with pytest.raises(OptionError, match="overlap"):
        bound.perturb_pair(out, U, 0.1, 0, D, out, np.zeros(D))
    with pytest.raises(OptionError, match="overlap"):
        bound.accumulate([], [(1.0, out)], 0, D, out)
    with pytest.raises(OptionError, match="overlap"):
        bound.accumulate([], [(1.0, BASE[1 : D + 1])], 0, D, BASE[:D])
    with pytest.raises(OptionError, match=r"dense\[0\] has shape"):
        bound.accumulate([], [(1.0, X[1:])], 0, D, out)
    with pytest.raises(OptionError, match=r"dense\[0\] is not contiguous"):
        bound.accumulate([], [(1.0, BASE[::2])], 0, D, out)
    with pytest.raises(OptionError, match=r"dense\[1\] has dtype float32"):
        bound.accumulate([], [(1.0, X), (1.0, X.astype(np.float32))], 0, D, out)
    with pytest.raises(OptionError, match="g has shape"):
        bound.project(X[:-1], [U])
    with pytest.raises(OptionError, match="not contiguous"):
        bound.dot(X, BASE[::2])
    with pytest.raises(OptionError, match="2 directions and hs 1"):
        bound.perturb_rows(X, [U, U], [0.1], np.zeros((2, D)))
    with pytest.raises(OptionError, match="out must be"):
        bound.perturb_rows(X, [U, U], [0.1, 0.1], np.zeros((3, D)))
    with pytest.raises(OptionError, match="read-only"):
        bound.fill(U, 0, D, readonly())
    for u in (StoredDirection("rows", 0, 0), Direction(Law.COORDINATE, 0, 1, 0)):
        with pytest.raises(OptionError, match="no words"):
            bound.words(u, 0, D)


def test_nothing_to_do_is_not_an_error(bound):
    out = np.ones(D)
    bound.accumulate([], [], 0, D, out)
    bound.perturb(X[:0], U, 0.1, 3, 3, out[:0])
    assert (out == 1).all()
    assert bound.project(X, []).shape == (0,)


def test_a_read_only_x_is_fine(bound):
    x, a, b = readonly(), np.zeros(D), np.zeros(D)
    bound.perturb(x, U, 0.1, 0, D, a)
    bound.perturb(x.copy(), U, 0.1, 0, D, b)
    assert same_bits(a, b)
    assert bound.dot(x, x) == 0.0


def test_keys_and_sizes(backend):
    for seed in (-1, 2**64):
        with pytest.raises(OptionError, match="64 bits"):
            backend.bind(seed, D, {})
    for size in (0, -3, 2**34 + 1):
        with pytest.raises(OptionError, match="size="):
            backend.bind(SEED, size, {})


def test_unknown_backends_and_threads():
    with pytest.raises(OptionError, match="did you mean 'numba'"):
        get("nunba")
    from vamo_bbo.backends.numba_cpu import NumbaBackend

    with pytest.raises(OptionError, match="threads=0"):
        NumbaBackend(threads=0)


def test_cupy_without_a_gpu_is_one_sentence():
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception:  # no package, no driver, no device: each has its own class
        with pytest.raises(BackendUnavailable, match="backend='cupy'"):
            get("cupy")
    else:
        assert get("cupy").name == "cupy"


def test_importing_the_package_loads_no_compiler():
    code = (
        "import sys, numpy as np, vamo_bbo\n"
        "from vamo_bbo.backends import get\n"
        "from vamo_bbo._typing import Direction, Law\n"
        "d = get('auto').bind(1, 10, {}); x = np.zeros(10)\n"
        "for step in range(200): d.perturb(x, Direction(Law.BLOCK, step, 0, 8), 0.1, 0, 10, x)\n"
        "sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
