"""The CUDA backend gives the reference's bits: on a device where there is one, else on a stand-in for CuPy.

The stand-in has NumPy arrays for device arrays and runs the CUDA source compiled by the host's C compiler, so all of
the backend but the device itself is tried everywhere. On a machine with a GPU: ``pytest -m gpu``.
"""

from __future__ import annotations

import types

import numpy as np
import pytest
from backend_cases import SEED, directions, same_bits, state_arrays, vector
from device_stand_in import CC, OutOfMemoryError, stand_in

from vamo_bbo._errors import BackendUnavailable, OptionError
from vamo_bbo._typing import Direction, Law
from vamo_bbo.backends import get
from vamo_bbo.backends.cupy_gpu import CupyBackend, CupyDirections
from vamo_bbo.backends.reference import ReferenceDirections

SIZES = [1, 129, 2048, 4500]


@pytest.fixture(scope="module", params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def backend(request, tmp_path_factory):
    if request.param == "device":
        try:
            return get("cupy")
        except BackendUnavailable as error:
            pytest.skip(str(error))
    if CC is None:
        pytest.skip("there is no C compiler here")
    return CupyBackend(stand_in(tmp_path_factory.mktemp("stand-in")))


def pair(backend, d: int) -> tuple[ReferenceDirections, CupyDirections]:
    arrays = state_arrays(d)
    on_device = {name: backend.to_device(a) for name, a in arrays.items()}
    return ReferenceDirections(SEED, d, arrays), backend.bind(SEED, d, on_device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", SIZES)
def test_one_direction(backend, d, dtype):
    slow, fast = pair(backend, d)
    x = vector(d, dtype)
    for lo, hi in ((0, d), (d // 3, d - d // 5)):
        device = backend.to_device(x[lo:hi].copy())
        for u in directions(d):
            a, b = np.empty((2, hi - lo), dtype), [backend.to_device(np.zeros(hi - lo, dtype)) for _ in range(2)]
            slow.fill(u, lo, hi, a[0])
            fast.fill(u, lo, hi, b[0])
            assert same_bits(a[0], backend.xp.asnumpy(b[0])), u
            slow.perturb(x[lo:hi], u, 0.3, lo, hi, a[0])
            fast.perturb(device, u, 0.3, lo, hi, b[0])
            assert same_bits(a[0], backend.xp.asnumpy(b[0])), u
            slow.perturb_pair(x[lo:hi], u, 0.3, lo, hi, a[0], a[1])
            fast.perturb_pair(device, u, 0.3, lo, hi, b[0], b[1])
            assert same_bits(a[0], backend.xp.asnumpy(b[0])), u
            assert same_bits(a[1], backend.xp.asnumpy(b[1])), u
            assert slow.support(u, lo, hi) == fast.support(u, lo, hi)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", SIZES)
def test_many_directions(backend, d, dtype):
    slow, fast = pair(backend, d)
    x, us = vector(d, dtype), list(directions(d))
    signs = [(0.3 * i - 1, Direction(Law.RADEMACHER, 9, i, 20)) for i in range(20)]
    dense = [(-0.7, x[::-1].copy()), (0.2, x)]
    on_device = [(a, backend.to_device(g)) for a, g in dense]
    terms = [(0.1 * (i + 1), u) for i, u in enumerate(us)]
    for some, k in ((terms + signs, 2), (signs, 0), ([t for t in terms if t[1][0] == Law.BLOCK], 0), ([], 1), ([], 0)):
        for lo, hi in ((0, d), (d // 3, d - d // 5)):
            a, b = x[lo:hi].copy(), backend.to_device(x[lo:hi].copy())
            slow.accumulate(some, dense[:k], lo, hi, a)
            fast.accumulate(some, on_device[:k], lo, hi, b)
            assert same_bits(a, backend.xp.asnumpy(b))
    hs = [0.1 * k for k in range(len(us))]
    a, b = np.empty((len(us), d), dtype), backend.to_device(np.zeros((len(us), d), dtype))
    slow.perturb_rows(x, us, hs, a)
    fast.perturb_rows(backend.to_device(x), us, hs, b)
    assert same_bits(a, backend.xp.asnumpy(b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 129, 4500])
def test_reductions(backend, d, dtype):
    slow, fast = pair(backend, d)
    x, us = vector(d, dtype), list(directions(d))
    y = x[::-1].copy()
    g = backend.to_device(x)
    assert same_bits(slow.project(x, us), fast.project(g, us))
    assert slow.dot(x, y) == fast.dot(g, backend.to_device(y))
    for u in us:
        assert slow.norm2(u) == fast.norm2(u)
        assert fast.norm2(u) == slow.norm2(u)
    assert fast.project(g, []).shape == (0,)


@pytest.mark.parametrize("law", [Law.NORMAL, Law.RADEMACHER, Law.BLOCK])
def test_coordinates_beyond_32_bits(backend, law):
    d = 2**34
    lo, hi = 2**33 + 2**32 + 77, 2**33 + 2**32 + 5000
    slow, fast = ReferenceDirections(SEED, d, {}), backend.bind(SEED, d, {})
    a, b = np.empty(hi - lo, np.float32), backend.to_device(np.empty(hi - lo, np.float32))
    slow.fill(Direction(law, 1, 0, 1), lo, hi, a)
    fast.fill(Direction(law, 1, 0, 1), lo, hi, b)
    assert same_bits(a, backend.xp.asnumpy(b))


def test_words_are_those_of_the_reference(backend):
    slow, fast = pair(backend, 300)
    u = Direction(Law.NORMAL, 1, 2, 3)
    assert same_bits(slow.words(u, 5, 250), backend.xp.asnumpy(fast.words(u, 5, 250)))


def test_host_arrays_and_bad_names_are_refused(backend):
    d = 8
    _, fast = pair(backend, d)
    x, u = backend.to_device(np.zeros(d)), Direction(Law.RADEMACHER, 0, 0, 1)
    with pytest.raises(OptionError, match=r"out: backend='cupy' works on cupy arrays, got ndarray"):
        fast.perturb(x, u, 0.1, 0, d, np.zeros(d))
    with pytest.raises(OptionError, match="overlap"):
        fast.perturb_pair(x, u, 0.1, 0, d, x, backend.to_device(np.zeros(d)))
    with pytest.raises(OptionError, match="must agree"):
        fast.dot(x, backend.to_device(np.zeros(d, np.float32)))
    with pytest.raises(OptionError, match="direction"):
        fast.accumulate([(1.0, Direction(Law.BLOCK, 0, 0, 9))], [], 0, d, x)
    with pytest.raises(OptionError, match="hi=9"):
        fast.fill(u, 0, 9, x)


def test_arrays_come_and_go_as_the_caller_has_them(backend):
    x = np.arange(5.0)
    device = backend.to_device(x)
    assert isinstance(device, backend.xp.ndarray)
    assert backend.to_device(device) is device
    assert backend.like(device, device) is device
    assert type(backend.like(device, x)) is np.ndarray
    assert same_bits(backend.like(device, x), x)


def test_a_full_device_is_one_clear_error(backend, monkeypatch):
    def full(*_):
        raise (
            backend.xp.cuda.memory.OutOfMemoryError(10, 20, 0)
            if backend.xp.__class__ is not types.SimpleNamespace
            else OutOfMemoryError("no room")
        )

    monkeypatch.setattr(backend.xp, "asarray", full)
    with pytest.raises(BackendUnavailable, match="the device is out of memory"):
        backend.to_device(np.zeros(5))


@pytest.mark.gpu
def test_torch_tensors_on_the_device_are_shared_not_copied():
    torch = pytest.importorskip("torch")
    try:
        backend = get("cupy")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    tensor = torch.zeros(5, device="cuda")
    device = backend.to_device(tensor)
    device += 1
    assert tensor.sum().item() == 5.0
    assert backend.like(device, tensor).data_ptr() == tensor.data_ptr()


@pytest.mark.gpu
@pytest.mark.parametrize("law", list(Law))
def test_a_million_values_of_every_law_on_the_device(law):
    try:
        backend = get("cupy")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    d = 1_000_003
    a, b = np.empty(d, np.float32), backend.to_device(np.zeros(d, np.float32))
    ReferenceDirections(SEED, d, {}).fill(Direction(law, 1, 2, 3), 0, d, a)
    backend.bind(SEED, d, {}).fill(Direction(law, 1, 2, 3), 0, d, b)
    assert same_bits(a, backend.xp.asnumpy(b))
