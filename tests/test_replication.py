"""Replications: they grow while noise hides progress, share their random numbers, and change nothing without noise."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo.core.replication import adapt, averaged, repeated
from vamo_bbo.core.solver import State
from vamo_bbo.core.types import AnchorRef, Answer, Probe, ProblemInfo


def bowl(x: np.ndarray) -> float:
    return float(((x - 1) ** 2).sum())


def rounds(method: Any, sigma: float, **options: Any) -> tuple[Any, Counter[int]]:
    """Return the result and how many evaluations the steps took."""
    rng, before, sizes = np.random.default_rng(0), [0], Counter[int]()

    def callback(intermediate_result: Any) -> None:
        sizes[intermediate_result.nfev - before[0]] += 1
        before[0] = intermediate_result.nfev

    fun = lambda x: bowl(x) + sigma * rng.normal()  # noqa: E731
    options = {"noisy": sigma > 0, "rng": 1, "maxfev": 4000, "callback": callback, **options}
    return vb.minimize(fun, np.zeros(4), method=method, **options), sizes


@pytest.mark.parametrize("method", ["zo-sgd", "spsa", "zo-adamm", "zo-sign-sgd"])
def test_rounds_grow_under_noise_only(method: str) -> None:
    _, calm = rounds(method, 0.0)
    single = max(calm, key=calm.__getitem__)
    noisy, sizes = rounds(method, 0.3)
    assert max(calm) <= single + 40  # the first step counts the calibration
    assert max(sizes) >= 4 * single
    assert noisy.nfev <= 4000


def test_a_given_learning_rate_is_never_replicated() -> None:
    _, sizes = rounds(vb.zo_sgd(0.01), 0.3)
    assert len(sizes) <= 2


def test_no_round_takes_more_than_its_share() -> None:
    _, sizes = rounds("zo-sgd", 10.0, maxfev=2000)
    assert max(sizes) <= 0.05 * 2000 + 40


def test_copies_share_their_noise_with_each_other_and_with_no_other_round() -> None:
    state = State(0, "numpy", ProblemInfo())
    keys: list[Any] = []
    for step in range(3):
        state.step = step
        probes = [Probe((step, 0, 0, k), AnchorRef("x", 0)) for k in range(2)]
        out = repeated(state, probes, 3)
        assert [p.id[3] for p in out] == list(range(6))
        assert [p.noise for p in out[:2]] == [None, None]
        assert out[2].noise == out[3].noise != out[4].noise == out[5].noise
        keys += [out[2].noise, out[4].noise]
    assert len(set(keys)) == 6


def test_means_leave_failures_out() -> None:
    ids = [(0, 0, 0, k) for k in range(6)]
    values = [1.0, 5.0, 3.0, math.nan, 8.0, math.nan]
    answers = [Answer(i, v, error=None if math.isfinite(v) else "nan") for i, v in zip(ids, values, strict=True)]
    answers[1] = Answer(ids[1], math.nan, error="crash")
    (first, second), variance, freedom = averaged(answers, 3)
    assert first.value == 4.0
    assert first.id == ids[0]
    assert second.error == "crash"
    assert freedom == 2
    assert variance == pytest.approx(np.var([1.0, 3.0, 8.0], ddof=1))
    gradients = [Answer(i, grad=np.full(2, float(k))) for k, i in enumerate(ids[:3])]
    assert averaged(gradients, 3)[0][0].grad.tolist() == [1.0, 1.0]


def test_replications_shrink_when_changes_show_at_once() -> None:
    state = State(0, "numpy", ProblemInfo())
    state.scalars.update(replications=4.0, horizon=1e6, price=10.0)
    assert adapt(state, 1.0, True)
    assert state.scalars["replications"] == 2.0
    assert not adapt(state, 5.0, False)
    assert adapt(state, 60.0, False)
    assert state.scalars["replications"] == 4.0
    state.scalars.update(replications=1.0)
    assert not adapt(state, 1.0, True)


def test_a_replicated_run_resumes_and_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    def fun(x: np.ndarray, seed: int) -> float:
        if seed == 0 and stop[0]:
            raise KeyboardInterrupt
        calls[0] += 1
        if calls[0] == stop[0]:
            raise KeyboardInterrupt
        return bowl(x) + 0.3 * float(np.random.default_rng([seed, int(1e6 * x[0]) % 2**31]).normal())

    calls, stop = [0], [0]
    options: dict[str, Any] = {"method": "spsa", "noisy": "seed", "rng": 0, "maxfev": 1500}
    whole = vb.minimize(fun, np.zeros(3), **options)
    calls[0], stop[0] = 0, 1100
    assert vb.minimize(fun, np.zeros(3), journal=tmp_path / "run.db", **options).status == 7
    stop[0] = 0
    resumed = vb.minimize(fun, np.zeros(3), journal=tmp_path / "run.db", **options)
    assert resumed.x.tobytes() == whole.x.tobytes()
    assert resumed.nfev == whole.nfev
    parallel = vb.minimize(fun, np.zeros(3), workers=2, **options)
    assert parallel.x.tobytes() == whole.x.tobytes()
