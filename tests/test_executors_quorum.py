"""Rounds that close on a quorum, with a scripted executor: no clock decides a test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo._typing import Array, Direction, Law
from vamo_bbo.core.late import LATE
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import AnchorRef, Answer, Probe, ProblemInfo
from vamo_bbo.run.executors import processes
from vamo_bbo.run.executors.quorum import QuorumExecutor
from vamo_bbo.run.load import load

ANCHOR = AnchorRef("x", 0)


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


def leg(index: int, step: int = 0, **changes: Any) -> Probe:
    return Probe((step, 0, 0, index), ANCHOR, Direction(Law.RADEMACHER, step, index, 4), 0.1)._replace(**changes)


class Scripted:
    """Answers, in each collect, the positions of the script that are under way."""

    def __init__(self, script: list[list[int]], idle: list[int]) -> None:
        self.script, self.idles, self.under_way = script, idle, list[Probe]()

    def submit(self, state: State, probes: Sequence[Probe]) -> None:
        self.under_way += probes

    def collect(self, timeout: float | None = None) -> list[Answer]:
        wanted = self.script.pop(0)
        found = [p for p in self.under_way if p.id[3] in wanted]
        self.under_way = [p for p in self.under_way if p not in found]
        return [Answer(p.id, float(p.id[0])) for p in found]

    def idle(self) -> int:
        return self.idles.pop(0) if len(self.idles) > 1 else self.idles[0]

    def first(self, probe: Probe, z: Array, seed: int) -> tuple[Answer, Mapping[str, Any]]:
        raise NotImplementedError

    def evaluate(self, tasks: Sequence[tuple[Probe, Array]], seed: int) -> list[Answer]:
        raise NotImplementedError

    def close(self) -> None:
        self.under_way.clear()


STATE = State(0, "numpy", ProblemInfo())
SOLVER = vb.zo_sgd()


def test_half_a_round_and_an_idle_worker_close_it() -> None:
    executor = QuorumExecutor(Scripted([[0], [1], [2, 3]], idle=[1]), SOLVER)
    executor.submit(STATE, [leg(j) for j in range(4)])
    assert [a.id[3] for a in executor.collect()] == [0]  # a quarter: no quorum yet
    answers = executor.collect()
    assert [(a.id[3], a.error) for a in answers] == [(1, None), (2, LATE), (3, LATE)]
    assert executor.late == 2


def test_no_round_closes_while_every_worker_is_busy() -> None:
    executor = QuorumExecutor(Scripted([[0, 1, 2], [3]], idle=[0]), SOLVER)
    executor.submit(STATE, [leg(j) for j in range(4)])
    assert len(executor.collect()) == 3
    assert [a.error for a in executor.collect()] == [None]


@pytest.mark.parametrize("essential", [leg(3, direction=None), leg(3, want="gradient"), leg(3, want="both")])
def test_the_base_and_gradients_are_waited_for(essential: Probe) -> None:
    executor = QuorumExecutor(Scripted([[0, 1], [3]], idle=[2]), SOLVER)
    executor.submit(STATE, [leg(0), leg(1), leg(2), essential])
    assert len(executor.collect()) == 2
    assert [(a.id[3], a.error) for a in executor.collect()] == [(3, None), (2, LATE)]


def test_values_that_come_too_late_are_returned_first() -> None:
    executor = QuorumExecutor(Scripted([[0, 1], [2], [3, 4]], idle=[2, 0]), SOLVER)
    executor.submit(STATE, [leg(j) for j in range(4)])
    assert len(executor.collect()) == 4
    executor.submit(STATE, [leg(j, step=1) for j in range(4, 6)])
    assert [(a.id, a.error) for a in executor.collect()] == [((0, 0, 0, 2), None)]
    assert [a.id for a in executor.collect()] == [(0, 0, 0, 3), (1, 0, 0, 4)]
    assert executor.given_up == set()


def test_a_central_difference_counts_when_both_legs_are_in() -> None:
    legs = [leg(j)._replace(id=(0, 0, 0, 2 * j + k), h=0.1 - 0.2 * k) for j in range(2) for k in range(2)]
    executor = QuorumExecutor(Scripted([[0, 2], [1]], idle=[1]), SOLVER)
    executor.submit(STATE, legs)
    assert [a.error for a in executor.collect()] == [None, None]  # two values, no difference
    assert [(a.id[3], a.error) for a in executor.collect()] == [(1, None), (3, LATE)]


def test_points_are_given_up_only_where_the_solver_takes_them_late() -> None:
    for solver, levels, closes in ((SOLVER, None, True), (vb.cma(), None, True), (vb.cma(), np.array([3]), False)):
        state = State(0, "numpy", ProblemInfo(levels=levels))
        executor = QuorumExecutor(Scripted([[0, 1]], idle=[1]), solver)
        executor.submit(state, [leg(j, direction=None, point=np.zeros(1)) for j in range(3)])
        assert len(executor.collect()) == 2 + closes


def test_a_late_direction_is_no_failure_and_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes.ProcessExecutor, "idle", lambda self: 1)  # as if one always were
    method = vb.zo_sgd(0.1, n_directions=6)
    arguments: dict[str, Any] = {"method": method, "rng": 0, "maxfev": 70, "workers": 2, "asynchronous": True}
    result = vb.minimize(bowl, np.zeros(3), journal=tmp_path / "run.db", **arguments)
    assert result.n_failed == 0
    assert result.failures == []
    assert 63 < result.nfev <= 70
    assert result.fun < 2
    data = load(tmp_path / "run.db")
    assert data.failures == []
    ids = list(zip(*(data.evaluations[k].tolist() for k in ("step", "phase", "attempt", "position")), strict=True))
    assert len(set(ids)) == len(ids)  # closing a round is no evaluation

    def never(x: np.ndarray) -> float:
        raise AssertionError("evaluated again")

    never.__module__, never.__qualname__ = bowl.__module__, bowl.__qualname__
    again = vb.minimize(never, np.zeros(3), journal=tmp_path / "run.db", **arguments)
    assert again.x.tobytes() == result.x.tobytes()  # closing a round is journaled, so a resume repeats it


def test_one_worker_never_gives_anything_up() -> None:
    method = vb.zo_sgd(0.1, n_directions=4)
    plain = vb.minimize(bowl, np.zeros(3), method=method, rng=0, maxfev=60)
    result = vb.minimize(bowl, np.zeros(3), method=method, rng=0, maxfev=60, workers=1, asynchronous=True)
    assert result.x.tobytes() == plain.x.tobytes()
