"""The only loop: ask, afford, submit, collect, tell."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from vamo_bbo._errors import EvaluationError
from vamo_bbo._typing import Array
from vamo_bbo.core.calibration import noise_level
from vamo_bbo.core.late import LATE
from vamo_bbo.core.points import materialize, pinned
from vamo_bbo.core.solver import Solver, State
from vamo_bbo.core.types import Answer, Batch, Probe, ProbeId
from vamo_bbo.run.best import Best
from vamo_bbo.run.executors import Executor
from vamo_bbo.run.failures import FailureLog, FailurePolicy, JournalWriteError, PoolBroken, failure_record
from vamo_bbo.run.history import History, StepRecord
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import LARGE, Objective
from vamo_bbo.run.snapshot import plain_probes
from vamo_bbo.run.stop import Budget, Code, Plateau, is_success, message

__all__ = ["Run", "drive"]


@dataclass(slots=True)
class Run:
    """A run under way, and what it leaves behind.

    Attributes
    ----------
    objective : Objective
        What is minimized.
    solver : Solver
        By what.
    state : State
        The solver's latest state.
    ledger : Ledger
        Counts of evaluations.
    best : Best
        Best evaluated point.
    failures : FailureLog
        Failed evaluations.
    history : History
        One record per step.
    code : Code
        Why the run ended.
    status : int
        ``code``, or the number the solver gave.
    success : bool
        Whether that counts as convergence.
    message : str
        One sentence about it.
    nit : int
        Steps completed.
    value : float
        Latest value measured at a step's base point; NaN before the first.
    flat : bool
        Whether values were compared and not one difference was ever unequal to zero: the smoothing is too small.
    log : str or None
        Traceback, if the solver or an executor crashed.
    began : float
        ``perf_counter()`` at the start.
    loop : object or None
        The loop, while it runs; its ``marks()`` are what it remembers between steps.
    marks : dict or None
        Such marks of an earlier process, where the run goes on from a snapshot.
    """

    objective: Objective
    solver: Solver
    state: State
    ledger: Ledger
    best: Best
    failures: FailureLog = field(default_factory=FailureLog)
    history: History = field(default_factory=History)
    code: Code = Code.CONVERGED
    status: int = 0
    success: bool = False
    message: str = ""
    nit: int = 0
    value: float = math.nan
    flat: bool = False
    log: str | None = None
    began: float = field(default_factory=perf_counter)
    loop: _Loop | None = None
    marks: dict[str, Any] | None = None

    def user_point(self, z: Array) -> Array:
        """Return the user's point of ``z`` as a new array."""
        return self.objective.scaling.to_user(z.copy())

    def point(self) -> Array:
        """Return the user's point that belongs to the latest record, as a new array.

        The best evaluated point of a deterministic objective; the solver's recommendation otherwise.
        """
        info = self.objective.info
        if self.best.z is not None and info.n_samples is None and not info.noisy:
            return self.user_point(self.best.z)
        return self.user_point(self.solver.recommend(self.state))

    def end(self, code: Code, detail: str = "", *, text: str | None = None, success: bool | None = None) -> None:
        """Set why the run ended."""
        self.code = code
        self.status = int(code)
        self.success = is_success(code) if success is None else success
        self.message = message(code, detail) if text is None else text


OnStep = Callable[[StepRecord, Run], None]


class _Stop(Exception):
    """Leaves the loop; the run knows why."""


