"""What happens to a failed evaluation under each policy."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.run.failures import KEPT, FailureLog, FailurePolicy, FailureRecord
from vamo_bbo.run.stop import Code


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


class Sometimes:
    """Fails in the calls whose number is given."""

    def __init__(self, *calls: int, how: Any = "raise") -> None:
        self.calls, self.how, self.count = calls, how, 0

    def __call__(self, x: np.ndarray) -> float:
        self.count += 1
        if self.count in self.calls:
            if self.how == "raise":
                raise RuntimeError(f"call {self.count}")
            return float(self.how)
        return bowl(x)


def run(fun: Any, **options: Any) -> Any:
    return vb.minimize(
        fun, np.zeros(3), **{"method": vb.zo_sgd(0.3, n_directions=3), "rng": 0, "maxfev": 200, **options}
    )


@pytest.mark.parametrize("how", ["raise", np.nan, np.inf])
def test_skip_survives_and_reports(how: Any) -> None:
    result = run(Sometimes(3, 8, 20, how=how))
    assert result.n_failed == 3
    assert result.fun < 0.5
    assert result.nfev <= 200
    assert len(result.failures) == 3
    record = result.failures[0]
    assert record.error == ("RuntimeError: call 3" if how == "raise" else f"the objective returned {how}")
    assert record.x.shape == (3,)
    assert (record.log is None) == (how != "raise")
    assert "3 evaluations failed" in result.message


@pytest.mark.parametrize(
    "method", ["auto", "zo-sgd", "cma", "quadratic", "interpolation", "L-BFGS-B", "Nelder-Mead", "COBYQA"]
)
@pytest.mark.parametrize("bad", [None, "text", 1j, np.zeros(2), {}, (1.0, 2.0)])
def test_what_is_no_number_is_a_failure_after_x0(method: str, bad: Any) -> None:
    values: list[float] = []
    calls = 0

    def fun(x: np.ndarray) -> Any:
        nonlocal calls
        calls += 1
        if calls % 7 == 0:
            return bad
        values.append(bowl(x))
        return values[-1]

    result = vb.minimize(fun, np.full(2, 3.0), method=method, maxfev=40, rng=0)
    assert result.nfev == calls
    assert result.n_failed == calls // 7 > 0
    assert "must return a scalar value" in result.failures[0].error
    assert result.fun == min(values)


@pytest.mark.parametrize("answer", [None, (1.0, np.zeros(2)), [], "text"])
def test_auto_says_what_the_objective_returned(answer: Any) -> None:
    with pytest.raises(
        ValueError, match=r"must return a scalar value. It returned (None|a tuple of 2|an array|'text')"
    ):
        vb.minimize(lambda x: answer, np.ones(2))


@pytest.mark.parametrize("method", ["auto", "L-BFGS-B", "Nelder-Mead", "COBYQA"])
def test_scipys_error_at_x0_has_a_note_of_what_was_returned(method: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        vb.minimize(
            lambda x: None, np.ones(2), method=method, jac=None if method in ("Nelder-Mead", "COBYQA") else bowl
        )
    assert "It returned None." in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


def test_a_gradient_without_jac_true_is_told() -> None:
    with pytest.raises(ValueError, match="pass jac=True"):
        vb.minimize(lambda x: (bowl(x), 2 * x), np.ones(2))


@pytest.mark.parametrize("method", ["Nelder-Mead", "L-BFGS-B", "auto", "spsa"])
@pytest.mark.parametrize("kind", [Fraction, Decimal, lambda v: [v], lambda v: np.array(v, dtype=object)])
def test_numbers_of_other_types_count(method: str, kind: Any) -> None:
    result = vb.minimize(lambda x: kind(bowl(x)), np.full(2, 3.0), method=method, maxfev=30, rng=0)
    assert result.n_failed == 0
    assert bowl(result.x) == result.fun < 18.0


def test_raise_ends_the_run_with_the_cause() -> None:
    with pytest.raises(vb.EvaluationError, match="RuntimeError: call 5") as caught:
        run(Sometimes(5), on_error="raise")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_raise_from_a_worker_carries_the_traceback() -> None:
    with pytest.raises(vb.EvaluationError) as caught:
        run(fails_right, on_error="raise", workers=2)
    assert any("in fails_right" in note for note in caught.value.__notes__)


def fails_right(x: np.ndarray) -> float:
    if x.any():
        raise RuntimeError("not at the origin")
    return bowl(x)


def test_penalty_gives_the_solver_a_number() -> None:
    result = run(lambda x: bowl(x) if x[0] < 0.5 else 1 / 0, on_error="penalty")
    assert result.n_failed > 0
    assert np.isfinite(result.fun)
    assert result.x[0] < 0.5


def test_a_callable_sees_the_record_and_gives_the_value() -> None:
    records: list[FailureRecord] = []

    def judge(record: FailureRecord) -> float | None:
        records.append(record)
        return 50.0 if len(records) == 1 else None

    run(Sometimes(4, 6), on_error=judge)
    assert [r.error for r in records] == ["RuntimeError: call 4", "RuntimeError: call 6"]


def test_retries_repeat_and_count() -> None:
    fun = Sometimes(3, 8, 20)
    result = run(fun, retries=1)
    assert result.n_failed == 0
    assert result.nfev == fun.count


def test_retries_end() -> None:
    fun = Sometimes(*range(3, 10_000))
    result = run(fun, retries=2, maxfev=100)
    assert result.nfev == fun.count <= 100
    assert result.n_failed > 0


def test_max_failures() -> None:
    result = run(Sometimes(*range(2, 1000)), max_failures=7)
    assert result.status == Code.FAILURES
    assert not result.success
    assert result.fun == 3.0


def test_a_region_that_always_fails_ends_the_run_with_what_is_known() -> None:
    result = run(Sometimes(*range(2, 100_000)), maxfev=None)
    assert not result.success
    assert result.fun == 3.0
    assert result.x.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "value"), [("on_error", "ignore"), ("on_error", 3), ("retries", -1), ("retries", 1.5)]
)
def test_bad_policies_are_named(name: str, value: Any) -> None:
    with pytest.raises(vb.OptionError, match=name):
        FailurePolicy(**{name: value})


def test_scipys_methods_survive_failures() -> None:
    result = vb.minimize(lambda x: bowl(x) if x[0] < 0.9 or x[1] > 2 else 1 / 0, np.zeros(3), method="Nelder-Mead")
    assert result.n_failed > 0
    assert result.fun < 1.0


def test_the_log_is_bounded() -> None:
    log = FailureLog()
    for k in range(1000):
        log.add(FailureRecord((k, 0, 0, 0), "x"))
    assert log.count == 1000
    assert [r.id[0] for r in log.records] == [*range(KEPT // 2), *range(1000 - KEPT // 2, 1000)]
