"""Rounds that do not wait: how long runs take with uneven run times, and what that does to the answer.

``python benchmarks/asynchronous.py`` makes whole runs in simulated time, so that neither the number of cores nor what
else the machine does matters. An evaluation takes 1 to 100 units: at random, or the longer the higher its value is, or
the longer the lower. Compared are rounds that wait ("synchronous"), rounds that close on a quorum and take late answers
into later rounds ("asynchronous"), and rounds that close and never use them ("dropped"), which the package does not
offer. Every run has the same number of evaluations; a time is in units of what one worker that never rests would take
for an average evaluation, divided by the workers.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import vamo_bbo as vb
from vamo_bbo.core.points import materialize
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import Answer, Probe
from vamo_bbo.run.best import Best
from vamo_bbo.run.driver import Run, drive
from vamo_bbo.run.executors import InProcess
from vamo_bbo.run.executors.quorum import QuorumExecutor
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import Objective
from vamo_bbo.run.setup import setup
from vamo_bbo.run.stop import Budget

Array = Any
D = 20
SLOWEST = 100.0
"""Run time of the longest evaluation, in that of the shortest."""


class Virtual(InProcess):
    """Workers in simulated time: an evaluation ends when its run time is over, and nothing else takes time.

    Parameters
    ----------
    objective : Objective
        What is evaluated.
    count : int
        Number of workers.
    seconds : callable
        ``seconds(value, probe)``: the run time.
    """

    def __init__(self, objective: Objective, count: int, seconds: Callable[[float, Probe], float]) -> None:
        self.objective, self.count, self.seconds = objective, count, seconds
        self.now = self.busy = 0.0
        self.queue: list[tuple[Probe, Array, int]] = []
        self.working: list[tuple[float, int, Answer]] = []
        self.begun = 0

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        """Queue probes."""
        like = state.arrays["x"]
        self.queue += [(p, materialize(state, p, np.empty_like(like)), state.seed) for p in probes]
        self._begin()

    def _begin(self) -> None:
        while self.queue and len(self.working) < self.count:
            probe, z, seed = self.queue.pop(0)
            answer = self.objective.evaluate(probe, z, seed)
            seconds = self.seconds(answer.value, probe)
            self.busy += seconds
            self.begun += 1
            heapq.heappush(self.working, (self.now + seconds, self.begun, answer))

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Go on to the next end of an evaluation."""
        if not self.working:
            return []
        self.now, _, answer = heapq.heappop(self.working)
        self._begin()
        return [answer]

    def idle(self) -> int:
        """Return the number of workers without work."""
        return self.count - len(self.working)

    def close(self) -> None:
        """Nothing is left open."""


class Dropping(QuorumExecutor):
    """Rounds that close on a quorum, whose late answers are never used."""

    def collect(self, timeout: float | None = None) -> list[Answer]:
        """Return what came in without what is late."""
        while True:
            known = set(self.given_up)
            answers = super().collect(timeout)
            kept = [a for a in answers if a.id not in known]
            if kept or not answers:
                return kept


def random_time(value: float, probe: Probe) -> float:
    """Return a run time that has nothing to do with the value, log-uniform."""
    return float(SLOWEST ** np.random.default_rng([abs(v) for v in probe.id]).random())


class Level:
    """Run times by how a value lies among the latest ones: the highest take ``sign=1`` the longest, -1 the shortest."""

    def __init__(self, sign: int) -> None:
        self.sign, self.latest = sign, [0.0]

    def __call__(self, value: float, probe: Probe) -> float:
        """Return the run time of an evaluation."""
        rank = float(np.mean(np.array(self.latest) < value))
        self.latest = [*self.latest[-63:], value]
        return float(SLOWEST ** (rank if self.sign > 0 else 1.0 - rank))


TIMES: Mapping[str, Callable[[], Callable[[float, Probe], float]]] = {
    "at random": lambda: random_time,
    "slow where f is high": lambda: Level(1),
    "slow where f is low": lambda: Level(-1),
}


def ellipsoid(x: Array) -> float:
    """Return a quadratic of condition 100, at 1 in the minimum at ones."""
    return 1.0 + float(np.logspace(0, 2, x.size) @ (x - 1) ** 2)


def tilted(x: Array) -> float:
    """Return a function that rises steeper than it falls: what is high and what is low differ."""
    return float(np.logaddexp(0.0, 3.0 * (x - 1)).sum() - 1.0 * (x - 1).sum() + 0.05 * ((x - 1) ** 2).sum())


FUNCTIONS = {"ellipsoid": ellipsoid, "tilted": tilted}
METHODS: Mapping[str, Callable[[], Any]] = {
    "zo-sgd": lambda: vb.zo_sgd(n_directions=15),
    "spsa": lambda: vb.spsa(n_directions=8),
    "zo-adamm": lambda: vb.zo_adamm(n_directions=15),
    "cma": lambda: vb.cma(),
}


class Outcome(NamedTuple):
    """A run: the answer, its time, and how much of it a worker was busy on average."""

    gap: float
    time: float
    busy: float


def measure(function: str, method: str, times: str, mode: str, seed: int, workers: int, maxfev: int) -> Outcome:
    """Return one run."""
    problem = setup(FUNCTIONS[function], np.zeros(D))
    solver = METHODS[method]()
    pool = Virtual(problem.objective, workers, TIMES[times]())
    executor: Any = pool
    if mode != "synchronous":
        executor = (QuorumExecutor if mode == "asynchronous" else Dropping)(pool, solver)
    state = solver.init(problem.z0, seed=seed, backend="numpy", info=problem.objective.info, horizon=float(maxfev))
    run = Run(problem.objective, solver, state, Ledger(problem.objective.info, maxfev), Best(None))
    drive(run, executor, Budget(maxfev=maxfev))
    value = run.best.value
    busy = pool.busy - sum(end - pool.now for end, _, _ in pool.working)  # the rest of what was under way
    return Outcome(value - _lowest(function), pool.now * workers / pool.busy, busy / pool.now / workers)


_LOWEST: dict[str, float] = {}


def _lowest(function: str) -> float:
    if function not in _LOWEST:
        _LOWEST[function] = float(vb.minimize(FUNCTIONS[function], np.zeros(D), method="L-BFGS-B", maxfev=20_000).fun)
    return _LOWEST[function]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--maxfev", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    arguments = parser.parse_args()
    for function in FUNCTIONS:
        print(f"{function}, d = {D}: median f - minimum, time, share of the time that a worker is busy")
        print(" " * 26 + "".join(f"{name:>26s}" for name in TIMES))
        for method in arguments.methods:
            for mode in ("synchronous", "dropped", "asynchronous"):
                cells = ""
                for times in TIMES:
                    settings = (function, method, times, mode)
                    runs = [measure(*settings, s, arguments.workers, arguments.maxfev) for s in range(arguments.seeds)]
                    gap, time, busy = (float(np.median([run[k] for run in runs])) for k in range(3))
                    cells += f"{gap:12.3g} {time:6.2f} {100 * busy:4.0f} %"
                print(f"  {method:10s}{mode:14s}{cells}")


if __name__ == "__main__":
    main()