def drive(
    run: Run,
    executor: Executor,
    budget: Budget,
    *,
    policy: FailurePolicy | None = None,
    on_step: OnStep | None = None,
    known: Sequence[Answer] = (),
) -> Run:
    """Run ``run.solver`` to its end and return ``run``.

    Parameters
    ----------
    run : Run
        Solver, state, ledger (with the limits) and best point so far.
    executor : Executor
        Evaluates the probes; it is left open, with what is under way abandoned.
    budget : Budget
        Limits other than those of the ledger.
    policy : FailurePolicy, optional
        What to do with failed evaluations; default: skip.
    on_step : callable, optional
        Called with the record of each completed step and the run; ``StopIteration`` from it ends the run.
    known : sequence of Answer, optional
        The evaluation of x0, reused where a solver first asks for that very point; only of a deterministic objective.

    Raises
    ------
    EvaluationError
        A failure under ``on_error="raise"``.
    OutputError
        The objective returned something of the wrong shape or type.
    """
    loop = run.loop = _Loop(run, executor, budget, policy or FailurePolicy(), on_step, list(known))
    try:
        loop.go()
    except _Stop:
        pass
    except KeyboardInterrupt:
        run.end(Code.INTERRUPTED)
    except JournalWriteError as error:
        run.end(Code.JOURNAL, text=str(error))
    except PoolBroken as error:
        run.end(Code.WORKERS, text=str(error))
    finally:
        run.ledger.release(loop.in_flight.values())
    run.flat = loop.compared and not loop.differs
    return run


