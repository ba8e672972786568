"""Kernels compiled for other processors give the same bits, and compiled code is found again on disk."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HASHES = """
import hashlib, json
import numpy as np
from vamo_bbo._typing import Direction, Law
from vamo_bbo.backends.numba_cpu import NumbaDirections

d = 5003
x = np.random.default_rng(0).standard_normal(d)
result = {}
for dtype in ("float32", "float64"):
    directions = NumbaDirections(2**63 + 5, d, {}, 1)
    total = x.astype(dtype)
    us = [Direction(law, 3, i, 5) for law in Law for i in range(5)]
    hashes = hashlib.sha256()
    for u in us:
        out = np.empty(d, dtype)
        directions.perturb(x.astype(dtype), u, 0.1, 0, d, out)
        hashes.update(out.tobytes())
    directions.accumulate([(0.3, u) for u in us], [(0.1, x.astype(dtype))], 0, d, total)
    hashes.update(total.tobytes())
    hashes.update(directions.project(total, us).tobytes())
    result[dtype] = hashes.hexdigest()
print(json.dumps(result))
"""


def hashes(cpu: str | None, cache: str) -> str:
    names = {} if cpu is None else {"NUMBA_CPU_NAME": cpu}
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache, **names}
    done = subprocess.run([sys.executable, "-c", HASHES], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["generic", "nehalem", "haswell", "skylake-avx512"])
def test_other_processors_give_the_same_bits(cpu, tmp_path):
    features = {"haswell": "avx2", "skylake-avx512": "avx512f", "nehalem": "sse4.2"}
    if cpu in features:
        import llvmlite.binding as llvm

        if not llvm.get_host_cpu_features().get(features[cpu], False):
            pytest.skip(f"this processor has no {features[cpu]}")
    assert hashes(cpu, str(tmp_path / "a")) == hashes(None, str(tmp_path / "b"))


def test_compiled_code_is_keyed_by_all_its_sources(monkeypatch):
    from vamo_bbo.backends import compiled

    kernel = compiled.compiled("sum_tiles", "float64")
    cache = kernel._cache
    signature = kernel.signatures[0]
    codegen = kernel.targetdescr.target_context.codegen()
    before = cache._index_key(signature, codegen)
    monkeypatch.setattr(compiled._SourceCache, "digest", "another text")
    assert cache._index_key(signature, codegen) != before
