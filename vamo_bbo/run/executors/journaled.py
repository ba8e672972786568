"""An executor that answers from a journal what an earlier process evaluated, and journals what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from vamo_bbo._typing import Array
from vamo_bbo.core.late import LATE
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe, ProbeId
from vamo_bbo.run.executors import Executor
from vamo_bbo.run.executors.serial import JOURNALED_SLICE, SerialExecutor
from vamo_bbo.run.failures import JournalWriteError
from vamo_bbo.run.journal import LARGEST_POINT, Journal, Row, complete
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.snapshot import Snapshots, take

if TYPE_CHECKING:
    from vamo_bbo.run.driver import Run

__all__ = ["JournaledExecutor"]


class JournaledExecutor:
    """Wrap an executor: answers pass through the journal on their way to the solver.

    A resumed run is the same run again, with the journaled answers in place of the evaluations: counts, best point,
    history and failures come out as they were, and evaluation goes on where the journal ends.

    Parameters
    ----------
    objective : Objective
        What is evaluated; it maps points to the user's coordinates.
    inner : Executor
        Evaluates what the journal does not have.
    journal : Journal
        Where answers are found and kept.

    Attributes
    ----------
    replayed : int
        Answers found in the journal.
    broken : bool
        Whether the journal could not be written; from then on answers only pass through.
    """

    def __init__(self, objective: Objective, inner: Executor, journal: Journal) -> None:
        self.objective, self.inner, self.journal = objective, inner, journal
        if isinstance(inner, SerialExecutor):
            inner.slice = JOURNALED_SLICE
        self.found: list[Answer] = []
        self.under_way: dict[ProbeId, Probe] = {}
        self.given_up: dict[ProbeId, tuple[Probe, Array | None]] = {}  # under way, though their rounds are closed
        self.state: State | None = None
        self.replayed = 0
        self.broken = False
        self.snapshots = Snapshots()

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Answer what the journal knows, and submit the rest."""
        self.state = state
        unknown, found, newest, replaying = [], [], 0, self.journal.replaying
        for probe in probes:
            row = self._find(probe)
            if row is None:
                self.under_way[probe.id] = probe
                unknown.append(probe)
            else:
                found.append(row.answer)
                newest = max(newest, row.number)
        if replaying:  # late answers were told before the round that was open then closed
            late = self.journal.late(None if unknown else newest)
            self.replayed += len(late)
            self.found += late
        self.found += found
        if unknown:
            self.inner.submit(state, unknown)

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Return journaled answers, or collect new ones and journal them.

        Raises
        ------
        JournalWriteError
            The new answers could not be stored; they are lost to the run as well, which ends.
        """
        if not self.found and not self.under_way and self.journal.replaying:  # what came when no round was left
            self.found = self.journal.late(None)
            self.replayed += len(self.found)
        if self.found:
            answers, self.found = self.found, []
            return answers
        answers = self.inner.collect(timeout)
        state = self.state
        assert state is not None or not answers
        entries: list[tuple[Probe, Answer, Array | None]] = []
        for answer in answers:
            if answer.id in self.given_up:
                entries.append((self.given_up[answer.id][0], answer, self.given_up.pop(answer.id)[1]))
                continue
            probe = self.under_way.pop(answer.id)
            x = None
            if state is not None and state.arrays["x"].nbytes <= LARGEST_POINT and self._current(state, probe):
                x = self.objective.scaling.to_user(materialize(state, probe, np.empty_like(state.arrays["x"])))
            entries.append((probe, answer, x))
            if answer.error == LATE:
                self.given_up[probe.id] = (probe, x)
        if entries:
            self._record(entries)
        return answers

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        """Evaluate x0, or take it from the journal with what it showed."""
        row = self._find(probe)
        if row is not None:
            facts = dict(self.journal.meta().get("facts", {}))
            if facts.get("unknown") is not None:
                facts["unknown"] = np.array(facts["unknown"], dtype=np.uint8)
            return row.answer, facts
        answer, new = self.inner.first(probe, z.copy(), seed)
        unknown = new.get("unknown")
        self.journal.set_meta(facts={**new, "unknown": None if unknown is None else unknown.tolist()})
        self._record([(probe, answer, self.objective.scaling.to_user(z.copy()))])
        return answer, new

    def stepped(self, run: Run) -> None:
        """Take a snapshot of ``run``, right after a step, if that is worth its price."""
        if self.found or self.broken or not self.snapshots.due():
            return
        began = perf_counter()
        snapshot = take(run, self.journal.count)
        if snapshot is not None:
            self.journal.save(snapshot)
        self.snapshots.taken(began)

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate at given points what the journal does not know."""
        known = {probe.id: row.answer for probe, _ in tasks if (row := self._find(probe)) is not None}
        rest = [(probe, z) for probe, z in tasks if probe.id not in known]
        at_once = getattr(self.inner, "count", 1)
        for begin in range(0, len(rest), at_once):  # journaled as they come: a crash repeats no more than these
            part = [(probe, z.copy()) for probe, z in rest[begin : begin + at_once]]
            points = [self.objective.scaling.to_user(z.copy()) for _, z in part]
            answers = self.inner.evaluate(part, seed)
            self._record([(p, a, x) for (p, _), a, x in zip(part, answers, points, strict=True)])
            known.update((a.id, a) for a in answers)
        return [known[probe.id] for probe, _ in tasks]

    def _find(self, probe: Probe) -> Row | None:
        row = self.journal.find(probe.id)
        if row is None or not row.complete:
            return None
        self.replayed += 1
        return row

    def _record(self, entries: Sequence[tuple[Probe, Answer, Array | None]]) -> None:
        if self.broken:
            return
        for _, answer, _ in entries:
            self.snapshots.answered(answer, complete(answer))
        try:
            self.journal.record(entries)
        except JournalWriteError:
            self.broken = True
            raise

    @staticmethod
    def _current(state: State, probe: Probe) -> bool:
        return probe.point is not None or state.versions.get(probe.anchor.name) == probe.anchor.version

    def close(self) -> None:
        """Close the inner executor; the journal is closed by the run that opened it."""
        self.inner.close()
