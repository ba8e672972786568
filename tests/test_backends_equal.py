"""The fast backends give the bits of the reference: every operation, odd sizes, tiles, types and threads."""

from __future__ import annotations

import numpy as np
import pytest
from backend_cases import SEED, directions, same_bits, state_arrays, vector

from vamo_bbo._typing import Array, Direction, Law
from vamo_bbo.backends import Directions, get
from vamo_bbo.backends.numba_cpu import NumbaDirections
from vamo_bbo.backends.reference import ReferenceDirections
from vamo_bbo.backends.rows import RowDirections

CASES = [(NumbaDirections, d) for d in (1, 10, 127, 128, 129, 2048, 2100)]
CASES += [(RowDirections, d) for d in (1, 2, 10, 64, 65, 129, 2048)]
every_case = pytest.mark.parametrize(("kind", "d"), CASES)
TILES = [(0, 1.0), (0.34, 0.8), (0.5, 0.5)]
WHOLE_SIGNS = [(0.3 * i - 1, Direction(Law.RADEMACHER, 9, i, 20)) for i in range(20)]


def pair(kind: type, d: int) -> tuple[Directions, Directions]:
    arrays = state_arrays(d)
    return ReferenceDirections(SEED, d, arrays), kind(SEED, d, arrays)


def tiles(d: int) -> list[tuple[int, int]]:
    return [(int(a * d), int(b * d)) for a, b in TILES]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_fill_and_perturb(kind, d, dtype):
    slow, fast = pair(kind, d)
    x = vector(d, dtype)
    for lo, hi in tiles(d):
        for u in directions(d):
            a, b = np.empty(hi - lo, dtype), np.full(hi - lo, np.nan, dtype)
            slow.fill(u, lo, hi, a)
            fast.fill(u, lo, hi, b)
            assert same_bits(a, b), u
            slow.perturb(x[lo:hi], u, 0.3, lo, hi, a)
            fast.perturb(x[lo:hi], u, 0.3, lo, hi, b)
            assert same_bits(a, b), u
            in_place = x[lo:hi].copy()
            fast.perturb(in_place, u, 0.3, lo, hi, in_place)
            assert same_bits(a, in_place), u


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_pairs_and_rows(kind, d, dtype):
    slow, fast = pair(kind, d)
    x, us = vector(d, dtype), list(directions(d))
    for lo, hi in tiles(d):
        for u in us:
            a, b = np.empty((2, hi - lo), dtype), np.full((2, hi - lo), np.nan, dtype)
            slow.perturb_pair(x[lo:hi], u, 0.3, lo, hi, a[0], a[1])
            fast.perturb_pair(x[lo:hi], u, 0.3, lo, hi, b[0], b[1])
            assert same_bits(a, b), u
    for some in (us, [u for u in us if isinstance(u, Direction) and u.mask is None]):
        hs = [0.1 * k for k in range(len(some))]
        a, b = np.empty((len(some), d), dtype), np.full((len(some), d), np.nan, dtype)
        slow.perturb_rows(x, some, hs, a)
        fast.perturb_rows(x, some, hs, b)
        assert same_bits(a, b)


