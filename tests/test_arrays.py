"""x0 may be another library's array, also on a device: ``fun`` gets the same kind, and the run is the same run.

"device" is a real one where there is one (``pytest -m gpu``), else the stand-in of ``device_stand_in``.
"""

from __future__ import annotations

import numpy as np
import pytest
from device_stand_in import CC, stand_in

import vamo_bbo as vb
from vamo_bbo import backends
from vamo_bbo._errors import BackendUnavailable, CapabilityError, OptionError
from vamo_bbo.backends.cupy_gpu import CupyBackend
from vamo_bbo.core.replication import averaged
from vamo_bbo.core.types import Answer
from vamo_bbo.run.executors import serial

D, N = 12, 20
START = np.linspace(-1.0, 1.0, D)
ROWS = np.random.default_rng(0).normal(size=(N, D))
SIDES = np.random.default_rng(1).normal(size=N)


@pytest.fixture(params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def xp(request, tmp_path_factory, monkeypatch):
    """Return the namespace of the device, and let ``get("cupy")`` be its backend."""
    if request.param == "device":
        try:
            return backends.get("cupy").xp
        except BackendUnavailable as error:
            pytest.skip(str(error))
    if CC is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.getbasetemp() / "arrays-stand-in"
    folder.mkdir(exist_ok=True)
    made, device = backends._made, CupyBackend(stand_in(folder))
    monkeypatch.setattr(backends, "_made", lambda name: device if name == "cupy" else made(name))
    return device.xp


def value(x):
    return ((x - 0.3) ** 2).sum() + (x[1:] * x[:-1]).sum() * 0.1


def gradient(x):
    g = 2 * (x - 0.3)
    g[:-1] += 0.1 * x[1:]
    g[1:] += 0.1 * x[:-1]
    return g


def least_squares(rows, sides, seen=None):
    def losses(x, idx):
        if seen is not None:
            seen.extend([type(x), type(idx)])
        return (rows[idx] @ x - sides[idx]) ** 2

    def grad(x, idx):
        a = rows[idx]
        return 2.0 / len(idx) * (a.T @ (a @ x - sides[idx]))

    return vb.FiniteSum(losses, N, grad=grad)


PLAIN = {
    "zo-sgd": vb.zo_sgd(0.01),
    "zo-sgd, own step": vb.zo_sgd(),
    "zo-sgd, block": vb.zo_sgd(0.05, law="block", n_directions=3),
    "zo-sign-sgd": vb.zo_sign_sgd(0.02),
    "zo-adamm": vb.zo_adamm(0.05),
    "spsa": vb.spsa(),
    "adam": vb.adam(0.05),
    "sgd": vb.sgd(),
    "residual": vb.residual(0.05, law="sphere"),
}
SUMS = {
    "vamo": vb.vamo(0.02, control="values", batch_size=5),
    "vamo, no table": vb.vamo(0.02, control="values", table=False, batch_size=5),
    "vamo-paper": vb.vamo_paper(0.02, batch_size=5),
    "svrg": vb.svrg(0.02, batch_size=5),
    "adam": vb.adam(0.05, batch_size=5),
    "zo-svrg": vb.zo_svrg(0.005, batch_size=5),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_run_on_the_device_is_the_run_on_the_host(xp, name):
    seen = []

    def fun(x):
        seen.append(type(x))
        return value(x)

    jac = gradient if name in ("adam", "sgd", "residual") else None
    options = {"method": PLAIN[name], "jac": jac, "rng": 4, "maxfev": 300, "maxjev": 60}
    host = vb.minimize(value, START, **options)
    device = vb.minimize(fun, xp.asarray(START), **options)
    assert set(seen) == {xp.ndarray}
    assert isinstance(device.x, xp.ndarray)
    assert (device.nfev, device.njev, device.nit) == (host.nfev, host.njev, host.nit), device.log
    np.testing.assert_allclose(xp.asnumpy(device.x), host.x, rtol=1e-9, atol=1e-12)
    assert device.fun == pytest.approx(host.fun, rel=1e-9)


@pytest.mark.parametrize("name", SUMS)
def test_a_whole_run_on_a_finite_sum_is_the_run_on_the_host(xp, name):
    seen = []
    options = {"method": SUMS[name], "rng": 4, "maxfev": 2000, "maxjev": 400}
    host = vb.minimize(least_squares(ROWS, SIDES), START, **options)
    device = vb.minimize(least_squares(xp.asarray(ROWS), xp.asarray(SIDES), seen), xp.asarray(START), **options)
    assert set(seen) == {xp.ndarray}
    assert (device.nfev_samples, device.njev_samples) == (host.nfev_samples, host.njev_samples), device.log
    assert device.nit == host.nit > 3
    np.testing.assert_allclose(xp.asnumpy(device.x), host.x, rtol=1e-9, atol=1e-12)


def test_bounds_scale_and_fixed_variables_on_the_device(xp):
    bounds = [(-0.5, 0.2)] * (D - 1) + [(0.1, 0.1)]
    options = {"method": "zo-sgd", "bounds": bounds, "x_scale": 0.7, "rng": 1, "maxfev": 400}
    host = vb.minimize(value, START, **options)
    device = vb.minimize(value, xp.asarray(START), **options)
    np.testing.assert_allclose(xp.asnumpy(device.x), host.x, rtol=1e-9)
    assert float(device.x[-1]) == 0.1
    assert float(device.x.max()) <= 0.2


def test_a_vectorized_round_is_one_call_on_the_device(xp):
    shapes = []

    def fun(rows):
        shapes.append(rows.shape)
        assert isinstance(rows, xp.ndarray)
        return (rows**2).sum(axis=1)

    result = vb.minimize(
        fun, xp.asarray(START), method=vb.zo_sgd(0.02, n_directions=6), vectorized=True, maxfev=71, rng=0
    )
    assert result.nfev == 70  # x0, and rounds of seven, the first of which knows x0
    assert (7, D) in shapes
    assert result.fun < float((START**2).sum())


@pytest.mark.parametrize("large", [10, 1_000_000])
@pytest.mark.parametrize("fun", [value, lambda x: x[3:4].reshape(())], ids=["sum", "element"])
def test_the_host_waits_once_per_round_also_for_long_vectors(xp, monkeypatch, large, fun):
    waits = []
    read = xp.asnumpy
    monkeypatch.setattr(serial, "ROWS", 4)  # one point at a time, unless they are gathered
    monkeypatch.setattr(serial, "LARGE", large)
    monkeypatch.setattr(xp, "asnumpy", lambda a: waits.append(a.shape) or read(a))
    call = {"method": vb.zo_sgd(0.01), "rng": 0, "options": {"maxiter": 3}}
    device = vb.minimize(fun, xp.asarray(START), **call)
    assert waits.count((1 + 8,)) == 2  # the first round has the value at x0 already
    assert waits.count((8,)) == 1
    host = vb.minimize(fun, START, **call)
    np.testing.assert_allclose(read(device.x), host.x, rtol=1e-9)


def test_failures_on_the_device_are_counted_and_survived(xp):
    calls = [0]

    def fun(x):
        calls[0] += 1
        if calls[0] % 5 == 0:
            raise RuntimeError("crashed")
        return value(x) if calls[0] % 7 else xp.asarray(np.nan)

    result = vb.minimize(fun, xp.asarray(START), method=vb.zo_sgd(0.01), maxfev=200, rng=0)
    assert result.nfev <= 200
    assert result.n_failed > 40
    assert result.fun < float(value(START))


def test_a_host_start_with_the_cupy_backend_stays_a_host_start_for_the_user(xp):
    def fun(x):
        assert type(x) is np.ndarray
        return float(value(x))

    device = vb.minimize(fun, START, method=vb.zo_sgd(0.01), backend="cupy", maxfev=100, rng=3)
    host = vb.minimize(fun, START, method=vb.zo_sgd(0.01), maxfev=100, rng=3)
    assert type(device.x) is np.ndarray
    np.testing.assert_allclose(device.x, host.x, rtol=1e-9)


def test_replicated_gradients_are_averaged_on_the_device(xp):
    copies = [Answer((0, 0, 0, k), float(k), grad=xp.asarray([1.0 + 2 * k, 2.0])) for k in range(2)]
    (mean,), variance, freedom = averaged(copies, 2)
    assert isinstance(mean.grad, xp.ndarray)
    assert (mean.value, xp.asnumpy(mean.grad).tolist(), variance, freedom) == (0.5, [2.0, 2.0], 0.5, 1)
    assert xp.asnumpy(copies[0].grad).tolist() == [1.0, 2.0]


def test_auto_on_the_device(xp):
    result = vb.minimize(value, xp.asarray(START), jac=gradient, maxfev=500, rng=0)
    assert result.message.startswith("auto chose adam (x0 is on a CUDA device)")
    assert result.fun < float(value(START))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"method": "L-BFGS-B"}, "works on the host"),
        ({"method": "cma"}, "works on the host"),
        ({"workers": 2}, "workers cannot be used with an x0 on a CUDA device"),
        ({"journal": "run.db"}, "journal cannot be used"),
        ({"backend": "numba"}, "backend must be 'auto' or 'cupy', got 'numba'"),
        ({"constraints": [{"type": "eq", "fun": lambda x: x[0]}]}, "constraints cannot be used"),
    ],
)
def test_what_the_device_does_not_do_is_said_in_one_sentence(xp, more, message):
    with pytest.raises(OptionError, match=message):
        vb.minimize(value, xp.asarray(START), **{"method": "zo-sgd", **more})


