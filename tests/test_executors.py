"""Executors: the same run whoever evaluates."""

import concurrent.futures as cf
import multiprocessing as mp
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run.executors import resolve
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.stop import Code


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


def fragile(x: np.ndarray) -> float:
    if x[0] > 0.2:
        raise ValueError("diverged")
    return bowl(x)


def trace(fun: Any = bowl, **options: Any) -> tuple[Any, ...]:
    result = vb.minimize(fun, np.zeros(4), method=vb.zo_sgd(0.2, n_directions=4), rng=3, maxfev=120, **options)
    return (result.fun, result.x.tobytes(), result.nfev, result.n_failed, [r.fun for r in result.history])


@pytest.mark.parametrize("fun", [bowl, fragile])
def test_every_executor_gives_the_serial_run_bit_for_bit(fun: Any) -> None:
    serial = trace(fun)
    with cf.ThreadPoolExecutor(3) as threads:
        assert trace(fun, workers=threads) == serial
    with cf.ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as processes:
        assert trace(fun, workers=processes) == serial
    assert trace(fun, workers=2) == serial
    assert trace(fun, workers=map) == serial
    with cf.ThreadPoolExecutor(3) as threads:
        assert trace(fun, workers=threads.map) == serial


def test_a_vectorized_round_equals_the_serial_run() -> None:
    sizes = []

    def rows(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return ((x - 1) ** 2).sum(1)

    assert trace(rows, vectorized=True) == trace()
    assert max(sizes) == 5


def test_threads_run_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=20)

    def meet(x: np.ndarray) -> float:
        barrier.wait()
        return bowl(x)

    started = []

    def fun(x: np.ndarray) -> float:
        started.append(1)
        return bowl(x) if len(started) == 1 else meet(x)  # x0 is evaluated alone

    with cf.ThreadPoolExecutor(3) as threads:
        method = vb.zo_sgd(0.1, n_directions=2)
        result = vb.minimize(fun, np.zeros(3), method=method, workers=threads, rng=0, options={"maxiter": 1})
    assert result.nfev == 3
    assert result.n_failed == 0


def test_the_objective_travels_once_per_worker() -> None:
    class Counting:
        sent = 0

        def __call__(self, x: np.ndarray) -> float:
            return bowl(x)

        def __reduce__(self) -> Any:
            Counting.sent += 1
            return (Plain, ())

    with cf.ProcessPoolExecutor(1, mp_context=mp.get_context("spawn")) as pool:
        vb.minimize(Counting(), np.zeros(3), method=vb.zo_sgd(), workers=pool, rng=0, maxfev=60)
    assert Counting.sent == 1


class Plain:
    def __call__(self, x: np.ndarray) -> float:
        return bowl(x)


def test_lambdas_and_closures_travel() -> None:
    shift = 2.0
    result = vb.minimize(
        lambda x: float(((x - shift) ** 2).sum()), np.zeros(2), method=vb.zo_sgd(), workers=2, rng=0, maxfev=30
    )
    assert result.n_failed == 0
    assert result.nfev > 20


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(vb.OptionError, match="cannot be sent to a worker process"):
        vb.minimize(lambda x: bowl(x) if lock else 0.0, np.zeros(2), method=vb.zo_sgd(), workers=2, maxfev=30)


@pytest.mark.parametrize("method", ["spsa", "L-BFGS-B"])
def test_a_broken_pool_ends_the_run_with_the_best_point(method: str, tmp_path: Path) -> None:
    log = tmp_path / "calls"

    def fun(x: np.ndarray) -> float:
        with open(log, "ab") as file:
            file.write(b".")
            if file.tell() >= 20:  # two that write at the same time may both see 19, then 21
                os.kill(os.getpid(), signal.SIGKILL)
        return bowl(x)

    with cf.ProcessPoolExecutor(2) as pool:
        result = vb.minimize(fun, np.full(6, 3.0), method=method, maxfev=90, workers=pool, rng=0, noisy=True)
    assert result.status == Code.WORKERS
    assert not result.success
    assert "pool of workers is broken" in result.message
    assert 15 <= result.nfev <= 22
    assert bowl(result.x) <= 24.0


