"""The objective: answers, failures, checks of outputs, scaling, counting at x0."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vamo_bbo import FiniteSum, OptionError
from vamo_bbo._errors import EvaluationError
from vamo_bbo.core.types import AnchorRef, Answer, Batch, Probe
from vamo_bbo.run.ledger import Ledger
from vamo_bbo.run.objective import LARGE, Objective
from vamo_bbo.run.outputs import NOT_SCALAR, OutputError
from vamo_bbo.run.setup import parse_bounds, parse_x0, seed_of, setup
from vamo_bbo.run.start import check_gradient, start

TARGETS = np.array([1.0, 2.0, 6.0, 7.0])


def probe(want: str = "value", batch: Batch | None = None) -> Probe:
    return Probe((3, 0, 0, 1), AnchorRef("x", 0), None, 0.0, batch, want)  # type: ignore[arg-type]


def answer(fun: object, x: object, want: str = "value", **options: object) -> Answer:
    x = np.asarray(x, dtype=float)
    return Objective(fun, size=x.size, **options).evaluate(probe(want), x, 0)  # type: ignore[arg-type]


def at_start(fun: object, x: object, want: str = "value", **options: object) -> Answer:
    x = np.asarray(x, dtype=float)
    return Objective(fun, size=x.size, **options).first(probe(want), x, 0)[0]  # type: ignore[arg-type]


def sum_problem(**changes: object) -> FiniteSum:
    parts = {
        "losses": lambda x, idx: (x[0] - TARGETS[idx]) ** 2,
        "grad": lambda x, idx: np.array([2 * (x[0] - TARGETS[idx]).mean()]),
    }
    return FiniteSum(n_samples=4, **{**parts, **changes})  # type: ignore[arg-type]


def test_value_of_a_callable_with_arguments() -> None:
    got = answer(lambda x, a, b: a * x.sum() + b, [1.0, 2.0], args=(10.0, 5.0))
    assert got.value == 35.0
    assert got.error is None
    assert got.id == (3, 0, 0, 1)


@pytest.mark.parametrize(
    "value",
    [
        2,
        np.float32(2.0),
        np.array(2.0),
        np.array([2.0]),
        np.array([[2.0]]),
        True + 1,
        Fraction(4, 2),
        Decimal(2),
        [2.0],
    ],
)
def test_scalars_of_many_types_are_accepted(value: object) -> None:
    assert answer(lambda x: value, [0.0]).value == 2.0


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), None, "text", 1j, np.array([1 + 1j]), []])
def test_what_is_not_one_real_number_raises_scipys_sentence(value: object) -> None:
    with pytest.raises(ValueError, match=NOT_SCALAR):
        at_start(lambda x: value, [0.0])
    got = answer(lambda x: value, [0.0])
    assert got.error is not None
    assert NOT_SCALAR in got.error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_failures(value: float) -> None:
    got = answer(lambda x: value, [0.0])
    assert got.error == f"the objective returned {value}"


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    def crashes(x: np.ndarray) -> float:
        raise RuntimeError("mesh is inverted\nsecond line")

    got = answer(crashes, [0.0])
    assert got.error == "RuntimeError: mesh is inverted"
    assert got.log is not None
    assert "in crashes" in got.log


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, StopIteration])
def test_what_is_meant_to_stop_a_program_propagates(kind: type[BaseException]) -> None:
    def stops(x: np.ndarray) -> float:
        raise kind

    with pytest.raises(kind):
        answer(stops, [0.0])


def test_gradient_and_both() -> None:
    got = answer(lambda x: x @ x, [1.0, 2.0], "both", jac=lambda x: 2 * x)
    assert got.value == 5.0
    assert got.grad is not None
    assert got.grad.tolist() == [2.0, 4.0]
    assert np.isnan(answer(lambda x: x @ x, [1.0], "gradient", jac=lambda x: 2 * x).value)


def test_jac_true() -> None:
    got = answer(lambda x: (x @ x, 2 * x), [1.0, 2.0], "both", jac=True)
    assert (got.value, got.grad.tolist()) == (5.0, [2.0, 4.0])  # type: ignore[union-attr]
    assert answer(lambda x: (x @ x, 2 * x), [1.0, 2.0], jac=True).value == 5.0


@pytest.mark.parametrize(
    ("grad", "match"),
    [
        (np.zeros(3), r"jac must return a gradient of shape \(2,\), got shape \(3,\)"),
        (np.zeros((2, 1)), r"got shape \(2, 1\)"),
        (np.zeros(2, complex), "dtype complex128"),
        (np.array([None, 1.0]), "dtype object"),
    ],
)
def test_wrong_gradients_are_raised(grad: np.ndarray, match: str) -> None:
    with pytest.raises(OutputError, match=match):
        at_start(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: grad)
    assert re.search(match, answer(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: grad).error or "")


def test_nan_in_a_gradient_is_a_failure_that_names_the_coordinate() -> None:
    got = answer(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: np.array([1.0, np.nan]))
    assert got.error == "jac returned nan in coordinate 1"
    assert got.grad is None


def test_infinite_elements_of_a_gradient_are_named_and_large_ones_are_fine() -> None:
    got = answer(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: np.array([np.inf, 1e300]))
    assert got.error == "jac returned inf in coordinate 0"
    got = answer(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: np.array([1e300, -1e300]))
    assert got.grad is not None
    assert got.grad.tolist() == [1e300, -1e300]


def test_what_the_user_keeps_or_writes_is_a_fresh_array() -> None:
    kept: list[np.ndarray] = []

    def greedy(x: np.ndarray) -> float:
        kept.append(x)
        value = float(x.sum())
        x[:] = -1
        return value

    result = setup(greedy, np.ones(3))
    result.x0.flags.writeable = False
    objective = result.objective
    assert [objective.evaluate(probe(), result.z0.copy(), 0).value for _ in range(2)] == [3.0, 3.0]
    assert not np.shares_memory(kept[0], kept[1])


def test_the_users_gradient_buffer_is_not_kept() -> None:
    buffer = np.ones(2)
    got = answer(lambda x: 0.0, [1.0, 2.0], "gradient", jac=lambda x: buffer)
    buffer[:] = 9
    assert got.grad is not None
    assert got.grad.tolist() == [1.0, 1.0]


def test_dtype_of_x0_reaches_the_user() -> None:
    seen = []
    problem = setup(lambda x: seen.append(x.dtype) or 0.0, np.ones(2, np.float32), x_scale=[2.0, 3.0])
    problem.objective.evaluate(probe(), problem.z0.copy(), 0)
    assert seen == [np.float32]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=5), st.floats(0.1, 10))
def test_scaling_follows_the_chain_rule(x0: list[float], scale: float) -> None:
    problem = setup(lambda x: x @ x, x0, jac=lambda x: 2 * x, x_scale=scale)
    z = problem.z0 + 0.5
    got = problem.objective.evaluate(probe("both"), z.copy(), 0)
    assert got.value == pytest.approx(float((scale * z) @ (scale * z)))
    np.testing.assert_allclose(got.grad, 2 * scale * (scale * z), rtol=1e-12)


@given(st.floats(-10, 10), st.floats(1e-6, 1e6), st.floats(-0.2, 1.2))
def test_no_point_leaves_the_bounds_by_rounding(lower: float, width: float, t: float) -> None:
    seen: list[float] = []
    problem = setup(lambda x: seen.append(float(x[0])) or 0.0, [0.0], bounds=[(lower, lower + width)])
    info = problem.objective.info
    assert info.lower is not None and info.upper is not None  # noqa: PT018
    z = (info.lower + t * (info.upper - info.lower)).clip(info.lower, info.upper)
    problem.objective.evaluate(probe(), z, 0)
    assert lower <= seen[0] <= lower + width


def test_fixed_variables_are_put_back() -> None:
    problem = setup(
        lambda x: float(x @ [1, 10, 100]),
        [1.0, 2.0, 3.0],
        jac=lambda x: np.arange(3.0),
        bounds=[(0, 4), (2, 2), (0, 4)],
    )
    assert problem.z0.size == 2
    got = problem.objective.evaluate(probe("both"), problem.z0.copy(), 0)
    assert got.value == 321.0
    assert got.grad is not None
    assert got.grad.tolist() == [0.0, 8.0]  # coordinates 0 and 2, times the width 4


class TestFiniteSum:
    def test_values_of_a_batch(self) -> None:
        objective = Objective(sum_problem(), size=1)
        got = objective.evaluate(probe("values", Batch("range", 1, 3, 2)), np.array([3.0]), 0)
        assert got.values is not None
        assert got.values.tolist() == [1.0, 9.0]
        assert (got.value, got.n_samples) == (5.0, 2)

    def test_no_batch_is_all_samples_in_chunks(self) -> None:
        sizes = []
        losses = lambda x, idx: sizes.append(len(idx)) or (x[0] - TARGETS[idx]) ** 2  # noqa: E731
        objective = Objective(sum_problem(losses=losses, chunk_size=3), size=1)
        got = objective.evaluate(probe("both"), np.array([3.0]), 0)
        assert sizes == [3, 1]
        assert got.value == pytest.approx(((3 - TARGETS) ** 2).mean())
        assert got.grad is not None
        assert got.grad[0] == pytest.approx(2 * (3 - TARGETS).mean())
        assert got.n_samples == 4

    def test_nan_takes_its_sample_out(self) -> None:
        losses = lambda x, idx: np.where(idx == 2, np.nan, idx * 1.0)  # noqa: E731
        got = Objective(sum_problem(losses=losses), size=1).evaluate(probe("values"), np.zeros(1), 0)
        assert got.value == pytest.approx(4 / 3)
        assert got.values is not None
        assert np.isnan(got.values).tolist() == [False, False, True, False]
        assert got.error is None

    def test_all_nan_is_a_failure(self) -> None:
        got = Objective(sum_problem(losses=lambda x, idx: np.full(len(idx), np.inf)), size=1).evaluate(
            probe(), np.zeros(1), 0
        )
        assert got.error == "every sample of the batch returned nan or inf"

    def test_wrong_length_is_raised(self) -> None:
        objective = Objective(sum_problem(losses=lambda x, idx: np.zeros(3)), size=1)
        with pytest.raises(OptionError, match=r"shape \(4,\), or the batch mean as a float; got shape \(3,\)"):
            objective.first(probe(), np.zeros(1), 0)

    def test_value_and_grad_is_used_for_both(self) -> None:
        calls = []

        def both(x: np.ndarray, idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            calls.append("both")
            return (x[0] - TARGETS[idx]) ** 2, np.array([7.0])

        objective = Objective(sum_problem(value_and_grad=both, grad=None), size=1)
        assert objective.evaluate(probe("both"), np.zeros(1), 0).value == pytest.approx((TARGETS**2).mean())
        got = objective.evaluate(probe("gradient"), np.zeros(1), 0)
        assert got.grad is not None
        assert got.grad.tolist() == [7.0]
        assert calls == ["both", "both"]

    def test_batch_means_are_noticed_at_x0(self) -> None:
        objective = Objective(sum_problem(losses=lambda x, idx: float(((x[0] - TARGETS[idx]) ** 2).mean())), size=1)
        start(objective, np.zeros(1), 0, Ledger(objective.info))
        assert objective.info.per_sample is False
        objective = Objective(sum_problem(), size=1)
        start(objective, np.zeros(1), 0, Ledger(objective.info))
        assert objective.info.per_sample is True


class TestStart:
    def test_unknown_coordinates_are_declared_and_zero(self) -> None:
        objective = Objective(lambda x: x @ x, size=2, jac=lambda x: np.array([2 * x[0], np.nan]))
        first = start(objective, np.ones(2), 0, Ledger(objective.info))
        assert objective.info.gradient == "partial"
        assert objective.info.unknown is not None
        assert objective.info.unknown.tolist() == [0, 1]
        assert first.grad is not None
        assert first.grad.tolist() == [2.0, 0.0]
        assert objective.evaluate(probe("gradient"), np.ones(2), 0).error is None

    def test_x0_gets_three_tries(self) -> None:
        calls = []

        def flaky(x: np.ndarray) -> float:
            calls.append(1)
            if len(calls) < 3:
                raise OSError("license server busy")
            return 1.0

        objective = Objective(flaky, size=1)
        ledger = Ledger(objective.info)
        assert start(objective, np.zeros(1), 0, ledger).value == 1.0
        assert ledger.nfev == 3

    def test_a_failure_at_x0_raises_with_its_cause(self) -> None:
        objective = Objective(lambda x: 1 / 0, size=1)
        with pytest.raises(EvaluationError, match="failed at x0 in 3 tries: ZeroDivisionError") as caught:
            start(objective, np.zeros(1), 0, Ledger(objective.info))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_a_right_gradient_passes_the_check(self) -> None:
        objective = Objective(sum_problem(), size=1)
        ledger = Ledger(objective.info)
        error = check_gradient(objective, np.array([0.3]), 5, ledger)
        assert error is not None
        assert error < 1e-6
        assert (ledger.nfev_samples, ledger.njev_samples) == (24, 4)

    def test_a_wrong_gradient_warns_once(self) -> None:
        objective = Objective(sum_problem(grad=lambda x, idx: np.array([(x[0] - TARGETS[idx]).mean()])), size=1)
        with pytest.warns(RuntimeWarning, match="by 50 %") as caught:
            check_gradient(objective, np.array([0.3]), 5, Ledger(objective.info))
        assert len(caught) == 1

    def test_the_check_is_left_out_of_a_small_budget(self) -> None:
        objective = Objective(sum_problem(grad=lambda x, idx: np.zeros(1)), size=1)
        ledger = Ledger(objective.info, maxfev=100)
        assert check_gradient(objective, np.zeros(1), 5, ledger) is None
        assert ledger.nfev == 0

    def test_the_check_works_in_float32(self) -> None:
        objective = Objective(sum_problem(), size=1, dtype=np.float32)
        error = check_gradient(objective, np.array([0.3], np.float32), 5, Ledger(objective.info))
        assert error is not None
        assert error < 0.02


class TestSetup:
    @pytest.mark.parametrize(
        ("x0", "match"),
        [
            (np.zeros((2, 2)), "'x0' must only have one dimension."),
            ([], "x0 must have at least one element"),
            ([0.0, np.nan], "x0 must be finite, got nan at position 1"),
            ([1j], "x0 must be an array of real numbers"),
            (["a"], "x0 must be an array of real numbers"),
        ],
    )
    def test_bad_x0(self, x0: object, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            parse_x0(x0)

    def test_x0_is_copied_and_integers_become_float64(self) -> None:
        x0 = np.array([1, 2])
        assert parse_x0(x0).dtype == np.float64
        y0 = np.ones(2)
        assert not np.shares_memory(parse_x0(y0), y0)

    @pytest.mark.parametrize(
        ("bounds", "match"),
        [
            ([(1, 0), (0, 1)], "An upper bound is less than the corresponding lower bound."),
            ([(0, 1)] * 3, r"bounds must be 2 \(min, max\) pairs"),
            ([(np.nan, 1)], "bounds must not be NaN"),
        ],
    )
    def test_bad_bounds(self, bounds: object, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            parse_bounds(bounds, 2)

    def test_no_bound_is_no_bounds(self) -> None:
        assert parse_bounds([(None, None)], 3) is None

    @pytest.mark.parametrize("x_scale", [0, -1.0, [1.0, 2.0, 3.0], np.nan])
    def test_bad_scale(self, x_scale: object) -> None:
        with pytest.raises(OptionError, match="x_scale must be positive"):
            setup(lambda x: 0.0, [0.0, 0.0], x_scale=x_scale)

    def test_fun_must_be_callable(self) -> None:
        with pytest.raises(OptionError, match="fun must be a callable or a FiniteSum, got 3"):
            setup(3, [0.0])  # type: ignore[arg-type]

    def test_a_generator_is_advanced(self) -> None:
        rng = np.random.default_rng(0)
        assert seed_of(rng) != seed_of(rng)


class TestVectorized:
    def test_rows(self) -> None:
        objective = Objective(lambda x: (x**2).sum(1), size=2, vectorized=True)
        probes = [probe()._replace(id=(0, 0, 0, j)) for j in range(3)]
        got = objective.evaluate_rows(probes, np.arange(6.0).reshape(3, 2))
        assert [a.value for a in got] == [1.0, 13.0, 41.0]
        assert [a.id[3] for a in got] == [0, 1, 2]

    def test_nan_fails_its_row_only(self) -> None:
        objective = Objective(lambda x: np.where(x[:, 0] > 1, np.nan, 0.0), size=1, vectorized=True)
        got = objective.evaluate_rows([probe()] * 3, np.arange(3.0)[:, None])
        assert [a.error is None for a in got] == [True, True, False]

    def test_an_exception_fails_every_row(self) -> None:
        objective = Objective(lambda x: 1 / 0, size=1, vectorized=True)
        got = objective.evaluate_rows([probe()] * 2, np.zeros((2, 1)))
        assert all(a.error == "ZeroDivisionError: division by zero" for a in got)

    def test_wrong_shape_is_raised(self) -> None:
        objective = Objective(lambda x: x, size=2, vectorized=True)
        with pytest.raises(OptionError, match=r"must return shape \(3,\), got shape \(3, 2\)"):
            objective.evaluate_rows([probe()] * 3, np.zeros((3, 2)))


def test_large_points_share_one_scratch_array() -> None:
    from vamo_bbo.core.solver import State
    from vamo_bbo.run.executors.serial import SerialExecutor

    seen = []
    objective = Objective(lambda x: seen.append(x) or 0.0, size=LARGE, dtype=np.float32)
    state = State(0, "numpy", objective.info, arrays={"x": np.zeros(LARGE, np.float32)}, versions={"x": 0})
    executor = SerialExecutor(objective)
    executor.submit(state, [probe(), probe()])
    executor.collect()
    executor.collect()
    assert np.shares_memory(seen[0], seen[1])
    assert not np.shares_memory(seen[0], state.arrays["x"])
