"""Whole runs do not depend on the number of threads, of BLAS and of the kernels."""

from __future__ import annotations

import pytest
from processes import printed

SCRIPT = """
import hashlib, numpy as np, vamo_bbo as vb
digest = hashlib.sha256()
for size, options in ((40, {}), (600, {}), (600, dict(control="projections")), (600, dict(control="values"))):
    rng = np.random.default_rng(1)
    rows, targets = rng.standard_normal((240, size)), rng.standard_normal(240)
    def losses(x, idx):
        return np.logaddexp(0.0, -targets[idx] * np.einsum("ij,j->i", rows[idx], x))
    def grad(x, idx):
        slopes = -targets[idx] / (1.0 + np.exp(targets[idx] * np.einsum("ij,j->i", rows[idx], x))) / len(idx)
        return np.einsum("i,ij->j", slopes, rows[idx])
    data = vb.FiniteSum(losses, 240, grad=grad)
    for backend in BACKENDS:
        method = vb.vamo(batch_size=8, **options)
        result = vb.minimize(data, np.zeros(size), method=method, rng=0, maxjev=3 * 240, backend=backend)
        digest.update(result.x.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("backends", ["('numpy',)", "('numba',)"])
def test_one_and_two_threads_give_the_same_run(backends):
    script = SCRIPT.replace("BACKENDS", backends)
    assert printed(script, 1) == printed(script, 2)
