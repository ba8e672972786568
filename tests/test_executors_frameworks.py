"""The same run on loky, dask, ray and MPI, where they are installed: the script differs in one line."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run.executors.process import child_environment


def run(workers: Any) -> Any:
    def fun(x: np.ndarray) -> float:
        if x[0] > 0.2:
            raise ValueError("diverged")
        return float(((x - 1) ** 2).sum())

    return vb.minimize(fun, np.zeros(4), method=vb.zo_sgd(0.2, n_directions=4), rng=3, maxfev=60, workers=workers)


def mean_square(x: np.ndarray) -> float:
    return float((x * x).sum()) / x.size


def long_run(workers: Any) -> Any:
    """Points that travel by name."""
    method = vb.zo_sgd(0.1, n_directions=4)
    return vb.minimize(mean_square, np.ones(120_000), method=method, rng=3, maxfev=20, workers=workers)


def same(a: Any, b: Any) -> bool:
    return bool(a.x.tobytes() == b.x.tobytes() and a.nfev == b.nfev and a.n_failed == b.n_failed > 0)


def test_loky() -> None:
    loky = pytest.importorskip("loky")
    executor = loky.get_reusable_executor(max_workers=2)
    try:
        assert same(run(executor), run(1))
        assert long_run(executor).x.tobytes() == long_run(1).x.tobytes()
    finally:
        executor.shutdown(kill_workers=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_client_and_a_worker_killed_in_the_middle() -> None:
    distributed = pytest.importorskip("distributed")
    serial = run(1)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert same(run(client), serial)
        assert long_run(client).x.tobytes() == long_run(1).x.tobytes()
        pids = list(client.run(__import__("os").getpid).values())
        killed = []

        def kill(intermediate_result: Any) -> None:
            if not killed:
                killed.append(subprocess.run(["kill", "-9", str(pids[0])], check=True))

        method = vb.zo_sgd(0.1, n_directions=4)
        result = vb.minimize(bowl, np.zeros(4), method=method, rng=3, maxfev=60, workers=client, callback=kill)
        assert result.nfev >= 56
        assert result.fun < 1


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_pool_is_map_like() -> None:
    ray = pytest.importorskip("ray")
    from ray.util.multiprocessing import Pool

    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        with Pool(2) as pool:
            assert same(run(pool.map), run(1))
    finally:
        ray.shutdown()


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec")
def test_mpi4py(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_executors_frameworks import run, same\n"
        "from mpi4py.futures import MPIPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    with MPIPoolExecutor() as pool:\n"
        "        print('same' if same(run(pool), run(1)) else 'different')\n"
    )
    about = subprocess.run(["mpiexec", "--version"], capture_output=True, text=True, check=False).stdout
    open_mpi = any(name in about for name in ("Open MPI", "OpenRTE", "prte"))
    flags = ["--allow-run-as-root", "--oversubscribe"] if open_mpi else []
    command = ["mpiexec", *flags, "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    done = subprocess.run(
        [*command, str(script)],
        env=child_environment(1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "same", done.stderr