class _Loop:
    def __init__(
        self,
        run: Run,
        executor: Executor,
        budget: Budget,
        policy: FailurePolicy,
        on_step: OnStep | None,
        known: list[Answer],
    ) -> None:
        self.run, self.executor, self.budget, self.policy = run, executor, budget, policy
        self.on_step, self.known = on_step, known
        self.in_flight: dict[ProbeId, Probe] = {}
        self.tries: dict[ProbeId, int] = {}
        self.late: dict[ProbeId, Probe] = {}  # under way, though their rounds are closed
        self.named = getattr(run.objective.fun, "params", None)  # of a Space
        self.plateau = None if budget.tol is None else Plateau(budget.tol)
        self.target = -math.inf if budget.f_target is None else budget.f_target
        self.deadline = math.inf if budget.max_time is None else run.began + budget.max_time
        self.maxiter = math.inf if budget.maxiter is None else budget.maxiter
        self.base = self.total = 0.0  # weighted sums of the values at the step's base point, and of all its values
        self.base_weight = self.total_weight = 0
        self.compared = self.differs = False
        self.seen: dict[Batch | None, float] = {}
        self.worst = run.best.value if math.isfinite(run.best.value) else -math.inf
        self.told_worst = self.worst
        if run.marks is not None:
            self.known = []  # a later step does not ask for x0 again
            self.compared, self.differs, self.worst, self.told_worst = run.marks["values"]
            self.late = plain_probes(run.marks["late"], run.state.arrays["x"].dtype)
            if self.plateau is not None:
                self.plateau.restore(run.marks["plateau"])

    def marks(self) -> dict[str, Any]:
        """Return what is remembered between two steps, ready for JSON."""
        return {
            "tol": self.budget.tol,
            "values": [self.compared, self.differs, self.worst, self.told_worst],
            "plateau": None if self.plateau is None else self.plateau.marks(),
            "late": [[p.id, p.want, None if p.point is None else p.point.tolist()] for p in self.late.values()],
        }

    def go(self) -> None:
        """Loop until something raises :class:`_Stop`."""
        run, in_flight, executor = self.run, self.in_flight, self.executor
        if run.best.value <= self.target:
            self.stop(Code.TARGET)
        while True:
            fresh = self.ask()
            if in_flight:
                fresh = [p for p in fresh if p.id not in in_flight]
            if fresh:
                if self.known:
                    fresh = self.reuse(fresh)
                self.submit(fresh)
            elif not in_flight:
                self.stop(Code.SOLVER, "it asks for nothing and names no reason to stop")
            if not in_flight:
                continue
            answers = executor.collect(None if self.deadline == math.inf else max(0.0, self.deadline - perf_counter()))
            if answers:
                self.take(answers)
            if self.deadline != math.inf and perf_counter() > self.deadline:
                self.stop(Code.MAX_TIME)

    def stop(self, code: Code, detail: str = "") -> None:
        """End the run."""
        self.run.end(code, detail)
        raise _Stop

    def crashed(self, error: Exception) -> None:
        """End the run because of a bug in the solver."""
        self.run.log = "".join(traceback.format_exception(error))
        self.stop(Code.SOLVER, f"{type(error).__name__}: {error}")

    def ask(self) -> Sequence[Probe]:
        """Return the open probes, or end the run if the solver, ``maxiter`` or ``max_failures`` says so."""
        run = self.run
        try:
            status = run.solver.status(run.state)
            fresh = run.solver.ask(run.state) if status is None else ()
        except Exception as error:
            self.crashed(error)
        if status is not None:
            run.end(Code.CONVERGED, text=status.message, success=status.success)
            run.status = status.code
            raise _Stop
        if run.nit >= self.maxiter:
            self.drain()
            self.stop(Code.MAXITER)
        if self.budget.max_failures is not None and run.failures.count > self.budget.max_failures:
            self.stop(Code.FAILURES, f"max_failures={self.budget.max_failures}")
        return fresh

    def submit(self, fresh: Sequence[Probe]) -> None:
        """Start ``fresh`` if all of it fits into the budget; else wait for what is under way, or end."""
        limit = self.run.ledger.afford(fresh)
        if limit is None:
            for probe in fresh:
                self.in_flight[probe[0]] = probe
            self.executor.submit(self.run.state, fresh)
        elif not self.in_flight:
            self.drain()
            self.stop(
                Code.MAXFEV if limit == "maxfev" else Code.MAXJEV,
                # The user's number: the ledger's may leave out what the answer's own evaluation needs.
                f"{limit}={getattr(self.budget, limit) or getattr(self.run.ledger, limit):.0f}; "
                f"{len(fresh)} more evaluations do not fit",
            )

    def drain(self) -> None:
        """Wait for what rounds did not wait for: it is counted, and its values are paid for.

        A worker that hangs holds this up no longer than a round: until ``eval_timeout``, ``max_time`` or Ctrl-C.
        """
        while self.late and perf_counter() <= self.deadline:
            left = None if self.deadline == math.inf else self.deadline - perf_counter()
            answers = self.executor.collect(left)
            if not answers:
                break
            self.take(answers)

    def reuse(self, fresh: Sequence[Probe]) -> list[Probe]:
        """Tell the known answer of x0 to a probe that asks for that very point; return the other probes."""
        state, rest = self.run.state, []
        z0, answer = self.run.best.z, self.known.pop()
        used = False  # one evaluation answers one probe: repeated values must be repeated evaluations
        for probe in fresh:
            if (
                not used
                and z0 is not None
                and probe.direction is None
                and probe.batch is None
                and (probe.want == "value" or answer.grad is not None)
                and np.array_equal(materialize(state, probe, np.empty_like(z0)), z0)
            ):
                used = True
                self.look((probe,), (answer,))
                self.tell([answer._replace(id=probe.id)])
            else:
                rest.append(probe)
        return rest

    def take(self, answers: Sequence[Answer]) -> None:
        """Count answers, handle failures, look for a new best point, and tell."""
        run, in_flight = self.run, self.in_flight
        probes: list[Probe] = []
        good: list[Answer] = []
        told: list[Answer] = []
        rest = answers
        ids = [answer[0] for answer in answers if answer[5] is None]
        if len(ids) == len(answers) and ids == list(in_flight):  # a whole round, in order and without an error
            probes, good, rest = list(in_flight.values()), list(answers), ()
            in_flight.clear()
        for answer in rest:
            probe = in_flight.pop(answer[0], None)
            if probe is None:
                self.take_late(answer)
            elif answer[5] is None:  # no error
                probes.append(probe)
                good.append(answer)
            else:
                run.ledger.count((probe,))
                final = self.failed(probe, answer)
                if final is None:
                    in_flight[probe.id] = probe
                else:
                    told.append(final)
        if probes:
            run.ledger.count(probes)
            self.look(probes, good)
            run.best.offer(run.state, probes, good)
        if probes or told:
            self.tell(good + told if told else good)
        if run.best.value <= self.target:
            self.stop(Code.TARGET)

    def failed(self, probe: Probe, answer: Answer) -> Answer | None:
        """Return what the solver is told about a failure, or None if the evaluation is tried again."""
        run = self.run
        if answer.error == LATE:
            small = run.objective.info.n_samples is None and run.state.arrays["x"].size < LARGE
            self.late[probe.id] = pinned(run.state, probe) if small else probe
            return answer
        tries = self.tries.get(probe.id, 0)
        if tries < self.policy.retries and run.ledger.afford([probe]) is None:
            self.tries[probe.id] = tries + 1
            self.executor.submit(run.state, [probe])
            return None
        return self.resolved(probe, answer)

    def take_late(self, answer: Answer) -> None:
        """Look at an answer that its round did not wait for, which was counted then, and tell the solver."""
        run = self.run
        probe = self.late.pop(answer.id, None)
        if probe is None:
            return  # a worker repeats itself
        if answer.error is None:
            run.best.offer(run.state, (probe,), (answer,))
        else:
            answer = self.resolved(probe, answer)
        self.tell([answer])

    def resolved(self, probe: Probe, answer: Answer) -> Answer:
        """Record a failure and return what the solver is told about it."""
        run = self.run
        x = None
        like = run.state.arrays["x"]
        if like.size < LARGE and run.best._current(run.state, probe):
            x = run.user_point(materialize(run.state, probe, np.empty_like(like)))
        record = failure_record(probe, answer, x)
        run.failures.add(record)
        try:
            return self.policy.resolve(probe, answer, record, self.worst)
        except EvaluationError as error:
            if run.objective.exception is None and answer.log:
                error.add_note(answer.log)
            raise error from run.objective.exception

    def look(self, probes: Sequence[Probe], answers: Sequence[Answer]) -> None:
        """Update the step's mean values, the worst value, and whether any two values differ."""
        total, weights, worst = self.total, self.total_weight, self.told_worst
        for probe, answer in zip(probes, answers):  # noqa: B905 - once a round
            value, weight = answer[1], answer[4]
            if value != value:
                continue
            total += weight * value
            weights += weight
            if value > worst:
                worst = value
            if probe[2] is None and probe[7] is None:  # neither direction nor point
                self.base += weight * value
                self.base_weight += weight
        self.total, self.total_weight, self.told_worst = total, weights, worst
        if not self.differs or not self.compared:
            self.compare(probes, answers)

    def compare(self, probes: Sequence[Probe], answers: Sequence[Answer]) -> None:
        """Note whether values of differences have come, and whether two values of one batch differ."""
        for probe, answer in zip(probes, answers, strict=True):
            if answer.value != answer.value:
                continue
            self.compared |= probe.direction is not None
            self.differs = self.differs or self.seen.setdefault(probe.batch, answer.value) != answer.value

    def tell(self, answers: Sequence[Answer]) -> None:
        """Tell the solver, and notice a completed step."""
        run = self.run
        before = run.state.step
        try:
            run.state = run.solver.tell(run.state, answers)
        except Exception as error:
            self.crashed(error)
        if run.state.step != before:
            self.stepped()

    def stepped(self) -> None:
        """Record the completed step, call back, and look at the plateau."""
        run, ledger = self.run, self.run.ledger
        run.nit += 1
        if self.total_weight:
            run.value = self.base / self.base_weight if self.base_weight else self.total / self.total_weight
        best = run.best.value
        scalars = run.state.scalars
        fields = (
            run.nit,
            best if best < math.inf else run.value,
            run.value if self.total_weight else math.nan,
            ledger.nfev,
            ledger.njev,
            ledger.nfev_samples,
            ledger.njev_samples,
            scalars.get("step_size", math.nan),
            perf_counter() - run.began,
            run.failures.count,
            noise_level(scalars) if "noise_variance" in scalars else math.nan,
            None if self.named is None else self.named(run.point()),
        )
        record = tuple.__new__(StepRecord, fields)
        self.base = self.total = 0.0
        self.base_weight = self.total_weight = 0
        self.worst = self.told_worst
        if self.seen:
            self.seen.clear()
        if self.tries:
            self.tries.clear()
        run.history.append(record)
        flat = False
        if self.plateau is not None:
            info = run.objective.info
            exact = info.n_samples is None and not info.noisy
            flat = self.plateau.add(record.fun if exact else record.value)
        if self.on_step is not None:
            try:
                self.on_step(record, run)
            except StopIteration:
                self.stop(Code.CALLBACK)
        if flat:
            self.stop(Code.CONVERGED)
