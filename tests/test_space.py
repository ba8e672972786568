"""The search space: exact round trips, cells, errors."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vamo_bbo as vb
from vamo_bbo._errors import OptionError
from vamo_bbo.space import Choice, Integer, Real, Space, SpaceObjective

unit = st.floats(0.0, 1.0)
finite = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
common = settings(derandomize=True, deadline=None, max_examples=200)


@st.composite
def reals(draw):
    if draw(st.booleans()):
        low = 10.0 ** draw(st.floats(-12, 3))
        return Real(low, low * 10.0 ** draw(st.floats(0.01, 9)), log=True)
    low = draw(finite)
    return Real(low, low + 10.0 ** draw(st.floats(-3, 9)))


@st.composite
def integers(draw):
    if draw(st.booleans()):
        low = draw(st.integers(1, 10**6))
        return Integer(low, low + draw(st.integers(1, 10**9)), log=True)
    low, step = draw(st.integers(-(10**12), 10**12)), draw(st.integers(1, 1000))
    return Integer(low, low + step * draw(st.integers(1, 2**50 - 2)), step=step)


choices = st.lists(st.one_of(st.integers(), st.text(), st.booleans(), st.none()), min_size=2, max_size=6).filter(
    lambda options: len({(type(o), o) for o in options}) == len(options)
)


@common
@given(reals(), unit)
def test_real_values_round_trip_exactly(parameter, u):
    value = parameter.from_unit(u)
    assert parameter.low <= value <= parameter.high
    assert parameter.from_unit(parameter.to_unit(value)) == value


@common
@given(reals(), unit)
def test_real_unit_is_close_to_where_it_came_from(parameter, u):
    width = math.log(parameter.high / parameter.low) if parameter.log else parameter.high - parameter.low
    scale = 1.0 if parameter.log else max(abs(parameter.low), abs(parameter.high))
    assert abs(parameter.to_unit(parameter.from_unit(u)) - u) <= 1e-13 * (1 + scale / width)


@pytest.mark.parametrize(
    "parameter", [Real(0.1, 0.7), Real(-1e300, 1e-9), Real(1e-30, 3.3, log=True), Real(0.1, 0.3, log=True)]
)
def test_real_reaches_its_bounds(parameter):
    assert parameter.from_unit(0.0) == parameter.low
    assert parameter.from_unit(1.0) == parameter.high
    assert parameter.to_unit(parameter.low) == 0.0
    assert parameter.to_unit(parameter.high) == 1.0


@common
@given(integers(), st.data())
def test_integers_round_trip_exactly(parameter, data):
    value = parameter.low + parameter.step * data.draw(
        st.integers(0, (parameter.high - parameter.low) // parameter.step)
    )
    got = parameter.from_unit(parameter.to_unit(value))
    assert got == value
    assert type(got) is int


@common
@given(choices, st.data())
def test_choices_round_trip_to_the_same_object(options, data):
    parameter = Choice(options)
    value = data.draw(st.sampled_from(options))
    got = parameter.from_unit(parameter.to_unit(value))
    assert got == value
    assert type(got) is type(value)


def test_logarithmic_integers_have_as_many_cells_in_every_decade():
    """And every value at least one, so that a solver that moves from cell to cell gets everywhere."""
    trees = Integer(1, 999, log=True)
    values = [trees.from_unit((k + 0.5) / trees.levels) for k in range(trees.levels)]
    assert sorted(set(values)) == list(range(1, 1000))
    assert values == sorted(values)
    shares = [sum(low <= v < 10 * low for v in values) / len(values) for low in (10, 100)]
    assert shares == pytest.approx([math.log(99.5 / 9.5), math.log(999.5 / 99.5)] / np.log(999.5 / 0.5), abs=1e-3)


@pytest.mark.parametrize("method", ["bayes", "cma"])
def test_logarithmic_and_stepped_integers_are_searched(method):
    space = Space(trees=Integer(1, 5000, log=True), width=Integer(32, 512, step=32))
    asked = []

    def objective(trees, width):
        asked.append((trees, width))
        return math.log(trees / 37) ** 2 + (width / 160 - 1) ** 2

    result = vb.minimize(objective, space, method=method, maxfev=150, rng=0)
    assert all(1 <= trees <= 5000 and width in range(32, 513, 32) for trees, width in asked)
    assert result.params["trees"] in range(34, 41)
    assert result.params["width"] == 160


def test_cells_have_equal_width():
    values = [Integer(3, 6).from_unit((k + 0.5) / 400) for k in range(400)]
    assert [values.count(v) for v in (3, 4, 5, 6)] == [100] * 4


def test_choice_tells_one_from_true_and_from_a_float():
    parameter = Choice([1, True, 1.0, math.nan])
    assert [type(parameter.from_unit((k + 0.5) / 4)) for k in range(3)] == [int, bool, float]
    assert parameter.to_unit(1.0) == 2.5 / 4


@common
@given(st.lists(unit, min_size=4, max_size=4))
def test_space_round_trip_and_fixed_values(us):
    marker = object()
    space = Space(a=Real(-3, 9), fixed=marker, b=Real(1e-5, 1, log=True), c=Integer(-2, 5), d=Choice(["x", 2, None]))
    params = space.from_unit(us)
    assert list(params) == ["a", "fixed", "b", "c", "d"]
    assert params["fixed"] is marker
    assert space.from_unit(space.to_unit(params)) == params


def test_start_is_the_center_or_what_was_asked_for():
    space = Space(a=Real(0, 1), n=Integer(0, 4), kind=Choice(["p", "q"]))
    assert space.from_unit(space.x0) == {"a": 0.5, "n": 2, "kind": "q"}
    moved = space.starting_at({"n": 4, "kind": "p"})
    assert moved.from_unit(moved.x0) == {"a": 0.5, "n": 4, "kind": "p"}
    assert space.from_unit(space.x0)["n"] == 2


def test_levels_and_pickling():
    space = Space({"learning rate": Real(0, 1)}, n=Integer(0, 4), kind=Choice(["p", "q", "r"]))
    assert space.levels.tolist() == [0, 5, -3]
    assert pickle.loads(pickle.dumps(space)) == space
    assert pickle.loads(pickle.dumps(SpaceObjective(dict, space)))(space.x0)["n"] == 2


def test_objective_gets_a_dict_and_args():
    seen = []
    objective = SpaceObjective(lambda p, extra: seen.append((p, extra)) or 1.5, Space(a=Real(0, 2), c=3))
    assert objective(np.array([0.5]), "extra") == 1.5
    assert seen == [({"a": 1.0, "c": 3}, "extra")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(1, 1), "low < high"),
        (lambda: Real(0, math.inf), "finite"),
        (lambda: Real("0", 1), "finite number"),
        (lambda: Real(-1e308, 1.7e308), "low < high"),
        (lambda: Real(0, 1, log=True), "low > 0"),
        (lambda: Integer(0.5, 3), "whole"),
        (lambda: Integer(True, 3), "whole"),
        (lambda: Integer(3, 3), "low < high"),
        (lambda: Integer(0, 2**60), "2\\*\\*50"),
        (lambda: Integer(0, 9, log=True), "low > 0"),
        (lambda: Integer(2, 8, log=True, step=2), "no step"),
        (lambda: Integer(0, 9, step=2), "divide"),
        (lambda: Integer(0, 9, step=0), "positive"),
        (lambda: Space(n=Integer(2, 8, step=2)).to_unit({"n": 5}), "2 plus a multiple of 2"),
        (lambda: Choice(["a"]), "at least two"),
        (lambda: Choice("ab"), "at least two"),
        (lambda: Choice([1, 2, 1]), "repeated"),
        (lambda: Space(), "at least one"),
        (lambda: Space(a=1), "at least one"),
        (lambda: Space(a=Real), "needs bounds"),
        (lambda: Space({"a": Real(0, 1)}, a=Real(0, 1)), "given twice"),
        (lambda: Space({1: Real(0, 1)}), "strings"),
        (lambda: Space(rate=Real(0, 1)).to_unit({"rat": 1}), "did you mean 'rate'"),
        (lambda: Space(rate=Real(0, 1)).to_unit({}), "'rate' is missing"),
        (lambda: Space(rate=Real(0, 1)).to_unit({"rate": 2}), "rate: value 2 is outside"),
        (lambda: Space(rate=Real(0, 1), c=3).to_unit({"rate": 1, "c": 4}), "'c' is fixed"),
        (lambda: Space(n=Integer(0, 1)).to_unit({"n": 0.5}), "whole"),
        (lambda: Space(n=Integer(0, 1)).to_unit({"n": 5}), "outside"),
        (lambda: Space(k=Choice(["a", "b"])).to_unit({"k": "c"}), "not one of"),
        (lambda: Space(a=Real(0, 1)).from_unit([0.1, 0.2]), "needs 1 numbers"),
        (lambda: Space(a=Real(0, 1)).from_unit([math.nan]), "needs 1 numbers"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(OptionError, match=message):
        make()


SPACE = Space(lr=Real(1e-4, 1.0, log=True), depth=Integer(1, 8), seedless=7)


def by_name(lr, depth, seedless=0):
    return math.log10(lr / 0.01) ** 2 + (depth - 3) ** 2 + seedless


@pytest.mark.parametrize(
    "fun",
    [
        by_name,
        lambda **params: by_name(**params),
        lambda lr, **rest: by_name(lr, **rest),
        lambda *, depth, lr, seedless: by_name(lr, depth, seedless),
        lambda p: by_name(**p),
        lambda p, lr=None: by_name(**p),
        lambda *args: by_name(**args[0]),
    ],
)
def test_a_function_gets_names_or_a_dict(fun):
    u = SPACE.to_unit({"lr": 0.01, "depth": 5})
    assert SpaceObjective(fun, SPACE)(u) == pytest.approx(4 + 7)


def test_a_function_that_lacks_a_name_is_refused():
    with pytest.raises(OptionError, match="fun takes parameters by name, but not 'seedless'; it has lr, depth"):
        SpaceObjective(lambda lr, depth: 0.0, SPACE)
    assert SpaceObjective(dict, SPACE)(SPACE.x0)["seedless"] == 7  # a builtin


@pytest.mark.parametrize("method", ["cma", "zo-sgd", "auto"])
def test_parameters_are_in_every_record(method, tmp_path):
    space = Space(a=Real(0.0, 4.0), b=Real(1.0, 2.0))
    seen = []

    def fun(a, b):
        if a > 2.2:
            raise RuntimeError("too far")
        return (a - 1.0) ** 2 + (b - 1.5) ** 2

    def on_error(failure):
        seen.append(failure.params)
        return 10.0

    result = vb.minimize(fun, space.starting_at({"a": 2.2}), method=method, rng=0, maxfev=200, on_error=on_error)
    assert set(result.params) == {"a", "b"}
    assert all(set(record.params) == {"a", "b"} for record in result.history)
    assert result.history[-1].params["a"] == pytest.approx(result.params["a"], abs=0.3)
    assert result.n_failed == len(seen) > 0
    assert all(record.params["a"] > 2.2 for record in result.failures)
    assert all(params["a"] > 2.2 for params in seen)


@pytest.mark.parametrize(("kind", "value"), [("seed", 5), ("rng", 5)])
def test_named_parameters_with_common_random_numbers(kind, value):
    def fun(a, b, seed=None, rng=None):
        noise = np.random.default_rng(seed) if rng is None else rng
        return (a - 1.0) ** 2 + b + float(noise.normal())

    space = Space(a=Real(0.0, 4.0), b=value)
    result = vb.minimize(fun, space, method="zo-sgd", noisy=kind, rng=0, maxfev=300)
    assert result.params["a"] == pytest.approx(1.0, abs=0.3)
