"""``method="auto"`` on a finite sum (docs/benchmarks/auto_sums.rst has the measurement)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vamo_bbo.auto.descent import descent_name
from vamo_bbo.run.setup import parse_x0
from vamo_bbo.sketch import EXACT_BELOW

if TYPE_CHECKING:
    from vamo_bbo.minimize import Call

__all__ = ["DIFFERENCES", "choose_for_sum"]

FEW = 600
"""Most samples at which a quasi-Newton method on full gradients needs no more of them than mini-batches that never end
in full gradients themselves. What a term costs is not known; where it is next to nothing, that takes less time up to
20,000 samples (docs/benchmarks/auto_sums.rst)."""
PASSES = 20
"""Full gradients, by differences too, below which mini-batches come further even then."""
DIFFERENCES = 1000
"""Most variables for which a gradient is taken by differences, d + 1 values (passes of a sum) each."""
GRADIENTS = 1
"""Passes of mini-batch gradients by differences that must fit into the budget: with less, random directions come
further on networks."""


def choose_for_sum(call: Call) -> tuple[str, str, int]:
    """Return method, reason, and the sample gradients that it took to find out, for the finite sum of ``call``."""
    n, d = call.fun.n_samples, call.size
    about = f"a finite sum of {n} terms"
    if call.constrained:
        return "SLSQP", f"{about} with constraints", 0
    ours = call.needs_ours or call.workers not in (None, 1)
    few = n <= FEW and not _ends_whole(call)
    if call.has_gradient:
        asked = few and _passes(call, "maxjev") >= PASSES and not ours
        if asked and _whole_gradient(call):
            return "L-BFGS-B", f"{about}, few enough for full gradients", 1
        return "vamo", f"{about}, gradients", int(asked)
    about, gradients = f"{about}, no gradient, {d} variables", _passes(call, "maxfev") / (d + 1)
    if d > DIFFERENCES or gradients < GRADIENTS or (call.noisy and not isinstance(call.noisy, str)):
        return "zo-adamm", f"{about}: too many for differences", 0
    descent = "fd-bfgs" if ours else "L-BFGS-B"
    if few and gradients >= PASSES and (not ours or descent_name(call) == descent):
        return descent, f"{about}: differences of the whole sum", 0
    return "vamo", f"{about}: differences of mini-batches", 0


def _ends_whole(call: Call) -> bool:
    """Return whether ``vamo``, as it comes, goes on with full gradients: the rule of ``WholeSum.suits`` for it."""
    return call.size <= EXACT_BELOW and call.bounds is None and not call.noisy


def _passes(call: Call, name: str) -> float:
    """Return how many passes over the data the limit allows."""
    limit = call.limits.get(name)
    return math.inf if limit is None else float(limit) / call.fun.n_samples


def _whole_gradient(call: Call) -> bool:
    """Return whether the gradient of the first sample at x0 is finite: NaN would declare coordinates unknown."""
    x0, first = parse_x0(call.x0), np.arange(1)
    try:
        if call.fun.value_and_grad is not None:
            gradient = call.fun.value_and_grad(x0, first, *call.arguments)[1]
        else:
            gradient = call.fun.grad(x0, first, *call.arguments)
        return bool(np.isfinite(np.asarray(gradient, dtype=np.float64)).all())
    except Exception:  # whatever is wrong, vamo's first evaluation says it
        return False