def test_stored_gradients_are_refused_on_the_device(xp):
    with pytest.raises(CapabilityError, match="use control='values'"):
        vb.minimize(least_squares(xp.asarray(ROWS), xp.asarray(SIDES)), xp.asarray(START), method=vb.saga(0.1))


class Box:
    """The smallest array that speaks DLPack."""

    def __init__(self, inner):
        self.inner = inner

    def __dlpack__(self, **keywords):
        return self.inner.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


def from_dlpack(x):
    return Box(np.from_dlpack(x))


@pytest.mark.parametrize("method", ["auto", "L-BFGS-B", "Nelder-Mead", "zo-sgd", "adam"])
def test_any_array_that_speaks_dlpack_is_what_fun_receives(method):
    results = []

    def callback(intermediate_result):
        results.append(type(intermediate_result.x))

    def fun(x):
        assert isinstance(x, Box)
        return float(value(x.inner))

    def jac(x):
        return Box(gradient(x.inner))

    more = {"jac": jac} if method == "adam" else {}
    found = vb.minimize(fun, Box(START.copy()), method=method, maxfev=300, rng=0, callback=callback, **more)
    host = vb.minimize(value, START, method=method, maxfev=300, rng=0, jac=gradient if more else None)
    assert isinstance(found.x, Box)
    assert set(results) == {Box}
    np.testing.assert_array_equal(found.x.inner, host.x)
    assert found.nfev == host.nfev


