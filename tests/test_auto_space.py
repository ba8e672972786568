"""What "auto" does in a space: bayes, then what goes on with more values than suit it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import vamo_bbo as vb
from tests.test_bayes import MIXED, mixed
from vamo_bbo.auto import space as auto_space
from vamo_bbo.auto.space import FIRST

REALS = {name: MIXED.parameter(name) for name in ("rate", "x")}


def test_auto_in_a_space_of_reals_polishes_what_bayes_has_found():
    space = vb.Space(a=vb.Real(1e-6, 1, log=True), b=vb.Real(0, 1))
    result = vb.minimize(lambda p: (math.log10(p["a"]) + 3) ** 2 + (p["b"] - 0.7) ** 2, space, rng=1, maxfev=FIRST + 60)
    assert "bayes used 200 values, then" in result.message
    assert result.fun < 1e-12
    assert result.nfev <= FIRST + 60


def test_auto_in_a_noisy_space_does_not_take_the_luckiest_draw():
    noise = np.random.default_rng(5)
    results = [vb.minimize(lambda p: mixed(p) + 0.3 * noise.normal(), MIXED, rng=s, maxfev=120) for s in range(3)]
    for result in results:
        assert "noisy" in result.message
        assert result.nfev <= 120
        assert result.best_fun < result.fun
        assert abs(result.fun - mixed(result.params)) < 5 * 0.3 / math.sqrt(3)
    assert np.median([mixed(r.params) for r in results]) < 0.4


def test_auto_in_a_space_with_workers_fills_them():
    result = vb.minimize(mixed, MIXED, rng=1, maxfev=41, workers=4)
    assert result.nfev == 41
    assert result.fun < 0.6


def test_auto_in_a_space_with_a_journal(tmp_path):
    calls = []

    def fun(p):
        calls.append(p)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return mixed(p)

    limits = {"rng": 1, "maxfev": 40, "journal": tmp_path / "run.db"}
    cut = vb.minimize(fun, MIXED, **limits)
    assert cut.status == 7
    gone_on = vb.minimize(fun, MIXED, **limits)
    assert len(calls) == 41  # the one that was interrupted is evaluated again
    whole = vb.minimize(mixed, MIXED, rng=1, maxfev=40, journal=tmp_path / "other.db")
    assert gone_on.params == whole.params
    assert "auto chose bayes" in whole.message


def test_options_of_another_method_are_for_that_method():
    result = vb.minimize(mixed, MIXED, rng=1, maxfev=40, options={"population_size": 5})
    assert result.message.startswith("auto chose cma")


def test_rounds_are_as_wide_as_there_are_workers_with_a_journal_too(tmp_path):
    result = vb.minimize(mixed, MIXED, rng=1, maxfev=21, workers=2, journal=tmp_path / "run.db")
    assert result.nfev == 21
    assert result.nit == 1 + 8  # the first round has five points


def test_a_budget_of_a_few_values_is_spent():
    for maxfev in (1, 2, 6, 12):
        result = vb.minimize(mixed, MIXED, rng=1, maxfev=maxfev)
        assert result.nfev == maxfev
        assert result.fun <= mixed(MIXED.from_unit(MIXED.x0))


def test_the_center_of_a_space_may_fail():
    def fun(p):
        if 0.4 < p["x"] < 0.6:
            raise ValueError("not there")
        return mixed(p)

    result = vb.minimize(fun, MIXED, rng=1, maxfev=40)
    assert result.nfev == 40
    assert 1 <= result.n_failed < 20
    assert result.failures[0].params["x"] == 0.5
    assert result.fun == mixed(result.params)
    assert "deterministic" in result.message  # a failure that is repeated is no noise


def test_a_function_that_always_fails_is_told_soon():
    calls = []

    def fun(p):
        calls.append(p)
        return p["no such name"]

    with pytest.raises(vb.EvaluationError, match=r"failed at all 5 first points of the space: KeyError") as caught:
        vb.minimize(fun, MIXED, rng=1, maxfev=100)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(calls) == 5


def test_a_space_that_is_said_to_have_no_noise_is_not_looked_at_twice():
    seen = []
    vb.minimize(lambda p: seen.append(tuple(p.values())) or mixed(p), MIXED, rng=1, maxfev=20, noisy=False)
    assert len(set(seen)) == len(seen) == 20


def test_what_follows_begins_at_the_best_point(monkeypatch):
    monkeypatch.setattr(auto_space, "FIRST", 20)
    seen = []

    def fun(p):
        seen.append((mixed(p), np.array([p["x"], math.log10(p["rate"]) / 6, p["n"] / 40])))
        return seen[-1][0]

    result = vb.minimize(fun, MIXED, rng=1, maxfev=60)
    assert "bayes used 20 values, then cma" in result.message
    best = min(seen[:20], key=lambda pair: pair[0])[1]
    mean = np.mean([point for _, point in seen[20:28]], axis=0)
    others = [np.linalg.norm(point - mean) for _, point in seen[:20]]
    assert np.linalg.norm(best - mean) < np.median(others)
    seen.clear()
    vb.minimize(
        lambda p: fun({**p, "n": 31, "kind": "b"}), vb.Space(rate=REALS["rate"], x=REALS["x"]), rng=1, maxfev=60
    )
    best = min(seen[:20], key=lambda pair: pair[0])[1]
    assert np.linalg.norm(best - seen[20][1]) < 1e-3  # a difference


def test_under_noise_no_population_follows(monkeypatch):
    monkeypatch.setattr(auto_space, "FIRST", 20)
    noise = np.random.default_rng(5)
    result = vb.minimize(lambda p: mixed(p) + noise.normal(), MIXED, rng=1, maxfev=50)
    assert "cma" not in result.message
    assert result.nfev == 50
