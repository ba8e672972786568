"""What an installed vamo_bbo must be able to do with its declared dependencies alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import vamo_bbo as vb


def main() -> None:
    """Check where the package lies, a plain objective, a finite sum and the compiled backend."""
    package = Path(vb.__file__).parent
    assert Path(sys.prefix) in package.parents, f"imported {package}, which is not the installed wheel"
    assert (package / "py.typed").exists(), "py.typed is missing from the wheel"
    absent = [name for name in ("problems", "tests", "benchmarks") if (package.parent / name).exists()]
    assert not absent, f"the wheel contains {absent}"

    result = vb.minimize(lambda x: float(x @ x), [1.0, -2.0], method="L-BFGS-B")
    assert result.success, result.message
    np.testing.assert_allclose(result.x, 0.0, atol=1e-4)

    rng = np.random.default_rng(0)
    a, target = rng.normal(size=(200, 5)), np.arange(5.0)
    data = vb.FiniteSum(
        lambda x, idx: 0.5 * (a[idx] @ (x - target)) ** 2,
        len(a),
        grad=lambda x, idx: a[idx].T @ (a[idx] @ (x - target)) / len(idx),
    )
    result = vb.minimize(data, np.zeros(5), method=vb.vamo(0.1), rng=0, maxfev=40_000)
    np.testing.assert_allclose(result.x, target, atol=1e-2)

    ends = [
        vb.minimize(lambda x: float(x @ x), np.ones(300), method=vb.zo_sgd(0.01), rng=7, maxfev=400, backend=name).x
        for name in ("numpy", "numba")
    ]
    np.testing.assert_array_equal(*ends)
    print(f"the wheel of vamo_bbo {vb.__version__} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