def test_tensors_come_as_tensors_and_go_as_tensors():
    torch = pytest.importorskip("torch")
    rows, sides = torch.from_numpy(ROWS), torch.from_numpy(SIDES)
    seen = []
    x0 = torch.from_numpy(START).requires_grad_()
    options = {"method": SUMS["vamo"], "rng": 4, "maxfev": 2000, "maxjev": 400}
    found = vb.minimize(least_squares(rows, sides, seen), x0, **options)
    host = vb.minimize(least_squares(ROWS, SIDES), START, **options)
    assert set(seen) == {torch.Tensor}
    np.testing.assert_allclose(found.x.numpy(), host.x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "L-BFGS-B", "spsa", "cma"])
def test_values_may_be_tensors_that_record_gradients(method):
    torch = pytest.importorskip("torch")

    def fun(x):
        return ((torch.tensor(x, requires_grad=True) - 1) ** 2).sum()

    result = vb.minimize(fun, np.zeros(3), method=method, maxfev=40, rng=0)
    assert result.n_failed == 0
    assert result.fun < 3.0


def test_known_points_may_be_tensors():
    torch = pytest.importorskip("torch")
    known = [(torch.ones(3, requires_grad=True), 0.0)]
    result = vb.minimize(
        lambda x: float(((x - 1) ** 2).sum()), np.zeros(3), method="spsa", maxfev=5, known_points=known
    )
    assert result.x.tolist() == [1.0, 1.0, 1.0]
