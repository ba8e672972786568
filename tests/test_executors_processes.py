"""Own worker processes: time-outs, deaths, output, limits, large points, and no trace left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import children

import vamo_bbo as vb
from vamo_bbo.core.types import AnchorRef, Probe
from vamo_bbo.run.executors.process import Worker, child_environment
from vamo_bbo.run.executors.processes import ProcessExecutor
from vamo_bbo.run.objective import Objective

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and file descriptors of POSIX")


def tasks(*points: float) -> list[tuple[Probe, np.ndarray]]:
    return [(Probe((0, 0, 0, i), AnchorRef("x", 0)), np.array([p])) for i, p in enumerate(points)]


def evaluate(fun: Any, *points: float, count: int = 2, **options: Any) -> list[Any]:
    executor = ProcessExecutor(Objective(fun, size=1), count, **options)
    try:
        return executor.evaluate(tasks(*points), 0)
    finally:
        executor.close()


def test_a_hanging_evaluation_is_killed_and_the_others_go_on() -> None:
    def fun(x: np.ndarray) -> float:
        if x[0] == 1:
            print("about to hang")
            time.sleep(1000)
        return float(x[0])

    got = evaluate(fun, 0.0, 1.0, 2.0, 3.0, eval_timeout=1.0)
    assert [a.value for a in got if a.error is None] == [0.0, 2.0, 3.0]
    assert got[1].error == "timed out after 1 s (eval_timeout)"
    assert "about to hang" in got[1].log
    assert got[1].elapsed >= 1.0


@pytest.mark.parametrize(
    ("action", "how"),
    [
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
    ],
)
def test_a_dead_worker_is_replaced(action: Any, how: str) -> None:
    def fun(x: np.ndarray) -> float:
        if x[0] == 1:
            os.write(2, b"last words\n")
            action()
        return float(x[0])

    got = evaluate(fun, 0.0, 1.0, 2.0, count=1)
    assert got[1].error == f"the worker process died: {how}"
    assert got[1].log == "Output:\nlast words\n"
    assert [got[0].value, got[2].value] == [0.0, 2.0]


def test_a_death_is_noticed_though_a_grandchild_holds_the_connection() -> None:
    def fun(x: np.ndarray) -> float:
        if x[0] == 1:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(5)
        return float(x[0])

    began = time.monotonic()
    assert evaluate(fun, 1.0)[0].error == "the worker process died: exit code 5"
    assert time.monotonic() - began < 50


def test_output_of_a_failed_evaluation_is_kept_and_of_others_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    def fun(x: np.ndarray) -> float:
        print("solving at", x[0])
        if x[0] == 1:
            raise ValueError("no convergence")
        return float(x[0])

    got = evaluate(fun, 0.0, 1.0, count=1)
    assert got[0].log is None
    assert "ValueError: no convergence" in got[1].log
    assert "solving at 1.0" in got[1].log
    assert "solving at 0.0" not in got[1].log
    assert "solving" not in capfd.readouterr().out


def test_sys_exit_in_an_objective_is_a_failure_and_the_worker_goes_on() -> None:
    def fun(x: np.ndarray) -> float:
        return sys.exit(2) if x[0] == 0.0 else float(os.getpid())

    got = evaluate(fun, 1.0, 0.0, 2.0, count=1)
    assert [a.error for a in got] == [None, "SystemExit: 2", None]
    assert got[0].value == got[2].value


def test_wrong_outputs_are_raised_from_workers_at_x0_and_are_failures_later() -> None:
    with pytest.raises(vb.OptionError, match="must return a scalar value"):
        vb.minimize(lambda x: np.zeros(3), [1.0], method="zo-sgd", workers=2, maxfev=10)
    got = evaluate(lambda x: None if x[0] else 1.0, 0.0, 1.0)
    assert [a.error for a in got] == [
        None,
        "OutputError: The user-provided objective function must return a scalar value. It returned None.",
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS and /proc")
def test_memory_limit() -> None:
    def fun(x: np.ndarray) -> float:
        return float(np.ones(int(x[0])).sum())

    got = evaluate(fun, 1e3, 1e8, count=1, memory_limit=2**28)
    assert got[0].value == 1e3
    assert "MemoryError" in got[1].error


def test_threads_of_blas_are_limited() -> None:
    assert evaluate(lambda x: float(os.environ["OMP_NUM_THREADS"]), 0.0)[0].value == 1.0
    assert evaluate(lambda x: float(os.environ["OMP_NUM_THREADS"]), 0.0, threads=3)[0].value == 3.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS and /proc")
def test_settings_of_the_workers() -> None:
    def fun(x: np.ndarray) -> float:
        if x.any():
            np.ones(10**8)
        return float(os.environ["OMP_NUM_THREADS"])

    workers = vb.Processes(1, memory_limit=2**28, threads=2)
    result = vb.minimize(fun, [0.0], method=vb.zo_sgd(0.1, n_directions=1), workers=workers, maxfev=3, rng=0)
    assert result.fun == 2.0
    assert "MemoryError" in result.failures[0].error


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": 2, "memory_limit": -1}, {"count": 2, "threads": 1.5}])
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(vb.OptionError, match="must be"):
        vb.Processes(**settings)


def test_no_process_and_no_file_is_left() -> None:
    before = children(), set(os.listdir("/proc/self/fd"))

    def fun(x: np.ndarray) -> float:
        subprocess.Popen(["sleep", "1000.53171"])
        if x[0] == 1:
            time.sleep(1000)
        return float(x[0])

    evaluate(fun, 0.0, 1.0, 2.0, eval_timeout=1.0)
    assert children() == before[0]
    assert len(os.listdir("/proc/self/fd")) == len(before[1])
    sleeping = subprocess.run(["pgrep", "-f", "sleep 1000.53171"], capture_output=True, check=False)
    assert sleeping.stdout == b""


def test_workers_that_cannot_start_end_the_run(tmp_path: Path) -> None:
    class Dies:
        def __call__(self, x: np.ndarray) -> float:
            return 0.0

        def __reduce__(self) -> Any:
            return os._exit, (9,)

    with pytest.raises(vb.EvaluationError, match=r"3 worker processes died at their start \(exit code 9\)"):
        evaluate(Dies(), 0.0)


def test_an_objective_that_cannot_be_loaded_is_named() -> None:
    class Absent:
        def __call__(self, x: np.ndarray) -> float:
            return 0.0

        def __reduce__(self) -> Any:
            return int, ("not a number",)

    with pytest.raises(vb.OptionError, match="cannot be loaded in a worker process"):
        evaluate(Absent(), 0.0)


def test_x0_that_kills_its_process_is_three_tries_and_an_error() -> None:
    with pytest.raises(vb.EvaluationError, match=r"failed at x0 in 3 tries: the worker process died: exit code 7"):
        vb.minimize(lambda x: os._exit(7), [0.0], method=vb.zo_sgd(0.1), workers=2)


def test_eval_timeout_with_one_worker() -> None:
    def fun(x: np.ndarray) -> float:
        if x[0] > 0.1:
            time.sleep(1000)
        return float((x[0] - 1) ** 2)

    result = vb.minimize(fun, [0.0], method=vb.zo_sgd(0.3, n_directions=1), eval_timeout=0.5, rng=0, maxfev=8)
    assert result.n_failed > 0
    assert result.failures[0].error.startswith("timed out")
    assert result.nfev <= 8


def test_partial_gradients_are_known_to_every_worker() -> None:
    def jac(x: np.ndarray) -> np.ndarray:
        return np.array([2 * x[0], np.nan])

    result = vb.minimize(
        lambda x: float(x @ x), [1.0, 1.0], jac=jac, method=vb.adam(0.05), workers=2, rng=0, options={"maxiter": 5}
    )
    assert result.n_failed == 0


@pytest.mark.parametrize(("law", "bounds"), [("rademacher", None), ("block", None), ("rademacher", [(-1.0, 1.001)])])
def test_large_points_travel_as_handles(law: str, bounds: Any) -> None:
    size = 120_000

    def fun(x: np.ndarray) -> float:
        assert bounds is None or x.max() <= 1.001
        return float((x * x).sum()) / x.size  # no BLAS: its threads, fewer in workers, change the order of a sum

    def trace(**options: Any) -> Any:
        method = vb.zo_sgd(0.1, n_directions=3, law=law)
        return vb.minimize(fun, np.ones(size), method=method, rng=1, bounds=bounds, options={"maxiter": 3}, **options)

    serial, parallel = trace(), trace(workers=2)
    assert serial.x.tobytes() == parallel.x.tobytes()
    assert serial.nfev == parallel.nfev


def test_a_handle_is_small_and_x_is_written_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    from vamo_bbo.run.executors import process, processes

    sizes = []
    real_send = process.Worker.send

    def send(self: Any, jobs: Any, messages: Any) -> None:
        sizes.append(max(len(pickle.dumps(message)) for message in messages))
        real_send(self, jobs, messages)

    copies = []
    real_close = processes.SharedArrays.close

    def close(self: Any) -> None:
        copies.append(self.copies)
        real_close(self)

    monkeypatch.setattr(process.Worker, "send", send)
    monkeypatch.setattr(processes.SharedArrays, "close", close)
    method = vb.zo_sgd(0.1, n_directions=4)
    vb.minimize(lambda x: float(x @ x), np.ones(1_000_000), method=method, rng=1, workers=4, options={"maxiter": 2})
    assert max(sizes[1:]) < 1000  # all but x0 itself
    assert copies == [2]


def test_a_short_evaluation_waits_in_the_worker_and_survives_its_death(tmp_path: Path) -> None:
    """What a worker held but had not begun when it died is evaluated by the next one, once."""
    log = tmp_path / "begun"

    def fun(x: np.ndarray) -> float:
        with open(log, "a") as file:
            file.write(f"{x[0]:g}\n")
        print("at", x[0])
        if x[0] == 6:
            os._exit(4)
        return float(x[0])

    got = evaluate(fun, *np.arange(12.0), count=1)
    assert [a.value for a in got if a.error is None] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert got[6].error == "the worker process died: exit code 4"
    assert got[6].log == "Output:\nat 6.0\n"  # and not what those before or after it printed
    assert sorted(log.read_text().split(), key=float) == [f"{k:g}" for k in range(12)]


def test_a_worker_holds_no_second_evaluation_while_they_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    real_send = Worker.send

    def send(self: Any, jobs: Any, messages: Any) -> None:
        real_send(self, jobs, messages)
        held.append(len(self.jobs))

    monkeypatch.setattr(Worker, "send", send)
    evaluate(lambda x: time.sleep(0.05) or 1.0, *np.arange(6.0), count=1)
    assert held == [1] * 6
    held.clear()
    evaluate(lambda x: 1.0, *np.arange(60.0), count=1)
    assert held[0] == 1
    assert max(held) > 1
    assert len(held) < 60  # several evaluations in a message


def test_long_messages_in_both_directions_wait_for_nobody() -> None:
    """A worker that holds its answer until it is read gets nothing that it would have to read first."""
    size = 60_000  # of points and gradients: more than a pipe holds
    objective = Objective(lambda x: float(x[0]), size=size, jac=lambda x: 2 * x)
    executor = ProcessExecutor(objective, 2)
    probes = [Probe((0, 0, 0, i), AnchorRef("x", 0), want="gradient") for i in range(40)]
    try:
        got = executor.evaluate([(probe, np.full(size, float(probe.id[3]))) for probe in probes], 0)
    finally:
        executor.close()
    assert [a.grad[-1] for a in got] == [2.0 * i for i in range(40)]


def test_the_driver_killed_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import time, numpy as np, vamo_bbo as vb, os, sys\n"
        "def fun(x):\n"
        "    open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')\n"
        "    if x.any():\n"
        "        time.sleep(1000)\n"
        "    return 0.0\n"
        "vb.minimize(fun, np.zeros(2), method='zo-sgd', workers=2)\n"
    )
    log = tmp_path / "pids"
    driver = subprocess.Popen([sys.executable, str(script), str(log)], env=child_environment(None))
    for _ in range(600):
        pids = set(log.read_text().split()) if log.exists() else set()
        if len(pids) == 2:
            break
        time.sleep(0.1)
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    for _ in range(100):
        alive = [p for p in pids if Path(f"/proc/{p}/cmdline").exists() and Path(f"/proc/{p}/cmdline").read_bytes()]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


def test_ctrl_c_ends_the_run_with_its_best_point_and_without_waiting(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import signal, sys, time, numpy as np, vamo_bbo as vb\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs of a shell ignore it
        "def fun(x):\n"
        "    open(sys.argv[1], 'a').write('.')\n"
        "    if len(open(sys.argv[1]).read()) > 20:\n"
        "        time.sleep(1000)\n"
        "    return float(((x - 1) ** 2).sum())\n"
        "r = vb.minimize(fun, np.zeros(2), method=vb.zo_sgd(0.1), rng=0, workers=2)\n"
        "print(r.status, r.fun < 2, r.nfev)\n"
    )
    log = tmp_path / "calls"
    command = [sys.executable, str(script), str(log)]
    driver = subprocess.Popen(command, env=child_environment(None), stdout=subprocess.PIPE, text=True)
    while driver.poll() is None and (not log.exists() or log.stat().st_size < 21):
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    status, better, nfev = driver.communicate(timeout=100)[0].split()
    assert (status, better) == ("7", "True")
    assert 18 <= int(nfev) <= 20
