"""The evolution strategies behind the solver protocol: exact state, restarts, mixed types, failures."""

from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vamo_bbo as vb
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.core.types import Answer, ProblemInfo
from vamo_bbo.solvers import noise_handling
from vamo_bbo.solvers.cma import cma

needs_package = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="no cmaes")


def sphere(x):
    return float(((x - 0.3) ** 2).sum())


def ellipsoid(x):
    return float((10.0 ** np.linspace(0, 4, x.size) * (x - 0.2) ** 2).sum())


def start(solver, d=3, dtype=np.float64, x0=None, **info):
    x0 = np.full(d, 0.6, dtype=dtype) if x0 is None else x0
    return solver.init(x0, seed=7, backend="numpy", info=ProblemInfo(**info))


def answer(probe, fun):
    return Answer(probe.id, value=fun(probe.point))


def run(solver, state, fun, steps):
    for _ in range(steps):
        if solver.status(state) is not None:
            break
        state = solver.tell(state, [answer(p, fun) for p in solver.ask(state)])
    return state


def same(a, b):
    return (
        a.scalars == b.scalars
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[k], b.arrays[k], equal_nan=True) for k in a.arrays)
        and (a.step, a.attempt, a.inbox.keys()) == (b.step, b.attempt, b.inbox.keys())
    )


box = {"lower": np.zeros(3), "upper": np.ones(3)}
mixed = {**box, "levels": np.array([0, 5, -3])}
VARIANTS = {
    "cma": (cma(), {}),
    "bounded": (cma(), box),
    "separable": (cma(separable=True), box),
    "margin": (cma(), {**box, "levels": np.array([0, 5, 0])}),
    "categories": (cma(), mixed),
    "only categories": (cma(), {**box, "levels": np.array([-4, 2, -3])}),
    "integers and categories": (cma(), {**box, "levels": np.array([4, -2, 7])}),
    "adaptive rate": (cma(adapt_learning_rate=True), {"noisy": True}),
    "adaptive rate, separable": (cma(adapt_learning_rate=True, separable=True), {}),
    "restarts": (cma(restarts=2, population_size=4), box),
}
ALL = [pytest.param(name, marks=needs_package) if "levels" in VARIANTS[name][1] else name for name in VARIANTS]


@pytest.mark.parametrize("name", ALL)
def test_pickling_at_any_moment_changes_no_bit(name):
    solver, info = VARIANTS[name]
    plain, moved = start(solver, **info), start(solver, **info)
    for _ in range(12):
        for probe in solver.ask(plain):
            plain = solver.tell(plain, [answer(probe, sphere)])
        while solver.ask(moved) and moved.step < plain.step:
            moved = pickle.loads(pickle.dumps(moved))
            moved = solver.tell(moved, [answer(solver.ask(moved)[0], sphere)])
    assert same(plain, moved)
    assert plain.step == 12


@pytest.mark.parametrize("name", ALL)
def test_state_holds_numbers_and_arrays_only(name):
    solver, info = VARIANTS[name]
    state = run(solver, start(solver, **info), sphere, 3)
    assert all(type(v) is float for v in state.scalars.values())
    assert all(isinstance(v, np.ndarray) and v.dtype.kind in "biuf" for v in state.arrays.values())


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_order_and_repeats_of_answers_do_not_matter(random):
    solver = cma(population_size=6)
    told, reference = start(solver), run(solver, start(solver), sphere, 3)
    for _ in range(3):
        answers = [answer(p, sphere) for p in solver.ask(told)]
        random.shuffle(answers)
        for a in answers:
            told = solver.tell(told, [a, a])
    assert told.scalars.pop("ignored") > 0
    reference.scalars.pop("ignored")
    assert same(told, reference)


def test_ask_is_idempotent_and_keyed_by_the_seed():
    solver = cma()
    a, b, other = (
        start(solver),
        start(solver),
        solver.init(np.full(3, 0.6), seed=8, backend="numpy", info=ProblemInfo()),
    )
    first, again, second = solver.ask(a), solver.ask(a), solver.ask(b)
    for p, q, r in zip(first, again, second, strict=True):
        assert p.id == q.id == r.id
        assert np.array_equal(p.point, q.point)
        assert np.array_equal(p.point, r.point)
    assert not np.array_equal(first[0].point, solver.ask(other)[0].point)


def test_x0_is_copied():
    x0 = np.full(3, 0.6)
    x0.flags.writeable = False
    state = run(cma(), start(cma(), x0=x0), sphere, 3)
    assert state.arrays["x"] is not x0


