"""Cost of the journal per evaluation, beside Optuna's SQLite storage and its journal file.

Run ``python benchmarks/journal.py``; optuna is used where it is installed. The objective does nothing, so the time is
the bookkeeping's. Best of three rounds, interleaved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import vamo_bbo as vb

D = 10


def quadratic(x: np.ndarray) -> float:
    """Return a value at once."""
    return float(((x - 1) ** 2).sum())


def ours(count: int, path: Path | None) -> float:
    """Return milliseconds per evaluation of a run without journal, or with one."""
    start = time.perf_counter()
    result = vb.minimize(quadratic, np.zeros(D), method=vb.zo_sgd(0.02), rng=0, maxfev=count, journal=path)
    return 1e3 * (time.perf_counter() - start) / result.nfev


def optunas(count: int, storage: object) -> float:
    """Return milliseconds per trial of Optuna's random sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))  # type: ignore[arg-type]
    start = time.perf_counter()
    study.optimize(lambda t: quadratic(np.array([t.suggest_float(f"x{j}", -1, 1) for j in range(D)])), count)
    return 1e3 * (time.perf_counter() - start) / count


def contenders(folder: Path, count: int) -> dict[str, Callable[[int], float]]:
    """Return what is timed, by name: functions of the round."""
    found: dict[str, Callable[[int], float]] = {
        "vamo_bbo, no journal": lambda k: ours(count, None),
        "vamo_bbo, journal": lambda k: ours(count, folder / f"ours{k}.db"),
    }
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        return found
    few = max(30, count // 100)
    found["optuna, in memory"] = lambda k: optunas(few, None)
    found["optuna, SQLite"] = lambda k: optunas(few, optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna{k}.db"))
    found["optuna, journal file"] = lambda k: optunas(
        few, JournalStorage(JournalFileBackend(f"{folder}/optuna{k}.log"))
    )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        timings: dict[str, list[float]] = {}
        for k in range(3):
            for label, measure in contenders(Path(name), arguments.count).items():
                timings.setdefault(label, []).append(measure(k))
    best = {label: min(values) for label, values in timings.items()}
    for label, value in best.items():
        print(f"{label:24s} {value:9.4f} ms per evaluation")
    cost = best["vamo_bbo, journal"] - best["vamo_bbo, no journal"]
    print(f"{'our journal alone':24s} {cost:9.4f} ms per evaluation")
    if "optuna, SQLite" in best:
        theirs = best["optuna, SQLite"] - best["optuna, in memory"]
        print(f"Optuna's SQLite alone costs {theirs / cost:.0f} times as much")


if __name__ == "__main__":
    main()
