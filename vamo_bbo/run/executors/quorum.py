"""Rounds that do not wait for stragglers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vamo_bbo._typing import Array
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe, ProbeId
from vamo_bbo.run.executors import Executor

__all__ = ["LATE", "QuorumExecutor"]

LATE = "late: the round closed on a quorum"
"""The error of an answer that the round did not wait for: no failure, and no reason to try again."""
QUORUM = 0.5
"""Share of a round's evaluations without which it never closes."""


class QuorumExecutor:
    """Wrap an executor: close a round when a worker is idle, and half of the round and all that is essential is in.

    Essential are gradients and values at the anchor itself; what is given up are directions, which the solver drops and
    renormalizes for. That is unbiased only if run time does not depend on the value. Evaluations that were given up run
    on, occupy their workers and count; their values are dropped and counted in ``late``.

    Parameters
    ----------
    inner : Executor
        Evaluates.

    Attributes
    ----------
    late : int
        Evaluations that a round did not wait for.
    """

    def __init__(self, inner: Executor) -> None:
        self.inner = inner
        self.waiting: dict[ProbeId, Probe] = {}
        self.given_up: set[ProbeId] = set()
        self.submitted = self.answered = 0
        self.late = 0

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Submit ``probes``; they open a round if none is open."""
        if not self.waiting:
            self.submitted = self.answered = 0
        self.submitted += len(probes)
        self.waiting.update((probe.id, probe) for probe in probes)
        self.inner.submit(state, probes)

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Return what came in, and give up the rest of the round if the quorum is reached and a worker is idle."""
        answers: list[Answer] = []
        while not answers:
            collected = self.inner.collect(timeout)
            for answer in collected:
                if answer.id in self.given_up:
                    self.given_up.discard(answer.id)
                elif self.waiting.pop(answer.id, None) is not None:
                    answers.append(answer)
            if timeout is not None or not collected:
                break
        self.answered += len(answers)
        if answers and self._may_close():
            for probe_id in self.waiting:
                answers.append(Answer(probe_id, error=LATE))
                self.given_up.add(probe_id)
            self.late += len(self.waiting)
            self.waiting.clear()
        return answers

    def _may_close(self) -> bool:
        if not self.waiting or self.answered < QUORUM * self.submitted or self._idle() < 1:
            return False
        return all(p.want in ("value", "values") and p.direction is not None for p in self.waiting.values())

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