@needs_package
@pytest.mark.parametrize("damped", [False, True])
@pytest.mark.parametrize(("d", "size", "info"), [(1, None, {}), (3, 7, box), (5, 5, {}), (20, None, {})])
def test_the_full_covariance_is_that_of_the_reference_implementation(d, size, info, damped):
    """The package cmaes is told the same points and values, generation by generation."""
    import cmaes

    solver = cma(population_size=size, adapt_learning_rate=damped)
    state = start(solver, d=d, **info)
    mean, sigma = state.arrays["mean"].copy(), state.scalars["sigma"]
    reference = cmaes.CMA(mean, sigma, population_size=size, lr_adapt=damped)
    for _ in range(60):
        _, drawn = solver._generation(state)
        values = [ellipsoid(p.point) for p in solver.ask(state)]
        state = solver.tell(state, [Answer(p.id, v) for p, v in zip(solver.ask(state), values, strict=True)])
        reference.tell(list(zip(drawn, values, strict=True)))
    np.testing.assert_allclose(state.arrays["mean"], reference.mean, rtol=1e-10)
    np.testing.assert_allclose(state.arrays["covariance"], reference._C, rtol=1e-8, atol=1e-12 * reference._C.max())
    np.testing.assert_allclose(state.scalars["sigma"], reference._sigma, rtol=1e-10)


@needs_package
def test_the_distribution_of_known_points_is_that_of_the_reference_implementation():
    import cmaes

    rng = np.random.default_rng(0)
    points = rng.uniform(size=(60, 3))
    values = np.array([ellipsoid(x) for x in points])
    state = start(cma(), **box, known_points=points, known_values=values)
    mean, sigma, covariance = cmaes.get_warm_start_mgd(list(zip(points, values, strict=True)), gamma=0.1, alpha=0.1)
    np.testing.assert_allclose(state.arrays["mean"], mean)
    np.testing.assert_allclose(state.arrays["covariance"] * state.scalars["sigma"] ** 2, covariance * sigma**2)


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(4, 40))
def test_a_generation_of_ranks_that_say_nothing_keeps_the_distribution_on_average(d, size):
    """Unbiasedness under random selection, the design principle of the tutorial's section on step sizes."""
    solver, rng = cma(population_size=size), np.random.default_rng(0)
    moved, grown = [], []
    for seed in range(60):
        state = solver.init(np.zeros(d), seed=seed, backend="numpy", info=ProblemInfo())
        first = state.scalars["sigma"]
        state = solver.tell(state, [Answer(p.id, value=float(rng.random())) for p in solver.ask(state)])
        moved.append(state.arrays["mean"] / first)
        grown.append(np.trace(state.arrays["covariance"]) / d)
    error = np.std(moved) / np.sqrt(np.size(moved))
    assert abs(np.mean(moved)) < 4.0 * error
    assert np.mean(grown) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_the_unit_of_the_values_changes_nothing(separable, scale):
    solver = cma(separable=separable)
    plain, scaled = (run(solver, start(solver, d=4), lambda x, s=s: s * ellipsoid(x), 100) for s in (1.0, scale))
    np.testing.assert_allclose(scaled.arrays["x"], plain.arrays["x"], rtol=1e-6)
    ended = run(solver, scaled, lambda x: scale * ellipsoid(x), 400)
    assert solver.status(ended).success
    assert ellipsoid(solver.recommend(ended)) < 1e-6


def test_the_separable_variant_learns_the_scales_of_many_coordinates():
    state = run(cma(separable=True), start(cma(separable=True), d=40), ellipsoid, 1500)
    assert state.scalars["best_value"] < 1e-10
    widths = np.sqrt(state.arrays["covariance"])
    assert widths[0] > 30 * widths[-1]  # the optimum is a factor of 100


def test_rounding_does_not_turn_the_draws():
    """All axes of C are as long at first: an eigenvector basis would be arbitrary, its root is not."""
    solver = cma()
    state, turned = start(solver, d=6), start(solver, d=6)
    turned.arrays["covariance"] = np.eye(6) + 1e-13 * np.ones((6, 6))
    for p, q in zip(solver.ask(state), solver.ask(turned), strict=True):
        np.testing.assert_allclose(p.point, q.point, atol=1e-11)


