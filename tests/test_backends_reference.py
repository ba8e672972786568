"""The definition itself: generator, laws, supports, statistics, reductions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backend_cases import SEED, directions, same_bits, state_arrays, vector
from hypothesis import given
from hypothesis import strategies as st

from vamo_bbo._typing import Direction, Law, Tag
from vamo_bbo.backends import get
from vamo_bbo.backends.layout import mulhi64, reduce_products
from vamo_bbo.backends.philox import FEW_WORDS, counter_words, normal_pair, philox4x32
from vamo_bbo.backends.reference import ReferenceDirections

# Known answers distributed with Random123 (Salmon et al. 2011): rounds, counter, key, output.
KNOWN = [
    (10, "00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (10, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (10, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    (7, "00000000 00000000 00000000 00000000", "00000000 00000000", "5f6fb709 0d893f64 4f121f81 4f730a48"),
    (7, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "5207ddc2 45165e59 4d8ee751 8c52f662"),
    (7, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "4dfccaba 190a87f0 c47362ba b6b5242a"),
]


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("rounds", "counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(rounds, counter, key, answer):
    assert tuple(int(w) for w in philox4x32(numbers(counter), numbers(key), rounds)) == numbers(answer)


@pytest.mark.parametrize("n", [11, 4 * FEW_WORDS])  # Python's integers, arrays
def test_words_of_a_stream_are_blocks_in_order(n):
    whole = counter_words(SEED, Tag.NOISE, 2**40 + 3, 9, n)[:11]
    assert whole.dtype == np.uint32
    low, high = (2**40 + 3) & 0xFFFFFFFF, Tag.NOISE << 24 | (2**40 + 3) >> 32
    for block in range(3):
        w = philox4x32((block, 9, low, high), (SEED & 0xFFFFFFFF, SEED >> 32))
        assert [int(v) for v in w][: 11 - 4 * block] == whole[4 * block : 4 * block + 4].tolist()
    assert counter_words(SEED, 0, 0, 0, 0).size == 0


def test_streams_of_different_names_differ():
    names = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 2**32, 0), (0, 0, 1)]
    words = [tuple(counter_words(1, tag, step, index, 4).tolist()) for tag, step, index in names]
    assert len(set(words)) == len(words)
    assert tuple(counter_words(1 + 2**32, 0, 0, 0, 4).tolist()) not in words


def test_normal_pair_agrees_with_exact_box_muller():
    words = counter_words(3, 0, 0, 0, 1 << 17).reshape(-1, 2)
    radius, angle = words[:, 0].copy(), words[:, 1].copy()
    first, second = normal_pair(radius, angle)
    v = (radius.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)).astype(np.float64)
    a = (angle << np.uint32(2)).view(np.int32) * np.pi * 2.0**-33
    r = np.sqrt(-2 * np.log(v)) * np.where(angle >> 31, -1.0, 1.0)
    swap = angle >> 30 & 1 != 0
    np.testing.assert_allclose(first, r * np.where(swap, np.sin(a), np.cos(a)), rtol=0, atol=1.5e-6)
    np.testing.assert_allclose(second, r * np.where(swap, np.cos(a), np.sin(a)), rtol=0, atol=1.5e-6)


def test_normal_pair_at_the_extremes():
    extremes = np.array([0, 0xFFFFFFFF], dtype=np.uint32)
    first, second = normal_pair(extremes, np.zeros(2, dtype=np.uint32))
    assert first[0] == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)
    assert first[1] == 0
    assert not second.any()


def test_normal_elements_have_normal_moments():
    n = 1 << 20
    z = np.empty(n)
    get("numpy").bind(11, n, {}).fill(Direction(Law.NORMAL, 0, 0, 1), 0, n, z)
    for power in range(1, 9):
        expected = 0 if power % 2 else math.prod(range(1, power, 2))
        spread = math.sqrt((math.prod(range(1, 2 * power, 2)) - expected**2) / n)
        assert abs((z**power).mean() - expected) < 4 * spread
    tail = int((np.abs(z) > 3).sum())
    assert abs(tail - 0.0026998 * n) < 4 * math.sqrt(0.0026998 * n)


def test_signs_are_balanced_and_uncorrelated():
    n = 1 << 18
    bound = get("numpy").bind(11, n, {})
    signs = np.empty((4, n))
    for j, row in enumerate(signs):
        bound.fill(Direction(Law.RADEMACHER, 0, j, 4), 0, n, row)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert np.abs(signs.sum(axis=1)).max() < 4 * math.sqrt(n)
    gram = signs @ signs.T - n * np.eye(4)
    assert np.abs(gram).max() < 4 * math.sqrt(n)
    lagged = [abs(signs[0, lag:] @ signs[0, :-lag]) for lag in (1, 32, 128)]
    assert max(lagged) < 4 * math.sqrt(n)


@pytest.mark.parametrize("d", [1, 5, 10, 129])
def test_blocks_partition_the_coordinates(d):
    for q in {1, 2, 5, d} - {0}:
        if q > d:
            continue
        bound = get("numpy").bind(SEED, d, {})
        rows = np.empty((q, d))
        for r, row in enumerate(rows):
            bound.fill(Direction(Law.BLOCK, 3, r, q), 0, d, row)
        assert (np.abs(rows).sum(axis=0) == 1).all()
        sizes = np.abs(rows).sum(axis=1)
        assert sizes.max() - sizes.min() <= 1


def test_a_second_attempt_of_a_block_has_new_signs_on_the_same_block():
    bound = get("numpy").bind(SEED, 1000, {})
    first, again, whole = np.empty((3, 1000))
    bound.fill(Direction(Law.BLOCK, 3, 1, 4), 0, 1000, first)
    bound.fill(Direction(Law.BLOCK, 3, 5, 4), 0, 1000, again)
    bound.fill(Direction(Law.RADEMACHER, 3, 0, 4), 0, 1000, whole)
    assert ((first != 0) == (again != 0)).all()
    assert (first != again).any()
    assert (first[first != 0] == whole[first != 0]).all()


def test_coordinates_are_uniform_and_a_sweep_is_the_identity():
    d, n = 16, 2000
    bound = ReferenceDirections(SEED, d, {})
    counts = np.bincount([bound.coordinate(Direction(Law.COORDINATE, 0, i, n)) for i in range(n)], minlength=d)
    assert counts.size == d
    assert ((counts - n / d) ** 2 / (n / d)).sum() < 40  # 99.95 % of chi2(15)
    sweep = np.empty((d, d))
    for i, row in enumerate(sweep):
        bound.fill(Direction(Law.COORDINATE, 0, i, 0), 0, d, row)
    assert (sweep == np.eye(d)).all()


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**40))
def test_mulhi64_is_below_its_bound(a, b):
    assert 0 <= mulhi64(a, b) < b


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 10, 300])
def test_operations_follow_their_formulas(d, dtype):
    bound = get("numpy").bind(SEED, d, state_arrays(d))
    x, t = vector(d, dtype), np.dtype(dtype).type
    us = list(directions(d))
    elements = []
    for u in us:
        full = np.empty(d, dtype)
        bound.fill(u, 0, d, full)
        elements.append(full)
        out = np.empty(d, dtype)
        bound.perturb(x, u, 0.3, 0, d, out)
        inside = np.zeros(d, bool)
        for a, b in bound.support(u, 0, d):
            inside[a:b] = True
        assert same_bits(out, np.where(inside, x + t(0.3) * full, x))
        assert bound.norm2(u) == pytest.approx(float(full.astype(float) @ full.astype(float)), rel=1e-6)
    total = np.zeros(d, dtype)
    total += t(-0.5) * x
    for j, full in enumerate(elements):
        total += t(0.1 * j) * full
    out = x.copy()
    bound.accumulate([(0.1 * j, u) for j, u in enumerate(us)], [(-0.5, x.copy())], 0, d, out)
    np.testing.assert_array_equal(out, x + total)
    exact = np.array([x.astype(float) @ full.astype(float) for full in elements])
    np.testing.assert_allclose(bound.project(x, us), exact, rtol=1e-5, atol=1e-5)


def test_what_no_term_touches_is_left_alone():
    bound = get("numpy").bind(SEED, 8, {})
    x = np.array([-0.0, np.nan, np.inf, 1.0] * 2)
    out = x.copy()
    bound.accumulate([(2.0, Direction(Law.COORDINATE, 0, 3, 0))], [], 0, 8, out)
    assert same_bits(np.delete(out, 3), np.delete(x, 3))
    assert out[3] == 3.0
    assert bound.project(x, [Direction(Law.COORDINATE, 0, 3, 0)])[0] == 1.0


@pytest.mark.parametrize("n", [1, 63, 64, 2047, 2048, 2049, 140_000])
def test_reductions_add_in_the_stated_order(n):
    products = np.random.default_rng(n).standard_normal(n)
    total = 0.0
    for start in range(0, n, 2048):
        lanes = [0.0] * 64
        for i, value in enumerate(products[start : start + 2048].tolist()):
            lanes[i % 64] += value
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[half + i] for i in range(half)]
        total += lanes[0]
    assert reduce_products(products) == total


@pytest.mark.parametrize("law", list(Law))
def test_words_stand_behind_the_elements(law):
    d = 700
    bound = get("numpy").bind(SEED, d, {})
    u = Direction(law, 4, 1, 3)
    elements = np.empty(d)
    bound.fill(u, 0, d, elements)
    words = bound.words(u, 0, d)
    if law in (Law.RADEMACHER, Law.BLOCK):
        bits = words[np.arange(d) // 32] >> (np.arange(d) % 32).astype(np.uint32) & 1
        inside = elements != 0
        assert (elements[inside] == (1.0 - 2.0 * bits)[inside]).all()
        assert (bound.words(u, 70, 200) == words[2:7]).all()
    elif law == Law.COORDINATE:
        assert elements[(int(words[0]) | int(words[1]) << 32) * d >> 64] == 1.0
    else:
        first, second = normal_pair(words[:32], words[32:64])
        assert (elements[:32] == first).all()
        assert (elements[32:64] == second).all()
        assert (bound.words(u, 130, 500) == words[130:500]).all()
