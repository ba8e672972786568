"""The journal: exact resume, refusal of what does not belong, clear errors, reading."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run import snapshot
from vamo_bbo.run.executors.process import child_environment
from vamo_bbo.run.fingerprint import describe
from vamo_bbo.run.journal import Journal
from vamo_bbo.run.load import load
from vamo_bbo.run.stop import Code

ROWS, TARGETS = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60.0) / 20


@pytest.fixture(params=["answers", "snapshots"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How a run goes on: by all its answers, or from a snapshot after every step; notes the steps restored from."""
    restored: list[int] = []
    if request.param == "snapshots":
        monkeypatch.setattr(snapshot, "WORTH", 0.0)
        monkeypatch.setattr(snapshot, "SHARE", 0.0)
        real = snapshot.restore
        monkeypatch.setattr(snapshot, "restore", lambda run, shot, h: (restored.append(shot.nit), real(run, shot, h)))
    return restored


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


class Counting:
    """Counts calls, and fails, or pretends Ctrl-C, in the ones that are named."""

    def __init__(self, fails: tuple[int, ...] = (), stop_at: int | None = None) -> None:
        self.calls, self.fails, self.stop_at = 0, fails, stop_at

    def __call__(self, x: np.ndarray) -> float:
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        if self.calls in self.fails:
            raise RuntimeError("solver diverged")
        return bowl(x)


def trajectory(result: Any) -> tuple[Any, ...]:
    steps = [(r.nit, r.fun, r.nfev, r.n_failed) for r in result.history]
    return (result.x.tobytes(), result.fun, result.nfev, result.njev, result.nit, result.n_failed, steps)


METHODS = [vb.zo_sgd(0.1), vb.spsa(), vb.zo_adamm(0.1), vb.zo_sign_sgd(0.05)]


def run(fun: Any, path: Path | None, **options: Any) -> Any:
    defaults = {"method": METHODS[0], "rng": 4, "maxfev": 150}
    return vb.minimize(fun, np.zeros(4), journal=path, **{**defaults, **options})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noisy", [False, True])
def test_an_interrupted_run_goes_on_exactly(tmp_path: Path, method: Any, noisy: bool, way: list[int]) -> None:
    whole = run(Counting((7, 30)), None, method=method, noisy=noisy)
    for stop_at in (1, 9, 64, 140):
        path = tmp_path / f"{stop_at}.db"
        first, second = Counting((7, 30), stop_at), Counting(tuple(n - stop_at for n in (7, 30)))
        assert run(first, path, method=method, noisy=noisy).status == Code.INTERRUPTED
        resumed = run(second, path, method=method, noisy=noisy)
        assert trajectory(resumed) == trajectory(whole)
        assert first.calls + second.calls == whole.nfev
        if stop_at == 140 and len(way):
            assert way[-1] > 5


