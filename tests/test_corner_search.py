"""The corner search: levels are partitions, the run is that of a plain loop, and it resumes bit for bit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vamo_bbo as vb
from problems.corner_search import CornerSearch, halving_levels, tile_levels
from vamo_bbo.core.points import materialize
from vamo_bbo.core.types import Answer, ProblemInfo

SIZE = 12
LOWER, UPPER = np.linspace(-2, -1, SIZE), np.linspace(1, 3, SIZE)


def rugged(x):
    """A function of corners whose coordinates interact."""
    z = (x - LOWER) / (UPPER - LOWER)
    return float(np.sin(3 * z @ np.arange(SIZE)) + 0.3 * z.sum() - 0.2 * z[0] * z[-1])


@given(st.integers(1, 70))
def test_halving_levels_are_nested_partitions_down_to_single_coordinates(size: int) -> None:
    levels = halving_levels(size)
    assert np.array_equal(levels[-1], np.arange(size))
    for level in levels:
        assert np.array_equal(np.unique(level), np.arange(level.max() + 1))
    assert [level.max() for level in levels] == sorted(level.max() for level in levels)


def test_tile_levels_separate_channels_rows_and_columns() -> None:
    (level,) = tile_levels((2, 5, 4), [3])
    blocks = level.reshape(2, 5, 4)
    assert np.array_equal(np.unique(level), np.arange(8))
    assert np.all(blocks[0, :3, :3] == blocks[0, 0, 0])
    corners = {int(blocks[k]) for k in ((0, 0, 0), (0, 0, 3), (0, 3, 0), (0, 3, 3), (1, 0, 0))}
    assert len(corners) == 5


def by_hand(levels, seed: int, budget: int):
    """The algorithm as a loop, from the corner of all upper bounds."""
    x, count, sweep = UPPER.copy(), 1, 0
    best, helped = rugged(x), True
    while helped:
        helped = False
        for number, level in enumerate(levels):
            for block in np.random.default_rng([seed, sweep, number]).permutation(level.max() + 1):
                if count == budget:
                    return x, best, count
                trial = np.where(level == block, LOWER + UPPER - x, x)
                count += 1
                if (value := rugged(trial)) < best:
                    x, best, helped = trial, value, True
        sweep += 1
    return x, best, count


def started(solver: CornerSearch, seed: int = 7):
    info = ProblemInfo(lower=LOWER, upper=UPPER)
    return solver.init((LOWER + UPPER) / 2, seed=seed, backend="numpy", info=info)


def step(solver: CornerSearch, state):
    (probe,) = solver.ask(state)
    x = materialize(state, probe, np.empty(SIZE))
    return solver.tell(state, [Answer(probe.id, rugged(x))]), x


@pytest.mark.parametrize("levels", [None, tile_levels((1, 3, 4), [2, 1])])
@pytest.mark.parametrize("budget", [9, 500])
def test_the_run_is_that_of_a_plain_loop(levels, budget: int) -> None:
    solver = CornerSearch(levels)
    state = started(solver)
    for _ in range(budget):
        if solver.status(state):
            break
        state, x = step(solver, state)
        assert np.all((x == LOWER) | (np.isclose(x, UPPER)))
    x, best, count = by_hand(levels or halving_levels(SIZE), 7, budget)
    np.testing.assert_allclose(solver.recommend(state), x)
    assert state.scalars["best"] == pytest.approx(best)
    assert state.step == count


def test_resumes_after_every_answer_and_ignores_what_it_did_not_ask() -> None:
    solver = CornerSearch()
    straight, resumed = started(solver), started(solver)
    for _ in range(40):
        straight, _ = step(solver, straight)
        resumed = pickle.loads(pickle.dumps(resumed))
        resumed = solver.tell(resumed, [Answer((99, 0, 0, 0), -1e9)])
        resumed, _ = step(solver, resumed)
    np.testing.assert_array_equal(straight.arrays["x"], resumed.arrays["x"])
    assert straight.scalars["best"] == resumed.scalars["best"]


def test_a_failed_value_is_no_improvement() -> None:
    solver = CornerSearch()
    state, _ = step(solver, started(solver))
    before = state.arrays["x"].copy()
    state = solver.tell(state, [Answer(solver.ask(state)[0].id, error="ValueError: no")])
    np.testing.assert_array_equal(state.arrays["x"], before)


def test_minimize_finds_the_best_corner_of_a_separable_function() -> None:
    goal = np.where(np.random.default_rng(0).random(50) < 0.5, -1.0, 1.0)
    result = vb.minimize(lambda x: -float(goal @ x), np.zeros(50), method=CornerSearch(), bounds=[(-1, 1)] * 50, rng=0)
    assert result.success
    np.testing.assert_array_equal(result.x, goal)


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(vb.CapabilityError, match="needs finite bounds"):
        vb.minimize(lambda x: 0.0, np.zeros(3), method=CornerSearch(), rng=0)
    with pytest.raises(vb.OptionError, match=r"level must have shape \(3,\)"):
        vb.minimize(lambda x: 0.0, np.zeros(3), method=CornerSearch([np.zeros(4, int)]), bounds=[(0, 1)] * 3, rng=0)
