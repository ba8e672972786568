"""``method="auto"`` needs no optional package."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb


@pytest.mark.parametrize("workers", [1, map])
@pytest.mark.usefixtures("without_cmaes")
def test_a_bare_installation_falls_back_to_a_method_it_has(workers):
    rng = np.random.default_rng(3)
    result = vb.minimize(
        lambda x: float(np.sum((x - 1.0) ** 2) + 0.01 * rng.normal()), np.zeros(4), rng=1, maxfev=400, workers=workers
    )
    assert "auto chose quadratic" in result.message
    assert np.sum((result.x - 1.0) ** 2) < 1.0


@pytest.mark.usefixtures("without_cmaes")
def test_several_workers_without_a_population_method_descend_by_differences():
    result = vb.minimize(lambda x: float(np.sum((x - 1.0) ** 2)), np.zeros(4), workers=map)
    assert "auto chose fd-bfgs" in result.message
    np.testing.assert_allclose(result.x, 1.0, atol=1e-5)