def test_workers_name_themselves() -> None:
    seen = set()

    def note(record: Any) -> None:
        seen.add(record.worker)

    vb.minimize(fragile, np.full(4, 0.1), method=vb.zo_sgd(smoothing=0.5), workers=2, rng=0, maxfev=60, on_error=note)
    assert seen
    assert str(os.getpid()) not in seen


@pytest.mark.parametrize("workers", [0, -2, True, "two", 1.5, object()])
def test_bad_workers(workers: Any) -> None:
    with pytest.raises(vb.OptionError, match="workers must be"):
        resolve(workers, Objective(bowl, size=2))


def test_combinations_that_make_no_sense() -> None:
    with pytest.raises(vb.OptionError, match="vectorized=True"):
        resolve(2, Objective(bowl, size=2, vectorized=True))
    with pytest.raises(vb.OptionError, match="eval_timeout must be a positive"):
        resolve(1, Objective(bowl, size=2), eval_timeout=-1)
    with pytest.raises(vb.OptionError, match="eval_timeout needs workers that can be killed"):
        resolve(map, Objective(bowl, size=2), eval_timeout=1)


def mean_square(x: np.ndarray) -> float:
    return float((x * x).sum()) / x.size  # no BLAS: its threads, fewer in workers, change the order of a sum


def long_run(**options: Any) -> Any:
    method = vb.zo_sgd(0.1, n_directions=5)
    return vb.minimize(mean_square, np.ones(120_000), method=method, rng=1, options={"maxiter": 3}, **options)


class Elsewhere:
    """A pool of one worker on another machine: what it is sent is pickled, and files of this machine do not exist."""

    _max_workers = 1

    def __init__(self, monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]) -> None:
        self.sent: list[int] = []
        monkeypatch.setattr(known["module"], "_KNOWN", {})
        monkeypatch.setattr(known["tasks"].os.path, "exists", lambda path: False)

    def submit(self, function: Any, *arguments: Any) -> Any:
        import pickle

        blob = pickle.dumps(arguments)
        self.sent.append(len(blob))
        future: cf.Future[Any] = cf.Future()
        future.set_result(function(*pickle.loads(blob)))
        return future


def test_long_points_travel_by_name_to_pools() -> None:
    serial = long_run()
    with cf.ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as processes:
        for workers in (processes, processes.map, map):
            other = long_run(workers=workers)
            assert other.x.tobytes() == serial.x.tobytes()
            assert other.nfev == serial.nfev
        with_other_seed = vb.minimize(
            mean_square, np.ones(120_000), method=vb.zo_sgd(0.1, n_directions=5), rng=2, workers=processes,
            options={"maxiter": 1},
        )  # fmt: skip
    assert with_other_seed.x.tobytes() != serial.x.tobytes()
    assert with_other_seed.n_failed == 0


def test_arrays_travel_once_per_step_to_a_worker_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from vamo_bbo.run.executors import futures, tasks

    serial = long_run()
    pool = Elsewhere(monkeypatch, {"module": futures, "tasks": tasks})
    other = long_run(workers=pool)
    assert other.x.tobytes() == serial.x.tobytes()
    assert other.nfev == serial.nfev
    large = [size for size in pool.sent if size > 10_000]
    assert len(large) == 3  # x of three steps, 960 kB each
    assert len(pool.sent) > 3 * 6


def test_a_map_elsewhere_gets_the_arrays_along(monkeypatch: pytest.MonkeyPatch) -> None:
    from vamo_bbo.run.executors import tasks

    serial = long_run()
    monkeypatch.setattr(tasks.os.path, "exists", lambda path: False)
    assert long_run(workers=map).x.tobytes() == serial.x.tobytes()
