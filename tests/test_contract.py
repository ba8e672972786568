"""The contract suite passes for every solver on every backend, and each of its checks can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vamo_bbo import solvers, testing
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.estimators import ForwardDifference
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Plain, Recursive
from vamo_bbo.rules import Descent, Momentum

VARIANTS = {
    **{name: factory() for name, factory in solvers.METHODS.items() if name != "cma"},
    "vamo-no-table": solvers.vamo(table=False),
    "vamo-sphere": solvers.vamo(law="sphere", mixing="optimal"),
    "vamo-fixed": solvers.vamo(sampling="fixed", batch_size=5),
    "zo-svrg-coordinate": solvers.zo_svrg(variant="coordinate"),
    "zo-svrg-plain": solvers.zo_svrg(variant="plain"),
    "zo-svrg-shared": solvers.zo_svrg(share_directions=True, law="rademacher"),
    "zo-sgd-coordinate": solvers.zo_sgd(law="coordinate"),
    "momentum": Composite(Plain(ForwardDifference()), Momentum()),
    "normalized": Composite(Plain(ForwardDifference()), Descent(0.05, normalized=True)),
    "sarah": Composite(Recursive(FirstOrder()), Descent()),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", VARIANTS)
def test_contract(name, backend):
    # a thousand values are too many for bayes, which has tests/test_bayes.py
    excused = ["check_decreases_a_quadratic"] if name == "bayes" else []
    testing.check_solver(VARIANTS[name], backend=backend, excused=excused)


class _Broken:
    """A solver that delegates, with one fault planted."""

    def __init__(self, **faults):
        self.inner = solvers.zo_sgd()
        for name, value in faults.items():
            setattr(self, name, value)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def _asks_and_changes(state):
    state.scalars["asked"] = state.scalars.get("asked", 0) + 1
    return solvers.zo_sgd().ask(state)


def _last_answer_counts(state, answers):
    inner = solvers.zo_sgd()
    for answer in answers:
        state.scalars["last"] = answer.value
    return inner.tell(state, answers)


def _keeps_x0(x0, **keywords):
    state = solvers.zo_sgd().init(x0, **keywords)
    state.arrays["kept"] = x0
    return state


def _never_moves(state, answers):
    before = state.arrays["x"].copy()
    state = solvers.zo_sgd().tell(state, answers)
    state.arrays["x"][...] = before
    return state


@pytest.mark.parametrize(
    ("faults", "check"),
    [
        ({"ask": _asks_and_changes}, "check_ask_is_pure"),
        ({"tell": _last_answer_counts}, "check_order_does_not_matter"),
        ({"init": _keeps_x0}, "check_x0_is_untouched"),
        ({"init": _keeps_x0}, "check_declared_memory_is_held_memory"),
        ({"tell": _never_moves}, "check_decreases_a_quadratic"),
        ({"cost": lambda info, size: replace_cost(info, size)}, "check_declared_cost_is_counted_cost"),
    ],
)
def test_a_planted_fault_is_found(faults, check):
    with pytest.raises(AssertionError, match=check):
        testing.check_solver(_Broken(**faults), checks=[getattr(testing, check)])


def replace_cost(info, size):
    cost = solvers.zo_sgd().cost(info, size)
    return cost._replace(values=10 * cost.values, gradients=1)


def test_a_check_can_be_excused():
    broken = _Broken(tell=_never_moves)
    testing.check_solver(broken, checks=[testing.check_decreases_a_quadratic], excused=["check_decreases_a_quadratic"])


def test_above_a_million_a_failed_step_is_undone_without_a_copy():
    """At large d no copy of the last good point is kept: the step is regenerated and taken back."""
    from vamo_bbo.core import composite
    from vamo_bbo.core.types import Answer

    d = composite.COPY_BELOW
    solver = solvers.zo_sgd(1e-3, n_directions=2)
    info = ProblemInfo()
    state = solver.init(np.zeros(d, dtype=np.float32), seed=1, backend="numba", info=info)
    assert set(state.arrays) == {"x"}
    state = solver.tell(state, [Answer(p.id, 1.0 + 0.5 * k) for k, p in enumerate(solver.ask(state))])
    assert np.abs(state.arrays["x"]).max() > 0
    state = solver.tell(state, [Answer(p.id, error="ValueError: crash") for p in solver.ask(state)])
    assert np.abs(state.arrays["x"]).max() < 1e-4
    assert state.scalars["damping"] == 0.5


def test_replace_keeps_solvers_frozen():
    solver = solvers.zo_sgd(0.1)
    assert replace(solver, batch_size=4).batch_size == 4
    with pytest.raises(AttributeError):
        solver.batch_size = 4
