"""The state of a run between two steps as plain data, so that a resumed run need not take all its answers again.

A snapshot is an accelerator and never needed: a run that finds none, or one of another version, or one beyond its
budget, takes the journaled answers from the beginning and gets to the same state, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vamo_bbo._typing import AnyDirection, Array, Direction, Law, StoredDirection
from vamo_bbo.core.late import Late
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import AnchorRef, Answer, Probe, ProbeId
from vamo_bbo.run.failures import FailureRecord

if TYPE_CHECKING:
    from vamo_bbo.run.driver import Run
    from vamo_bbo.run.history import StepRecord
    from vamo_bbo.run.stop import Budget

__all__ = ["Snapshot", "Snapshots", "fits", "plain_probes", "restore", "take"]

VERSION = 2
"""Version of what a snapshot means; another one is ignored."""
REPLAY = 5e-5
"""Seconds that a resumed run needs to take one journaled answer, roughly."""
WORTH = 0.25
"""Seconds of taking answers that a snapshot must save."""
SHARE = 20.0
"""And how many times its own cost: at most a twentieth of a run goes into snapshots."""
LARGEST = 5e8
"""Bytes of the largest array of a snapshot: SQLite stores less than 1e9."""


class Snapshot(NamedTuple):
    """A run after one of its steps.

    Attributes
    ----------
    nit : int
        Steps completed.
    evaluations : int
        Answers in the journal by then: all of them are in this state.
    data : dict
        Numbers and text, ready for JSON.
    arrays : dict of str to array
        Arrays by name.
    """

    nit: int
    evaluations: int
    data: dict[str, Any]
    arrays: dict[str, Array]


def take(run: Run, evaluations: int) -> Snapshot | None:
    """Return the snapshot of ``run`` right after a step, or None where the state is not plain or too large."""
    state, best, ledger = run.state, run.best, run.ledger
    arrays = {f"state {name}": array for name, array in state.arrays.items()}
    if best.z is not None:
        arrays["best"] = best.z
    for number, late in enumerate(state.late.values()):
        if late.point is not None:
            arrays[f"late {number}"] = late.point
    plain = all(type(a) is np.ndarray and a.dtype.kind in "biuf" and a.nbytes <= LARGEST for a in arrays.values())
    if type(state) is not State or state.inbox or not plain or run.loop is None:
        return None
    data = {
        "version": VERSION,
        "step": [state.step, state.phase, state.attempt],
        "scalars": {name: _number(value) for name, value in state.scalars.items()},
        "versions": dict(state.versions),
        "undo": [[c, _name(u)] for c, u in state.undo],
        "late": [[key, *_late(late)] for key, late in state.late.items()],
        "counts": [ledger.nfev, ledger.njev, ledger.nfev_samples, ledger.njev_samples],
        "best": best.value,
        "value": run.value,
        "failures": {
            "count": run.failures.count,
            "worst": run.failures.worst,
            "first": [_failure(r) for r in run.failures.first],
            "latest": [_failure(r) for r in run.failures.latest],
        },
        "loop": run.loop.marks(),
    }
    return Snapshot(run.nit, evaluations, data, arrays)


def restore(run: Run, snapshot: Snapshot, history: list[StepRecord]) -> None:
    """Put ``run``, just begun, into the state of ``snapshot``; ``history`` are the records of its steps."""
    state, best, ledger, data = run.state, run.best, run.ledger, snapshot.data
    state.step, state.phase, state.attempt = data["step"]
    state.scalars = dict(data["scalars"])
    state.versions = dict(data["versions"])
    state.undo = tuple((c, _direction(u)) for c, u in data["undo"])
    state.late = {}
    for number, (key, *named) in enumerate(data["late"]):
        state.late[tuple(key)] = _late_again(named, snapshot.arrays.get(f"late {number}"))
    state.arrays = {k.removeprefix("state "): a for k, a in snapshot.arrays.items() if k.startswith("state ")}
    state.cache.clear()
    ledger.nfev, ledger.njev, ledger.nfev_samples, ledger.njev_samples = data["counts"]
    best.value, best.z = data["best"], snapshot.arrays.get("best")
    failures = data["failures"]
    run.failures.count, run.failures.worst = failures["count"], failures["worst"]
    run.failures.first[:] = [_record(r) for r in failures["first"]]
    run.failures.latest[:] = [_record(r) for r in failures["latest"]]
    run.nit, run.value, run.marks = snapshot.nit, data["value"], data["loop"]
    for record in history:
        run.history.append(record)


def fits(snapshot: Snapshot, run: Run, budget: Budget) -> bool:
    """Return whether a run with these limits gets as far as ``snapshot``, by the version that reads it."""
    data, ledger = snapshot.data, run.ledger
    if data.get("version") != VERSION:
        return False
    names = {f"state {name}" for name in run.state.arrays}
    _, _, values, gradients = data["counts"]
    return (
        names <= set(snapshot.arrays)
        and values <= ledger.maxfev
        and gradients <= ledger.maxjev
        and snapshot.nit <= (math.inf if budget.maxiter is None else budget.maxiter)
        and data["best"] > (-math.inf if budget.f_target is None else budget.f_target)
        and data["failures"]["count"] <= (math.inf if budget.max_failures is None else budget.max_failures)
        and data["loop"]["tol"] == budget.tol
    )


class Snapshots:
    """When a snapshot is worth its price."""

    def __init__(self) -> None:
        self.saved = 0.0  # seconds of replay since the last one
        self.price = 0.0
        self.last = perf_counter()

    def answered(self, answer: Answer, complete: bool) -> None:
        """Note an answer; one that is not ``complete`` in the journal would have to be evaluated again."""
        self.saved += REPLAY if complete else REPLAY + answer.elapsed

    def due(self) -> bool:
        """Return whether one should be taken now."""
        return self.saved >= max(WORTH, SHARE * self.price) and perf_counter() - self.last >= SHARE * self.price

    def taken(self, began: float) -> None:
        """Note that one was taken."""
        self.last = perf_counter()
        self.price, self.saved = self.last - began, 0.0


def _number(value: Any) -> float | int:
    return value if isinstance(value, (int, float)) else float(value)


def _name(u: AnyDirection) -> list[Any]:
    return ["stored", *u] if isinstance(u, StoredDirection) else ["drawn", *(int(v) for v in u[:5]), u[5]]


def _direction(named: list[Any]) -> AnyDirection:
    kind, *rest = named
    return StoredDirection(*rest) if kind == "stored" else Direction(Law(rest[0]), *rest[1:])


def _late(late: Late) -> list[Any]:
    direction = None if late.direction is None else _name(late.direction)
    return [late.value, direction, late.h, late.reference, late.partner]


def _late_again(named: list[Any], point: Array | None) -> Late:
    value, direction, h, reference, partner = named
    partner = None if partner is None else tuple(partner)
    return Late(value, None if direction is None else _direction(direction), h, reference, partner, point)


def plain_probes(named: list[list[Any]], dtype: Any) -> dict[ProbeId, Probe]:
    """Return probes at written-out points from their ids, wants and points."""
    anchor, found = AnchorRef("x", -1), {}
    for key, want, point in named:
        z = None if point is None else np.array(point, dtype=dtype)
        found[tuple(key)] = Probe(tuple(key), anchor, None, 0.0, None, want, None, z)
    return found


def _failure(record: FailureRecord) -> dict[str, Any]:
    x = None if record.x is None else [record.x.dtype.str, record.x.tolist()]
    return {
        "id": record.id,
        "error": record.error,
        "log": record.log,
        "x": x,
        "want": record.want,
        "elapsed": record.elapsed,
        "worker": record.worker,
    }


def _record(plain: Mapping[str, Any]) -> FailureRecord:
    x = None if plain["x"] is None else np.array(plain["x"][1], dtype=plain["x"][0])
    return FailureRecord(**{**plain, "id": tuple(plain["id"]), "x": x})
