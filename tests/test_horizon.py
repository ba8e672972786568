"""A schedule over the budget ends when the budget does, whatever limits the run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import vamo_bbo as vb


@dataclass(frozen=True)
class Watch:
    """A constant schedule that remembers how much of the budget it was told is spent."""

    seen: list[float] = field(default_factory=list, compare=False)

    def __call__(self, step, progress):
        self.seen.append(progress)
        return 1.0


def bowl(x):
    return float(x @ x)


def slope(x):
    return 2 * x


def losses(x, idx):
    return (x @ x) * np.ones(len(idx))


def batch_slope(x, idx):
    return 2 * x


DATA = vb.FiniteSum(losses, 100, grad=batch_slope)
VALUES = vb.FiniteSum(losses, 100)


@pytest.mark.parametrize(
    ("make", "fun", "limits"),
    [
        (vb.zo_sgd, bowl, {"maxfev": 500}),
        (vb.adam, bowl, {"jac": slope, "maxjev": 500}),
        (vb.adam, bowl, {"jac": slope, "maxfev": 500}),
        (vb.residual, bowl, {"jac": slope, "maxfev": 500}),
        (vb.sgd, DATA, {"maxjev": 5000}),
        (vb.sgd, DATA, {}),
        (vb.svrg, DATA, {"maxjev": 5000}),
        (vb.zo_sgd, VALUES, {"maxfev": 20_000}),
        (vb.zo_sgd, DATA, {"maxfev": 20_000}),
    ],
)
def test_the_schedule_ends_with_the_budget(make, fun, limits):
    watch = Watch()
    vb.minimize(fun, np.ones(4), method=make(1e-3, schedule=watch), rng=0, **limits)
    assert 0.95 <= max(watch.seen) <= 1.0
    assert watch.seen == sorted(watch.seen)
    middle = watch.seen[len(watch.seen) // 2]
    assert 0.4 < middle < 0.6  # at the same pace all the way


def test_the_schedule_of_an_optimizer_ends_with_its_budget():
    watch = Watch()
    opt = vb.Optimizer(np.ones(4), method=vb.zo_sgd(1e-3, schedule=watch), maxfev=450, rng=0)
    while not opt.stop():
        for trial in opt.ask():
            opt.tell(trial, bowl(trial.x))
    assert 0.95 <= max(watch.seen) <= 1.0