@pytest.mark.parametrize("method", ["vamo", "vamo-paper", "svrg", "saga", "sarah", "storm", "adam", "zo-svrg"])
def test_finite_sums_with_gradients_and_tables_resume(tmp_path: Path, method: str, way: list[int]) -> None:
    calls = [0, 10**9]

    def losses(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
        calls[0] += 1
        if calls[0] > calls[1]:
            raise KeyboardInterrupt
        return (ROWS[idx] @ x - TARGETS[idx]) ** 2

    def grad(x: np.ndarray, idx: np.ndarray) -> np.ndarray:
        calls[0] += 1
        if calls[0] > calls[1]:
            raise KeyboardInterrupt
        return 2 * ROWS[idx].T @ (ROWS[idx] @ x - TARGETS[idx]) / len(idx)

    def go(path: Path | None) -> Any:
        problem = vb.FiniteSum(losses, 60, None if method == "zo-svrg" else grad)
        return vb.minimize(problem, np.zeros(4), method=method, rng=1, maxfev=3000, maxjev=900, journal=path)

    whole = go(None)
    total = calls[0]
    for stop_at in (total // 3, 4 * total // 5):
        path = tmp_path / f"{stop_at}.db"
        calls[:] = [0, stop_at]
        assert go(path).status == Code.INTERRUPTED
        calls[:] = [0, 10**9]
        assert trajectory(go(path)) == trajectory(whole)
        assert calls[0] <= total - stop_at + 1


@pytest.mark.parametrize("space", [None, vb.Space(a=vb.Real(0, 4), n=vb.Integer(1, 9), kind=vb.Choice(["p", "q"]))])
def test_cma_resumes(tmp_path: Path, way: list[int], space: Any) -> None:
    if space is not None:
        pytest.importorskip("cmaes")
    counting = Counting(stop_at=70)

    def fun(x: Any) -> float:
        point = np.array([x["a"], x["n"] / 3, x["kind"] == "q", 0.0]) if space else x
        return counting(point)

    start = np.zeros(4) if space is None else space
    options: dict[str, Any] = {"method": "cma", "rng": 2, "maxfev": 150, "journal": tmp_path / "run.db"}
    assert vb.minimize(fun, start, **options).status == Code.INTERRUPTED
    counting.stop_at = None
    resumed = vb.minimize(fun, start, **options)
    assert counting.calls == resumed.nfev
    assert trajectory(resumed) == trajectory(vb.minimize(fun, start, **{**options, "journal": None}))
    assert not way or way[-1] >= 5


def test_a_plateau_and_constant_values_are_noticed_as_without_interruption(tmp_path: Path, way: list[int]) -> None:
    options: dict[str, Any] = {"method": METHODS[0], "maxfev": 5000, "tol": 1e-3}
    whole = run(bowl, None, **options)
    assert whole.status == Code.CONVERGED
    assert run(Counting(stop_at=whole.nfev - 40), tmp_path / "run.db", **options).status == Code.INTERRUPTED
    assert trajectory(run(bowl, tmp_path / "run.db", **options)) == trajectory(whole)
    flat = run(lambda x: 1.0, tmp_path / "flat.db", maxfev=60)
    assert "smoothing is too small" in flat.message
    assert "smoothing is too small" in run(lambda x: 1.0, tmp_path / "flat.db", maxfev=90).message


def test_failures_are_kept_over_a_snapshot(tmp_path: Path, way: list[int]) -> None:
    fails = tuple(range(5, 150, 2))
    whole = run(Counting(fails), None)
    first = Counting(fails, stop_at=120)
    assert run(first, tmp_path / "run.db").status == Code.INTERRUPTED
    resumed = run(Counting(tuple(n - 120 for n in fails)), tmp_path / "run.db")
    assert trajectory(resumed) == trajectory(whole)
    assert [(f.id, f.error, f.x.tobytes(), f.log) for f in resumed.failures[:40]] == [
        (f.id, f.error, f.x.tobytes(), f.log) for f in whole.failures[:40]
    ]


def test_a_snapshot_beyond_the_limits_or_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "WORTH", 0.0)
    monkeypatch.setattr(snapshot, "SHARE", 0.0)
    whole = run(bowl, tmp_path / "run.db")
    used: list[int] = []
    real = snapshot.restore
    monkeypatch.setattr(snapshot, "restore", lambda run, shot, h: (used.append(shot.nit), real(run, shot, h)))
    for limits in ({"maxfev": 60}, {"options": {"maxiter": 3}}, {"f_target": whole.history[3].fun}, {"tol": 1e-3}):
        shorter = run(bowl, tmp_path / "run.db", **limits)
        assert trajectory(shorter) == trajectory(run(bowl, None, **limits))
    assert not used
    version = snapshot.VERSION
    monkeypatch.setattr(snapshot, "VERSION", 99)
    assert trajectory(run(bowl, tmp_path / "run.db")) == trajectory(whole)
    assert not used
    monkeypatch.setattr(snapshot, "VERSION", version)
    assert trajectory(run(bowl, tmp_path / "run.db")) == trajectory(whole)
    assert used == [whole.nit]


def test_snapshots_are_taken_when_answers_are_dear(tmp_path: Path) -> None:
    """A resumed run evaluates large gradients again, which are not stored: the snapshot saves these."""
    size, calls = 150_000, [0]

    def grad(x: np.ndarray) -> np.ndarray:
        calls[0] += 1
        time.sleep(0.04)
        return x - 1

    def go() -> Any:
        options = {"method": vb.sgd(0.1), "jac": grad, "rng": 0, "journal": tmp_path / "run.db"}
        return vb.minimize(lambda x: 0.5 * float(x @ x), np.zeros(size), maxjev=24, **options)

    whole = go()
    made = calls[0]
    again = go()
    assert trajectory(again) == trajectory(whole)
    assert calls[0] - made < made


def test_a_finished_run_evaluates_nothing_again(tmp_path: Path, way: list[int]) -> None:
    whole = run(bowl, tmp_path / "run.db", noisy=True)
    fun = Counting()
    again = run(fun, tmp_path / "run.db", noisy=True)
    assert fun.calls == 0
    assert trajectory(again) == trajectory(whole)
    assert again.fun_std == whole.fun_std


def test_a_larger_budget_goes_on(tmp_path: Path, way: list[int]) -> None:
    first, second = Counting(), Counting()
    run(first, tmp_path / "run.db", maxfev=60)
    longer = run(second, tmp_path / "run.db", maxfev=150)
    assert trajectory(longer) == trajectory(run(bowl, None))
    assert first.calls + second.calls == longer.nfev


def test_retries_are_replayed(tmp_path: Path, way: list[int]) -> None:
    whole = run(Counting((7, 8, 30)), None, retries=1)
    first = Counting((7, 8, 30), stop_at=40)
    run(first, tmp_path / "run.db", retries=1)
    assert trajectory(run(Counting(), tmp_path / "run.db", retries=1)) == trajectory(whole)


def test_serial_and_parallel_runs_share_a_journal(tmp_path: Path, way: list[int]) -> None:
    whole = run(bowl, None)
    assert run(Counting(stop_at=50), tmp_path / "run.db").status == Code.INTERRUPTED
    assert trajectory(run(bowl, tmp_path / "run.db", workers=2)) == trajectory(whole)


def test_rng_none_records_its_seed(tmp_path: Path) -> None:
    first = run(bowl, tmp_path / "run.db", rng=None)
    fun = Counting()
    assert trajectory(run(fun, tmp_path / "run.db", rng=None)) == trajectory(first)
    assert fun.calls == 0


def test_a_partial_gradient_is_remembered(tmp_path: Path) -> None:
    def go(fun: Any) -> Any:
        jac = lambda x: np.array([2 * (x[0] - 1), np.nan, 0.0, 0.0])  # noqa: E731
        return run(fun, tmp_path / "run.db", jac=jac, method=vb.adam(0.05))

    first = go(bowl)
    fun = Counting()
    assert trajectory(go(fun)) == trajectory(first)
    assert fun.calls == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rng": 5}, "rng is another one"),
        ({"method": vb.zo_sgd(0.2)}, "method.rule.learning_rate was 0.1, now it is 0.2"),
        ({"bounds": [(-1, 1)]}, "bounds was None"),
        ({"x_scale": 2.0}, "x_scale was None"),
        ({"on_error": "penalty"}, "on_error was 'skip', now it is 'penalty'"),
        ({"noisy": True}, "noisy was False, now it is True"),
    ],
)
def test_another_run_is_refused_in_one_sentence(tmp_path: Path, changes: Any, named: str) -> None:
    run(bowl, tmp_path / "run.db", maxfev=20)
    before = (tmp_path / "run.db").read_bytes()
    with pytest.raises(vb.StateError, match=f"belongs to another run: {named}"):
        run(bowl, tmp_path / "run.db", maxfev=20, **changes)
    assert load(tmp_path / "run.db").result.nfev <= 20
    assert len(before) > 0


