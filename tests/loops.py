"""Driving a solver by hand: the few lines that tests of the core share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vamo_bbo.core import sampling
from vamo_bbo.core.points import materialize
from vamo_bbo.core.types import Answer, ProblemInfo


def evaluate(state, probe, losses, grad, n):
    """Answer one probe of a finite sum (``n`` samples) or, with ``n`` None, of a plain function."""
    x = materialize(state, probe, np.empty_like(state.arrays["x"]))
    if n is None:
        return Answer(probe.id, float(losses(x)), None, grad(x) if probe.want in ("gradient", "both") else None)
    i = np.arange(n) if probe.batch is None else sampling.indices(probe.batch, state.seed, n)
    values = losses(x, i)
    return Answer(
        probe.id,
        float(np.mean(values)),
        values if probe.want == "values" else None,
        grad(x, i) if probe.want in ("gradient", "both") else None,
        len(i),
    )


def run(solver, x0, *, losses, grad, n, steps, seed=11, backend="numpy", info=None, each: Callable | None = None):
    """Yield the iterate after every step."""
    info = info or ProblemInfo(n_samples=n, gradient="full")
    state = solver.init(np.asarray(x0), seed=seed, backend=backend, info=info)
    while state.step < steps:
        before = state.step
        answers = [evaluate(state, probe, losses, grad, n) for probe in solver.ask(state)]
        if each is not None:
            each(state, answers)
        state = solver.tell(state, answers)
        if state.step > before:
            yield state.arrays["x"].copy()
