"""Ask and tell: order, loss, repetition and pickling change nothing; failures, foreign points, reasons to stop."""

from __future__ import annotations

import json
import pickle
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods import NEED_GRADIENT, SUMS
from vamo_bbo._errors import CapabilityError, OptionError
from vamo_bbo.optimizer import Optimizer
from vamo_bbo.solvers import METHODS
from vamo_bbo.space import Choice, Integer, Real, Space

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(12, 3)), RNG.normal(size=12)


def losses(x, idx):
    return 0.5 * (A[idx] @ x - B[idx]) ** 2


def gradient(x, idx):
    return A[idx].T @ (A[idx] @ x - B[idx]) / len(idx)


def value_of(trial):
    """Answer any trial."""
    idx = np.arange(12) if trial.idx is None else trial.idx
    if trial.want == "gradient":
        return gradient(trial.x, idx)
    if trial.want == "both":
        return losses(trial.x, idx), gradient(trial.x, idx)
    return losses(trial.x, idx)


def bowl(trial):
    return float(((trial.x - 0.3) ** 2).sum())


def make(name, **changes):
    kwargs = {
        "rng": 3,
        "options": {} if name in ("bayes", "cma", "fd-bfgs", "interpolation", "quadratic") else {"learning_rate": 0.01},
    }
    if name == "bayes":
        kwargs.update(bounds=[(-1, 2)] * 3)
    if name in SUMS or name in NEED_GRADIENT:
        kwargs.update(n_samples=12, gradient=name != "zo-svrg")
    kwargs.update(changes)
    return Optimizer(np.full(3, 0.5), name, **kwargs)


def answer(name):
    return value_of if name in SUMS or name in NEED_GRADIENT else bowl


def fingerprint(opt):
    state = opt.state
    return (
        (state.step, state.phase, state.attempt),
        {k: v.tobytes() for k, v in state.arrays.items()},
        {k: v for k, v in state.scalars.items() if k != "ignored" and v == v},
        opt.best_value,
        opt.ledger.nfev_samples,
        opt.ledger.njev_samples,
        repr([(r.nit, r.nfev, r.fun) for r in opt.history]),
    )


def rounds(opt, count, evaluate):
    for _ in range(count):
        trials = opt.ask()
        opt.tell(trials, [evaluate(t) for t in trials])
    return opt