def test_another_x0_is_refused(tmp_path: Path) -> None:
    run(bowl, tmp_path / "run.db", maxfev=20)
    with pytest.raises(vb.StateError, match=r"x0 was \[0.0, 0.0, 0.0, 0.0\], now it is \[1.0"):
        vb.minimize(bowl, np.ones(4), method=METHODS[0], rng=4, maxfev=20, journal=tmp_path / "run.db")


def test_files_that_are_no_journals(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("dear diary " * 100)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t (a)")
    db.commit()
    db.close()
    for opening in (Journal, load):
        with pytest.raises(vb.StateError, match="is not a journal of vamo_bbo: it is no SQLite file"):
            opening(text)
        with pytest.raises(vb.StateError, match="is another program's SQLite file"):
            opening(other)
    with pytest.raises(vb.StateError, match="There is no journal"):
        load(tmp_path / "absent.db")
    with pytest.raises(vb.StateError, match="its folder does not exist"):
        Journal(tmp_path / "absent" / "run.db")
    assert text.read_text().startswith("dear diary")


def test_a_truncated_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run(bowl, path, maxfev=150)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(vb.StateError, match="is damaged"):
        run(bowl, path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes read-only files")
def test_a_read_only_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run(bowl, path, maxfev=20)
    path.chmod(0o444)
    with pytest.raises(vb.StateError, match="is read-only"):
        run(bowl, path)


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run(bowl, path, maxfev=20)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(vb.StateError, match="has format 99"):
        load(path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    first = Journal(tmp_path / "run.db")
    with pytest.raises(vb.StateError, match="is being written by another process"):
        Journal(tmp_path / "run.db")
    first.close()
    Journal(tmp_path / "run.db").close()


def test_a_full_disk_ends_the_run_with_the_best_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.db"
    real = Journal.record

    def record(self: Journal, entries: Any) -> None:
        if self.count > 60:
            pages = self.db.execute("PRAGMA page_count").fetchone()[0]
            self.db.execute(f"PRAGMA max_page_count={pages}")  # as a full disk: SQLite reports the same error
            entries = [(p, a._replace(log="x" * 100_000), x) for p, a, x in entries]
        real(self, entries)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "record", record)
        result = run(bowl, path)
    assert (result.status, result.success) == (Code.JOURNAL, False)
    assert "cannot be written: database or disk is full" in result.message
    assert np.isfinite(result.fun)
    assert trajectory(run(bowl, path)) == trajectory(run(bowl, None))


def test_nothing_in_a_journal_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    run(bowl, path, maxfev=30)
    bomb = pickle.dumps(os.getcwd)
    for row in sqlite3.connect(path).execute("SELECT * FROM evaluation"):
        assert not any(isinstance(v, bytes) and v[:2] == bomb[:2] for v in row)
    import vamo_bbo.run.journal
    import vamo_bbo.run.load

    for module in (vamo_bbo.run.journal, vamo_bbo.run.load):
        source = Path(module.__file__ or "").read_text()
        assert not any(f"import {name}" in source for name in ("pickle", "marshal", "shelve"))


def test_large_arrays_are_evaluated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vamo_bbo.run.journal.LARGEST_ARRAY", 8)
    fun, grads = Counting(), []
    options = {"method": vb.adam(0.05), "jac": lambda x: grads.append(1) or 2 * (x - 1), "options": {"maxiter": 5}}
    first = run(fun, tmp_path / "run.db", **options)
    count = len(grads)
    second = run(fun, tmp_path / "run.db", **options)
    assert trajectory(second) == trajectory(first)
    assert len(grads) == 2 * count


class TestLoad:
    def test_a_finished_run(self, tmp_path: Path) -> None:
        result = run(Counting((9,)), tmp_path / "run.db")
        data = load(tmp_path / "run.db")
        assert data.finished
        assert data.result.x.tolist() == result.x.tolist()
        assert data.result.fun == result.fun
        assert [(r.nit, r.fun, r.nfev) for r in data.history] == [(r.nit, r.fun, r.nfev) for r in result.history]
        assert len(data.evaluations["value"]) == result.nfev
        assert data.points.shape == (result.nfev, 4)
        assert [bowl(x) for x in data.points[:5]] == pytest.approx(data.evaluations["value"][:5].tolist())
        assert [f.error for f in data.failures] == ["RuntimeError: solver diverged"]
        assert "Traceback" in data.failures[0].log

    def test_a_run_that_was_killed(self, tmp_path: Path) -> None:
        values: list[float] = []

        def fun(x: np.ndarray) -> float:
            if len(values) == 40:
                raise KeyboardInterrupt
            values.append(bowl(x))
            return values[-1]

        run(fun, tmp_path / "run.db")
        data = load(tmp_path / "run.db")
        assert not data.finished
        assert data.result.fun == min(values)
        assert bowl(data.result.x) == min(values)
        assert data.result.status == -1

    def test_a_run_under_way_can_be_read(self, tmp_path: Path) -> None:
        seen = []

        def callback(intermediate_result: Any) -> None:
            seen.append((len(load(tmp_path / "run.db").evaluations["value"]), intermediate_result.nfev))

        run(bowl, tmp_path / "run.db", callback=callback, options={"maxiter": 3})
        assert len(seen) == 3
        assert all(journaled == counted > 0 for journaled, counted in seen)

    def test_pandas(self, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        run(bowl, tmp_path / "run.db", maxfev=30)
        frame = load(tmp_path / "run.db").to_pandas()
        assert isinstance(frame, pandas.DataFrame)
        assert {"value", "x0", "x3"} <= set(frame.columns)


def test_describe_is_plain_and_equal_for_equal_configurations() -> None:
    assert describe(vb.vamo(n_directions=3)) == describe(vb.vamo(n_directions=3))
    assert describe(vb.vamo(n_directions=3)) != describe(vb.vamo(n_directions=4))
    assert "0x" not in str(describe(vb.vamo()))


KILLED = """
import sys, time
import numpy as np
import vamo_bbo as vb
from vamo_bbo.run import snapshot
snapshot.WORTH = snapshot.SHARE = 0.0  # after every step
path, log, workers, method = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
def fun(x):
    with open(log, "a") as f:
        f.write(x.tobytes().hex() + "\\n")
    time.sleep(0.002)
    return float(((x - 1) ** 2).sum())
r = vb.minimize(fun, np.zeros(4), method=method, rng=4, maxfev=240, journal=path, workers=workers)
print(r.x.tobytes().hex(), r.fun, r.nfev)
"""


def killed_and_resumed(tmp_path: Path, workers: int, kills: int, method: str) -> None:
    """Kill the driver with SIGKILL at seeded moments of its progress, resume, and compare."""
    script = tmp_path / "run.py"
    script.write_text(KILLED)

    def start(path: str, log: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(script), path, log, str(workers), method]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment(None))

    whole = start(str(tmp_path / "whole.db"), str(tmp_path / "whole.log"))
    expected = whole.communicate()[0]
    evaluated = (tmp_path / "whole.log").read_text().split()
    path, log = str(tmp_path / "run.db"), tmp_path / "run.log"
    log.touch()
    moments = np.sort(np.random.default_rng(kills).integers(1, len(evaluated), kills))
    for moment in moments:
        process = start(path, str(log))
        while process.poll() is None and len(log.read_text().split()) < moment:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = start(path, str(log))
    assert last.communicate()[0] == expected
    repeated = len(log.read_text().split()) - len(evaluated)
    # Repeated: what was in flight at a kill, which is what had begun and what had ended and was not stored yet: one of
    # each per worker. Serially, what ended within the millisecond that a commit may wait.
    assert 0 <= repeated <= kills * 2 * workers
    assert set(log.read_text().split()) >= set(evaluated)


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_minus_nine(tmp_path: Path, workers: int) -> None:
    killed_and_resumed(tmp_path, workers, 2, "zo-sgd")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("workers", [1, 4])
def test_kill_minus_nine_at_fifty_moments(tmp_path: Path, workers: int) -> None:
    killed_and_resumed(tmp_path, workers, 50, "zo-adamm")


def test_auto_picks_one_of_our_solvers_and_scipys_methods_refuse(tmp_path: Path) -> None:
    result = vb.minimize(bowl, np.zeros(4), journal=tmp_path / "run.db", rng=0, maxfev=60)
    assert load(tmp_path / "run.db").finished
    assert "journal" in result.message
    with pytest.raises(vb.OptionError, match=r"journal=.* needs one of our solvers, got method='L-BFGS-B'"):
        vb.minimize(bowl, np.zeros(4), method="L-BFGS-B", journal=tmp_path / "other.db")
    with pytest.raises(vb.OptionError, match="asynchronous=True needs one of our solvers"):
        vb.minimize(bowl, np.zeros(4), method="Nelder-Mead", asynchronous=True)
