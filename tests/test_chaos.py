"""An objective that raises, hangs, returns NaN and kills its process: the run ends on budget, and repeats."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import children

import vamo_bbo as vb
from vamo_bbo.run.load import load

D = 6
RAISES, HANGS, NANS, DIES = 0.10, 0.05, 0.10, 0.02
TIMEOUT = 1.0


def smooth(x: np.ndarray) -> float:
    return float(((x - 1) ** 2 * np.arange(1, D + 1)).sum())


def fate(x: np.ndarray, attempt: int) -> str:
    """Return what happens in an attempt at ``x``: a function of both, so that a run repeats."""
    if not x.any():
        return "fine"  # x0 itself is a working set-up
    digest = hashlib.sha256(x.tobytes() + bytes([attempt])).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    for name, share in (("raises", RAISES), ("hangs", HANGS), ("nan", NANS), ("dies", DIES)):
        if u < share:
            return name
        u -= share
    return "fine"


class Chaotic:
    """Counts attempts in files, because they may be made in different processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, x: np.ndarray) -> float:
        with open(self.folder / hashlib.sha256(x.tobytes()).hexdigest(), "ab") as f:
            f.write(b".")
            attempt = f.tell()
        what = fate(x, attempt)
        if what == "raises":
            raise ArithmeticError("singular matrix")
        if what == "hangs":
            time.sleep(1000)
        if what == "dies":
            os._exit(11)
        return float("nan") if what == "nan" else smooth(x)


def run(fun: Callable[..., float], maxfev: int, **options: Any) -> Any:
    method = vb.zo_sgd(0.012, n_directions=6, law="block", smoothing=1e-3)
    return vb.minimize(fun, np.zeros(D), method=method, rng=5, maxfev=maxfev, retries=2, **options)


def expected_errors(data: Any) -> Counter[str]:
    """Return how often each fate must have been seen, from the order of the attempts at each point."""
    attempts: Counter[bytes] = Counter()
    fates: Counter[str] = Counter()
    for x in data.points:
        attempts[x.tobytes()] += 1
        fates[fate(x, attempts[x.tobytes()])] += 1
    return fates


def check(tmp_path: Path, maxfev: int, workers: tuple[int, ...]) -> None:
    files, before = len(os.listdir("/proc/self/fd")), children()
    calm = run(smooth, maxfev)
    results = []
    for count in workers:
        folder = tmp_path / f"attempts{count}"
        folder.mkdir()
        path = tmp_path / f"{count}.db"
        result = run(Chaotic(folder), maxfev, workers=count, eval_timeout=TIMEOUT, journal=path)
        assert maxfev - 7 < result.nfev <= maxfev  # ended on budget: the next round of 7 did not fit
        assert result.nfev == sum(f.stat().st_size for f in folder.iterdir())  # as the objective itself counted
        data = load(path)
        assert len(data.evaluations["value"]) == result.nfev
        fates = expected_errors(data)
        errors = Counter(str(e).partition(":")[0].partition(" after")[0] for e in data.evaluations["error"])
        assert errors["ArithmeticError"] == fates["raises"] > 0
        assert errors["timed out"] == fates["hangs"] > 0
        assert errors["the objective returned nan"] == fates["nan"] > 0
        assert errors["the worker process died"] == fates["dies"]
        assert errors["None"] == fates["fine"]
        results.append(result)
    for result in results:  # the same run whatever the number of workers
        assert result.x.tobytes() == results[0].x.tobytes()
        assert [r.fun for r in result.history] == [r.fun for r in results[0].history]
    assert smooth(results[0].x) <= min(r.fun for r in calm.history if r.nfev <= 0.65 * maxfev)
    assert len(os.listdir("/proc/self/fd")) == files
    assert children() <= before  # no child is left, not even a zombie


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts file descriptors in /proc")
def test_chaos_in_short(tmp_path: Path) -> None:
    check(tmp_path, 160, (4,))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts file descriptors in /proc")
def test_chaos(tmp_path: Path) -> None:
    check(tmp_path, 2000, (2, 8))
