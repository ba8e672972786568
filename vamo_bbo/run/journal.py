"""The journal of a run: one SQLite file with every answer, durable before the solver sees it.

Nothing in it is executed when it is opened: numbers, text and raw arrays only. Write-ahead logging lets other processes
read a run that is under way. A commit survives the death of any process; after a power failure the latest commits may
be missing, and the file is still consistent.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import numpy as np

from vamo_bbo._errors import StateError
from vamo_bbo._typing import Array
from vamo_bbo.core.late import LATE
from vamo_bbo.core.types import Answer, Probe, ProbeId
from vamo_bbo.run.failures import JournalWriteError
from vamo_bbo.run.fingerprint import difference
from vamo_bbo.run.history import StepRecord
from vamo_bbo.run.snapshot import Snapshot

__all__ = ["Journal", "Row", "complete", "open_readonly", "step_record"]

APPLICATION_ID = 0x76616D6F
"""SQLite's application id of a journal: "vamo"."""
FORMAT = 2
LARGEST_ARRAY = 2**20
"""Bytes up to which a gradient or per-sample values are stored; larger ones are evaluated again on resume."""
LARGEST_POINT = 2**13
"""Bytes of a point up to which it is stored with its evaluation (it can always be computed from the seed)."""
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE evaluation (
    n INTEGER PRIMARY KEY, step INTEGER, phase INTEGER, attempt INTEGER, position INTEGER,
    want TEXT, value REAL, samples INTEGER, error TEXT, elapsed REAL, worker TEXT, log TEXT, at REAL,
    complete INTEGER, x BLOB, per_sample BLOB, gradient BLOB, gradient_dtype TEXT);
CREATE INDEX evaluation_round ON evaluation (step, phase, attempt);
CREATE TABLE step (
    nit INTEGER PRIMARY KEY, fun REAL, value REAL, nfev INTEGER, njev INTEGER, nfev_samples INTEGER,
    njev_samples INTEGER, step_size REAL, elapsed REAL, n_failed INTEGER, noise REAL, params TEXT);
"""
_SNAPSHOT = """
CREATE TABLE snapshot (nit INTEGER PRIMARY KEY, evaluations INTEGER, data TEXT);
CREATE TABLE snapshot_array (name TEXT PRIMARY KEY, dtype TEXT, shape TEXT, data BLOB) WITHOUT ROWID;
"""
_STEP = (
    "nit", "fun", "value", "nfev", "njev", "nfev_samples", "njev_samples", "step_size", "elapsed", "n_failed", "noise",
)  # fmt: skip
_ANSWER = (
    "e.n, step, phase, attempt, position, e.value, e.samples, e.error, e.elapsed, e.worker, e.log, e.complete, "
    "e.per_sample, e.gradient, e.gradient_dtype"
)
_INSERT = f"INSERT INTO evaluation VALUES ({', '.join('?' * 18)})"


class Row(NamedTuple):
    """A journaled answer.

    Attributes
    ----------
    answer : Answer
        The answer.
    complete : bool
        False where an array was too large to be stored, so that the probe must be evaluated again.
    number : int
        Which row it is.
    """

    answer: Answer
    complete: bool
    number: int


def open_readonly(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Return a connection that reads the journal at ``path``, also while a run writes it.

    Raises
    ------
    StateError
        There is no such file, or it is no journal.
    """
    if not Path(path).is_file():
        raise StateError(f"There is no journal {os.fspath(path)!r}.")
    with _explained(path):
        connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        _check(connection, path)
    return connection


@contextlib.contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn SQLite's errors at opening into one sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = os.fspath(path)
        text = str(error)
        if "not a database" in text:
            raise StateError(f"{name!r} is not a journal of vamo_bbo: it is no SQLite file.") from None
        if "malformed" in text or "disk I/O" in text:
            raise StateError(f"The journal {name!r} is damaged ({text}): restore a copy, or start a new one.") from None
        raise StateError(f"The journal {name!r} cannot be opened: {text}.") from None