def test_finds_the_minimum_of_an_ill_conditioned_quadratic():
    state = run(cma(), start(cma(), d=5), ellipsoid, 400)
    status = cma().status(state)
    assert status.success
    np.testing.assert_allclose(cma().recommend(state), 0.2, atol=1e-5)


def test_points_and_mean_stay_inside_the_bounds():
    solver = cma()
    state = start(solver, **box)
    for _ in range(50):
        probes = solver.ask(state)
        assert all((p.point >= 0).all() and (p.point <= 1).all() for p in probes)
        state = solver.tell(state, [answer(p, lambda x: float(x.sum())) for p in probes])
    assert cma().recommend(state).max() < 1e-2


def test_float32_in_float32_points():
    state = start(cma(), dtype=np.float32, lower=np.zeros(3, np.float32), upper=np.ones(3, np.float32))
    assert {p.point.dtype for p in cma().ask(state)} == {np.dtype(np.float32)}
    assert run(cma(), state, sphere, 5).arrays["best"].dtype == np.float32


@needs_package
def test_mixed_types_visit_centers_of_cells_and_find_the_best_cell():
    def fun(x):
        return (x[0] - 0.7) ** 2 + (int(x[1] * 5) - 3) ** 2 + (int(x[2] * 3) != 2)

    state = start(cma(), **mixed)
    for _ in range(60):
        probes = cma().ask(state)
        for p in probes:
            assert min(abs(p.point[1] - (k + 0.5) / 5) for k in range(5)) < 1e-12
            assert min(abs(p.point[2] - (k + 0.5) / 3) for k in range(3)) < 1e-12
        state = cma().tell(state, [answer(p, fun) for p in probes])
    x = cma().recommend(state)
    assert (int(x[1] * 5), int(x[2] * 3)) == (3, 2)
    assert abs(x[0] - 0.7) < 1e-2


def test_huge_integers_are_searched_as_real_numbers():
    state = start(cma(), **{**box, "levels": np.array([2**40, 0, 0])})
    assert len(cma().ask(state)) >= 4


def test_a_failed_point_ranks_last_and_is_never_recommended():
    def fun(x):
        return np.nan if x[0] < 0.5 else sphere(x)

    state = run(cma(), start(cma()), fun, 80)
    best = cma().recommend(state)
    assert best[0] >= 0.5
    assert sphere(best) < 0.05


def test_a_generation_that_fails_as_a_whole_is_redrawn_closer_and_ends_at_last():
    solver = cma()
    state = start(solver)
    sigma = state.scalars["sigma"]
    first = solver.ask(state)
    state = solver.tell(state, [Answer(p.id, error="boom") for p in first])
    assert state.scalars["sigma"] == sigma / 2
    assert state.step == 0
    assert solver.ask(state)[0].id != first[0].id
    for _ in range(19):
        state = solver.tell(state, [Answer(p.id, error="boom") for p in solver.ask(state)])
    assert "failed" in solver.status(state).message
    assert not solver.status(state).success


def test_restarts_double_the_population():
    solver = cma(restarts=2, population_size=5)
    state = run(solver, start(solver, **box), sphere, 2000)
    assert state.scalars["population_size"] == 20
    assert solver.status(state).success
    assert "2 restarts" in solver.status(state).message


def test_restarts_find_the_global_minimum_of_a_multimodal_function():
    def rastrigin(x):
        z = 5.12 * (2 * x - 1) - 1
        return float(10 * z.size + (z**2 - 10 * np.cos(2 * np.pi * z)).sum())

    solver = cma(restarts=4, population_size=8)
    state = run(solver, start(solver, **box), rastrigin, 1200)
    assert state.scalars["best_value"] < 1e-8


def test_noise_returns_the_mean_which_beats_the_luckiest_draw():
    noise = np.random.default_rng(0)
    state = start(cma(), d=5, noisy=True)
    state = run(cma(), state, lambda x: sphere(x) + noise.normal(scale=0.1), 150)
    assert cma().recommend(state) is state.arrays["x"]
    assert sphere(state.arrays["x"]) < sphere(state.arrays["best"])


