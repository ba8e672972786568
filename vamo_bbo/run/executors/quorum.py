"""Rounds that do not wait for stragglers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vamo_bbo._typing import Array
from vamo_bbo.core.late import LATE
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import Answer, Probe, ProbeId
from vamo_bbo.run.executors import Executor

__all__ = ["QuorumExecutor"]

QUORUM = 0.5
"""Share of a round's directions without which it never closes."""


class QuorumExecutor:
    """Wrap an executor: close a round when a worker is idle, and half of the round and all that is essential is in.

    Half of the round: of its directions, all of whose values are in, or of a population's points. Essential are
    gradients and values at the anchor itself, and the points of a population whose solver does not take them late.
    What is given up runs on, and its values are returned when they come, before the answers of the round that is open
    then; a solver that takes no late answers ignores them.

    Parameters
    ----------
    inner : Executor
        Evaluates.
    solver : Solver
        Whose rounds they are.

    Attributes
    ----------
    late : int
        Evaluations that a round did not wait for.
    """

    def __init__(self, inner: Executor, solver: Solver) -> None:
        self.inner, self.solver = inner, solver
        self.waiting: dict[ProbeId, Probe] = {}
        self.given_up: set[ProbeId] = set()
        self.round: dict[Any, int] = {}  # values that are missing, of each direction or point that may be given up
        self.takes_late = False
        self.late = 0

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Submit ``probes``; they open a round if none is open."""
        if not self.waiting:
            self.round.clear()
            takes_late = getattr(self.solver, "takes_late", None)
            self.takes_late = takes_late is not None and takes_late(state.info)
        for probe in probes:
            self.waiting[probe.id] = probe
            if (part := self._part(probe)) is not None:
                self.round[part] = self.round.get(part, 0) + 1
        self.inner.submit(state, probes)

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Return what came in, and give up the rest of the round if the quorum is reached and a worker is idle."""
        late: list[Answer] = []
        answers: list[Answer] = []
        while not late and not answers:
            collected = self.inner.collect(timeout)
            for answer in collected:
                if answer.id in self.given_up:
                    self.given_up.discard(answer.id)
                    late.append(answer)
                elif (probe := self.waiting.pop(answer.id, None)) is not None:
                    answers.append(answer)
                    if (part := self._part(probe)) is not None:
                        self.round[part] -= 1
            if timeout is not None or not collected:
                break
        if (late or answers) and self._may_close():
            for probe_id in self.waiting:
                answers.append(Answer(probe_id, error=LATE))
                self.given_up.add(probe_id)
            self.late += len(self.waiting)
            self.waiting.clear()
        return late + answers

    def _part(self, probe: Probe) -> Any:
        """Return which direction or point an evaluation belongs to; None if it is essential."""
        if probe.want not in ("value", "values"):
            return None
        if probe.direction is not None:
            return probe.direction
        return probe.id if probe.point is not None and self.takes_late else None

    def _may_close(self) -> bool:
        if not self.waiting or self._idle() < 1:
            return False
        missing = sum(count > 0 for count in self.round.values())
        if missing > (1.0 - QUORUM) * len(self.round):
            return False
        return all(self._part(probe) is not None for probe in self.waiting.values())

    def _idle(self) -> float:
        """Return the number of workers without work, inf where the executor does not say."""
        idle = getattr(self.inner, "idle", None)
        return float("inf") if idle is None else idle()

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        """Evaluate x0."""
        return self.inner.first(probe, z, seed)

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        """Evaluate at given points, all of them."""
        return self.inner.evaluate(tasks, seed)

    def close(self) -> None:
        """Close the inner executor."""
        self.inner.close()
