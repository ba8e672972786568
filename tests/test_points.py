"""From probes to points: all at once or one by one, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from vamo_bbo import solvers
from vamo_bbo.core.points import materialize, materialize_rows
from vamo_bbo.core.types import Answer, ProblemInfo

CASES = {
    "forward": (solvers.zo_sgd(0.1, n_directions=5), ProblemInfo()),
    "pair": (solvers.spsa(0.1), ProblemInfo()),
    "pairs": (solvers.spsa(0.1, n_directions=3), ProblemInfo()),
    "block": (solvers.zo_sgd(0.1, n_directions=3, law="block"), ProblemInfo()),
    "sphere-two-anchors": (solvers.zo_svrg(0.1, batch_size=4), ProblemInfo(n_samples=8)),
    "gradient": (solvers.residual(0.1, n_directions=4), ProblemInfo(gradient="full")),
    "partial": (solvers.sgd(0.1), ProblemInfo(gradient="partial", unknown=np.arange(7, dtype=np.uint8) % 2)),
    "bounds": (solvers.zo_sgd(0.1), ProblemInfo(lower=np.full(7, -0.2), upper=np.full(7, 1.1))),
}


@pytest.mark.parametrize("backend", ["numpy", "numba", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_the_points_one_by_one(name, backend):
    solver, info = CASES[name]
    state = solver.init(np.linspace(-1.0, 1.0, 7), seed=3, backend=backend, info=info)
    seen = 0
    for _ in range(4):
        probes = solver.ask(state)
        rows = materialize_rows(state, probes, np.empty((len(probes), 7)))
        for probe, row in zip(probes, rows, strict=True):
            np.testing.assert_array_equal(row, materialize(state, probe, np.empty(7)))
        seen += len({row.tobytes() for row in rows})
        samples = 1 if info.n_samples is None else 4
        answers = [
            Answer(p.id, float(r @ r), np.full(samples, r @ r), None if p.want[0] == "v" else 2 * r, samples)
            for p, r in zip(probes, rows, strict=True)
        ]
        state = solver.tell(state, answers)
    assert seen >= 8