@pytest.mark.parametrize("name", METHODS)
@settings(derandomize=True, deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_order_loss_repetition_and_pickling_change_nothing(name, seed):
    random = Random(seed)
    evaluate = answer(name)
    plain = rounds(make(name), 6, evaluate)
    opt, told = make(name), []
    while opt.nit < plain.nit or fingerprint(opt)[0] != fingerprint(plain)[0]:
        trials = opt.ask(random.choice([1, 2, None]))
        if random.random() < 0.2:
            opt = pickle.loads(pickle.dumps(opt))
        if random.random() < 0.2:
            opt.requeue()  # every worker is lost
        waiting = opt.pending
        random.shuffle(waiting)
        for trial in waiting[: random.randint(0, len(waiting))]:
            opt.tell(trial, evaluate(trial))
            told.append(trial)
        if told and random.random() < 0.3:
            again = random.choice(told)
            before = opt.ignored
            if again.id not in {t.id for t in opt.pending}:
                opt.tell(again, evaluate(again))
                assert opt.ignored == before + 1
        assert trials is not None
    assert fingerprint(opt) == fingerprint(plain)


@pytest.mark.parametrize("name", METHODS)
def test_each_trial_is_handed_out_once(name):
    opt = make(name)
    first = opt.ask()
    assert first
    assert opt.ask() == []
    assert {t.id for t in opt.pending} == {t.id for t in first}
    opt.tell(first, [answer(name)(t) for t in first])
    assert opt.pending == []


@pytest.mark.parametrize("name", METHODS)
def test_json_and_result_at_any_moment(name):
    opt = make(name)
    for k in range(8):
        description = json.loads(json.dumps(opt.describe()))
        assert description["nit"] == opt.nit
        assert len(opt.result.x) == 3
        trials = opt.ask(1) if k % 2 else opt.ask()
        opt.tell(trials, [answer(name)(t) for t in trials])


@pytest.mark.parametrize("maxfev", [1, 2, 3, 10, 57])
@pytest.mark.parametrize("name", ["spsa", "zo-sgd", "cma"])
def test_budget_is_exact(name, maxfev):
    opt = make(name, maxfev=maxfev)
    evaluated = 0
    while not opt.stop():
        trials = opt.ask()
        evaluated += len(trials)
        opt.tell(trials, [bowl(t) for t in trials])
    assert evaluated == opt.nfev <= maxfev
    assert opt.stop() == {"maxfev": maxfev}
    assert opt.ask() == []


def test_failures_of_every_kind():
    opt = make("spsa", max_failures=30)
    k = 0
    while opt.nit < 40 and not opt.stop():
        for trial in opt.ask():
            k += 1
            bad = [ValueError("boom"), None, float("nan"), float("inf")][k // 5 % 4]
            opt.tell(trial, bad if k % 5 == 0 else bowl(trial))
    assert opt.failures.count == k // 5
    assert opt.best_value < 0.12
    assert {r.error for r in opt.failures.records} >= {"ValueError: boom", "no value"}


def test_too_many_failures_are_a_reason():
    opt = make("spsa", max_failures=2)
    while not opt.stop():
        opt.tell(trials := opt.ask(), [None] * len(trials))
    assert opt.stop()["max_failures"] == 2
    assert not opt.result.success


def test_foreign_points():
    opt = make("spsa")
    opt.tell_point([0.29, 0.3, 0.3], 1e-4)  # before the first ask: a warm start
    trials = opt.ask()
    assert np.abs(np.mean([t.x for t in trials], axis=0) - [0.29, 0.3, 0.3]).max() < 0.2
    assert opt.best_value == 1e-4
    opt.tell(trials, [bowl(t) for t in trials])
    opt.tell_point([0.3, 0.3, 0.3], 0.0)
    opt.tell_point([9.0, 9.0, 9.0], float("nan"))
    assert opt.best_value == 0.0
    assert opt.result.x.tolist() == [0.3, 0.3, 0.3]


def test_best_and_recommendation_differ_for_noise():
    noise = np.random.default_rng(1)
    opt = make("cma", noisy=True)
    rounds(opt, 60, lambda t: bowl(t) + noise.normal(scale=0.1))
    assert not np.array_equal(opt.best_x, opt.recommendation)
    assert np.array_equal(opt.result.x, opt.recommendation)


def test_reasons():
    opt = make("cma", f_target=0.05)
    while not opt.stop():
        opt.tell(trials := opt.ask(), [bowl(t) for t in trials])
    assert opt.stop() == {"f_target": 0.05}
    assert opt.result.success
    assert rounds(make("spsa", options={"maxiter": 2}), 9, bowl).stop() == {"maxiter": 2}
    flat = make("spsa", tol=1e-3)
    rounds(flat, 400, lambda t: 1.0)
    assert "tol" in flat.stop()


def test_bounds_scale_and_fixed_variables():
    opt = Optimizer([5.0, 2.0, 1.0], "spsa", bounds=[(0, 10), (2, 2), (0, 100)], rng=1)
    for _ in range(30):
        for trial in opt.ask():
            assert 0 <= trial.x[0] <= 10
            assert trial.x[1] == 2
            assert 0 <= trial.x[2] <= 100
            opt.tell(trial, float(((trial.x - [3, 2, 30]) ** 2).sum()))
    assert opt.best_value < 845


def test_trials_and_values_may_come_from_generators():
    opt = make("zo-sgd")
    trials = opt.ask()
    opt.tell((t for t in trials), (1.0 for _ in trials))
    assert opt.nfev == len(trials)


def test_nothing_is_asked_where_all_variables_are_fixed():
    opt = Optimizer([1.0, 2.0], "spsa", bounds=[(1, 1), (2, 2)])
    assert opt.ask() == []
    assert opt.stop() == {"solver": "All independent variables were fixed by bounds."}
    assert opt.result.x.tolist() == [1.0, 2.0]


def test_space():
    space = Space(rate=Real(1e-4, 1, log=True), layers=Integer(1, 5), kind=Choice(["a", "b"]), fixed="f")
    opt = Optimizer(space, "cma", rng=1)
    while opt.nit < 40:
        for trial in opt.ask():
            p = trial.params
            assert p["fixed"] == "f"
            opt.tell(trial, (np.log10(p["rate"]) + 2) ** 2 + abs(p["layers"] - 4) + (p["kind"] == "a"))
    assert opt.result.params["layers"] == 4
    assert opt.result.params["kind"] == "b"
    with pytest.raises(CapabilityError, match="'bayes' or 'cma'"):
        Optimizer(space, "spsa")


def test_a_space_is_searched_by_bayes_unless_said_otherwise():
    opt = Optimizer(Space(n=Integer(1, 9), kind=Choice(["a", "b"])), rng=1)
    while opt.nfev < 15:
        opt.tell(trials := opt.ask(), [abs(t.params["n"] - 4) + (t.params["kind"] == "a") for t in trials])
    assert opt.describe()["method"] == "BayesianOptimization"
    assert opt.result.params == {"n": 4, "kind": "b"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda o: o.tell(o.ask(), [1.0]), "trials but 1 values"),
        (lambda o: o.tell(o.ask(1), [np.zeros(2)]), "scalar"),
        (lambda o: o.tell(o.ask(1), 1.0), "a list of values for a list of trials, got 1.0"),
        (lambda o: o.tell([1, 2], [1.0, 2.0]), "trials that ask returned"),
        (lambda o: o.tell(np.ones(3), 1.0), "a list of values"),
        (lambda o: o.ask(-1), "whole number"),
        (lambda o: o.ask(1.5), "whole number"),
        (lambda o: Optimizer([1.0], "auto"), "our own solvers.*'auto'"),
        (lambda o: Optimizer([1.0], "L-BFGS-B"), "our own solvers.*'L-BFGS-B'"),
        (lambda o: Optimizer([1.0], "spsa", f_target="low"), "f_target must be a number or None, got 'low'"),
        (lambda o: o.tell_point([1.0], 1.0), "3 finite numbers"),
        (lambda o: Optimizer([1.0], "bogus"), "Unknown solver"),
        (lambda o: Optimizer([1.0], "spsa", options={"smothing": 1}), "did you mean 'smoothing'"),
        (lambda o: Optimizer([1.0], "spsa", maxfev=-1), "maxfev"),
        (lambda o: Optimizer([1.0], "sgd"), "gradient"),
        (lambda o: Optimizer([1.0], "zo-svrg"), "FiniteSum"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises((OptionError, CapabilityError), match=message):
        wrong(make("zo-sgd"))


def test_wrong_shapes_are_told_before_anything_is_taken():
    opt = make("sgd")
    trials = opt.ask()
    with pytest.raises(OptionError, match="shape"):
        opt.tell(trials, [np.zeros(7)] * len(trials))
    assert len(opt.pending) == len(trials)
