"""Every error message of fragile runs, in one list: what a user reads when something cannot work."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, files in use and links of POSIX")


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


def run(fun: Any = bowl, **options: Any) -> Any:
    return vb.minimize(
        fun, np.zeros(2), **{"method": vb.zo_sgd(0.1, n_directions=2), "rng": 0, "maxfev": 12, **options}
    )


def begun(folder: Path) -> Path:
    """Return a journal with a run in it."""
    path = folder / "run.db"
    run(journal=path)
    return path


def written(folder: Path, text: bytes) -> Path:
    path = folder / "run.db"
    path.write_bytes(text)
    return path


def truncated(folder: Path) -> Path:
    path = begun(folder)
    path.write_bytes(path.read_bytes()[:9000])
    return path


def foreign(folder: Path) -> Path:
    path = folder / "run.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE trials (n INTEGER)")
    db.close()
    return path


def newer(folder: Path) -> Path:
    path = begun(folder)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    return path


def kill_self(x: np.ndarray) -> float:
    if x.any():
        os.kill(os.getpid(), 9)
    return bowl(x)


def hang(x: np.ndarray) -> float:
    if x.any():
        time.sleep(1000)
    return bowl(x)


def raises(x: np.ndarray) -> float:
    if x.any():
        raise ArithmeticError("no convergence")
    return bowl(x)


def error_of(result: Any) -> None:
    raise RuntimeError(result.failures[0].error)


def busy(folder: Path) -> None:
    path = folder / "run.db"
    writer = Journal(path)
    try:
        run(journal=path)
    finally:
        writer.close()


JOURNAL: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "another seed",
        lambda p: run(journal=begun(p), rng=1),
        "belongs to another run: rng is another one; without rng the run goes on with the one it had. Use",
    ),
    (
        "another x0",
        lambda p: vb.minimize(bowl, [1.0, 2.0], journal=begun(p), method=vb.zo_sgd(0.1)),
        "belongs to another run",
    ),
    (
        "another option",
        lambda p: run(journal=begun(p), method=vb.zo_sgd(0.3)),
        "method.recipe.estimator.n_directions was 2, now it is None",
    ),
    ("another method", lambda p: run(journal=begun(p), method="cma"), "method was Composite, now it is EvolutionStr"),
    (
        "other bounds",
        lambda p: run(journal=begun(p), bounds=[(-1, 1)] * 2),
        "belongs to another run: bounds was None, now",
    ),
    (
        "another space",
        lambda p: vb.minimize(lambda q: q["a"], vb.Space(a=vb.Real(0, 1)), journal=begun(p), method="spsa"),
        "belongs to another run",
    ),
    (
        "no SQLite file",
        lambda p: run(journal=written(p, b"dear diary " * 99)),
        "is not a journal of vamo_bbo: it is no SQLite",
    ),
    (
        "another program's",
        lambda p: run(journal=foreign(p)),
        "is not a journal of vamo_bbo: it is another program's SQLite",
    ),
    ("truncated", lambda p: run(journal=truncated(p)), r"is damaged .*: restore a copy, or start a new one"),
    ("a newer format", lambda p: run(journal=newer(p)), r"has format 99; this version of vamo_bbo reads format \d"),
    ("no folder", lambda p: run(journal=p / "none" / "run.db"), "cannot be created: its folder does not exist"),
    ("a folder", lambda p: run(journal=p), "cannot be opened: unable to open database file"),
    ("a second writer", busy, "is being written by another process"),
    ("nothing to load", lambda p: vb.load(p / "none.db"), "There is no journal"),
    ("not a journal to load", lambda p: vb.load(written(p, b"dear diary " * 99)), "is not a journal of vamo_bbo"),
    ("load of a truncated one", lambda p: vb.load(truncated(p)), "is damaged"),
    (
        "nothing evaluated",
        lambda p: (Journal(p / "run.db").close(), vb.load(p / "run.db").result),
        "holds no successful evaluation yet",
    ),
]

WORKERS: list[tuple[str, Callable[[], Any], str]] = [
    ("no workers", lambda: run(workers=0), "workers must be an integer >= 1, or -1 for all CPUs, got 0"),
    ("not workers", lambda: run(workers="eight"), "workers must be an integer >= 1, -1, a concurrent.futures.Executor"),
    ("bad time-out", lambda: run(eval_timeout=-1), "eval_timeout must be a positive number of seconds or None, got -1"),
    ("time-out of a map", lambda: run(workers=map, eval_timeout=1), "eval_timeout needs workers that can be killed"),
    ("rows and workers", lambda: run(workers=2, vectorized=True), "vectorized=True evaluates a round in one call"),
    ("bad memory limit", lambda: vb.Processes(2, memory_limit=0), "Processes: memory_limit must be a positive integer"),
    ("scipy's and a journal", lambda: run(method="Powell", journal="run.db"), "journal=.* needs one of our solvers"),
    ("scipy's and a time-out", lambda: run(method="Powell", eval_timeout=1), "eval_timeout needs one of our solvers"),
    ("scipy's and late rounds", lambda: run(method="Powell", asynchronous=True), "asynchronous=True needs one of our"),
    ("scipy's and CRN", lambda: run(method="Powell", noisy="seed"), "noisy='seed' needs one of our solvers"),
    ("bad noisy", lambda: run(noisy="common"), "noisy must be None, True, False, or, for functions that take common"),
    ("bad on_error", lambda: run(on_error="ignore"), "on_error must be 'raise', 'skip', 'penalty' or a callable"),
    ("bad retries", lambda: run(retries=-1), "retries must be an integer >= 0, got -1"),
    (
        "levels",
        lambda: vb.minimize(lambda n: n, vb.Space(n=vb.Integer(1, 9)), method="zo-sgd"),
        "method='zo-sgd' cannot search Integer or Choice parameters; use 'bayes' or 'cma'",
    ),
    (
        "levels and scipy",
        lambda: vb.minimize(lambda n: n, vb.Space(n=vb.Integer(1, 9)), method="Powell"),
        "scipy's methods cannot search Integer or Choice parameters; use 'bayes' or 'cma'",
    ),
    (
        "a name too few",
        lambda: vb.minimize(lambda a: a, vb.Space(a=vb.Real(0, 1), b=1)),
        "fun takes parameters by name, but not 'b'; it has a",
    ),
    ("x0 fails", lambda: run(lambda x: 1 / 0), "failed at x0 in 3 tries: ZeroDivisionError: division by zero"),
    (
        "raise",
        lambda: run(raises, on_error="raise"),
        r"The objective failed: ArithmeticError: no convergence \(evaluation",
    ),
    ("exception", lambda: error_of(run(raises, retries=0)), "^ArithmeticError: no convergence$"),
    ("nan", lambda: error_of(run(lambda x: np.nan if x.any() else 0.0)), "^the objective returned nan$"),
    ("time-out", lambda: error_of(run(hang, eval_timeout=0.3, maxfev=4)), r"^timed out after 0.3 s \(eval_timeout\)$"),
    ("death", lambda: error_of(run(kill_self, workers=2, maxfev=4)), "^the worker process died: killed by SIGKILL$"),
    ("an array", lambda: run(lambda x: x), "must return a scalar value. It returned an array of shape"),
    (
        "many failures",
        lambda: error_of_message(run(raises, max_failures=1)),
        "Too many failed evaluations.*max_failures=1",
    ),
]


def error_of_message(result: Any) -> None:
    raise RuntimeError(result.message)


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in JOURNAL], ids=[row[0] for row in JOURNAL])
def test_messages_of_the_journal(tmp_path: Path, call: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(vb.StateError, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)  # one sentence, or two


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in WORKERS], ids=[row[0] for row in WORKERS])
def test_messages_of_workers_and_failures(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((vb.OptionError, vb.CapabilityError, vb.EvaluationError, RuntimeError), match=message):
        call()


def test_a_refused_journal_is_as_it_was(tmp_path: Path) -> None:
    path = begun(tmp_path)
    before = vb.load(path)
    with pytest.raises(vb.StateError):
        run(journal=path, rng=1)
    after = vb.load(path)
    assert after.meta == before.meta
    assert len(after.evaluations["value"]) == len(before.evaluations["value"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full device")
def test_a_full_disk_ends_the_run_and_keeps_its_best_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.db"

    def small(journal: Journal) -> None:
        pages = journal.db.execute("PRAGMA page_count").fetchone()[0]
        journal.db.execute(f"PRAGMA max_page_count={pages + 1}")

    class Full(Journal):
        def claim(self, *arguments: Any) -> None:
            super().claim(*arguments)
            small(self)

    monkeypatch.setattr("vamo_bbo.run.journal.Journal", Full)
    result = run(journal=path, maxfev=2000)
    assert result.status == 9
    assert "cannot be written: database or disk is full" in result.message
    assert result.fun < 2
    monkeypatch.undo()
    again = run(journal=path, maxfev=2000)
    assert again.x.tobytes() == run(maxfev=2000).x.tobytes()
