"""The CUDA kernels without a GPU: their very source, compiled by the host's C compiler, gives the reference's bits."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from backend_cases import SEED, directions, same_bits, state_arrays, vector

from vamo_bbo._typing import AnyDirection, Array, Direction, Law, StoredDirection
from vamo_bbo.backends.cuda_source import KERNELS, source
from vamo_bbo.backends.reference import ReferenceDirections
from vamo_bbo.backends.table import device_row

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
NVCC = shutil.which("nvcc")
REAL = {"float32": ctypes.c_float, "float64": ctypes.c_double}
SUFFIX = {"float32": "f32", "float64": "f64"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if CC is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.c").write_text(source(), encoding="utf-8")
    flags = ["-O2", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([CC, *flags, "-o", str(folder / "k.so"), str(folder / "kernels.c")], check=True)
    return ctypes.CDLL(str(folder / "k.so"))


class Host:
    """Calls the kernels on NumPy arrays, a block after the other."""

    def __init__(self, library, d: int) -> None:
        self.library = library
        self.size = d
        self.arrays = state_arrays(d)
        self.reference = ReferenceDirections(SEED, d, self.arrays)

    def call(self, name: str, dtype: str, *args) -> None:
        converted = []
        for a in args:
            if isinstance(a, np.ndarray):
                converted.append(ctypes.c_void_p(a.ctypes.data))
            elif isinstance(a, np.floating):
                converted.append(REAL[str(a.dtype)](float(a)))
            else:
                converted.append(ctypes.c_uint64(a) if a >= 2**63 else ctypes.c_int64(a))
        getattr(self.library, f"{name}_{SUFFIX[dtype]}" if dtype else name)(*converted)

    def row(self, u: AnyDirection) -> list[int]:
        place = 0
        if isinstance(u, StoredDirection):
            place = self.arrays[u.array][u.row].ctypes.data
        elif u.mask is not None:
            place = self.arrays[u.mask].ctypes.data
        double = isinstance(u, StoredDirection) and self.arrays[u.array].dtype == np.float64
        return device_row(self.reference, u, place, double=double)

    def table(self, us: list[AnyDirection]) -> Array:
        return np.array([[*self.row(u), 0] for u in us], dtype=np.int64).reshape(-1, 8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 10, 129, 2048, 4500])
def test_one_direction(library, d, dtype):
    host, x = Host(library, d), vector(d, dtype)
    h = np.dtype(dtype).type(0.3)
    for lo, hi in ((0, d), (d // 3, d - d // 5)):
        for u in directions(d):
            place = (lo, hi, d, SEED, *host.row(u))
            a, b = np.empty((2, hi - lo), dtype), np.full((2, hi - lo), np.nan, dtype)
            host.reference.fill(u, lo, hi, a[0])
            host.call("fill", dtype, b[0], *place)
            assert same_bits(a[0], b[0]), u
            host.reference.perturb(x[lo:hi], u, 0.3, lo, hi, a[0])
            host.call("perturb", dtype, x[lo:hi], b[0], h, *place)
            assert same_bits(a[0], b[0]), u
            host.reference.perturb_pair(x[lo:hi], u, 0.3, lo, hi, a[0], a[1])
            host.call("perturb_pair", dtype, x[lo:hi], b[0], b[1], h, *place)
            assert same_bits(a, b), u


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 10, 129, 2048, 4500])
def test_many_directions(library, d, dtype):
    host, x, us = Host(library, d), vector(d, dtype), list(directions(d))
    signs = [Direction(Law.RADEMACHER, 9, i, 20) for i in range(20)]
    blocks = [Direction(Law.BLOCK, 3, i, min(d, 19)) for i in range(min(d, 19))]
    coordinates = [Direction(Law.COORDINATE, 3, i, 9) for i in range(3)]
    for some, dense in ((us + signs, 2), (signs, 0), (blocks, 0), (coordinates, 0), ([], 1)):
        table, coefs = host.table(some), np.linspace(-1, 1, len(some) + 1)[1:].copy()
        grads = [(0.5, x[::-1].copy()), (-0.25, x.copy())][:dense]
        weights = np.array([w for w, _ in grads])
        places = np.array([g.ctypes.data for _, g in grads], dtype=np.int64)
        for lo, hi in ((0, d), (d // 3, d - d // 5)):
            a, b = x[lo:hi].copy(), x[lo:hi].copy()
            host.reference.accumulate(list(zip(coefs, some, strict=True)), grads, lo, hi, a)
            rest = (lo, hi, d, SEED, len(some), coefs, table, dense, weights, places)
            host.call("accumulate", dtype, b, *rest)
            assert same_bits(a, b)
    hs = np.linspace(-1, 1, len(us))
    a, b = np.empty((len(us), d), dtype), np.full((len(us), d), np.nan, dtype)
    host.reference.perturb_rows(x, us, hs.tolist(), a)
    host.call("perturb_rows", dtype, x, b, hs, len(us), d, SEED, host.table(us))
    assert same_bits(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 129, 4500])
def test_reductions(library, d, dtype):
    host, x, us = Host(library, d), vector(d, dtype), list(directions(d))
    y, table, tiles = x[::-1].copy(), host.table(us), -(-d // 2048)
    for own in (0, 1):
        sums, totals = np.full((tiles, len(us)), np.nan), np.zeros(len(us))
        host.call("project_tiles", dtype, x, d, SEED, len(us), table, own, 0, tiles, sums)
        host.call("sum_tiles", "", sums, tiles, len(us), totals)
        norms = np.array([host.reference.norm2(u) for u in us])
        assert same_bits(totals, norms if own else host.reference.project(x, us))
    sums, totals = np.full(tiles, np.nan), np.zeros(1)
    host.call("dot_tiles", dtype, x, y, d, 0, tiles, sums)
    host.call("sum_tiles", "", sums, tiles, 1, totals)
    assert totals[0] == host.reference.dot(x, y)


@pytest.mark.parametrize("law", [Law.NORMAL, Law.RADEMACHER])
def test_coordinates_beyond_32_bits(library, law):
    d = 2**34
    lo, hi = 2**33 + 2**32 + 77, 2**33 + 2**32 + 3000
    reference, u = ReferenceDirections(SEED, d, {}), Direction(law, 1, 0, 1)
    host = Host(library, 1)
    a, b = np.empty(hi - lo, np.float32), np.empty(hi - lo, np.float32)
    reference.fill(u, lo, hi, a)
    host.call("fill", "float32", b, lo, hi, d, SEED, *device_row(reference, u, 0, double=False))
    assert same_bits(a, b)


def test_nvcc_compiles_it_without_approximations(tmp_path):
    if NVCC is None:
        pytest.skip("there is no nvcc here")
    (tmp_path / "kernels.cu").write_text(source(), encoding="utf-8")
    flags = ["-arch=sm_90", "-fmad=false", "-Werror", "all-warnings"]
    subprocess.run([NVCC, *flags, "-ptx", "-o", str(tmp_path / "k.ptx"), str(tmp_path / "kernels.cu")], check=True)
    ptx = (tmp_path / "k.ptx").read_text(encoding="utf-8")
    entries = set(re.findall(r"\.entry (\w+)", ptx))
    assert entries == {f"{name}_{suffix}" for name in KERNELS for suffix in ("f32", "f64")} | {"sum_tiles"}
    assert "sqrt.rn.f32" in ptx
    assert not re.search(r"\bfma|\.approx|\.ftz", ptx)