def _check(connection: sqlite3.Connection, path: str | os.PathLike[str]) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != APPLICATION_ID:
        raise StateError(f"{os.fspath(path)!r} is not a journal of vamo_bbo: it is another program's SQLite file.")
    if version != FORMAT:
        raise StateError(
            f"The journal {os.fspath(path)!r} has format {version}; this version of vamo_bbo reads format {FORMAT}."
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StateError(f"The journal {os.fspath(path)!r} is damaged ({verdict}): restore a copy, or start a new one.")


class Journal:
    """A journal that this process writes; only one process may at a time.

    Parameters
    ----------
    path : path
        The file; created if it does not exist.

    Attributes
    ----------
    replaying : bool
        Whether answers of an earlier process may still be found.

    Raises
    ------
    StateError
        The file is not a journal, is damaged, cannot be written, or is being written by another process.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not Path(self.path).resolve().parent.is_dir():
            raise StateError(f"The journal {self.path!r} cannot be created: its folder does not exist.")
        self._lock: Any = None
        new = not os.path.exists(self.path) or os.path.getsize(self.path) == 0
        if not new and not os.access(self.path, os.W_OK):
            raise StateError(f"The journal {self.path!r} is read-only: make it writable, or copy it.")
        self._take_lock()
        try:
            with _explained(path):
                self.db = sqlite3.connect(self.path, isolation_level=None, timeout=10, check_same_thread=False)
                self._create() if new else _check(self.db, path)
                self.db.execute("PRAGMA journal_mode=WAL")
                self.db.execute("PRAGMA synchronous=NORMAL")
                self.count: int = self.db.execute("SELECT COALESCE(MAX(n), 0) FROM evaluation").fetchone()[0]
        except BaseException:
            self.close()
            raise
        self.replaying = self.count > 0
        self._rounds: dict[tuple[int, int, int], dict[int, list[Row]]] = {}
        self._late: deque[Row] | None = None
        self._after = 0  # the evaluation up to which answers of the steps are used up

    def _create(self) -> None:
        header = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};"
        self.db.executescript(f"{header} BEGIN; {_SCHEMA} {_SNAPSHOT} COMMIT;")

    def _take_lock(self) -> None:
        """Refuse a second writer; the lock ends with the process, however it ends."""
        if sys.platform == "win32":
            return  # SQLite's own locks protect the file; two writers would mix their answers
        import fcntl

        try:
            self._lock = open(f"{self.path}.lock", "w")  # noqa: SIM115 - held as long as the journal
        except OSError as error:
            raise StateError(f"The journal {self.path!r} cannot be written: {error.strerror}.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise StateError(f"The journal {self.path!r} is being written by another process.") from None

    def meta(self) -> dict[str, Any]:
        """Return the stored facts about the run."""
        return {key: json.loads(value) for key, value in self.db.execute("SELECT key, value FROM meta")}

    def set_meta(self, **facts: Any) -> None:
        """Store facts, durably."""
        with self._writing():
            rows = [(key, json.dumps(value)) for key, value in facts.items()]
            self.db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def claim(self, fingerprint: Mapping[str, Any], path_words: str = "journal") -> None:
        """Store the fingerprint of a new run, or refuse to go on with another's.

        Raises
        ------
        StateError
            The journal holds a run that differs in what determines the trajectory; the message names it.
        """
        stored = self.meta().get("fingerprint")
        wanted = json.loads(json.dumps(fingerprint))
        if stored is None:
            self.set_meta(fingerprint=wanted, created=time())
            return
        differing = [k for k in {**stored, **wanted} if stored.get(k) != wanted.get(k)]
        if differing:
            key = differing[0]
            clause = difference(key, stored.get(key), wanted.get(key))
            raise StateError(
                f"The {path_words} {self.path!r} belongs to another run: {clause}"
                + (f" (also different: {', '.join(differing[1:])})" if differing[1:] else "")
                + ". Use another file, or the same arguments."
            )

    def find(self, probe_id: ProbeId) -> Row | None:
        """Return and use up the next journaled answer to a probe, or None."""
        if not self.replaying:
            return None
        key = (probe_id[0], probe_id[1], probe_id[2])
        rows = self._rounds.get(key)
        if rows is None:
            rows = self._load(key)
            if len(self._rounds) > 8:
                del self._rounds[next(iter(self._rounds))]
            self._rounds[key] = rows
            if not rows and probe_id[0] >= 0:
                self.replaying = False  # rounds are journaled in order: nothing follows an unknown one
        found = rows.get(probe_id[3])
        return found.pop(0) if found else None

    def _load(self, key: tuple[int, int, int]) -> dict[int, list[Row]]:
        rows: dict[int, list[Row]] = {}
        query = (
            f"SELECT {_ANSWER} FROM evaluation e WHERE step=? AND phase=? AND attempt=? AND (n > ? OR step < 0) "
            "ORDER BY n"
        )
        for stored in self.db.execute(query, (*key, self._after)):
            row = _row(stored)
            rows.setdefault(row.answer.id[3], []).append(row)
        return rows

    def late(self, until: int | None) -> list[Answer]:
        """Return and use up the values that came after their rounds were closed, up to row ``until``; None for all."""
        if self._late is None:
            query = (
                f"SELECT {_ANSWER} FROM evaluation given_up JOIN evaluation e USING (step, phase, attempt, position) "
                "WHERE given_up.error = ? AND e.n > given_up.n AND e.n > ? ORDER BY e.n"
            )
            self._late = deque(_row(stored) for stored in self.db.execute(query, (LATE, self._after)))
        answers = []
        while self._late and (until is None or self._late[0].number < until):
            answers.append(self._late.popleft().answer)
        return answers

    def record(self, entries: Sequence[tuple[Probe, Answer, Array | None]]) -> None:
        """Store answers with their probes and points, durably, in one transaction.

        Raises
        ------
        JournalWriteError
            The file cannot be written; what it held before is intact.
        """
        now = time()
        rows = []
        for probe, answer, x in entries:
            self.count += 1
            rows.append((self.count, *probe.id, probe.want, *_numbers(answer), now, *_arrays(answer, x)))
        with self._writing():
            self.db.executemany(_INSERT, rows)

    def step(self, record: StepRecord) -> None:
        """Store the record of a completed step."""
        params = None if record.params is None else json.dumps(record.params, default=str)
        values = [*(getattr(record, name) for name in _STEP), params]
        with self._writing():
            self.db.execute(f"INSERT OR REPLACE INTO step VALUES ({', '.join('?' * len(values))})", values)

    def steps(self, until: int) -> list[StepRecord]:
        """Return the records of the steps up to number ``until``."""
        rows = self.db.execute("SELECT * FROM step WHERE nit <= ? ORDER BY nit", (until,))
        return [step_record(row) for row in rows]

    def save(self, snapshot: Snapshot) -> None:
        """Store a snapshot in place of the one before it."""
        arrays = []
        for name, array in snapshot.arrays.items():
            arrays.append((name, array.dtype.str, json.dumps(array.shape), np.ascontiguousarray(array).tobytes()))
        with self._writing():
            self.db.execute("DELETE FROM snapshot")
            self.db.execute("DELETE FROM snapshot_array")
            row = (snapshot.nit, snapshot.evaluations, json.dumps(snapshot.data))
            self.db.execute("INSERT INTO snapshot VALUES (?, ?, ?)", row)
            self.db.executemany("INSERT INTO snapshot_array VALUES (?, ?, ?, ?)", arrays)

    def snapshot(self) -> Snapshot | None:
        """Return the stored snapshot, or None."""
        found = self.db.execute("SELECT nit, evaluations, data FROM snapshot").fetchone()
        if found is None:
            return None
        arrays = {}
        for name, dtype, shape, data in self.db.execute("SELECT name, dtype, shape, data FROM snapshot_array"):
            arrays[name] = np.frombuffer(bytearray(data), dtype=dtype).reshape(json.loads(shape))
        return Snapshot(found[0], found[1], json.loads(found[2]), arrays)

    def go_on_after(self, snapshot: Snapshot) -> None:
        """Find, from now on, only answers that are not in ``snapshot``."""
        self._after = snapshot.evaluations
        self._late = None
        self._rounds.clear()
        self.replaying = self.count > snapshot.evaluations

    def last_step(self) -> int:
        """Return the number of the last journaled step, 0 if there is none."""
        found: int = self.db.execute("SELECT COALESCE(MAX(nit), 0) FROM step").fetchone()[0]
        return found

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make one durable transaction."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise JournalWriteError(f"The journal {self.path!r} cannot be written: {error}.") from error

    def close(self) -> None:
        """Close the file and release the lock."""
        if hasattr(self, "db"):
            with contextlib.suppress(sqlite3.Error):
                self.db.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _row(stored: tuple[Any, ...]) -> Row:
    """Return what the columns of ``_ANSWER`` hold."""
    n, step, phase, attempt, position, value, samples, error, elapsed, worker, log, whole, values, grad, dtype = stored
    answer = Answer(
        (step, phase, attempt, position),
        np.nan if value is None else value,
        None if values is None else np.frombuffer(values).copy(),
        None if grad is None else np.frombuffer(grad, dtype=dtype).copy(),
        samples,
        error,
        elapsed,
        worker,
        log,
    )
    return Row(answer, bool(whole), n)


def complete(answer: Answer) -> bool:
    """Return whether the whole answer is stored: no array of it is too large."""
    return not any(a is not None and a.nbytes > LARGEST_ARRAY for a in (answer.values, answer.grad))


def _numbers(answer: Answer) -> tuple[Any, ...]:
    return (answer.value, answer.n_samples, answer.error, answer.elapsed, answer.worker, answer.log)


def _arrays(answer: Answer, x: Array | None) -> tuple[Any, ...]:
    """Return (complete, point, per-sample values, gradient, its dtype) as SQLite stores them."""
    point = None if x is None or x.nbytes > LARGEST_POINT else np.ascontiguousarray(x, dtype=np.float64).tobytes()
    values, grad = answer.values, answer.grad
    if not complete(answer):
        return 0, point, None, None, None
    stored = None if values is None else np.ascontiguousarray(values, dtype=np.float64).tobytes()
    if grad is None:
        return 1, point, stored, None, None
    return 1, point, stored, np.ascontiguousarray(grad).tobytes(), grad.dtype.str


def step_record(row: tuple[Any, ...]) -> StepRecord:
    """Return a row of the table of steps as a record."""
    values: list[Any] = [math.nan if v is None else v for v in row[:-1]]  # SQLite stores NaN as NULL
    values.append(None if row[-1] is None else json.loads(row[-1]))
    return StepRecord(*values)