def term_lists(d: int, x: Array) -> list[tuple[list, list]]:
    terms = [(0.1 * (i + 1), u) for i, u in enumerate(directions(d))]
    partial = [t for t in terms if t[1][0] in (Law.BLOCK, Law.COORDINATE)]
    blocks = [(i + 0.5, Direction(Law.BLOCK, 3, i, min(d, 16))) for i in range(min(d, 16))]
    dense = [(-0.7, x[::-1].copy()), (0.2, x)]
    lists = [(terms, dense), (terms, []), (partial, []), (blocks, []), (WHOLE_SIGNS, []), ([], dense[:1]), ([], [])]
    normal = [(0.7, Direction(Law.NORMAL, 9, 3, 4))]
    closing = [(terms + normal, dense), (normal, dense[:1]), (normal, dense), (normal, []), (WHOLE_SIGNS + normal, [])]
    return lists + closing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_accumulate(kind, d, dtype):
    slow, fast = pair(kind, d)
    x = vector(d, dtype)
    for lo, hi in tiles(d):
        for terms, dense in term_lists(d, x):
            a, b = x[lo:hi].copy(), x[lo:hi].copy()
            slow.accumulate(terms, dense, lo, hi, a)
            fast.accumulate(terms, dense, lo, hi, b)
            assert same_bits(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_reductions(kind, d, dtype):
    slow, fast = pair(kind, d)
    x, us = vector(d, dtype), list(directions(d))
    assert same_bits(slow.project(x, us), fast.project(x, us))
    assert slow.dot(x, x[::-1].copy()) == fast.dot(x, x[::-1].copy())
    for u in us:
        assert slow.norm2(u) == fast.norm2(u), u
        assert fast.norm2(u) == fast.norm2(u)
    assert slow.norms2(us) == fast.norms2(us) == [slow.norm2(u) for u in us]


@pytest.mark.slow
@pytest.mark.parametrize("law", list(Law))
def test_a_million_values_of_every_law(law):
    d = 1_000_003
    slow, fast = pair(NumbaDirections, d)
    a, b = np.empty(d, np.float32), np.empty(d, np.float32)
    for index in range(2):
        slow.fill(Direction(law, 1, index, 3), 0, d, a)
        fast.fill(Direction(law, 1, index, 3), 0, d, b)
        assert same_bits(a, b)


@pytest.mark.parametrize("law", [Law.NORMAL, Law.RADEMACHER, Law.BLOCK])
def test_far_coordinates_of_a_long_vector(law):
    d = 2**34
    lo, hi = 2**33 + 2**32 + 77, 2**33 + 2**32 + 5000
    slow, fast = pair_without_arrays(d)
    u = Direction(law, 1, 0, 1)
    x, a, b = vector(hi - lo, "float32"), np.empty(hi - lo, np.float32), np.empty(hi - lo, np.float32)
    slow.perturb(x, u, 0.1, lo, hi, a)
    fast.perturb(x, u, 0.1, lo, hi, b)
    assert same_bits(a, b)
    start = np.empty(hi - lo, np.float32)
    fast.fill(u, 77, hi - lo + 77, start)
    assert (start != (b - x) / np.float32(0.1)).any()


def pair_without_arrays(d: int) -> tuple[ReferenceDirections, NumbaDirections]:
    return ReferenceDirections(SEED, d, {}), NumbaDirections(SEED, d, {})


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_and_tiles_do_not_show(threads):
    d = 2**19 + 77
    one, many = NumbaDirections(SEED, d, {}, 1), NumbaDirections(SEED, d, {}, threads)
    x = vector(d, "float32")
    us = [Direction(law, 1, 1, 5) for law in Law]
    for u in us:
        a, b = np.empty(d, np.float32), np.empty(d, np.float32)
        one.perturb(x, u, 0.1, 0, d, a)
        many.perturb(x, u, 0.1, 0, d, b)
        assert same_bits(a, b)
        for lo, hi in ((0, 1000), (1000, 300_001), (300_001, d)):
            many.perturb(x[lo:hi], u, 0.1, lo, hi, b[lo:hi])
        assert same_bits(a, b)
        assert one.norm2(u) == many.norm2(u)
    a, b = x.copy(), x.copy()
    one.accumulate([(0.5, u) for u in us], [(0.1, x)], 0, d, a)
    many.accumulate([(0.5, u) for u in us], [(0.1, x)], 0, d, b)
    assert same_bits(a, b)
    assert same_bits(one.project(x, us), many.project(x, us))
    assert one.dot(x, a) == many.dot(x, a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("law", [Law.RADEMACHER, Law.NORMAL, Law.SPHERE])
def test_rows_made_ahead_are_those_of_their_steps(law, dtype, monkeypatch):
    from vamo_bbo.backends import rows

    monkeypatch.setattr(rows, "AHEAD", 15)
    monkeypatch.setattr(rows, "STREAMS", 2)
    d, x = 10, vector(10, dtype)
    slow, fast = pair(RowDirections, d)
    for step in [*range(2**32 - 9, 2**32 + 9), 3, 4, 4, 3, 5, *range(2**48 - 9, 2**48)]:
        for index, count in ((0, 3), (3, 3), (0, 1)):  # a first and a second attempt, and another stream
            us = [Direction(law, step, index + j, count, tag=count) for j in range(count)]
            a, b = np.empty((count, d), dtype), np.empty((count, d), dtype)
            slow.perturb_rows(x, us, [0.1] * count, a)
            fast.perturb_rows(x, us, [0.1] * count, b)
            assert same_bits(a, b)
            assert slow.norms2(us) == fast.norms2(us) == [fast.norm2(u) for u in us]
        assert sum(len(window.rows) for window in fast._windows.values()) <= 2 * 15


@pytest.mark.parametrize(("stride", "calls", "rows_per_use"), [(1, 90, 1.1), (2, 150, 2.1), (100, 1800, 16.0)])
def test_streams_side_by_side_do_not_throw_away_each_others_rows(stride, calls, rows_per_use, monkeypatch):
    from vamo_bbo.backends import rows

    made = []
    elements = rows.layout.elements
    monkeypatch.setattr(rows.layout, "elements", lambda *args: made.append(elements(*args)) or made[-1])
    d, count, steps = 10, 8, 600
    directions, x, out = RowDirections(SEED, d, {}), vector(d, "float64"), np.empty((count, d))
    for step in range(0, steps * stride, stride):
        for tag in range(3):
            us = [Direction(Law.SPHERE, step, j, count, tag) for j in range(count)]
            directions.perturb_rows(x, us, [0.1] * count, out)
            assert min(directions.norms2(us)) > 0
        directions.accumulate([(0.1, Direction(Law.SPHERE, step, 0, count, tag)) for tag in range(3)], [], 0, d, x)
    assert len(made) <= calls
    assert sum(map(len, made)) <= rows_per_use * 3 * count * steps


def test_automatic_choice_never_takes_the_reference_for_long_vectors(monkeypatch):
    from vamo_bbo.backends import auto

    monkeypatch.delitem(auto.sys.modules, "vamo_bbo.backends.numba_cpu")
    d = auto.LARGE
    chosen = auto.AutoBackend().bind(SEED, d, {})
    chosen.norm2(Direction(Law.COORDINATE, 0, 0, 0))
    assert "perturb" in vars(chosen)


def test_automatic_choice_changes_over_without_a_trace(monkeypatch):
    from vamo_bbo.backends import auto

    monkeypatch.delitem(auto.sys.modules, "vamo_bbo.backends.numba_cpu")
    monkeypatch.setattr(auto, "PATIENCE", 20 * auto.CALL_COST)
    monkeypatch.setattr(auto.AutoDirections, "spent", 0.0)
    d, x = 10, vector(10, "float64")
    chosen, slow = auto.AutoBackend().bind(SEED, d, {}), get("numpy").bind(SEED, d, {})
    assert "perturb" not in vars(chosen)
    for step in range(30):
        u = Direction(Law.NORMAL, step, 0, 1)
        a, b = np.empty(d), np.empty(d)
        chosen.perturb(x, u, 0.1, 0, d, a)
        slow.perturb(x, u, 0.1, 0, d, b)
        assert same_bits(a, b)
    assert "perturb" in vars(chosen)


def test_automatic_choice_counts_the_work_of_all_runs(monkeypatch):
    from vamo_bbo.backends import auto

    monkeypatch.delitem(auto.sys.modules, "vamo_bbo.backends.numba_cpu")
    monkeypatch.setattr(auto, "PATIENCE", 20 * auto.CALL_COST)
    monkeypatch.setattr(auto.AutoDirections, "spent", 0.0)
    changed = []
    for seed in range(30):
        chosen = auto.AutoBackend().bind(seed, 1, {})
        chosen.perturb(np.zeros(1), Direction(Law.RADEMACHER, 0, 0, 1), 0.1, 0, 1, np.empty(1))
        changed.append("perturb" in vars(chosen))
    assert changed == sorted(changed)
    assert not changed[0]
    assert changed[-1]
