"""Reading a journal: result, history and failures of a run that has ended, was killed, or is under way."""

from __future__ import annotations

import json
import math
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._errors import StateError
from vamo_bbo._typing import Array
from vamo_bbo.core.late import LATE
from vamo_bbo.run.failures import FailureRecord
from vamo_bbo.space import Choice, Integer, Real, Space

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["JournalData", "load"]

_COLUMNS = ("step", "phase", "attempt", "position", "want", "value", "samples", "error", "elapsed", "worker", "at")


class JournalData:
    """What a journal holds, read once.

    Parameters
    ----------
    path : path
        The file. It is opened read-only, and nothing in it is executed.

    Attributes
    ----------
    path : str
        The file.
    meta : dict
        Fingerprint, seed and other facts.
    evaluations : dict of str to (n,) arrays
        One element per answered evaluation, in the order they came: ``step, phase, attempt, position`` (its identity),
        ``want, value, samples, error`` (None where it succeeded), ``elapsed`` (seconds), ``worker``, ``at`` (Unix
        time). Of ``asynchronous=True``, evaluations that no round waited for and that did not come either have an error
        that begins with "late".
    points : (n, d) array or None
        Points in the user's coordinates; rows of NaN where none was stored (large d). None if there is none.
    history : list of StepRecord
        One record per step.
    failures : list of FailureRecord
        Every failed evaluation with point, traceback and output.
    finished : bool
        Whether the run came to its end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        from vamo_bbo.run.journal import open_readonly, step_record  # only now: it imports SQLite

        db = open_readonly(path)
        try:
            self.meta: dict[str, Any] = {k: json.loads(v) for k, v in db.execute("SELECT key, value FROM meta")}
            rows = db.execute(f"SELECT {', '.join(_COLUMNS)}, x, log FROM evaluation ORDER BY n").fetchall()
            came = {row[:4]: k for k, row in enumerate(rows)}  # the latest row of each evaluation
            rows = [row for k, row in enumerate(rows) if row[7] != LATE or came[row[:4]] == k]
            steps = db.execute("SELECT * FROM step ORDER BY nit").fetchall()
        finally:
            db.close()
        self.evaluations = {name: _column(name, [row[i] for row in rows]) for i, name in enumerate(_COLUMNS)}
        self.points = _points([row[-2] for row in rows])
        self.history = [step_record(row) for row in steps]
        space = self.space
        self.failures = [
            FailureRecord(
                (row[0], row[1], row[2], row[3]),
                row[7],
                row[-1],
                None if row[-2] is None else np.frombuffer(row[-2]).copy(),
                row[4],
                row[8],
                row[9],
                None if space is None or row[-2] is None else space.from_unit(np.frombuffer(row[-2])),
            )
            for row in rows
            if row[7] is not None and row[7] != LATE
        ]
        self.finished = "result" in self.meta

    @property
    def space(self) -> Space | None:
        """The :class:`~vamo_bbo.space.Space` that was searched, or None; options of a Choice are described by text."""
        described = self.meta.get("fingerprint", {}).get("space")
        return None if described is None else Space({name: _parameter(v) for name, v in described.items()})

    @property
    def names(self) -> list[str]:
        """Names of the coordinates: of the parameters of a Space, else ``x0, x1, ...``."""
        if self.space is not None:
            return list(self.space.names)
        return [] if self.points is None else [f"x{j}" for j in range(self.points.shape[1])]

    @property
    def params(self) -> list[dict[str, Any]]:
        """The parameters of every evaluation: a dict each, empty where no point was stored."""
        if self.points is None:
            return [{} for _ in self.evaluations["value"]]
        space = self.space
        if space is not None:
            return [{} if np.isnan(x).any() else space.from_unit(x) for x in self.points]
        return [{} if np.isnan(x).any() else dict(zip(self.names, x.tolist(), strict=True)) for x in self.points]

    @property
    def succeeded(self) -> Array:
        """Which evaluations gave a value, shape (n,)."""
        return np.array([e is None for e in self.evaluations["error"]], dtype=bool) & np.isfinite(
            self.evaluations["value"]
        )

    @property
    def failed(self) -> Array:
        """Which evaluations are those of ``failures``, in that order, shape (n,)."""
        return np.array([e is not None and e != LATE for e in self.evaluations["error"]], dtype=bool)

    @property
    def kinds_of_failures(self) -> list[tuple[str, int]]:
        """An example of every kind of error and how many there were, the most frequent first; numbers do not count."""
        kinds: dict[str, list[str]] = {}
        for failure in self.failures:
            kinds.setdefault(re.sub(r"[\d.]+", "#", failure.error), []).append(failure.error)
        return sorted(((errors[0], len(errors)) for errors in kinds.values()), key=lambda kind: -kind[1])

    @property
    def result(self) -> OptimizeResult:
        """The result of a finished run; of any other, the best evaluation so far with status -1.

        Raises
        ------
        StateError
            The journal holds no successful evaluation yet.
        """
        from vamo_bbo.run.session import new_result

        if self.finished:
            stored = dict(self.meta["result"])
            stored["x"] = None if stored["x"] is None else np.array(stored["x"])
            if self.space is not None and stored["x"] is not None:
                stored["params"] = self.space.from_unit(stored["x"])
            return new_result(**stored, history=self.history, failures=self.failures)
        values, wants = self.evaluations["value"], self.evaluations["want"]
        comparable = self.succeeded & (wants != "gradient")
        if not comparable.any():
            raise StateError(f"The journal {self.path!r} holds no successful evaluation yet.")
        best = int(np.argmin(np.where(comparable, values, np.inf)))
        x = None if self.points is None or np.isnan(self.points[best]).any() else self.points[best].copy()
        return new_result(
            x=x,
            fun=float(values[best]),
            success=False,
            status=-1,
            message="The run has not ended; this is the best evaluation so far.",
            nit=len(self.history),
            n_failed=len(self.failures),
            history=self.history,
            failures=self.failures,
        )

    def to_pandas(self) -> Any:
        """Return the evaluations, with the coordinates of their points, as a ``pandas.DataFrame``."""
        import pandas

        return pandas.DataFrame(self.evaluations).join(pandas.DataFrame(self.params), rsuffix=" (parameter)")


def _parameter(described: Any) -> Any:
    """Return the parameter that :func:`vamo_bbo.run.fingerprint.describe` described; other values are fixed."""
    kinds: dict[str, Any] = {f"{k.__module__}.{k.__qualname__}": k for k in (Real, Integer, Choice)}
    if not isinstance(described, dict) or described.get("type") not in kinds:
        return described
    fields = {name: value for name, value in described.items() if name != "type"}
    if "options" in fields:
        fields["options"] = [
            v if isinstance(v, (str, int, float, bool, type(None))) else str(v) for v in fields["options"]
        ]
    return kinds[described["type"]](**fields)


def _column(name: str, values: list[Any]) -> Array:
    if name in ("value", "elapsed", "at"):
        return np.array([math.nan if v is None else v for v in values], dtype=float)
    if name in ("want", "error", "worker"):
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    return np.array(values, dtype=np.int64)


def _points(blobs: list[bytes | None]) -> Array | None:
    lengths = [len(b) // 8 for b in blobs if b is not None]
    if not lengths:
        return None
    size = max(lengths)
    points = np.full((len(blobs), size), np.nan)
    for row, blob in zip(points, blobs, strict=True):
        if blob is not None:
            row[:] = np.frombuffer(blob)
    return points


def load(path: str | os.PathLike[str]) -> JournalData:
    """Read the journal of a run, also while it is under way.

    Parameters
    ----------
    path : path
        What was given as ``journal`` to ``minimize``.

    Returns
    -------
    JournalData
        Result, evaluations, history and failures.

    Raises
    ------
    StateError
        There is no such file, it is not a journal, or it is damaged.
    """
    return JournalData(path)