def test_separable_is_the_default_in_many_dimensions():
    state = start(cma(), d=300)
    assert "covariance" in state.arrays
    assert state.arrays["covariance"].shape == (300,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0}, "sigma"),
        ({"sigma": np.nan}, "sigma"),
        ({"population_size": 3}, "population_size"),
        ({"population_size": 4.5}, "population_size"),
        ({"restarts": -1}, "restarts"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(OptionError, match=message):
        cma(**options)


def test_levels_need_bounds():
    with pytest.raises(CapabilityError, match="bounds"):
        start(cma(), levels=np.array([0, 3, 0]))


def noisy_end(handling, seed, shown, maxfev):
    noise = np.random.default_rng(seed)
    result = vb.minimize(
        lambda x: float(((x - 1) ** 2).sum() + 0.1 * noise.standard_normal()),
        np.zeros(4),
        method="cma",
        noisy=True,
        rng=seed,
        maxfev=maxfev,
        options={"noise_handling": handling},
        callback=lambda intermediate_result: shown.append(intermediate_result.noise),
    )
    return float(((result.x - 1) ** 2).sum())


def test_noise_is_measured_where_it_stops_progress():
    shown = []
    noisy_end(None, 1, shown, 1500)
    assert 0.05 < np.nanmedian(shown) < 0.2
    shown.clear()
    noisy_end(False, 1, shown, 300)
    assert np.isnan(shown).all()


@pytest.mark.slow
def test_noise_that_stops_progress_is_evaluated_away():
    without, with_it = ([noisy_end(handling, seed, [], 3000) for seed in range(6)] for handling in (False, None))
    assert np.mean(np.log(with_it)) < np.mean(np.log(without)) + np.log(0.75)


def test_noise_handling_costs_nothing_while_there_is_progress():
    def run(handling):
        return vb.minimize(
            lambda x: float((x**2).sum()),
            np.full(5, 3.0),
            method="cma",
            noisy=True,
            rng=1,
            maxfev=600,
            options={"noise_handling": handling},
        ).x

    np.testing.assert_array_equal(run(True), run(False))


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(4, 30), st.integers(1, 6), st.integers(0, 2**31))
def test_repeated_values_are_averaged_in_place(size, repeated, seed):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(size).astype(float)
    scalars = {"replicates": float(repeated), "stuck": 1.0}
    count = len(noise_handling.points_of(size, scalars))
    again = count // repeated - size
    raw = np.concatenate([np.tile(truth, repeated), np.tile(truth[:again], repeated)])
    values, widen = noise_handling.settle(raw, size, scalars, np.full(2 * noise_handling.WINDOW, np.nan), 3)
    np.testing.assert_allclose(values, truth)
    assert widen == 1.0
    assert scalars["replicates"] <= repeated  # nothing changed its rank


def test_random_rankings_ask_for_more_repetitions():
    rng = np.random.default_rng(1)
    excess = [noise_handling.rank_changes(rng.standard_normal(20), rng.standard_normal(4)) for _ in range(50)]
    assert np.mean(excess) > 1.0


def test_bipop_alternates_between_large_and_small_populations():
    solver = vb.cma(restarts=12, restart_strategy="bipop")
    state = solver.init(np.full(2, 3.0), seed=1, backend="numpy", info=ProblemInfo())
    sizes, steps = [], []
    while solver.status(state) is None:
        before = state.scalars["restart"]
        answers = [Answer(p.id, float((p.point**2).sum())) for p in solver.ask(state)]
        state = solver.tell(state, answers)
        if state.scalars["restart"] != before:
            sizes.append(int(state.scalars["population_size"]))
            steps.append(state.scalars["sigma"])
    first = 4 + int(3 * np.log(2))
    large = [s for s, small in zip(sizes, np.array(steps) < 0.5, strict=True) if not small]
    assert large == [2 ** (k + 1) * first for k in range(len(large))]
    assert 2 <= len(large) < len(sizes) == 12
    assert state.scalars["spent_small"] + state.scalars["spent_large"] <= state.scalars["spent"]


def test_a_start_that_is_given_up_forgets_what_noise_did_and_keeps_the_best_point():
    noise = np.random.default_rng(0)
    solver = cma(restarts=9, population_size=6)
    state = solver.init(np.zeros(3), seed=1, backend="numpy", info=ProblemInfo(noisy=True))
    while state.scalars["replicates"] < 3:
        answers = [Answer(probe.id, value=float(noise.standard_normal())) for probe in solver.ask(state)]
        state = solver.tell(state, answers)
    best, mean = state.scalars["best_value"], state.arrays["x"].copy()
    solver.start_again(state)
    assert state.scalars["best_value"] == best
    assert len(solver.ask(state)) == 6  # one value per point
    assert np.linalg.norm(state.arrays["x"] - mean) > 0.1
    assert np.isnan(state.arrays["medians"]).all()
