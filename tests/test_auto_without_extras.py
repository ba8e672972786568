"""``method="auto"`` needs no optional package."""

from __future__ import annotations

import numpy as np
import pytest

import vamo_bbo as vb
from vamo_bbo._errors import CapabilityError

pytestmark = pytest.mark.usefixtures("without_cmaes")


def ackley(x):
    flat = -20.0 * np.exp(-0.2 * np.sqrt(np.mean(x**2)))
    return float(flat - np.exp(np.mean(np.cos(2.0 * np.pi * x))) + 20.0 + np.e)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_it_searches_beyond_the_local_minimum(noise):
    rng = np.random.default_rng(3)
    result = vb.minimize(
        lambda x: ackley(x) + noise * rng.normal(), np.full(4, 3.0), bounds=[(-5, 5)] * 4, rng=1, maxfev=1500
    )
    assert "cma" in result.message
    assert ackley(result.x) < 0.1  # 8 at the nearest minimum


@pytest.mark.parametrize("workers", [1, map])
def test_it_goes_on_at_the_border_of_what_can_be_computed(workers):
    def fun(x):
        if x.sum() > 1.0:
            raise ValueError("outside")
        return float(((x - 1.0) ** 2).sum())

    result = vb.minimize(fun, np.zeros(3), rng=1, maxfev=600, workers=workers)
    assert result.fun < 4.0 / 3.0 + 0.01


def test_it_searches_a_space_of_any_types():
    space = vb.Space(x=vb.Real(-1, 1), n=vb.Integer(1, 9), kind=vb.Choice(["a", "b", "c"]))
    result = vb.minimize(lambda p: (p["x"] - 0.5) ** 2 + abs(p["n"] - 7) + (p["kind"] != "b"), space, rng=1, maxfev=60)
    assert (result.params["n"], result.params["kind"]) == (7, "b")
    assert result.fun < 0.01


def test_a_space_whose_run_a_journal_keeps(tmp_path):
    space = vb.Space(n=vb.Integer(1, 9), kind=vb.Choice(["a", "b", "c"]))
    result = vb.minimize(
        lambda p: abs(p["n"] - 7) + (p["kind"] != "b"), space, rng=1, maxfev=210, journal=tmp_path / "run.db"
    )
    assert result.fun == 0


def test_the_method_by_name_says_what_is_missing():
    space = vb.Space(n=vb.Integer(1, 9))
    with pytest.raises(CapabilityError, match=r"pip install 'vamo_bbo\[cma\]'"):
        vb.minimize(lambda p: p["n"], space, method="cma", rng=1)
