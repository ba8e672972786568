"""Every solver is the algorithm it says it is: it matches an independent loop for 60 steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import naive
import numpy as np
import pytest
from loops import run

from vamo_bbo import solvers
from vamo_bbo.core.composite import Composite
from vamo_bbo.core.types import ProblemInfo
from vamo_bbo.first_order import FirstOrder
from vamo_bbo.recipes import Recursive
from vamo_bbo.rules import Descent

S = naive.Setting()
ETA, MU, B = S.eta, S.mu, S.b

CASES = {
    "sgd": (solvers.sgd(ETA, batch_size=B), naive.sgd),
    "adam": (solvers.adam(ETA, batch_size=B), naive.adam),
    "svrg": (solvers.svrg(ETA, batch_size=B, epoch_length=5), naive.svrg),
    "adamw": (solvers.adam(ETA, batch_size=B, weight_decay=0.1), naive.adamw),
    "svrg-loopless": (solvers.svrg(ETA, batch_size=B, epoch_length=5, loopless=True), naive.loopless_svrg),
    "svrg-subsampled": (solvers.svrg(ETA, batch_size=B, epoch_length=5, snapshot_size=9), naive.subsampled_svrg),
    "zo-sgd": (solvers.zo_sgd(ETA, batch_size=B, n_directions=8, smoothing=MU), naive.zo_sgd),
    "zo-nesterov": (replace(solvers.zo_nesterov(ETA, n_directions=8, smoothing=MU), batch_size=B), naive.zo_nesterov),
    "zo-nesterov-few": (
        replace(solvers.zo_nesterov(ETA, n_directions=3, smoothing=MU), batch_size=B),
        partial(naive.zo_nesterov, q=3),
    ),
    "zo-sign-sgd": (solvers.zo_sign_sgd(ETA, batch_size=B, n_directions=8, smoothing=MU), naive.zo_sign_sgd),
    "zo-adamm": (solvers.zo_adamm(ETA, batch_size=B, n_directions=8, smoothing=MU), naive.zo_adamm),
    "spsa": (solvers.spsa(ETA, batch_size=B, smoothing=MU), naive.spsa),
    "zo-svrg": (
        solvers.zo_svrg(ETA, batch_size=B, n_directions=4, smoothing=MU, epoch_length=5, law="sphere"),
        naive.zo_svrg,
    ),
    "zo-svrg-coordinate": (
        solvers.zo_svrg(ETA, variant="coordinate", batch_size=B, smoothing=MU, epoch_length=5),
        naive.zo_svrg_coordinate,
    ),
    "vamo": (solvers.vamo(ETA, batch_size=B, n_directions=4, smoothing=MU, epoch_length=5), naive.vamo),
    "vamo-without-table": (
        solvers.vamo(ETA, batch_size=B, n_directions=4, smoothing=MU, epoch_length=5, table=False),
        naive.vamo,
    ),
    "vamo-paper": (
        solvers.vamo_paper(ETA, batch_size=B, n_directions=3, smoothing=MU, epoch_length=5),
        naive.vamo_paper,
    ),
    "sarah": (Composite(Recursive(FirstOrder(), 5), Descent(ETA), B), naive.sarah),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", CASES)
def test_solver_matches_its_naive_loop(name, backend):
    solver, loop = CASES[name]
    xs = run(solver, S.x0, losses=S.losses, grad=S.grad, n=S.n, steps=60, backend=backend)
    for k, (x, expected) in enumerate(zip(xs, loop(S, 60), strict=True)):
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12, err_msg=f"step {k}")


def test_residual_matches_its_naive_loop():
    solver = solvers.residual(ETA, batch_size=B, n_directions=3, smoothing=MU)
    xs = run(solver, S.x0, losses=S.losses, grad=lambda x, i: S.grad(x, i) + 0.3, n=S.n, steps=60)
    np.testing.assert_allclose(list(xs), list(naive.residual(S, 60)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("smoothing", [1e-3, 1e-2])
def test_vamo_with_table_equals_vamo_without(smoothing):
    """The look-up is the evaluation: same directions, same samples, same iterates, fewer function values."""
    runs = []
    for table in (True, False):
        solver = solvers.vamo(ETA, batch_size=B, n_directions=3, smoothing=smoothing, table=table, law="rademacher")
        runs.append(list(run(solver, S.x0, losses=S.losses, grad=S.grad, n=S.n, steps=60)))
    np.testing.assert_allclose(runs[0], runs[1], rtol=0, atol=1e-12)


def test_vamo_needs_no_value_in_the_inner_loop():
    wants = []
    solver = solvers.vamo(ETA, batch_size=B, n_directions=3, epoch_length=5)
    info = ProblemInfo(n_samples=S.n, gradient="full")
    state = solver.init(S.x0, seed=1, backend="numpy", info=info)
    from loops import evaluate

    while state.step < 10:
        probes = solver.ask(state)
        wants.append((state.step % 5 == 0 and state.phase == 0, {p.want for p in probes}))
        state = solver.tell(state, [evaluate(state, p, S.losses, S.grad, S.n) for p in probes])
    assert all(want == ({"values"} if snapshot else {"gradient"}) for snapshot, want in wants)


def test_zo_svrg_shared_directions_leave_a_small_difference_at_the_snapshot():
    """At the snapshot itself the two mini-batch estimates cancel exactly: the first step is the full estimate."""
    solver = solvers.zo_svrg(ETA, batch_size=B, n_directions=4, smoothing=MU, share_directions=True)
    (x1,) = run(solver, S.x0, losses=S.losses, grad=S.grad, n=S.n, steps=1)
    from vamo_bbo._typing import Law, Tag

    full = naive.zo_estimate(S, S.x0, S.everything, 0, 4, Tag.FULL, Law.SPHERE)
    np.testing.assert_allclose(x1, S.x0 - ETA * full, rtol=0, atol=1e-12)
