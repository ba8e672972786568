"""Speed of the CUDA kernels against a device copy, CuPy's generator and torch; equality with the CPU on the way.

On a machine with a GPU, from the root of the repository::

    pip install -e '.[cuda12]'      # or cuda13
    python benchmarks/kernels.py --gpu --d 100000000 && python -m pytest -m gpu tests
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from vamo_bbo._typing import Direction, Law
from vamo_bbo.backends import get
from vamo_bbo.backends.numba_cpu import NumbaDirections

SEED = 2026


def times(xp: Any, works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of every work by device events, interleaved, after an untimed round."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for k in range(rounds + 1):
        for name, work in works.items():
            start, end = xp.cuda.Event(), xp.cuda.Event()
            start.record()
            work()
            end.record()
            end.synchronize()
            if k:
                seconds[name].append(xp.cuda.get_elapsed_time(start, end) / 1e3)
    return {name: statistics.median(values) for name, values in seconds.items()}


def equality(backend: Any, d: int = 1_000_003) -> None:
    """Compare every law, perturbed and accumulated, with the CPU, bit for bit."""
    host, device = NumbaDirections(SEED, d, {}), backend.bind(SEED, d, {})
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).standard_normal(d).astype(dtype)
        us = [Direction(law, 3, i, 5) for law in Law for i in range(2)]
        a, b, g = np.empty_like(x), backend.to_device(np.zeros_like(x)), backend.to_device(x)
        for u in us:
            host.perturb(x, u, 0.1, 0, d, a)
            device.perturb(g, u, 0.1, 0, d, b)
            assert a.tobytes() == backend.xp.asnumpy(b).tobytes(), u
        host.accumulate([(0.3, u) for u in us], [(0.1, x)], 0, d, a)
        device.accumulate([(0.3, u) for u in us], [(0.1, g)], 0, d, b)
        assert a.tobytes() == backend.xp.asnumpy(b).tobytes()
        assert host.project(a, us).tobytes() == device.project(b, us).tobytes()
    print("bits: the device agrees with the CPU for every law, float32 and float64")


def main(d: int, rounds: int) -> None:
    """Print the table of the device."""
    backend = get("cupy")
    xp = backend.xp
    equality(backend)
    bound = backend.bind(SEED, d, {})  # type: ignore[attr-defined]
    x, y = xp.zeros(d, np.float32), xp.zeros(d, np.float32)
    signs, normals = ([Direction(law, 3, i, 16) for i in range(16)] for law in (Law.RADEMACHER, Law.NORMAL))
    works: dict[str, Callable[[], object]] = {
        "device copy": lambda: xp.copyto(y, x),
        "perturb, Rademacher": lambda: bound.perturb(x, signs[0], 0.1, 0, d, y),
        "perturb, Gaussian": lambda: bound.perturb(x, normals[0], 0.1, 0, d, y),
        "accumulate 1, Rademacher": lambda: bound.accumulate([(0.1, signs[0])], [], 0, d, x),
        "accumulate 1, Gaussian": lambda: bound.accumulate([(0.1, normals[0])], [], 0, d, x),
        "accumulate 16, Rademacher": lambda: bound.accumulate([(0.1, u) for u in signs], [], 0, d, x),
        "accumulate 16, Gaussian": lambda: bound.accumulate([(0.1, u) for u in normals], [], 0, d, x),
        "cupy x + h * standard_normal": lambda: x + np.float32(0.1) * xp.random.standard_normal(d, dtype=np.float32),
        **_torch(d),
    }
    found = times(xp, works, rounds)
    copy = found["device copy"]
    device = xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"{device}, d = {d:.0e}, float32; a copy moves {8 * d / copy / 1e9:.0f} GB/s")
    for name, seconds in found.items():
        count = 16 if "16" in name else 1
        print(
            f"{name:30s} {seconds * 1e3:9.3f} ms  {100 * copy / seconds:6.1f} % of the copy"
            f"  {count / seconds:10.0f} directions/s"
        )


def _torch(d: int) -> dict[str, Callable[[], object]]:
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    tensor = torch.zeros(d, device="cuda")
    return {"torch x.add(randn)": lambda: tensor.add_(torch.randn(d, device="cuda"), alpha=0.1)}
